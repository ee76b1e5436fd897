//! Sets what `--version` shows besides the version: git revision and the Xen release of the bound header.

use std::env;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let revision = git(&["rev-parse", "--short=9", "HEAD"]);
    let revision = revision.map_or(String::new(), |revision| format!("revision {revision}, "));
    let release = env::var("DEP_XENSTAT_RELEASE").expect("xenstat-sys sets the release of its header");
    println!("cargo::rustc-env=XENMONITOR_BUILD={revision}header of Xen {release}");
}

/// What git says in our own repository; `None` in an unpacked package.
fn git(arguments: &[&str]) -> Option<String> {
    let top = env::var("CARGO_MANIFEST_DIR").ok()?;
    if !std::path::Path::new(&top).join(".git").exists() {
        return None;
    }
    let output = Command::new("git").args(arguments).current_dir(top).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
