//! Shared by the benches: the real libxenstat over stand-ins for the two libraries that talk to Xen (xen.c), in
//! namespaces with the files that it reads.

#![allow(dead_code, missing_docs, reason = "each bench uses its part")]

#[path = "../../tests/it/support.rs"]
mod support;

use std::path::Path;
use std::process::Command;

use support::unshared;
#[allow(unused_imports, reason = "each bench uses its part")]
pub use support::{Scratch, shim, xentop};

/// Compiles xen.c as both libraries, with the symbol versions that libxenstat needs, into `scratch`/lib.
pub fn compile(scratch: &Scratch) {
    ["lib", "dev", "run"].iter().for_each(|part| std::fs::create_dir(scratch.join(part)).unwrap());
    let into = scratch.join("lib");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/xen.c");
    let version = out_of(Command::new("pkg-config").args(["--modversion", "xenstat"]));
    let release = version.trim().rsplit_once('.').unwrap().0.to_owned();
    for (library, version) in [
        (format!("libxenctrl.so.{release}"), format!("VERS_{release}.0")),
        ("libxenstore.so.4".into(), "VERS_4.0".into()),
    ] {
        let map = into.join("version.map");
        std::fs::write(&map, format!("{version} {{ global: x*; }};\n")).unwrap();
        let script = format!("-Wl,-soname,{library},--version-script={}", map.display());
        out_of(
            Command::new("cc")
                .args(["-shared", "-fPIC", "-O1", "-w", &script, "-o"])
                .arg(into.join(&library))
                .arg(&source),
        );
    }
}

/// The daemon over the stand-ins, in a mount namespace and `more`, after `script` has run in them. `$RUN` is its
/// /run/xen.
pub fn in_namespaces(scratch: &Scratch, more: &[&str], script: &str) -> Command {
    // /dev/xen/privcmd only has to open.
    let script = format!(
        "mount -t tmpfs none /run && mkdir /run/xen && mount --bind \"$RUN\" /run/xen && \
         mount -t tmpfs none /sys/bus && mkdir -p /sys/bus/xen-backend/devices && \
         mount -t tmpfs none \"$DEV\" && mkdir \"$DEV/xen\" \"$DEV/shm\" && \
         touch \"$DEV/null\" \"$DEV/xen/privcmd\" && mount --bind /dev/null \"$DEV/null\" && \
         mount --rbind \"$DEV\" /dev && {script} exec \"$0\" \"$@\""
    );
    let mut command = unshared(&[&["--mount"], more].concat(), "sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_xenmonitor")]);
    command.env("LD_LIBRARY_PATH", scratch.join("lib")).env("DEV", scratch.join("dev")).env("RUN", scratch.join("run"));
    command
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn out_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
