//! What a QEMU answers when it is asked for its drives, and which of them are the guest's disks.
//!
//! Only what is wanted is read, into room that is known before: a guest that has taken over its QEMU says what it
//! likes.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::collect::disks::qmp::Error;
use crate::model::snapshot::{Time, VbdCounters};
use crate::model::text::decimal;
use crate::model::vdev::{self};

/// One disk that QEMU serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Which of the guest's disks it is.
    pub id: DriveId,
    /// What QEMU counted.
    pub counters: VbdCounters,
}

/// What QEMU's name for a disk says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriveId {
    /// Xen's number, of a backend whose node is called after the guest's configuration, `xvda-raw`, `hdb-qcow2`; 0
    /// where that has none.
    Xen(u32),
    /// The nth disk of an emulated controller, on SCSI or else on IDE or AHCI: `ide1-hd0`, `scsi0-hd2`.
    Emulated {
        /// From 0.
        nth: u32,
        /// Whether on SCSI.
        scsi: bool,
    },
}

/// Disks of one guest, and drives without.
pub const MOST_DISKS: usize = 64;

/// Devices that QEMU may list beside them.
const MOST_DEVICES: usize = 4096;

/// What was told before the counters.
#[derive(Default)]
pub struct Drives {
    drives: Option<Few<Drive, MOST_DISKS>>,
    cdroms: HashSet<String>,
}

impl Drives {
    /// One whole line of QEMU's: the greeting, an event, or an answer, the last of which tells the disks.
    pub fn hear(&mut self, line: &[u8]) -> Result<Option<Vec<Disk>>, Error> {
        let Message { id, error, told } = read(line)?;
        let id = id.as_deref().unwrap_or_default();
        match (error, told.map(|told| told.get().as_bytes())) {
            // Without it there is no more than a CD drive too many.
            (Some(_), _) if id == "qom-list" => {}
            (Some(Refusal { desc }), _) => return Err(Error::Refused(desc.chars().take(80).collect())),
            (None, Some(told)) if id == "query-block" => self.drives = Some(read(told)?),
            (None, Some(told)) if id == "qom-list" => self.cdroms = cdroms(read(told)?),
            (None, Some(told)) if id == "query-blockstats" => {
                let drives = self.drives.take().ok_or(Error::Garbage)?;
                return disks(&drives, &self.cdroms, &read(told)?).map(Some);
            }
            // What nobody asked for.
            _ => {}
        }
        Ok(None)
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    error: Option<Refusal>,
    #[serde(borrow, rename = "return")]
    told: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    desc: String,
}

/// From `query-block`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Drive {
    device: String,
    qdev: String,
    removable: bool,
    inserted: Option<Inserted>,
}

#[derive(Deserialize)]
struct Inserted {
    #[serde(default, rename = "node-name")]
    node: String,
}

/// From `qom-list`.
#[derive(Deserialize)]
struct Child {
    name: String,
    #[serde(rename = "type")]
    kind: String,
}

/// From `query-blockstats`.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    device: String,
    qdev: String,
    #[serde(rename = "node-name")]
    node: String,
    stats: Stats,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Stats {
    rd_operations: Option<u64>,
    wr_operations: Option<u64>,
    flush_operations: Option<u64>,
    rd_bytes: Option<u64>,
    wr_bytes: Option<u64>,
    rd_total_time_ns: Option<u64>,
    wr_total_time_ns: Option<u64>,
    failed_rd_operations: Option<u64>,
    failed_wr_operations: Option<u64>,
    failed_flush_operations: Option<u64>,
    account_failed: bool,
}

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Error> {
    serde_json::from_slice(json).map_err(|_| Error::Garbage)
}

/// A list of which no more than `MOST` are kept.
struct Few<T, const MOST: usize> {
    list: Vec<T>,
    are_all: bool,
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Few<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(PhantomData))
    }
}

struct List<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
    type Value = Few<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < MOST {
            match items.next_element()? {
                Some(item) => list.push(item),
                None => return Ok(Few { list, are_all: true }),
            }
        }
        let mut are_all = true;
        while items.next_element::<IgnoredAny>()?.is_some() {
            are_all = false;
        }
        Ok(Few { list, are_all })
    }
}

/// Of QEMU's devices, the names of the backends that serve a CD: only their type tells.
fn cdroms(devices: Few<Child, MOST_DEVICES>) -> HashSet<String> {
    let cdroms = devices.list.into_iter().filter(|child| child.kind == "child<xen-cdrom>");
    cdroms.map(|child| child.name).collect()
}

