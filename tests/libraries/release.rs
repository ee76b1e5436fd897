//! A release of Xen as Debian packages it: libxenstat and xentop, run over stand-ins for Xen in the root that `fetch`
//! has unpacked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::stand_ins;
use crate::support::{binary, target, unshared};

pub struct Release {
    /// `4.17`.
    pub name: String,
    /// `4.17.5`.
    pub version: String,
    pub root: PathBuf,
    /// libxenstat's path outside of the root.
    pub library: PathBuf,
    /// The directory of the compiled stand-ins.
    pub stand_ins: PathBuf,
}

/// Every release that was fetched, the oldest first.
pub fn all() -> &'static [Release] {
    static RELEASES: OnceLock<Vec<Release>> = OnceLock::new();
    RELEASES.get_or_init(|| {
        let directory = std::env::var_os("LIBRARIES").expect("LIBRARIES is not set: use make test-libraries");
        let entries = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
        let mut roots: Vec<PathBuf> = entries.filter(|path| path.join("version").is_file()).collect();
        roots.sort();
        assert!(roots.len() >= 3, "{directory:?} has {roots:?}");
        roots.iter().map(|root| Release::new(root)).collect()
    })
}

impl Release {
    fn new(root: &Path) -> Self {
        let name = root.file_name().unwrap().to_str().unwrap().to_owned();
        let version = std::fs::read_to_string(root.join("version")).unwrap();
        let version = version.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap().to_owned();
        let file = format!("libxenstat.so.{name}");
        let directories = std::fs::read_dir(root.join("usr/lib")).unwrap().map(|entry| entry.unwrap().path());
        let library = directories.map(|directory| directory.join(&file)).find(|file| file.is_file());
        let library = library.unwrap_or_else(|| panic!("no {file} in {}", root.display()));
        let stand_ins = target().join("libraries").join(&name);
        std::fs::create_dir_all(&stand_ins).unwrap();
        stand_ins::compile(&library, Some(&root.join("usr/include")), &stand_ins);
        // The stand-in for libxenctrl has a clock, which has to be found before libc's.
        std::fs::write(stand_ins.join("ld.so.preload"), format!("/stand-ins/libxenctrl.so.{name}\n")).unwrap();
        Self { name, version, root: root.to_owned(), library, stand_ins }
    }

    /// Its xentop on a host that `Host::write` has written.
    pub fn xentop(&self, host: &Path, polls: usize) -> Command {
        let mut command = self.command(host, &format!("/usr/lib/xen-{}/bin/xentop", self.name));
        command.args(["-b", "-f", "-d", "0", "-i", &polls.to_string()]);
        command
    }

    /// Our program on the same host.
    pub fn xenmonitor(&self, host: &Path) -> Command {
        let mut command = self.command(host, "/xenmonitor");
        command.args(["--host", "h"]);
        command
    }

    /// `program` in the root, with the kernel's files of the host. /proc is no real one, as nothing can be mounted over
    /// its /proc/net/dev.
    pub fn command(&self, host: &Path, program: &str) -> Command {
        const SCRIPT: &str = r#"
            mount --bind "$HOST" "$ROOT/host"
            mount --bind "$HOST/proc" "$ROOT/proc"
            mount --bind "$HOST/sys" "$ROOT/sys"
            mount --bind "$HOST/dev" "$ROOT/dev"
            mount --bind /dev/null "$ROOT/dev/null"
            mount --bind "$STAND_INS" "$ROOT/stand-ins"
            mount --bind "$XENMONITOR" "$ROOT/xenmonitor"
            exec env XEN_HOST=/host/xen LD_LIBRARY_PATH="$SEARCH" chroot "$ROOT" "$0" "$@""#;
        let mut command = unshared(&["--mount"], "sh");
        command.args(["-ec", SCRIPT, program]);
        command.env("ROOT", &self.root).env("HOST", host).env("STAND_INS", &self.stand_ins).env("XENMONITOR", binary());
        command.env("SEARCH", "/stand-ins");
        command
    }
}
