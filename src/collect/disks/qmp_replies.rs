//! A conversation with a QEMU about the guest's disks: the questions in their order, and what the replies say.
//!
//! A guest that has taken over its QEMU chooses the replies. So only the needed parts are read, into memory of limited
//! size.

use std::borrow::Cow;
use std::collections::HashSet;
use std::error;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::model::snapshot::{Time, VbdCounters};
use crate::model::text::decimal;
use crate::model::vdev;

/// One disk that QEMU serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Which of the guest's disks it is.
    pub id: DriveId,
    /// QEMU's counters.
    pub counters: VbdCounters,
}

/// What QEMU's name for a disk means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DriveId {
    /// The device number of a backend whose node is named after the guest's configuration, `xvda-raw`, `hdb-qcow2`; 0
    /// where the name has none.
    Xen(u32),
    /// The nth disk of an emulated controller, on SCSI or else on IDE or AHCI: `ide1-hd0`, `scsi0-hd2`.
    Emulated {
        /// From 0.
        nth: u32,
        /// Whether on SCSI.
        scsi: bool,
    },
}

/// Maximum number of drives of one guest, including drives that are no disks.
pub const MAX_DISKS: usize = 64;

/// Maximum number of other devices that QEMU may list.
const MAX_DEVICES: usize = 4096;

/// Why a reply cannot be used; ends a sentence that begins with its QEMU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyError {
    /// It is no QMP, or has not the expected form.
    Garbage,
    /// It lists more than [`MAX_DISKS`].
    TooManyDisks,
    /// QEMU refuses, with these words.
    Refused(String),
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyError::Garbage => f.write_str("answers with what is no QMP"),
            ReplyError::TooManyDisks => write!(f, "answers with more than {MAX_DISKS} disks"),
            ReplyError::Refused(words) => write!(f, "refuses: {words:?}"),
        }
    }
}

impl error::Error for ReplyError {}

/// The questions, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// Ends the negotiation of capabilities, after which QEMU takes commands.
    Capabilities,
    /// Lists the drives.
    Drives,
    /// Lists the devices, of which only the type says which backends are CD drives.
    Devices,
    /// The drives' counters.
    Counters,
}

impl Question {
    /// QEMU repeats it in the reply.
    pub fn id(self) -> &'static str {
        match self {
            Question::Capabilities => "qmp_capabilities",
            Question::Drives => "query-block",
            Question::Devices => "qom-list",
            Question::Counters => "query-blockstats",
        }
    }

    /// The line to send.
    pub fn line(self) -> &'static [u8] {
        match self {
            Question::Capabilities => b"{\"execute\":\"qmp_capabilities\",\"id\":\"qmp_capabilities\"}\n",
            Question::Drives => b"{\"execute\":\"query-block\",\"id\":\"query-block\"}\n",
            Question::Devices => {
                b"{\"execute\":\"qom-list\",\"arguments\":{\"path\":\"/machine/unattached\"},\"id\":\"qom-list\"}\n"
            }
            Question::Counters => b"{\"execute\":\"query-blockstats\",\"id\":\"query-blockstats\"}\n",
        }
    }
}

/// What a line from QEMU leads to.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More has to come.
    Wait,
    /// The next question is to be asked.
    Ask(Question),
    /// Everything is answered.
    Done(Vec<Disk>),
}

/// The state of a conversation.
#[derive(Default)]
pub struct Replies {
    /// The question that QEMU has not answered yet; `None` before its greeting.
    asked: Option<Question>,
    drives: Option<Few<Drive, MAX_DISKS>>,
    cdroms: HashSet<String>,
}

impl Replies {
    /// The question that is not answered yet. It is `None` until QEMU has sent its greeting.
    pub fn asked(&self) -> Option<Question> {
        self.asked
    }

