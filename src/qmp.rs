//! Disks that a guest's QEMU serves, asked from QEMU itself over QMP, all guests at once.
//!
//! libxenstat asks too, one guest after the other, and gives each answer ten milliseconds: a later one it takes for the
//! next, and shows no disks at all (fact 20 in docs/libxenstat.md). Here an answer is over at its newline and
//! belongs to what was asked by its id. The guest may have taken over its QEMU: what comes from there is believed
//! for that guest alone, and up to a certain size.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::marker::PhantomData;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::snapshot::{Moment, Time, VbdCounters};
use crate::vdev::{self, decimal};

/// One disk that QEMU serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Which of the guest's disks it is.
    pub name: Name,
    /// What QEMU counted.
    pub counters: VbdCounters,
}

/// What QEMU's name for a disk says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
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

/// What a QEMU told, and how long that took: where in that time it counted nobody knows.
pub type Answer = Result<(Vec<Disk>, Moment), Error>;

/// Why a guest's disks cannot be told; ends a sentence that begins with its QEMU.
#[derive(Debug)]
pub enum Error {
    /// It did not even greet in time.
    Silent(Duration),
    /// It did not say all in time.
    Late(Duration),
    /// Its turn did not come, for the others or for want of files to open.
    NotAsked(Option<io::Error>),
    /// It closed the connection before.
    Closed,
    /// What it said is no QMP.
    Garbage,
    /// More than [`MOST`] and its likes.
    TooMuch,
    /// It refused; in its own words.
    Refused(String),
    /// The socket.
    Io(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Error::Closed,
            _ => Error::Io(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Silent(limit) => write!(f, "says nothing within {limit:?}: it hangs, or is talking to another"),
            Error::Late(limit) => write!(f, "does not answer within {limit:?}"),
            Error::NotAsked(None) => f.write_str("was not asked: others' QEMUs took all the time"),
            Error::NotAsked(Some(error)) => write!(f, "was not asked: {error}"),
            Error::Closed => f.write_str("closes the connection"),
            Error::Garbage => f.write_str("answers with what is no QMP"),
            Error::TooMuch => write!(f, "answers with more than {MOST} bytes or {MOST_DISKS} disks"),
            Error::Refused(words) => write!(f, "refuses: {words:?}"),
            Error::Io(error) => write!(f, "cannot be asked: {error}"),
        }
    }
}

/// Asked in one breath: QEMU takes one after the other, so that a guest costs one round trip. Its greeting comes
/// first, whatever was sent before.
const QUESTIONS: &[u8] = b"{\"execute\":\"qmp_capabilities\",\"id\":\"qmp_capabilities\"}\n\
    {\"execute\":\"query-block\",\"id\":\"query-block\"}\n\
    {\"execute\":\"qom-list\",\"arguments\":{\"path\":\"/machine/unattached\"},\"id\":\"qom-list\"}\n\
    {\"execute\":\"query-blockstats\",\"id\":\"query-blockstats\"}\n";

/// Bytes from one QEMU in one poll: a disk takes about three thousand, and a backing file of it as many.
const MOST: usize = 1 << 20;

/// Disks of one guest, and drives without.
const MOST_DISKS: usize = 64;

/// Devices that QEMU may list beside them.
const MOST_DEVICES: usize = 4096;

/// Bytes that are kept of all QEMUs who have not said everything. Who has said the most has to go first.
const MOST_IN_ALL: usize = 32 << 20;

/// Bytes that are read at a time, so that who says much does not hold up who says little.
const SHARE: usize = 32 << 10;

/// Guests that are asked at the same time, for the sake of the limit of open files.
const AT_ONCE: usize = 256;

/// A QEMU whose queue of connections is full is tried again after so long, and then after longer and longer.
const AGAIN: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(32)];

/// Asks the QEMUs of these guests, all of which have until `limit` is over; those first that are first here.
pub fn ask(guests: &[(u32, &Path)], limit: Duration) -> BTreeMap<u32, Answer> {
    let deadline = Instant::now() + limit;
    let mut answers = BTreeMap::new();
    let mut waiting: VecDeque<(u32, &Path)> = guests.iter().copied().collect();
    let mut turned_away = Vec::new();
    let (mut pause, mut again) = (AGAIN[0], Instant::now() + AGAIN[0]);
    let mut talks: Vec<Talk> = Vec::new();
    loop {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        if now >= again {
            waiting.extend(turned_away.drain(..).map(|(domid, socket, _)| (domid, socket)));
            pause = (pause * 2).min(AGAIN[1]);
            again = now + pause;
        }
        while talks.len() < AT_ONCE && !left.is_zero() {
            let Some((domid, socket)) = waiting.pop_front() else { break };
            match Talk::begin(domid, socket) {
                Ok(talk) => talks.push(talk),
                Err(error) if may_come_later(&error) => turned_away.push((domid, socket, error)),
                Err(error) => drop(answers.insert(domid, Err(error.into()))),
            }
        }
        if talks.is_empty() && turned_away.is_empty() {
            break;
        }
        // Who says little is heard first; and at the end once more, as far as it has come.
        talks.sort_by_key(|talk| talk.heard);
        let patience = if turned_away.is_empty() { left } else { left.min(again.saturating_duration_since(now)) };
        let ready = wait(&talks, patience);
        for (talk, is_ready) in talks.iter_mut().zip(ready) {
            if is_ready && (talk.heard < SHARE || Instant::now() < deadline) {
                answers.extend(talk.listen().map(|answer| (talk.domid, answer)));
            }
        }
        talks.retain(|talk| !answers.contains_key(&talk.domid));
        while talks.iter().map(|talk| talk.heard).sum::<usize>() > MOST_IN_ALL {
            answers.extend(talks.pop().map(|talk| (talk.domid, Err(Error::TooMuch))));
        }
        if left.is_zero() {
            break;
        }
    }
    let late = |talk: &Talk| if talk.heard > 0 { Error::Late(limit) } else { Error::Silent(limit) };
    let unheard = talks.iter().map(|talk| (talk.domid, Err(late(talk))));
    let away = turned_away.into_iter().map(|(domid, _, error)| match error.kind() {
        ErrorKind::WouldBlock => (domid, Err(Error::Silent(limit))),
        _ => (domid, Err(Error::NotAsked(Some(error)))),
    });
    let not_asked = waiting.into_iter().map(|(domid, _)| (domid, Err(Error::NotAsked(None))));
    answers.extend(unheard.chain(away).chain(not_asked));
    answers
}

