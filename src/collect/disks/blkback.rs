//! The VBDs on the bus of Xen's backends in sysfs: those that the kernel serves, and others that it lists.
//!
//! libxenstat reads the same files, but only together with QEMU's disks, which it gets wrong (fact 20 in
//! docs/libxenstat.md).

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Instant;

use crate::model::snapshot::{Moment, Vbd, VbdCounters};
use crate::model::text::decimal;

/// Where the kernel lists the backends of this dom0. Those of blkback have a directory `statistics`.
const DEVICES: &str = "/sys/bus/xen-backend/devices";

/// Every VBD on the bus but QEMU's, with its domid. Those of tapdisk3 have no counters here. Without the bus no
/// backend is loaded, and there are none.
pub fn read() -> io::Result<Vec<(u32, Vbd)>> {
    read_in(Path::new(DEVICES))
}

fn read_in(devices: &Path) -> io::Result<Vec<(u32, Vbd)>> {
    let at = Instant::now();
    let entries = match fs::read_dir(devices) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut vbds: Vec<(u32, Vbd)> = Vec::new();
    for entry in entries {
        let device = entry?.file_name();
        let Some((domid, kind, dev)) = device.to_str().and_then(by_name) else { continue };
        let directory = devices.join(&device);
        let file = |name: &str| fs::read_to_string(directory.join("statistics").join(name)).ok();
        let counters = if matches!(kind, BLKBACK | BLKTAP) { counters(file) } else { None };
        // A device that was removed since the list was read is not in error.
        if counters.is_some() || directory.try_exists().unwrap_or(true) {
            vbds.push((domid, Vbd { kind, dev, counters, ..Vbd::default() }));
        }
    }
    let read = Some(Moment { at, took: at.elapsed() });
    vbds.iter_mut().for_each(|(_, vbd)| vbd.read = read);
    Ok(vbds)
}

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
    let count = |name: &str| file(name).and_then(|text| decimal(text.trim_end()));
    Some(VbdCounters {
        oo_reqs: Some(count("oo_req")?),
        rd_reqs: count("rd_req")?,
        wr_reqs: count("wr_req")?,
        rd_sects: Some(count("rd_sect")?),
        wr_sects: count("wr_sect")?,
        flush_reqs: count("f_req"),
        ..VbdCounters::default()
    })
}

#[cfg(test)]
mod tests {
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
        let mut vbds = read_in(&devices).unwrap();
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