    /// Takes one whole line: the greeting, an event, or a reply. Replies to other questions than the one asked belong
    /// to another client and are ignored.
    pub fn push_line(&mut self, line: &[u8]) -> Result<Progress, ReplyError> {
        let Message { greeting, id, error, result } = read(line)?;
        let Some(asked) = self.asked else {
            return Ok(if greeting.is_some() { self.ask(Question::Capabilities) } else { Progress::Wait });
        };
        if id.as_deref() != Some(asked.id()) {
            return Ok(Progress::Wait);
        }
        let result = match (error, result) {
            // Without the devices a CD drive may count as a disk: better than no disks.
            (Some(_), _) if asked == Question::Devices => return Ok(self.ask(Question::Counters)),
            (Some(Refusal { desc }), _) => return Err(ReplyError::Refused(desc.chars().take(80).collect())),
            (None, result) => result.ok_or(ReplyError::Garbage)?.get().as_bytes(),
        };
        Ok(match asked {
            Question::Capabilities => self.ask(Question::Drives),
            Question::Drives => {
                self.drives = Some(read(result)?);
                self.ask(Question::Devices)
            }
            Question::Devices => {
                self.cdroms = cdroms(read(result)?);
                self.ask(Question::Counters)
            }
            Question::Counters => {
                let drives = self.drives.take().ok_or(ReplyError::Garbage)?;
                Progress::Done(disks(&drives, &self.cdroms, &read(result)?)?)
            }
        })
    }

    fn ask(&mut self, question: Question) -> Progress {
        self.asked = Some(question);
        Progress::Ask(question)
    }
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "QMP")]
    greeting: Option<IgnoredAny>,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    error: Option<Refusal>,
    #[serde(borrow, rename = "return")]
    result: Option<&'a RawValue>,
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
struct Entry<'a> {
    device: String,
    qdev: String,
    #[serde(rename = "node-name")]
    node: String,
    stats: Stats,
    /// The node below a filter's, and below that of a snapshot: text, as there may be more levels than a parser takes.
    #[serde(borrow)]
    parent: Option<&'a RawValue>,
    #[serde(borrow)]
    backing: Option<&'a RawValue>,
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

fn read<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, ReplyError> {
    serde_json::from_slice(json).map_err(|_| ReplyError::Garbage)
}

/// A list of which at most `MAX` items are kept.
struct Few<T, const MAX: usize> {
    list: Vec<T>,
    are_all: bool,
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Few<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(PhantomData))
    }
}

