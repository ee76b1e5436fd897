//! Binds the C API of `xenstat.h`: finds the header, asks bindgen for a run-time loader of its functions.

use std::path::{Path, PathBuf};
use std::{env, process};

const HEADER: &str = "xenstat.h";
/// Names the directory that holds `xenstat.h`, for headers outside the usual places.
const INCLUDE_VAR: &str = "XENSTAT_INCLUDE_DIR";

struct Header {
    /// Where clang has to look; `None` leaves it to its own include path.
    dir: Option<PathBuf>,
    /// The Xen release the header belongs to, as pkg-config knows it.
    release: Option<String>,
}

fn main() {
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-env-changed={INCLUDE_VAR}");
    println!("cargo::rerun-if-env-changed=LIBCLANG_PATH");

    if clang_sys::load().is_err() {
        stop(
            "libclang was not found (bindgen reads the C header with it): \
             apt install libclang-dev | dnf install clang-devel | apk add clang-dev",
        );
    }
    let header = find_header();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let bindings = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(header.dir.iter().map(|dir| format!("-I{}", dir.display())))
        .allowlist_function("xenstat_.*")
        .allowlist_type("xenstat_.*")
        .allowlist_var("XENSTAT_.*")
        .dynamic_library_name("Xenstat")
        .dynamic_link_require_all(false)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .generate();
    let bindings = bindings.unwrap_or_else(|error| {
        let error = error.to_string();
        stop(&format!(
            "{HEADER} cannot be read ({}): apt install libxen-dev | dnf install xen-devel | apk add xen-dev, \
             or name its directory in {INCLUDE_VAR}",
            error.lines().next().unwrap_or("clang does not say why")
        ))
    });
    bindings.write_to_file(out.join("bindings.rs")).expect("OUT_DIR can be written to");

    // Reaches build scripts that depend on us as DEP_XENSTAT_RELEASE.
    let release = header.release.unwrap_or_else(|| "unknown".into());
    println!("cargo::metadata=release={release}");
}

/// The directory the environment names, else what pkg-config says, else clang's own include path.
fn find_header() -> Header {
    if let Some(dir) = env::var_os(INCLUDE_VAR).map(PathBuf::from) {
        if !dir.join(HEADER).is_file() {
            stop(&format!("{INCLUDE_VAR}={} holds no {HEADER}", dir.display()));
        }
        let release = release_beside(&dir);
        return Header { dir: Some(dir), release };
    }
    let found = pkg_config::Config::new().cargo_metadata(false).probe("xenstat");
    match found {
        Ok(lib) => Header {
            dir: lib.include_paths.into_iter().find(|dir| dir.join(HEADER).is_file()),
            release: Some(lib.version),
        },
        Err(_) => Header { dir: None, release: None },
    }
}

/// The version in the `xenstat.pc` that Xen installs beside an include directory.
fn release_beside(include: &Path) -> Option<String> {
    let root = include.parent()?;
    ["lib/pkgconfig", "lib64/pkgconfig", "share/pkgconfig"].iter().find_map(|dir| {
        let text = std::fs::read_to_string(root.join(dir).join("xenstat.pc")).ok()?;
        text.lines().find_map(|line| Some(line.strip_prefix("Version:")?.trim().to_owned()))
    })
}

/// Ends the build. Status 0: with another, cargo would bury the line under everything printed.
fn stop(why: &str) -> ! {
    println!("cargo::error={why}");
    process::exit(0)
}