/// The disks in QEMU's answers to `query-block` and `query-blockstats`. Both list what guests can see; the files
/// under it are inside of that. What has no medium, or one that can be taken out, is a CD drive or the like.
fn disks(
    drives: &Few<Drive, MOST_DISKS>,
    cdroms: &HashSet<String>,
    stats: &Few<Entry, MOST_DISKS>,
) -> Result<Vec<Disk>, Error> {
    if !(drives.are_all && stats.are_all) {
        return Err(Error::TooMuch);
    }
    let same = |one: &str, other: &str| !one.is_empty() && one == other;
    let mut disks = Vec::new();
    for Entry { device, qdev, node, stats } in &stats.list {
        let is_its = |drive: &&Drive| {
            let inside = drive.inserted.as_ref().is_some_and(|inserted| same(node, &inserted.node));
            same(qdev, &drive.qdev) || same(device, &drive.device) || inside
        };
        let Some(drive) = drives.list.iter().find(is_its) else { continue };
        let backend = qdev.strip_prefix("/machine/unattached/");
        if drive.removable || drive.inserted.is_none() || backend.is_some_and(|device| cdroms.contains(device)) {
            continue;
        }
        disks.push(Disk { id: id(device, node), counters: counters(stats).ok_or(Error::Garbage)? });
    }
    Ok(disks)
}

/// `None` where one is missing that every QEMU tells.
fn counters(stats: &Stats) -> Option<VbdCounters> {
    // Of the time that requests took, QEMU knows whether it is that of those that failed too.
    let time = |reqs: u64, failed: Option<u64>, ns: Option<u64>| {
        let failed = if stats.account_failed { failed? } else { 0 };
        Some(Time { reqs: reqs.checked_add(failed)?, ns: ns? })
    };
    let (rd_reqs, wr_reqs) = (stats.rd_operations?, stats.wr_operations?);
    let failed = [stats.failed_rd_operations, stats.failed_wr_operations, stats.failed_flush_operations];
    Some(VbdCounters {
        oo_reqs: None,
        rd_reqs,
        wr_reqs,
        rd_sects: Some(stats.rd_bytes? / 512),
        wr_sects: stats.wr_bytes? / 512,
        rd_time: time(rd_reqs, failed[0], stats.rd_total_time_ns),
        wr_time: time(wr_reqs, failed[1], stats.wr_total_time_ns),
        flush_reqs: stats.flush_operations,
        errs: failed.into_iter().try_fold(0_u64, |sum, failed| sum.checked_add(failed?)),
    })
}

