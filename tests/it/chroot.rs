//! Which libxenstat is chosen, tested in a chroot without the machine's libraries.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Scratch, binary, clean, out_of, run, scenario, shim, unshared};

/// A root directory with the binary, the libraries it is linked with, and the demo scenario.
fn a_root() -> Scratch {
    let root = Scratch::new();
    let binary = binary();
    let copy = |from: &Path, to: PathBuf| {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    copy(&binary, root.join("xenmonitor"));
    copy(&scenario("demo"), root.join("demo.toml"));
    for of in [&binary, shim()] {
        for word in out_of(clean("ldd").arg(of)).split_whitespace().filter(|word| word.starts_with('/')) {
            copy(word.as_ref(), root.join(&word[1..]));
        }
    }
    root
}

fn install(root: &Path, library: &str) {
    let to = root.join(&library[1..]);
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    std::fs::copy(shim(), to).unwrap();
}

fn in_root(root: &Path) -> Command {
    let mut command = unshared(&[], "chroot");
    command.arg(root).arg("/xenmonitor");
    command.args(["--host", "h", "--once", "--print", "table"]).env("XENSTAT_SCENARIO", "/demo.toml");
    command
}

#[test]
fn library_not_found_lists_the_names_tried() {
    let root = a_root();
    let said = run(&mut in_root(&root));
    assert_eq!(said.status, Some(1));
    assert_eq!(
        said.err,
        "xenmonitor: no libxenstat found (tried libxenstat.so.4.40 down to .4.12, libxenstat.so.0, libxenstat.so): \
         install Xen's tools (Debian: xen-utils-4.17 or its like), or name the file with \
         --libxenstat, such as /usr/local/lib/libxenstat.so\n"
    );
}

#[test]
fn library_of_the_running_hypervisor_comes_first() {
    let root = a_root();
    install(&root, "/usr/lib/libxenstat.so.4.14");
    install(&root, "/usr/lib/libxenstat.so.4.19");
    let taken = |library: &str, why: &str| {
        let said = run(&mut in_root(&root));
        assert_eq!(said.status, Some(0), "{}", said.err);
        assert!(said.err.contains(&format!("through {library} ({why})")), "{}", said.err);
    };
    taken("/usr/lib/libxenstat.so.4.19", "the newest one found");

    let version = root.join("sys/hypervisor/version");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("major"), "4\n").unwrap();
    std::fs::write(version.join("minor"), "14\n").unwrap();
    taken("/usr/lib/libxenstat.so.4.14", "the running Xen's own");

    install(&root, "/usr/lib/xen-4.14/lib/libxenstat.so.4.14");
    taken("/usr/lib/xen-4.14/lib/libxenstat.so.4.14", "the running Xen's own");

    std::fs::write(version.join("minor"), "18\n").unwrap();
    taken("/usr/lib/libxenstat.so.4.19", "the newest one found");
}

/// Debian 9 and before have it in the directory of their Xen, without a number in its name.
#[test]
fn library_of_an_old_release_is_its_own() {
    for (minor, library) in [(8, "/usr/lib/xen-4.8/lib/libxenstat.so"), (11, "/usr/lib/libxenstat.so.0")] {
        let root = a_root();
        install(&root, library);
        let version = root.join("sys/hypervisor/version");
        std::fs::create_dir_all(&version).unwrap();
        std::fs::write(version.join("major"), "4\n").unwrap();
        std::fs::write(version.join("minor"), format!("{minor}\n")).unwrap();
        let said = run(&mut in_root(&root));
        assert_eq!(said.status, Some(0), "{}", said.err);
        assert!(said.err.contains(&format!("through {library} (the running Xen's own)")), "{}", said.err);
    }
}
