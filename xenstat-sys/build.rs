//! Binds the C API of `xenstat.h`: finds the header, asks bindgen for a run-time loader of its functions.

use std::path::{Path, PathBuf};
use std::{env, process};

const HEADER: &str = "xenstat.h";
/// Names the directory that holds `xenstat.h`, for headers outside the usual places.
const INCLUDE_VAR: &str = "XENSTAT_INCLUDE_DIR";

/// What a library must have, which every libxenstat since Xen 4.0 does.
const FUNCTIONS: [&str; 47] = [
    "xenstat_init",
    "xenstat_uninit",
    "xenstat_get_node",
    "xenstat_free_node",
    "xenstat_node_xen_version",
    "xenstat_node_tot_mem",
    "xenstat_node_free_mem",
    "xenstat_node_num_cpus",
    "xenstat_node_cpu_hz",
    "xenstat_node_num_domains",
    "xenstat_node_domain_by_index",
    "xenstat_domain_id",
    "xenstat_domain_name",
    "xenstat_domain_running",
    "xenstat_domain_blocked",
    "xenstat_domain_paused",
    "xenstat_domain_shutdown",
    "xenstat_domain_crashed",
    "xenstat_domain_dying",
    "xenstat_domain_cpu_ns",
    "xenstat_domain_num_vcpus",
    "xenstat_domain_cur_mem",
    "xenstat_domain_max_mem",
    "xenstat_domain_ssid",
    "xenstat_domain_vcpu",
    "xenstat_domain_num_networks",
    "xenstat_domain_network",
    "xenstat_domain_num_vbds",
    "xenstat_domain_vbd",
    "xenstat_vcpu_online",
    "xenstat_vcpu_ns",
    "xenstat_network_id",
    "xenstat_network_rbytes",
    "xenstat_network_rpackets",
    "xenstat_network_rerrs",
    "xenstat_network_rdrop",
    "xenstat_network_tbytes",
    "xenstat_network_tpackets",
    "xenstat_network_terrs",
    "xenstat_network_tdrop",
    "xenstat_vbd_type",
    "xenstat_vbd_dev",
    "xenstat_vbd_oo_reqs",
    "xenstat_vbd_rd_reqs",
    "xenstat_vbd_wr_reqs",
    "xenstat_vbd_rd_sects",
    "xenstat_vbd_wr_sects",
];

/// What a library may have besides, from Xen 4.13 on.
const VBD_ERROR: &str = "xenstat_vbd_error";

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
    let builder = || {
        bindgen::Builder::default()
            .header("wrapper.h")
            .clang_args(header.dir.iter().map(|dir| format!("-I{}", dir.display())))
            .dynamic_link_require_all(true)
            .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
    };
    let required = builder().dynamic_library_name("Xenstat").allowlist_var("XENSTAT_.*");
    let required = FUNCTIONS.iter().fold(required, bindgen::Builder::allowlist_function);
    // Its type of a VBD is that of the other set.
    let optional = builder().dynamic_library_name("XenstatVbdError").allowlist_recursively(false);
    let optional = optional.allowlist_function(VBD_ERROR);
    for (bindings, file) in [(required, "required.rs"), (optional, "optional.rs")] {
        let bindings = bindings.generate().unwrap_or_else(|error| {
            let error = error.to_string();
            stop(&format!(
                "{HEADER} cannot be read ({}): apt install libxen-dev | dnf install xen-devel | apk add xen-dev, \
                 or name its directory in {INCLUDE_VAR}",
                error.lines().next().unwrap_or("clang does not say why")
            ))
        });
        bindings.write_to_file(out.join(file)).expect("OUT_DIR can be written to");
    }

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
