//! What the benches share: the real libxenstat over stand-ins for the two libraries that talk to Xen
//! (tests/libraries/xen.c), in namespaces with what else it looks at.

#![allow(dead_code, missing_docs, reason = "each bench uses its part")]

#[path = "../../tests/it/support.rs"]
mod support;

#[path = "../../tests/libraries/stand_ins.rs"]
mod xen;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::unshared;
#[allow(unused_imports, reason = "each bench uses its part")]
pub use support::{Scratch, shim, xentop};

/// Compiles the stand-ins for the libxenstat of this machine into `scratch`/lib.
pub fn compile(scratch: &Scratch) {
    ["lib", "dev", "run"].iter().for_each(|part| std::fs::create_dir(scratch.join(part)).unwrap());
    let directory = out_of(Command::new("pkg-config").args(["--variable=libdir", "xenstat"]));
    xen::compile(&Path::new(directory.trim()).join("libxenstat.so"), None, &scratch.join("lib"));
}

/// Describes a host for `$XEN_HOST`: beside Domain-0 so many guests, each with two disks that a QEMU serves.
pub fn guests(scratch: &Scratch, number: u32) -> PathBuf {
    let mut text = String::from("host 2 1048576 0 4.17.0\n");
    for id in 0..=number {
        let name = if id == 0 { "Domain-0".into() } else { format!("g{id}") };
        text += &format!("domain {id} - 0 0 1 0 0 0 0\n/local/domain/{id}/name {name}\n");
        for (dev, image) in [(51712, "aio:/lab/guest/q.img"), (51728, "qcow2:/lab/guest/over.qcow2")] {
            let disk = format!("/local/domain/0/backend/qdisk/{id}/{dev}");
            text += &if id == 0 { String::new() } else { format!("{disk}/params {image}\n{disk}/sector-size 512\n") };
        }
    }
    scratch.file(&format!("xen-{number}"), &text)
}

/// The daemon on the stand-ins, with a mount namespace of its own and what others are asked for, after a script in them.
/// `$RUN` is its /run/xen.
pub fn in_namespaces(scratch: &Scratch, more: &[&str], script: &str) -> Command {
    // Of /dev/xen/privcmd only is looked whether it opens.
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
