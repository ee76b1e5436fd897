//! The VBDs on the bus of Xen's backends in sysfs: those that the kernel serves, and others that it lists.
//!
//! libxenstat reads the same files, but only together with QEMU's disks, which it gets wrong (fact 20 in
//! docs/libxenstat.md).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use rustix::io::Errno;

use crate::collect::disks::directory;
use crate::model::snapshot::{Moment, Vbd, VbdCounters};
use crate::model::text::decimal;

/// Where the kernel lists the backends of this dom0. Those of blkback have a directory `statistics`.
const DEVICES: &str = "/sys/bus/xen-backend/devices";

/// The files of so many disks are kept open; those of others are opened at each poll, for the sake of the limit of open
/// files.
const MAX_OPEN: usize = 64;

/// The VBDs on the bus. The files of their counters are kept open from poll to poll.
#[derive(Debug)]
pub struct Bus {
    /// Whether flushes are read.
    flushes: bool,
    /// By the name of the device, and the inode of its entry: a device that replaced another has a new one.
    open: BTreeMap<(String, u64), Statistics>,
}

/// The files of a disk's counters that are wanted and can be opened.
#[derive(Debug)]
struct Statistics(Vec<(&'static str, File)>);

impl Bus {
    /// `flushes`: whether to read them, too, which is a system call for each disk at each poll.
    pub fn new(flushes: bool) -> Self {
        Self { flushes, open: BTreeMap::new() }
    }

    /// Every VBD on the bus but QEMU's, with its domid. Those of tapdisk3 have no counters here. Without the bus no
    /// backend is loaded, and there are none.
    pub fn read(&mut self) -> io::Result<Vec<(u32, Vbd)>> {
        self.read_in(Path::new(DEVICES))
    }

    fn read_in(&mut self, devices: &Path) -> io::Result<Vec<(u32, Vbd)>> {
        let at = Instant::now();
        let entries = match directory::list(devices, by_name) {
            Ok(entries) => entries,
            Err(Errno::NOENT) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut vbds: Vec<(u32, Vbd)> = Vec::new();
        let mut open = BTreeMap::new();
        for ((domid, kind, dev), device, inode) in entries {
            let directory = devices.join(&device);
            let mut counters = None;
            if matches!(kind, BLKBACK | BLKTAP) {
                let key = (device, inode);
                if let Some((statistics, read)) = Statistics::read(self.open.remove(&key), &directory, self.flushes) {
                    counters = Some(read);
                    if open.len() < MAX_OPEN {
                        open.insert(key, statistics);
                    }
                }
            }
            // A device that was removed since the list was read is not in error.
            if counters.is_some() || directory.try_exists().unwrap_or(true) {
                vbds.push((domid, Vbd { kind, dev, counters, ..Vbd::default() }));
            }
        }
        self.open = open;
        let read = Some(Moment { at, took: at.elapsed() });
        vbds.iter_mut().for_each(|(_, vbd)| vbd.read = read);
        Ok(vbds)
    }
}

impl Statistics {
    /// Reads the counters from files that are open, or opens them: those of a device that is gone cannot be read.
    fn read(open: Option<Self>, directory: &Path, flushes: bool) -> Option<(Self, VbdCounters)> {
        let read = |files: Self| counters(|name| files.text(name)).map(|counters| (files, counters));
        open.and_then(read).or_else(|| read(Self::open(directory, flushes)))
    }

    fn open(directory: &Path, flushes: bool) -> Self {
        let statistics = directory.join("statistics");
        let wanted = FILES.iter().filter(|name| flushes || **name != FLUSHES);
        Self(wanted.filter_map(|name| Some((*name, File::open(statistics.join(name)).ok()?))).collect())
    }

    fn text(&self, name: &str) -> Option<String> {
        let (_, file) = self.0.iter().find(|(file, _)| *file == name)?;
        // A number of 64 bits, and a newline.
        let mut text = [0; 32];
        let length = file.read_at(&mut text, 0).ok()?;
        Some(String::from_utf8_lossy(&text[..length]).into_owned())
    }
}

/// The files of a disk's counters, in the order in which [`counters`] takes them.
pub const FILES: [&str; 6] = ["oo_req", "rd_req", "wr_req", "rd_sect", "wr_sect", FLUSHES];

const FLUSHES: &str = "f_req";

const BLKBACK: u32 = 1;
const BLKTAP: u32 = 2;

/// The `xenstat_vbd_type` of tapdisk3.
pub const TAPDISK3: u32 = 3;

/// Domid, type and device number of a bus entry such as `vbd-5-51712`; the types are libxenstat's.
pub fn by_name(device: &str) -> Option<(u32, u32, u32)> {
    let mut parts = device.split('-');
    let (kind, domid, dev) = (parts.next()?, parts.next()?, parts.next()?);
    let kind = match kind {
        "vbd" => BLKBACK,
        "tap" => BLKTAP,
        "vbd3" => TAPDISK3,
        other if other.contains("vbd") || other.contains("tap") => 0,
        _ => return None,
    };
    parts.next().is_none().then_some((decimal(domid)?, kind, decimal(dev)?))
}

/// `None` if a counter that xentop shows cannot be read: the device is being attached or detached.
pub fn counters(file: impl Fn(&str) -> Option<String>) -> Option<VbdCounters> {
    let [oo_reqs, rd_reqs, wr_reqs, rd_sects, wr_sects, flush_reqs] = FILES.map(|name| decimal(file(name)?.trim_end()));
    Some(VbdCounters {
        oo_reqs: Some(oo_reqs?),
        rd_reqs: rd_reqs?,
        wr_reqs: wr_reqs?,
        rd_sects: Some(rd_sects?),
        wr_sects: wr_sects?,
        flush_reqs,
        ..VbdCounters::default()
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn blkback_disks_have_the_moment_they_were_read() {
        let devices = std::env::temp_dir().join(format!("xenmonitor-blkback-{}", std::process::id()));
        let statistics = devices.join("vbd-5-51712/statistics");
        fs::create_dir_all(&statistics).unwrap();
        for file in ["oo_req", "rd_req", "wr_req", "rd_sect", "wr_sect"] {
            fs::write(statistics.join(file), "7\n").unwrap();
        }
        fs::create_dir(devices.join("vbd-5-51728")).unwrap();
        let before = Instant::now();
        let mut vbds = Bus::new(true).read_in(&devices).unwrap();
        let after = Instant::now();
        fs::remove_dir_all(&devices).unwrap();
        vbds.sort_by_key(|(_, vbd)| vbd.dev);
        let read: Vec<_> = vbds.iter().map(|(domid, vbd)| (*domid, vbd.dev, vbd.counters.map(|c| c.rd_reqs))).collect();
        assert_eq!(read, [(5, 51712, Some(7)), (5, 51728, None)]);
        for (_, vbd) in vbds {
            let Moment { at, took } = vbd.read.unwrap();
            assert!(before <= at && at + took <= after, "{vbd:?}");
        }
    }

    /// A device that is gone cannot be read in sysfs, and its successor's entry has another inode.
    #[test]
    fn blkback_files_are_kept_open_while_the_device_stays() {
        let devices = std::env::temp_dir().join(format!("xenmonitor-blkback-open-{}", std::process::id()));
        let write = |entry: &str, reads: &str| {
            let statistics = devices.join(entry).join("statistics");
            fs::create_dir_all(&statistics).unwrap();
            FILES.iter().for_each(|file| fs::write(statistics.join(file), reads).unwrap());
        };
        let mut bus = Bus::new(true);
        let mut reads = || {
            let vbds = bus.read_in(&devices).unwrap();
            vbds.iter().map(|(_, vbd)| vbd.counters.map(|counters| counters.rd_reqs)).collect::<Vec<_>>()
        };
        write("vbd-5-51712", "7\n");
        assert_eq!(reads(), [Some(7)]);
        write("vbd-5-51712", "18446744073709551615\n");
        assert_eq!(reads(), [Some(u64::MAX)]);
        // The files stand for the device: they are open, whatever their names are.
        fs::rename(devices.join("vbd-5-51712/statistics"), devices.join("moved")).unwrap();
        assert_eq!(reads(), [Some(u64::MAX)]);
        write("another", "9\n");
        fs::rename(devices.join("vbd-5-51712"), devices.join("gone")).unwrap();
        fs::rename(devices.join("another"), devices.join("vbd-5-51712")).unwrap();
        assert_eq!(reads(), [Some(9)]);
        fs::remove_dir_all(devices.join("vbd-5-51712")).unwrap();
        assert_eq!(reads(), []);
        for n in 0..MAX_OPEN + 2 {
            write(&format!("vbd-6-{n}"), "3\n");
        }
        assert_eq!(reads(), vec![Some(3); MAX_OPEN + 2]);
        assert_eq!((reads().len(), bus.open.len()), (MAX_OPEN + 2, MAX_OPEN));
        fs::remove_dir_all(&devices).unwrap();
    }

    #[test]
    fn blkback_devices_on_the_bus() {
        for (device, found) in [
            ("vbd-5-51712", Some((5, 1, 51712))),
            ("tap-5-768", Some((5, 2, 768))),
            ("vbd3-12-268439552", Some((12, 3, 268_439_552))),
            ("vbd2-1-51712", Some((1, 0, 51712))),
            ("qdisk-5-51712", None),
            ("vif-5-0", None),
            ("console-5-0", None),
            ("vbd-5", None),
            ("vbd-5-x", None),
            ("vbd-05-51712", None),
            ("vbd-5-+51712", None),
            ("vbd-5-51712-1", None),
        ] {
            assert_eq!(by_name(device), found, "{device}");
        }
    }
}
