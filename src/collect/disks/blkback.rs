//! The kernel's own VBDs, and which others it knows of: the bus of Xen's backends in sysfs.
//!
//! libxenstat reads the same files. It is asked here because with libxenstat they cannot be had without QEMU's
//! disks, and those not as they are (fact 20 in docs/libxenstat.md).

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::model::snapshot::{Vbd, VbdCounters};
use crate::model::text::decimal;

/// Where the kernel lists the backends of this dom0; blkback adds a directory `statistics` to its own.
const DEVICES: &str = "/sys/bus/xen-backend/devices";

/// Every VBD on the bus but QEMU's, with its domid. Those of tapdisk3 have no numbers here. Without the bus no
/// backend is loaded, and there are none.
pub fn read() -> io::Result<Vec<(u32, Vbd)>> {
    let entries = match fs::read_dir(DEVICES) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut vbds = Vec::new();
    for entry in entries {
        let device = entry?.file_name();
        let Some((domid, kind, dev)) = device.to_str().and_then(by_name) else { continue };
        let directory = Path::new(DEVICES).join(&device);
        let file = |name: &str| fs::read_to_string(directory.join("statistics").join(name)).ok();
        let counters = if matches!(kind, BLKBACK | BLKTAP) { counters(file) } else { None };
        // What has gone since the list was read is gone, and not in error.
        if counters.is_some() || directory.exists() {
            vbds.push((domid, Vbd { kind, dev, counters, ..Vbd::default() }));
        }
    }
    Ok(vbds)
}

const BLKBACK: u32 = 1;
const BLKTAP: u32 = 2;

/// `xenstat_vbd_type` of tapdisk3's.
pub const TAPDISK3: u32 = 3;

/// Domid, kind and number of what the bus calls `vbd-5-51712`; the kinds are those that libxenstat tells apart.
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

/// `None` where one of those that xentop shows cannot be read: the device is just coming or going.
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
    fn devices_on_the_bus() {
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
