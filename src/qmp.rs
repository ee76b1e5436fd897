//! Disks that a guest's QEMU serves, asked from QEMU itself over QMP, all guests at once.
//!
//! libxenstat asks too, one guest after the other, and gives each answer ten milliseconds: a later one it takes for the
//! next, and shows no disks at all (fact 20 in docs/libxenstat.md). Here an answer is over at its newline and
//! belongs to what was asked by its id. The guest may have taken over its QEMU: what comes from there is believed
//! for that guest alone, and up to a certain size.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use serde_json::Value;

use crate::snapshot::{Time, VbdCounters};

/// One disk that QEMU serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Which of the guest's disks it is, in QEMU's words.
    pub name: Name,
    /// What QEMU counted.
    pub counters: VbdCounters,
}

/// What QEMU's name for a disk says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// The name in the guest's configuration: a backend's node is called `xvda-raw`, `hdb-qcow2`.
    Vdev(String),
    /// The so-manieth disk of an emulated controller, on SCSI or else on IDE or AHCI: `ide1-hd0`, `scsi0-hd2`.
    Emulated {
        /// From 0.
        nth: u32,
        /// Whether on SCSI.
        scsi: bool,
    },
    /// None that libxl gives.
    Other,
}

/// Why a guest's disks cannot be told; ends a sentence that begins with its QEMU.
#[derive(Debug)]
pub enum Error {
    /// It did not even greet in time.
    Silent(Duration),
    /// It did not say all in time.
    Late(Duration),
    /// It closed the connection before.
    Closed,
    /// What it said is no QMP.
    Garbage,
    /// More than [`MOST`].
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
const QUESTIONS: &[u8] = b"{\"execute\":\"qmp_capabilities\",\"id\":0}\n\
                           {\"execute\":\"query-block\",\"id\":1}\n\
                           {\"execute\":\"qom-list\",\"arguments\":{\"path\":\"/machine/unattached\"},\"id\":2}\n\
                           {\"execute\":\"query-blockstats\",\"id\":3}\n";

/// Bytes from one QEMU in one poll: a disk takes about three thousand, and a backing file of it as many.
const MOST: usize = 2 << 20;

/// Disks of one guest, and drives without.
const MOST_DISKS: usize = 256;

/// Guests that are asked at the same time, for the sake of the limit of open files.
const AT_ONCE: usize = 256;

/// A QEMU whose queue of connections is full is tried again after so long.
const AGAIN: Duration = Duration::from_millis(2);

/// Asks the QEMUs behind `sockets`, all of which have until `limit` is over. The answers are in their order; and how
/// long it took to hear those that tell something.
pub fn ask(sockets: &[&Path], limit: Duration) -> (Vec<Result<Vec<Disk>, Error>>, Duration) {
    let start = Instant::now();
    let (deadline, mut took) = (start + limit, Duration::ZERO);
    let mut answers: Vec<Option<Result<Vec<Disk>, Error>>> = sockets.iter().map(|_| None).collect();
    let mut waiting: VecDeque<usize> = (0..sockets.len()).collect();
    let mut talks: Vec<Talk> = Vec::new();
    loop {
        let mut busy = Vec::new();
        while talks.len() < AT_ONCE {
            let Some(place) = waiting.pop_front() else { break };
            match Talk::begin(sockets[place], place) {
                Ok(talk) => talks.push(talk),
                Err(error) if error.kind() == ErrorKind::WouldBlock => busy.push(place),
                Err(error) => answers[place] = Some(Err(error.into())),
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let all_over = talks.is_empty() && busy.is_empty() && waiting.is_empty();
        if all_over || left.is_zero() {
            break;
        }
        let patience = if busy.is_empty() { left } else { left.min(AGAIN) };
        waiting.extend(busy);
        let mut ready = wait(&talks, patience).into_iter();
        talks.retain_mut(|talk| {
            if ready.next() == Some(true) {
                answers[talk.place] = talk.listen();
            }
            if matches!(answers[talk.place], Some(Ok(_))) {
                took = start.elapsed();
            }
            answers[talk.place].is_none()
        });
    }
    let greeted: Vec<usize> = talks.iter().filter(|talk| talk.heard > 0).map(|talk| talk.place).collect();
    let late = |place| if greeted.contains(&place) { Error::Late(limit) } else { Error::Silent(limit) };
    let answers = answers.into_iter().enumerate();
    (answers.map(|(place, answer)| answer.unwrap_or_else(|| Err(late(place)))).collect(), took)
}

/// Which of them have said something.
fn wait(talks: &[Talk], patience: Duration) -> Vec<bool> {
    let mut fds: Vec<PollFd> = talks.iter().map(|talk| PollFd::new(&talk.stream, PollFlags::IN)).collect();
    let patience = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: patience.subsec_nanos().into() };
    match rustix::event::poll(&mut fds, Some(&patience)) {
        Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
        // A signal; or no memory, and then all are tried.
        Err(error) => vec![error != rustix::io::Errno::INTR; talks.len()],
    }
}

/// A conversation with one QEMU.
struct Talk {
    place: usize,
    stream: UnixStream,
    /// What has come and is not a whole line yet.
    inbox: Vec<u8>,
    /// How much has come in all.
    heard: usize,
    query_block: Value,
    qom_list: Value,
}

impl Talk {
    /// `WouldBlock` where too many others are waiting to be served.
    fn begin(socket: &Path, place: usize) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
        let mut stream = UnixStream::from(fd);
        // So little always fits.
        stream.write_all(QUESTIONS)?;
        Ok(Self { place, stream, inbox: Vec::new(), heard: 0, query_block: Value::Null, qom_list: Value::Null })
    }

    /// Reads what is there; `None` while more has to come.
    fn listen(&mut self) -> Option<Result<Vec<Disk>, Error>> {
        let mut chunk = [0; 16 << 10];
        loop {
            let read = match self.stream.read(&mut chunk) {
                Ok(0) => return Some(Err(Error::Closed)),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
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
                if let Some(answer) = self.line(&line) {
                    return Some(answer);
                }
            }
            self.inbox.extend_from_slice(rest);
        }
    }

    /// One whole line: the greeting, an event, or an answer.
    fn line(&mut self, line: &[u8]) -> Option<Result<Vec<Disk>, Error>> {
        let Ok(Value::Object(mut message)) = serde_json::from_slice(line) else { return Some(Err(Error::Garbage)) };
        let id = message.get("id").and_then(Value::as_u64);
        match message.get("error") {
            // Without it there is no more than a CD drive too many.
            Some(_) if id == Some(2) => return None,
            Some(error) => {
                let words = error["desc"].as_str().unwrap_or_default();
                return Some(Err(Error::Refused(words.chars().take(80).collect())));
            }
            None => {}
        }
        match (id, message.remove("return")) {
            (Some(1), Some(told)) => self.query_block = told,
            (Some(2), Some(told)) => self.qom_list = told,
            (Some(3), Some(told)) => return Some(disks(&self.query_block, &self.qom_list, &told)),
            // Or what nobody asked for.
            _ => {}
        }
        None
    }
}

/// The disks in QEMU's answers to `query-block` and `query-blockstats`. Both list what guests can see; the files
/// under it are inside of that. What has no medium, or one that can be taken out, is a CD drive or the like; of a
/// backend that serves one only its type tells.
fn disks(query_block: &Value, qom_list: &Value, query_blockstats: &Value) -> Result<Vec<Disk>, Error> {
    let (Some(drives), Some(stats)) = (query_block.as_array(), query_blockstats.as_array()) else {
        return Err(Error::Garbage);
    };
    if drives.len().max(stats.len()) > MOST_DISKS {
        return Err(Error::TooMuch);
    }
    let is_name = |value: &Value| value.as_str().is_some_and(|name| !name.is_empty());
    let drive_of = |entry: &Value| {
        let same = |drive: &&Value| {
            ["qdev", "device"].iter().any(|key| is_name(&entry[key]) && entry[key] == drive[key])
                || (is_name(&entry["node-name"]) && entry["node-name"] == drive["inserted"]["node-name"])
        };
        drives.iter().find(same)
    };
    let cdroms = qom_list.as_array().into_iter().flatten().filter(|child| child["type"] == "child<xen-cdrom>");
    let cdroms: HashSet<&str> = cdroms.filter_map(|child| child["name"].as_str()).collect();
    let mut disks = Vec::new();
    for entry in stats {
        let Some(drive) = drive_of(entry) else { continue };
        let device = entry["qdev"].as_str().and_then(|qdev| qdev.strip_prefix("/machine/unattached/"));
        let is_cdrom = drive["removable"] == true || device.is_some_and(|device| cdroms.contains(device));
        if is_cdrom || !drive["inserted"].is_object() {
            continue;
        }
        let counters = counters(&entry["stats"]).ok_or(Error::Garbage)?;
        let text = |key: &str| entry[key].as_str().unwrap_or_default();
        disks.push(Disk { name: name(text("device"), text("node-name")), counters });
    }
    Ok(disks)
}

/// `None` where one is missing that every QEMU tells.
fn counters(stats: &Value) -> Option<VbdCounters> {
    let count = |key: &str| stats[key].as_u64();
    let failed = |of: &str| count(&format!("failed_{of}_operations"));
    // Of the time that requests took, QEMU knows whether it is that of those that failed too.
    let time = |of: &str| {
        let with_failed = if stats["account_failed"] == true { failed(of)? } else { 0 };
        let reqs = count(&format!("{of}_operations"))?.checked_add(with_failed)?;
        Some(Time { reqs, ns: count(&format!("{of}_total_time_ns"))? })
    };
    Some(VbdCounters {
        oo_reqs: None,
        rd_reqs: count("rd_operations")?,
        wr_reqs: count("wr_operations")?,
        rd_sects: Some(count("rd_bytes")? / 512),
        wr_sects: count("wr_bytes")? / 512,
        rd_time: time("rd"),
        wr_time: time("wr"),
        flush_reqs: count("flush_operations"),
        errs: ["rd", "wr", "flush"].iter().try_fold(0_u64, |sum, of| sum.checked_add(failed(of)?)),
    })
}

/// A backend has only its node's name, `VDEV-FORMAT`; what is emulated has that of its drive, as libxl gives it.
fn name(device: &str, node: &str) -> Name {
    let number = |text: &str| text.parse::<u32>().ok().filter(|number| *number < 64);
    let emulated = |nth: Option<u32>, scsi| nth.map_or(Name::Other, |nth| Name::Emulated { nth, scsi });
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
    match node.split_once('-') {
        Some((vdev, _)) if device.is_empty() => Name::Vdev(vdev.to_owned()),
        _ => Name::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // Whole conversations are in tests/it/disks.rs.

    #[test]
    fn names() {
        let emulated = |nth, scsi| Name::Emulated { nth, scsi };
        for (device, node, expected) in [
            ("", "xvda-raw", Name::Vdev("xvda".into())),
            ("", "hdb-qcow2", Name::Vdev("hdb".into())),
            ("", "#block123", Name::Other),
            ("ide0-hd0", "#block1", emulated(0, false)),
            ("ide1-hd1", "#block1", emulated(3, false)),
            ("ide0-hd99", "", Name::Other),
            ("ide-5632", "#block1", Name::Other),
            ("scsi0-hd12", "", emulated(12, true)),
            ("ahcidisk-5", "", emulated(5, false)),
            ("ahcidisk-x", "", Name::Other),
            // What is not libxl's does not pass for a backend's.
            ("drive0", "xvda-raw", Name::Other),
            ("", "", Name::Other),
        ] {
            assert_eq!(name(device, node), expected, "{device} {node}");
        }
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
        for (what, blocks, entries, found) in [
            ("known by its device", drive("device", json!({})), entry("device"), Some(1)),
            ("by its place", drive("qdev", json!({})), entry("qdev"), Some(1)),
            ("by its node", drive("other", json!({"device": ""})), node, Some(1)),
            (
                "an empty device is no name",
                json!([{"device": "", "inserted": {}}]),
                json!([{"device": "", "stats": stats}]),
                Some(0),
            ),
            ("a medium to be taken out", drive("qdev", json!({"removable": true})), entry("qdev"), Some(0)),
            ("no medium", drive("qdev", json!({"inserted": null})), entry("qdev"), Some(0)),
            ("listed by one only", json!([]), entry("qdev"), Some(0)),
            ("no counters", drive("qdev", json!({})), json!([{"qdev": "x"}]), None),
            ("no list", json!({}), json!([]), None),
            ("more than anybody has", json!([]), json!(vec![0; MOST_DISKS + 1]), None),
        ] {
            assert_eq!(disks(&blocks, &Value::Null, &entries).ok().map(|disks| disks.len()), found, "{what}");
        }
    }

    #[test]
    fn old_qemus_count_less() {
        let mut stats = json!({"rd_operations": 8, "wr_operations": 2, "rd_bytes": 1536, "wr_bytes": 1023});
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
        stats["rd_bytes"] = json!(-1);
        assert_eq!(counters(&stats), None);
    }
}
