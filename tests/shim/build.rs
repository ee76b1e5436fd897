//! Has the compiler compare the shim with the real `xenstat.h`: bindgen declares every `xenstat_*` function of the
//! header, and an array of a declared and a defined function compiles only if both have the same type. A different
//! prototype or a missing function is a build error.

use std::path::PathBuf;
use std::{env, fs};

const HEADER: &str = "wrapper.h";
const INCLUDE_VAR: &str = "XENSTAT_INCLUDE_DIR";

fn main() {
    println!("cargo::rerun-if-changed={HEADER}");
    println!("cargo::rerun-if-env-changed={INCLUDE_VAR}");

    let dirs = match env::var_os(INCLUDE_VAR) {
        Some(dir) => vec![PathBuf::from(dir)],
        None => pkg_config::Config::new()
            .cargo_metadata(false)
            .probe("xenstat")
            .map_or_else(|_| Vec::new(), |lib| lib.include_paths),
    };
    let bindings = bindgen::Builder::default()
        .header(HEADER)
        .clang_args(dirs.iter().map(|dir| format!("-I{}", dir.display())))
        .allowlist_function("xenstat_.*")
        .allowlist_var("XENSTAT_.*")
        // The shim's own structs stand for the opaque types of the header.
        .blocklist_type("xenstat_.*")
        .raw_line("use crate::node::{Domain as xenstat_domain, Handle as xenstat_handle, Network as xenstat_network};")
        .raw_line("use crate::node::{Node as xenstat_node, Vbd as xenstat_vbd, Vcpu as xenstat_vcpu};")
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .generate()
        .expect("xenstat.h was not found: install libxen-dev, or name its directory in XENSTAT_INCLUDE_DIR")
        .to_string();

    // Not split into lines: without rustfmt the bindings are one line.
    let functions = bindings.split("pub fn ").skip(1).filter_map(|rest| Some(rest.split('(').next()?.trim()));
    let pairs: String = functions.map(|f| format!("    let _ = [{f}, crate::{f}];\n")).collect();
    assert!(!pairs.is_empty(), "bindgen found no xenstat_ function in {HEADER}");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("abi.rs"), format!("{bindings}\nfn same_abi() {{\n{pairs}}}\n")).expect("OUT_DIR is writable");
}
