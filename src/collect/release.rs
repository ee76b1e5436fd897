//! What differs between Xen's releases: the name of libxenstat's file, and its defects.

use std::fs;
use std::path::{Path, PathBuf};

/// The releases whose library is looked for when the hypervisor's own is unknown.
const MINORS: std::ops::RangeInclusive<u32> = 12..=40;

/// The running hypervisor's release, if the kernel shows it.
pub fn running() -> Option<(u32, u32)> {
    let number = |file| fs::read_to_string(file).ok()?.trim().parse().ok();
    Some((number("/sys/hypervisor/version/major")?, number("/sys/hypervisor/version/minor")?))
}

/// The files to try in order, each with the reason, and a description of them. The running hypervisor's own library
/// comes first: libxenctrl, which libxenstat uses, works with no other release.
pub fn libraries(running: Option<(u32, u32)>) -> (Vec<(PathBuf, &'static str)>, String) {
    let mut files: Vec<(PathBuf, &'static str)> = Vec::new();
    if let Some((major, minor)) = running {
        let name = format!("libxenstat.so.{major}.{minor}");
        let directory = format!("/usr/lib/xen-{major}.{minor}/lib");
        let mut own = vec![format!("{directory}/{name}"), format!("{directory}/libxenstat.so"), name];
        own.extend(has_unnumbered_library(major, minor).then(|| "libxenstat.so.0".into()));
        files.extend(own.into_iter().map(|name| (name.into(), "the running Xen's own")));
    }
    let mut tried: String = files.iter().map(|(file, _)| format!("{}, ", file.display())).collect();
    tried += &format!("libxenstat.so.4.{} down to .4.{}, libxenstat.so.0, libxenstat.so", MINORS.end(), MINORS.start());
    let scan = MINORS.rev().map(|minor| format!("libxenstat.so.4.{minor}"));
    let scan = scan.chain(["libxenstat.so.0".into(), "libxenstat.so".into()]);
    files.extend(scan.map(|name| (name.into(), "the newest one found")));
    (files, tried)
}

/// The release of a library, by the name of its file or of its directory; `None` for the names without a release.
pub fn of_library(file: &Path) -> Option<(u32, u32)> {
    let after = |text: &str, prefix: &str| release(text.strip_prefix(prefix)?);
    let names = file.iter().rev().filter_map(|name| name.to_str());
    names.into_iter().find_map(|name| after(name, "libxenstat.so.").or_else(|| after(name, "xen-")))
}

/// Whether a library is not that of the running hypervisor.
pub fn is_of_another(library: &Path, running: &str) -> bool {
    match (of_library(library), release(running)) {
        (Some(library), Some(running)) => library != running,
        (None, Some((major, minor))) => !has_unnumbered_library(major, minor),
        (_, None) => false,
    }
}

/// `4.17`, of `4.17`, `4.17.5-pre` and the like.
fn release(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Up to Xen 4.11 the name of the library's file has no release: `libxenstat.so.0`.
fn has_unnumbered_library(major: u32, minor: u32) -> bool {
    (major, minor) < (4, 12)
}

/// Whether a release reads a disk's `rd_sects` into the wrong variable and returns an uninitialised one (fact 17). The
/// patch that does so also brought `xenstat_vbd_error`, and came with Xen 4.13; XenServer and XCP-ng had it before.
pub fn miscounts_read_sectors(xen_version: &str, has_vbd_error: bool) -> bool {
    let mut numbers = xen_version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().ok());
    match [numbers.next(), numbers.next(), numbers.next()].map(Option::flatten) {
        [Some(4), Some(0..=12), _] => has_vbd_error,
        [Some(4), Some(13), Some(patch)] => patch < 4,
        [Some(4), Some(14), Some(patch)] => patch < 3,
        [Some(4), Some(15), Some(patch)] => patch < 1,
        // Without a patch level it may be an affected one.
        [Some(4), Some(13..=15), None] => true,
        _ => false,
    }
}

/// The nominal frequency of the CPUs, if it is that: Xen for Arm returns the frequency of its timer (fact 29).
/// `architecture`: dom0's.
pub fn cpu_hz(architecture: &str, cpu_hz: u64) -> Option<u64> {
    (!matches!(architecture, "aarch64" | "arm")).then_some(cpu_hz)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_miscounts_read_sectors() {
        for version in ["4.13.0", "4.13.3", "4.13.3-pre", "4.14.2", "4.15.0", "4.15.0-rc1", "4.14", "4.13-unstable"] {
            assert!(miscounts_read_sectors(version, true), "{version}");
            assert!(miscounts_read_sectors(version, false), "{version}");
        }
        for version in ["4.7.6-6.9", "4.11.1-7.13", "4.12", "4.0.4"] {
            assert!(miscounts_read_sectors(version, true), "{version}");
            assert!(!miscounts_read_sectors(version, false), "{version}");
        }
        for version in ["4.13.4", "4.13.5-9.40", "4.14.3", "4.15.1", "4.16.0", "4.17.7", "5.13.0", "", "x"] {
            assert!(!miscounts_read_sectors(version, true), "{version}");
        }
    }

    #[test]
    fn cpu_frequency_is_unknown_on_arm() {
        for (architecture, hz) in
            [("x86_64", Some(2_400_000_000)), ("x86", Some(2_400_000_000)), ("aarch64", None), ("arm", None)]
        {
            assert_eq!(cpu_hz(architecture, 2_400_000_000), hz, "{architecture}");
        }
    }

    #[test]
    fn release_of_a_library() {
        for (file, running, is_other) in [
            ("/usr/lib/x86_64-linux-gnu/libxenstat.so.4.17", "4.17.5", false),
            ("/usr/lib64/libxenstat.so.4.17", "4.18.0-rc1", true),
            ("/usr/lib/libxenstat.so.4.17.0", "4.17.5", false),
            ("/usr/lib/xen-4.8/lib/libxenstat.so", "4.8.5", false),
            ("/usr/lib/xen-4.8/lib/libxenstat.so", "4.11", true),
            ("/usr/lib64/libxenstat.so.0", "4.11.1-7.13", false),
            ("/usr/lib64/libxenstat.so.0", "4.13.5", true),
            ("/opt/xen/libxenstat.so", "4.17", true),
            ("/usr/lib64/libxenstat.so.4.17", "", false),
        ] {
            assert_eq!(is_of_another(file.as_ref(), running), is_other, "{file} {running}");
        }
    }

    #[test]
    fn library_candidates_begin_with_the_running_release() {
        let (files, tried) = libraries(Some((4, 17)));
        let names: Vec<_> = files.iter().map(|(file, _)| file.to_str().unwrap()).collect();
        let own =
            ["/usr/lib/xen-4.17/lib/libxenstat.so.4.17", "/usr/lib/xen-4.17/lib/libxenstat.so", "libxenstat.so.4.17"];
        assert_eq!((&names[..3], names[3]), (&own[..], "libxenstat.so.4.40"));
        assert_eq!(names[names.len() - 3..], ["libxenstat.so.4.12", "libxenstat.so.0", "libxenstat.so"]);
        assert!(tried.starts_with(&own.join(", ")));
        assert_eq!(libraries(None).0[0].0.to_str(), Some("libxenstat.so.4.40"));
    }
}
