//! What differs between Xen's releases: the name of libxenstat's file, and its defects.

use std::fs;
use std::path::PathBuf;

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
        files.push((format!("/usr/lib/xen-{major}.{minor}/lib/{name}").into(), "the running Xen's own"));
        files.push((name.into(), "the running Xen's own"));
    }
    let mut tried: String = files.iter().map(|(file, _)| format!("{}, ", file.display())).collect();
    tried += &format!("libxenstat.so.4.{} down to .4.{}, libxenstat.so.0, libxenstat.so", MINORS.end(), MINORS.start());
    let scan = MINORS.rev().map(|minor| format!("libxenstat.so.4.{minor}"));
    let scan = scan.chain(["libxenstat.so.0".into(), "libxenstat.so".into()]);
    files.extend(scan.map(|name| (name.into(), "the newest one found")));
    (files, tried)
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
    fn releases_that_miscount_read_sectors() {
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
    fn the_running_hypervisors_library_is_tried_first() {
        let (files, tried) = libraries(Some((4, 17)));
        let names: Vec<_> = files.iter().map(|(file, _)| file.to_str().unwrap()).collect();
        assert_eq!(
            names[..3],
            ["/usr/lib/xen-4.17/lib/libxenstat.so.4.17", "libxenstat.so.4.17", "libxenstat.so.4.40"]
        );
        assert_eq!(names[names.len() - 3..], ["libxenstat.so.4.12", "libxenstat.so.0", "libxenstat.so"]);
        assert!(tried.starts_with("/usr/lib/xen-4.17/lib/libxenstat.so.4.17, libxenstat.so.4.17, "));
        assert_eq!(libraries(None).0[0].0.to_str(), Some("libxenstat.so.4.40"));
    }
}