/// A backend has only its node's name, `VDEV-FORMAT`; what is emulated has that of its drive, as libxl gives it.
fn id(device: &str, node: &str) -> DriveId {
    let number = |text: &str| decimal::<u32>(text).filter(|number| *number < 64);
    let emulated = |nth: Option<u32>, scsi| nth.map_or(DriveId::Xen(0), |nth| DriveId::Emulated { nth, scsi });
    if let Some(id) = device.strip_prefix("ide") {
        let nth = id.split_once("-hd").and_then(|(bus, unit)| Some(number(bus)? * 2 + number(unit)?));
        return emulated(nth, false);
    }
    if let Some(unit) = device.strip_prefix("scsi0-hd") {
        return emulated(number(unit), true);
    }
    if let Some(port) = device.strip_prefix("ahcidisk-") {
        return emulated(number(port), false);
    }
    let vdev = node.split_once('-').map(|(vdev, _)| vdev).filter(|_| device.is_empty());
    DriveId::Xen(vdev.and_then(vdev::number).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    // Whole conversations are in tests/it/disks.rs.

    #[test]
    fn names() {
        let emulated = |nth, scsi| DriveId::Emulated { nth, scsi };
        for (device, node, expected) in [
            ("", "xvda-raw", DriveId::Xen(51712)),
            ("", "hdb-qcow2", DriveId::Xen(832)),
            ("", "#block123", DriveId::Xen(0)),
            ("", "nvme0-raw", DriveId::Xen(0)),
            ("ide0-hd0", "#block1", emulated(0, false)),
            ("ide1-hd1", "#block1", emulated(3, false)),
            ("ide0-hd99", "", DriveId::Xen(0)),
            ("ide+1-hd0", "", DriveId::Xen(0)),
            ("ide-5632", "#block1", DriveId::Xen(0)),
            ("scsi0-hd12", "", emulated(12, true)),
            ("ahcidisk-5", "", emulated(5, false)),
            ("ahcidisk-x", "", DriveId::Xen(0)),
            // What is not libxl's does not pass for a backend's.
            ("drive0", "xvda-raw", DriveId::Xen(0)),
            ("", "", DriveId::Xen(0)),
        ] {
            assert_eq!(id(device, node), expected, "{device} {node}");
        }
    }

    /// How many disks a conversation with these answers tells.
    fn told(query_block: &Value, query_blockstats: &Value) -> Result<usize, Error> {
        let mut drives = Drives::default();
        let line = |id: &str, told: &Value| json!({"id": id, "return": told}).to_string();
        drives.hear(line("query-block", query_block).as_bytes())?;
        let disks = drives.hear(line("query-blockstats", query_blockstats).as_bytes())?;
        Ok(disks.unwrap().len())
    }

    #[test]
    fn disks_and_what_is_none() {
        let stats = json!({"rd_operations": 1, "wr_operations": 2, "rd_bytes": 1536, "wr_bytes": 513});
        let drive = |key: &str, more: Value| {
            let mut drive = json!({"removable": false, "inserted": {"node-name": "xvda-raw"}});
            drive[key] = "x".into();
            drive.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!([drive])
        };
        let entry = |key: &str| json!([{key: "x", "stats": stats}]);
        let node = json!([{"device": "", "node-name": "xvda-raw", "stats": stats}]);
        let negative = json!([{"qdev": "x", "stats": {"rd_operations": -1}}]);
        let many =
            |n: usize| (json!(vec![json!({"qdev": "x", "inserted": {}}); n]), json!(vec![entry("qdev")[0].clone(); n]));
        let ((most, most_entries), (more, more_entries)) = (many(64), many(65));
        for (what, blocks, entries, found) in [
            ("known by its device", drive("device", json!({})), entry("device"), Ok(1)),
            ("by its place", drive("qdev", json!({})), entry("qdev"), Ok(1)),
            ("by its node", drive("other", json!({"device": ""})), node, Ok(1)),
            (
                "an empty device is no name",
                json!([{"device": "", "inserted": {}}]),
                json!([{"device": "", "stats": stats}]),
                Ok(0),
            ),
            ("a medium to be taken out", drive("qdev", json!({"removable": true})), entry("qdev"), Ok(0)),
            ("no medium", drive("qdev", json!({"inserted": null})), entry("qdev"), Ok(0)),
            ("listed by one only", json!([]), entry("qdev"), Ok(0)),
            ("no counters", drive("qdev", json!({})), json!([{"qdev": "x"}]), Err("no QMP")),
            ("below nothing", drive("qdev", json!({})), negative, Err("no QMP")),
            ("no list", json!({}), json!([]), Err("no QMP")),
            ("as many as may be", most.clone(), most_entries.clone(), Ok(64)),
            ("more drives than anybody has", more, most_entries, Err("64 disks")),
            ("more counters", most, more_entries, Err("64 disks")),
        ] {
            match (told(&blocks, &entries), found) {
                (Ok(disks), found) => assert_eq!(Ok(disks), found, "{what}"),
                (Err(error), found) => assert!(error.to_string().ends_with(found.unwrap_err()), "{what}: {error}"),
            }
        }
    }

    #[test]
    fn old_qemus_count_less() {
        let mut stats = json!({"rd_operations": 8, "wr_operations": 2, "rd_bytes": 1536, "wr_bytes": 1023});
        let counters = |stats: &Value| counters(&serde_json::from_value(stats.clone()).unwrap());
        let least = VbdCounters { rd_reqs: 8, wr_reqs: 2, rd_sects: Some(3), wr_sects: 1, ..VbdCounters::default() };
        assert_eq!(counters(&stats), Some(least));
        for (key, value) in [
            ("rd_total_time_ns", json!(900)),
            ("flush_operations", json!(4)),
            ("failed_rd_operations", json!(1)),
            ("failed_wr_operations", json!(0)),
            ("failed_flush_operations", json!(5)),
        ] {
            stats[key] = value;
        }
        let more =
            |reqs| VbdCounters { rd_time: Some(Time { reqs, ns: 900 }), flush_reqs: Some(4), errs: Some(6), ..least };
        assert_eq!(counters(&stats), Some(more(8)));
        stats["account_failed"] = true.into();
        assert_eq!(counters(&stats), Some(more(9)));
        stats.as_object_mut().unwrap().remove("rd_bytes");
        assert_eq!(counters(&stats), None);
    }
}
