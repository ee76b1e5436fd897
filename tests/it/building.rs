//! What is missing to build is one line that names what to install.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::support::{Scratch, clean, root, run};

/// cargo keeps it beside the directory of the test binary.
fn build_script() -> PathBuf {
    let profile = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned();
    let scripts = std::fs::read_dir(profile.join("build")).unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        let ours = path.file_name()?.to_str()?.starts_with("xenstat-sys-");
        Some(path.join("build-script-build")).filter(|script| ours && script.is_file())
    });
    scripts.max_by_key(|script| script.metadata().unwrap().modified().unwrap()).expect("xenstat-sys was built")
}

#[test]
fn build_names_the_packages_of_a_missing_dependency() {
    let scratch = Scratch::new();
    let empty = scratch.to_str().unwrap();
    let packages = "apt install libxen-dev | dnf install xen-devel | apk add xen-dev";
    for (environment, line) in [
        (
            &[("LIBCLANG_PATH", empty)][..],
            "libclang was not found (bindgen reads the C header with it): \
             apt install libclang-dev | dnf install clang-devel | apk add clang-dev",
        ),
        (&[("BINDGEN_EXTRA_CLANG_ARGS", "-nostdinc"), ("PKG_CONFIG", "false")], packages),
        (&[("XENSTAT_INCLUDE_DIR", empty)], "holds no xenstat.h"),
    ] {
        let mut script = clean(build_script());
        script.current_dir(root().join("xenstat-sys")).env("OUT_DIR", empty).env_remove("PKG_CONFIG_PATH");
        let said = run(script.envs(environment.iter().copied()));
        let errors: Vec<&str> = said.out.lines().filter_map(|line| line.strip_prefix("cargo::error=")).collect();
        assert!(errors.len() == 1 && errors[0].contains(line), "{environment:?}: {errors:?} {}", said.err);
    }
}

#[test]
fn build_reports_the_release_of_the_header() {
    let scratch = Scratch::new();
    for (directory, text) in [("include", ""), ("lib/pkgconfig", "Name: Xenstat\nVersion: 4.19.2\n")] {
        std::fs::create_dir_all(scratch.join(directory)).unwrap();
        let name = if text.is_empty() { "xenstat.h" } else { "xenstat.pc" };
        std::fs::write(scratch.join(directory).join(name), text).unwrap();
    }
    let mut script = clean(build_script());
    script.current_dir(root().join("xenstat-sys")).env("OUT_DIR", &*scratch);
    let said = run(script
        .env("XENSTAT_INCLUDE_DIR", scratch.join("include"))
        .env("HOST", "h")
        .env("TARGET", "x86_64-unknown-linux-gnu"));
    assert!(said.out.contains("cargo::metadata=release=4.19.2"), "{} {}", said.out, said.err);
}

/// Nothing is built for minutes by a Rust that cannot build it all.
#[test]
fn packaging_names_the_rust_that_its_tools_need() {
    let scratch = Scratch::new();
    let cargo = scratch.join("cargo");
    let script = format!("#!/bin/sh\necho cargo 1.85.1\n[ \"$*\" = --version ] || touch {}/built\n", scratch.display());
    std::fs::write(&cargo, script).unwrap();
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", scratch.display(), std::env::var("PATH").unwrap());
    for target in ["deb", "rpm"] {
        let mut make = clean("make");
        make.args(["--no-print-directory", target]).arg(format!("CACHE={}", scratch.display()));
        let said = run(make.current_dir(root()).env("PATH", &path).env_remove("MAKEFLAGS"));
        let line =
            format!("this is Rust 1.85.1, from {}: install Rust 1.88 or later, see rustup.rs\n", cargo.display());
        assert!(said.err.starts_with(&line) && said.status == Some(2), "{target}: {} {}", said.out, said.err);
        assert!(!scratch.join("built").exists(), "{target}: {}", said.out);
    }
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.contains("Rust 1.88 or later from rustup"));
}