/// Its queue is full, or there are too many open files for now.
fn may_come_later(error: &io::Error) -> bool {
    let full = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    full.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Which of them have said something.
fn wait(talks: &[Talk], patience: Duration) -> Vec<bool> {
    let mut fds: Vec<PollFd> = talks.iter().map(|talk| PollFd::new(&talk.stream, PollFlags::IN)).collect();
    let patience = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: patience.subsec_nanos().into() };
    match rustix::event::poll(&mut fds, Some(&patience)) {
        Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
        // A signal; or no memory, and then all are tried.
        Err(error) => vec![error != Errno::INTR; talks.len()],
    }
}

/// A conversation with one QEMU.
struct Talk {
    domid: u32,
    stream: UnixStream,
    begun: Instant,
    /// What has come and is not a whole line yet.
    inbox: Vec<u8>,
    /// How much has come in all.
    heard: usize,
    /// What was told before the counters.
    drives: Option<Few<Drive, MOST_DISKS>>,
    cdroms: HashSet<String>,
}

impl Talk {
    /// The error may be one that passes, see [`may_come_later`].
    fn begin(domid: u32, socket: &Path) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
        let (begun, mut stream) = (Instant::now(), UnixStream::from(fd));
        // So little always fits.
        stream.write_all(QUESTIONS)?;
        Ok(Self { domid, stream, begun, inbox: Vec::new(), heard: 0, drives: None, cdroms: HashSet::new() })
    }

    /// Reads a share of what is there; `None` while more has to come.
    fn listen(&mut self) -> Option<Answer> {
        let mut chunk = [0; SHARE];
        let read = match self.stream.read(&mut chunk) {
            Ok(0) => return Some(Err(Error::Closed)),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return None,
            Err(error) => return Some(Err(error.into())),
        };
        self.heard += read;
        if self.heard > MOST {
            return Some(Err(Error::TooMuch));
        }
        let mut rest = &chunk[..read];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.inbox.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.inbox);
            match self.line(&line) {
                Ok(None) => {}
                Ok(Some(disks)) => return Some(Ok((disks, Moment { at: self.begun, took: self.begun.elapsed() }))),
                Err(error) => return Some(Err(error)),
            }
        }
        self.inbox.extend_from_slice(rest);
        None
    }

    /// One whole line: the greeting, an event, or an answer; the last of these tells the disks.
    fn line(&mut self, line: &[u8]) -> Result<Option<Vec<Disk>>, Error> {
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

/// Of what QEMU says only this is read, whatever else there is.
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
        disks.push(Disk { name: name(device, node), counters: counters(stats).ok_or(Error::Garbage)? });
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
fn name(device: &str, node: &str) -> Name {
    let number = |text: &str| decimal::<u32>(text).filter(|number| *number < 64);
    let emulated = |nth: Option<u32>, scsi| nth.map_or(Name::Xen(0), |nth| Name::Emulated { nth, scsi });
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
    Name::Xen(vdev.and_then(vdev::number).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    // Whole conversations are in tests/it/disks.rs.

    #[test]
    fn names() {
        let emulated = |nth, scsi| Name::Emulated { nth, scsi };
        for (device, node, expected) in [
            ("", "xvda-raw", Name::Xen(51712)),
            ("", "hdb-qcow2", Name::Xen(832)),
            ("", "#block123", Name::Xen(0)),
            ("", "nvme0-raw", Name::Xen(0)),
            ("ide0-hd0", "#block1", emulated(0, false)),
            ("ide1-hd1", "#block1", emulated(3, false)),
            ("ide0-hd99", "", Name::Xen(0)),
            ("ide+1-hd0", "", Name::Xen(0)),
            ("ide-5632", "#block1", Name::Xen(0)),
            ("scsi0-hd12", "", emulated(12, true)),
            ("ahcidisk-5", "", emulated(5, false)),
            ("ahcidisk-x", "", Name::Xen(0)),
            // What is not libxl's does not pass for a backend's.
            ("drive0", "xvda-raw", Name::Xen(0)),
            ("", "", Name::Xen(0)),
        ] {
            assert_eq!(name(device, node), expected, "{device} {node}");
        }
    }

    /// How many disks a conversation with these answers tells.
    fn told(query_block: &Value, query_blockstats: &Value) -> Result<usize, Error> {
        let mut talk = Talk {
            domid: 1,
            stream: UnixStream::pair().unwrap().0,
            begun: Instant::now(),
            inbox: Vec::new(),
            heard: 0,
            drives: None,
            cdroms: HashSet::new(),
        };
        let line = |id: &str, told: &Value| json!({"id": id, "return": told}).to_string();
        talk.line(line("query-block", query_block).as_bytes())?;
        let disks = talk.line(line("query-blockstats", query_blockstats).as_bytes())?;
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