struct List<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for List<T, MAX> {
    type Value = Few<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while list.len() < MAX {
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

/// The names of the backends that serve a CD, which only their type shows.
fn cdroms(devices: Few<Child, MAX_DEVICES>) -> HashSet<String> {
    let cdroms = devices.list.into_iter().filter(|child| child.kind == "child<xen-cdrom>");
    cdroms.map(|child| child.name).collect()
}

/// The disks in the replies to `query-block` and `query-blockstats`. Both list the drives that the guest sees; the
/// files under a drive are inside its entry. A drive without a medium, or with a removable one, is a CD drive or the
/// like.
fn disks(
    drives: &Few<Drive, MAX_DISKS>,
    cdroms: &HashSet<String>,
    stats: &Few<Entry, MAX_DISKS>,
) -> Result<Vec<Disk>, ReplyError> {
    if !(drives.are_all && stats.are_all) {
        return Err(ReplyError::TooManyDisks);
    }
    let same = |one: &str, other: &str| !one.is_empty() && one == other;
    let mut disks = Vec::new();
    for entry in &stats.list {
        let Entry { device, qdev, node, stats, .. } = entry;
        let is_its = |drive: &&Drive| {
            let inside = drive.inserted.as_ref().is_some_and(|inserted| same(node, &inserted.node));
            same(qdev, &drive.qdev) || same(device, &drive.device) || inside
        };
        let Some(drive) = drives.list.iter().find(is_its) else { continue };
        let backend = qdev.strip_prefix("/machine/unattached/");
        if drive.removable || drive.inserted.is_none() || backend.is_some_and(|device| cdroms.contains(device)) {
            continue;
        }
        let mut counters = counters(stats).ok_or(ReplyError::Garbage)?;
        if device.is_empty() {
            // A backend does not count a flush without data, the usual one.
            counters.flush_reqs = None;
        }
        disks.push(Disk { id: id(device, node, || below(entry)), counters });
    }
    Ok(disks)
}

/// `None` if a counter is missing that every QEMU has.
fn counters(stats: &Stats) -> Option<VbdCounters> {
    // QEMU says whether the time includes that of failed requests.
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

/// The most nodes that are looked at in search of a backend's.
const MOST_LEVELS: usize = 8;

/// The device number of a backend whose own node is below others: a backup job puts a filter on top, a snapshot a file.
fn below(entry: &Entry<'_>) -> Option<u32> {
    let (mut parent, mut backing) = (entry.parent, entry.backing);
    for _ in 1..MOST_LEVELS {
        let next: Entry<'_> = serde_json::from_str(backing.or(parent)?.get()).ok()?;
        if let Some(number) = number(&next.node) {
            return Some(number);
        }
        (parent, backing) = (next.parent, next.backing);
    }
    None
}

/// The device number in `VDEV-FORMAT`.
fn number(node: &str) -> Option<u32> {
    vdev::number(node.split_once('-')?.0)
}

/// A backend has only its node's name, `VDEV-FORMAT`; an emulated disk has a drive name that libxl chooses.
fn id(device: &str, node: &str, below: impl FnOnce() -> Option<u32>) -> DriveId {
    let nth = |text: &str| decimal::<u32>(text).filter(|nth| *nth < 64);
    let emulated = |nth: Option<u32>, scsi| nth.map_or(DriveId::Xen(0), |nth| DriveId::Emulated { nth, scsi });
    if let Some(id) = device.strip_prefix("ide") {
        let nth_of_all = id.split_once("-hd").and_then(|(bus, unit)| Some(nth(bus)? * 2 + nth(unit)?));
        return emulated(nth_of_all, false);
    }
    if let Some(unit) = device.strip_prefix("scsi0-hd") {
        return emulated(nth(unit), true);
    }
    if let Some(port) = device.strip_prefix("ahcidisk-") {
        return emulated(nth(port), false);
    }
    let backends = device.is_empty().then(|| number(node).or_else(below)).flatten();
    DriveId::Xen(backends.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    // Whole conversations are in tests/it/disks.rs.

    #[test]
    fn drive_ids() {
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
            // A drive name that is not libxl's is not taken for a backend.
            ("drive0", "xvda-raw", DriveId::Xen(0)),
            ("", "", DriveId::Xen(0)),
        ] {
            assert_eq!(id(device, node, || None), expected, "{device} {node}");
        }
    }

    /// A conversation with these replies, and how many disks it yields.
    fn converse(query_block: &Value, query_blockstats: &Value) -> Result<usize, ReplyError> {
        let mut replies = Replies::default();
        let line = |question: Question, result: &Value| json!({"id": question.id(), "return": result}).to_string();
        let mut push = |line: String| replies.push_line(line.as_bytes());
        push(json!({"QMP": {}}).to_string())?;
        push(line(Question::Capabilities, &json!({})))?;
        push(line(Question::Drives, query_block))?;
        push(line(Question::Devices, &json!([])))?;
        match push(line(Question::Counters, query_blockstats))? {
            Progress::Done(disks) => Ok(disks.len()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn qmp_questions_are_asked_one_by_one_after_the_greeting() {
        use Progress::{Ask, Done, Wait};
        let reply = |id: &str, result: Value| json!({"id": id, "return": result});
        let refusal = |id: &str| json!({"id": id, "error": {"class": "GenericError", "desc": "no"}});
        let greeting = json!({"QMP": {"version": {}, "capabilities": []}});
        let mut replies = Replies::default();
        for (what, line, expected) in [
            ("an event", json!({"event": "STOP"}), Ok(Wait)),
            ("a reply before the greeting", reply("qmp_capabilities", json!({})), Ok(Wait)),
            ("the greeting", greeting.clone(), Ok(Ask(Question::Capabilities))),
            ("another greeting", greeting, Ok(Wait)),
            ("a reply to what was not asked yet", reply("query-blockstats", json!([])), Ok(Wait)),
            ("a reply without an id", json!({"return": {}}), Ok(Wait)),
            ("an error for another client", refusal("query-block"), Ok(Wait)),
            ("an error without an id", json!({"error": {}}), Ok(Wait)),
            ("capabilities", reply("qmp_capabilities", json!({})), Ok(Ask(Question::Drives))),
            ("the same again", reply("qmp_capabilities", json!({})), Ok(Wait)),
            ("drives", reply("query-block", json!([])), Ok(Ask(Question::Devices))),
            ("devices are refused", refusal("qom-list"), Ok(Ask(Question::Counters))),
            ("counters", reply("query-blockstats", json!([])), Ok(Done(vec![]))),
        ] {
            assert_eq!(replies.push_line(line.to_string().as_bytes()), expected, "{what}");
        }
        for (line, expected) in [
            (refusal("qmp_capabilities"), ReplyError::Refused("no".into())),
            (json!({"id": "qmp_capabilities"}), ReplyError::Garbage),
            (json!(["no", "message"]), ReplyError::Garbage),
        ] {
            let mut replies = Replies { asked: Some(Question::Capabilities), ..Replies::default() };
            assert_eq!(replies.push_line(line.to_string().as_bytes()), Err(expected));
        }
    }

    #[test]
    fn qmp_questions_have_their_ids() {
        for question in [Question::Capabilities, Question::Drives, Question::Devices, Question::Counters] {
            let line: Value = serde_json::from_slice(question.line()).unwrap();
            assert_eq!((&line["id"], &line["execute"]), (&question.id().into(), &question.id().into()));
            assert!(question.line().ends_with(b"\n"));
        }
    }

    #[test]
    fn disks_are_distinguished_from_other_drives() {
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
            match (converse(&blocks, &entries), found) {
                (Ok(disks), found) => assert_eq!(Ok(disks), found, "{what}"),
                (Err(error), found) => assert!(error.to_string().ends_with(found.unwrap_err()), "{what}: {error}"),
            }
        }
    }

    /// As QEMU 5.2 to 11 list them: a node below a filter is its parent, one below a snapshot its backing file.
    #[test]
    fn disks_are_known_by_the_node_below_that_of_a_job_or_a_snapshot() {
        let named = |name: &str| json!({"node-name": name, "parent": {"node-name": "#block1"}});
        let over = |key: &str, below: Value| {
            let mut node = named("#block2");
            node[key] = below;
            node
        };
        let deep = |levels| (0..levels).fold(named("xvdb-raw"), |node, _| over("backing", node));
        for (what, node, expected) in [
            ("usual", named("xvda-raw"), 51712),
            ("a backup", over("parent", named("xvda-raw")), 51712),
            ("a snapshot", over("backing", named("xvdb-qcow2")), 51728),
            ("a backup of a snapshot", over("parent", over("backing", named("xvda-raw"))), 51712),
            ("no backend's name", over("parent", over("parent", named("x"))), 0),
            ("as deep as is looked", deep(7), 51728),
            ("deeper", deep(8), 0),
            ("very deep", deep(100), 0),
        ] {
            let mut entry = node;
            let stats =
                json!({"rd_operations": 1, "wr_operations": 2, "rd_bytes": 3, "wr_bytes": 4, "flush_operations": 5});
            entry.as_object_mut().unwrap().extend([("qdev".into(), "q".into()), ("stats".into(), stats)]);
            let drives = read(br#"[{"qdev": "q", "inserted": {}}]"#).unwrap();
            let (entries, emulated) = (
                json!([entry]).to_string(),
                json!([{"device": "ide0-hd0", "qdev": "q", "stats": entry["stats"]}]).to_string(),
            );
            let found = |entries: &str| disks(&drives, &HashSet::new(), &read(entries.as_bytes()).unwrap()).unwrap();
            assert_eq!(found(&entries)[0].id, DriveId::Xen(expected), "{what}");
            // Only emulated disks count flushes.
            let flushes = [entries, emulated].map(|entries| found(&entries)[0].counters.flush_reqs);
            assert_eq!(flushes, [None, Some(5)]);
        }
    }

    #[test]
    fn qmp_replies_of_old_qemus_lack_counters() {
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
