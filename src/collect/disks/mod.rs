//! Every domain's disks, from whoever serves them: QEMU, the kernel, tapdisk3.

pub mod blkback;
pub mod qmp;
pub mod qmp_replies;
pub mod tapdisk;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use self::blkback::TAPDISK3;
use self::qmp::{Answer, Error};
use crate::collect::disks::qmp_replies::{Disk, Name};
use crate::model::snapshot::{Moment, Snapshot, Time, Vbd, VbdCounters, Ways};
use crate::model::text::decimal;
use crate::model::text::printable;
use crate::model::vdev::{self};

/// Where libxl has QEMU listen, the second on systems where that is no link to the first.
const SOCKETS: [&str; 2] = ["/run/xen", "/var/run/xen"];

/// What libxl calls the socket that is meant for us, before the domid.
const SOCKET: &str = "qmp-libxenstat-";

/// `--disks`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disks {
    /// As `backends` where a QEMU or a tapdisk3 serves disks, else libxenstat
    Auto,
    /// Each disk's own backend: blkback in the kernel, QEMU, tapdisk3
    #[value(alias = "kernel")]
    Backends,
    /// libxenstat alone, as xentop has them
    Libxenstat,
}

/// A guest whose disks could not be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold {
    /// Its domid.
    pub id: u32,
    /// Its name, fit for a log.
    pub name: String,
    /// What its QEMU did instead.
    pub why: String,
}

/// Whether we ask ourselves; libxenstat is right where neither a QEMU nor tapdisk3 serves disks.
pub fn are_ours(who: Disks) -> bool {
    match who {
        Disks::Libxenstat => false,
        Disks::Backends => true,
        Disks::Auto => {
            // Not every file system says what kind its entries are of.
            let may_be = |kind| matches!(kind, FileType::Socket | FileType::Unknown);
            let of_qemu = |name: &str, kind| may_be(kind) && domid(name).is_some();
            // Where we may not look there may be some: then none are told, and why.
            let may_have = |directory| has(directory, of_qemu).unwrap_or_else(|error| error == Errno::ACCESS);
            SOCKETS.into_iter().any(may_have)
                || has(tapdisk::SHARED, |name, _| tapdisk::is_tapdisks(name)).unwrap_or(false)
        }
    }
}

/// Whether a directory has such an entry. Looking, which every poll does, takes no memory.
fn has(directory: &str, such: impl Fn(&str, FileType) -> bool) -> rustix::io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let mut room = [MaybeUninit::uninit(); 8 << 10];
    let mut entries = RawDir::new(directory, &mut room);
    while let Some(Ok(entry)) = entries.next() {
        if entry.file_name().to_str().is_ok_and(|name| such(name, entry.file_type())) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn domid(socket: &str) -> Option<u32> {
    decimal(socket.strip_prefix(SOCKET)?)
}

/// What has the name of a guest's socket, and whether it is one; links are not followed.
fn sockets() -> io::Result<BTreeMap<u32, (PathBuf, bool)>> {
    let mut sockets = BTreeMap::new();
    for directory in SOCKETS {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                let words = format!("from QEMU: {directory}: {error}, let this user read it or use --disks libxenstat");
                return Err(io::Error::new(error.kind(), words));
            }
            entries => entries,
        };
        for entry in entries.into_iter().flatten().flatten() {
            if let Some(domid) = entry.file_name().to_str().and_then(domid) {
                let is_socket = entry.file_type().is_ok_and(|kind| kind.is_socket());
                sockets.entry(domid).or_insert_with(|| (entry.path(), is_socket));
            }
        }
    }
    Ok(sockets)
}

/// Whom of the guests' QEMUs to ask, poll by poll.
#[derive(Debug, Default)]
pub struct Qemus {
    /// The guest whose QEMU is asked first: one whose turn did not come the last time.
    first: u32,
}

impl Qemus {
    /// Puts in each domain's disks. A guest whose QEMU has not answered within `limit` has none that could be told.
    /// The sockets are looked for here, after the domains: where a guest runs its QEMU is there.
    pub fn fill(&mut self, snapshot: &mut Snapshot, limit: Duration) -> io::Result<Vec<Untold>> {
        snapshot.own_disks = true;
        let at = Instant::now();
        let mut kernels: BTreeMap<u32, Vec<Vbd>> = BTreeMap::new();
        let of_kernel = |error: io::Error| io::Error::new(error.kind(), format!("from the kernel: {error}"));
        for (domid, vbd) in blkback::read().map_err(of_kernel)? {
            kernels.entry(domid).or_default().push(vbd);
        }
        let read = Some(Moment { at, took: at.elapsed() });
        kernels.values_mut().flatten().for_each(|vbd| vbd.read = read);
        let at = Instant::now();
        let tapdisks = tapdisk::read();
        let read = Some(Moment { at, took: at.elapsed() });
        let mut answers = self.ask(snapshot, limit)?;

        let mut untold = Vec::new();
        for domain in &mut snapshot.domains {
            let id = domain.id;
            domain.vbds = match answers.remove(&id).transpose() {
                Ok(qemus) => {
                    let tapdisks = tapdisks.range((id, 0)..=(id, u32::MAX));
                    let tapdisks = tapdisks.map(|((_, dev), counters)| vbd(TAPDISK3, *dev, *counters, read)).collect();
                    Some(together(kernels.remove(&id).unwrap_or_default(), tapdisks, qemus))
                }
                Err(error) => {
                    untold.push(Untold { id, name: printable(&domain.name), why: error.to_string() });
                    None
                }
            };
        }
        snapshot.told.vbd = true;
        Ok(untold)
    }

    /// What the QEMUs of living guests answer.
    fn ask(&mut self, snapshot: &Snapshot, limit: Duration) -> io::Result<BTreeMap<u32, Answer>> {
        let sockets = sockets()?;
        let living = snapshot.domains.iter().filter_map(|domain| sockets.get_key_value(&domain.id));
        let (mut asked, others): (Vec<_>, Vec<_>) =
            living.map(|(domid, (path, is_socket))| (*domid, &**path, *is_socket)).partition(|(.., is)| *is);
        let first = asked.partition_point(|(domid, ..)| *domid < self.first);
        asked.rotate_left(first);
        let asked: Vec<(u32, &Path)> = asked.into_iter().map(|(domid, path, _)| (domid, path)).collect();
        let mut answers = qmp::ask(&asked, limit);
        let was_not_asked = |(domid, _): &&(u32, &Path)| matches!(answers[domid], Err(Error::NotAsked(_)));
        self.first = asked.iter().find(was_not_asked).map_or(0, |(domid, _)| *domid);
        let no_socket = || Err(io::Error::other("no socket is where libxl puts one").into());
        answers.extend(others.into_iter().map(|(domid, ..)| (domid, no_socket())));
        Ok(answers)
    }
}

fn vbd(kind: u32, dev: u32, counters: Option<VbdCounters>, read: Option<Moment>) -> Vbd {
    Vbd { kind, dev, counters, read, ..Vbd::default() }
}

/// One domain's disks by their numbers. Those on the kernel's bus that are tapdisk3's get its counters; what a
/// tapdisk3 has left behind of those that others serve now is not counted.
pub fn together(kernels: Vec<Vbd>, mut tapdisks: Vec<Vbd>, qemus: Option<(Vec<Disk>, Moment)>) -> Vec<Vbd> {
    let mut vbds = kernels;
    tapdisks.retain(|tapdisk| !vbds.iter().any(|vbd| vbd.dev == tapdisk.dev && vbd.kind != TAPDISK3));
    vbds.retain(|vbd| !tapdisks.iter().any(|tapdisk| tapdisk.dev == vbd.dev));
    vbds.extend(tapdisks);
    let (qemus, read) = qemus.map(|(disks, moment)| (disks, Some(moment))).unwrap_or_default();
    let (emulated, backends): (Vec<Disk>, _) =
        qemus.into_iter().partition(|disk| matches!(disk.name, Name::Emulated { .. }));
    for Disk { name, counters } in backends.into_iter().chain(emulated) {
        let (dev, ways) = match name {
            // As libxenstat does 0 is of what no number is found for.
            Name::Xen(dev) => (dev, Ways::Pv),
            Name::Emulated { nth, scsi } => {
                // The guest has one disk by two ways, as a network card and its tap are one.
                if let Some(twin) = vbds.iter_mut().find(|vbd| vdev::is_emulated_as(vbd.dev, nth, scsi)) {
                    twin.ways = if twin.ways == Ways::Emulated { Ways::Emulated } else { Ways::Both };
                    twin.counters = twin.counters.map(|own| sum(&own, &counters));
                    twin.read = twin.read.zip(read).map(|(own, emulated)| own.and(emulated));
                    continue;
                }
                (vdev::emulated(nth, scsi).unwrap_or(0), Ways::Emulated)
            }
        };
        vbds.push(Vbd { ways, ..vbd(0, dev, Some(counters), read) });
    }
    vbds.sort_by_key(|vbd| vbd.dev);
    vbds
}

/// The counters of a backend and of the emulated disk beside it, which has no ring that could be full.
fn sum(own: &VbdCounters, emulated: &VbdCounters) -> VbdCounters {
    let both = |own: Option<u64>, emulated: Option<u64>| Some(own?.saturating_add(emulated?));
    let times = |own: Option<Time>, emulated: Option<Time>| {
        let (own, emulated) = (own?, emulated?);
        Some(Time { reqs: own.reqs.saturating_add(emulated.reqs), ns: own.ns.saturating_add(emulated.ns) })
    };
    VbdCounters {
        oo_reqs: own.oo_reqs,
        rd_reqs: own.rd_reqs.saturating_add(emulated.rd_reqs),
        wr_reqs: own.wr_reqs.saturating_add(emulated.wr_reqs),
        rd_sects: both(own.rd_sects, emulated.rd_sects),
        wr_sects: own.wr_sects.saturating_add(emulated.wr_sects),
        rd_time: times(own.rd_time, emulated.rd_time),
        wr_time: times(own.wr_time, emulated.wr_time),
        flush_reqs: both(own.flush_reqs, emulated.flush_reqs),
        errs: both(own.errs, emulated.errs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_domains_disks_together() {
        let start = Instant::now();
        let moment = |at, took| Moment { at: start + Duration::from_millis(at), took: Duration::from_millis(took) };
        let [bus, shared, qmp, both] = [moment(0, 1), moment(1, 1), moment(2, 50), moment(0, 52)].map(Some);
        let reads = |rd_reqs: u64| VbdCounters { rd_reqs, ..VbdCounters::default() };
        let found = |kind, name: &str, reqs: u64, read| {
            vbd(kind, vdev::number(name).unwrap_or(0), (reqs > 0).then(|| reads(reqs)), read)
        };
        let kernels = |kind, name, reqs| found(kind, name, reqs, bus);
        let tapdisk = |name, reqs| found(3, name, reqs, shared);
        let backend =
            |name: &str, reqs| Disk { name: Name::Xen(vdev::number(name).unwrap_or(0)), counters: reads(reqs) };
        let emulated = |nth, scsi, reqs| Disk { name: Name::Emulated { nth, scsi }, counters: reads(reqs) };
        let twin = |kind, name, reqs, read| Vbd { ways: Ways::Both, ..found(kind, name, reqs, read) };
        let only = |name, reqs| Vbd { ways: Ways::Emulated, ..found(0, name, reqs, qmp) };
        for (what, of_kernel, tapdisks, qemus, all) in [
            ("none", vec![], vec![], vec![], vec![]),
            (
                "one of each, by number",
                vec![kernels(1, "xvdc", 3), kernels(3, "xvdb", 0)],
                vec![tapdisk("xvdb", 2)],
                vec![backend("xvda", 1)],
                vec![found(0, "xvda", 1, qmp), tapdisk("xvdb", 2), kernels(1, "xvdc", 3)],
            ),
            ("tapdisk3's, not on the bus", vec![], vec![tapdisk("xvda", 7)], vec![], vec![tapdisk("xvda", 7)]),
            (
                "a tapdisk3's that others serve now",
                vec![kernels(1, "xvda", 3), kernels(0, "xvdb", 0)],
                vec![tapdisk("xvda", 7), tapdisk("xvdb", 8)],
                vec![],
                vec![kernels(1, "xvda", 3), kernels(0, "xvdb", 0)],
            ),
            ("on the bus, without numbers", vec![kernels(3, "xvda", 0)], vec![], vec![], vec![kernels(3, "xvda", 0)]),
            ("a file that says nothing", vec![], vec![tapdisk("xvda", 0)], vec![], vec![tapdisk("xvda", 0)]),
            (
                "emulated beside QEMU's own backend, and beside the kernel's",
                vec![kernels(1, "xvdb", 10)],
                vec![],
                vec![emulated(0, false, 5), emulated(1, false, 6), backend("hda", 20)],
                vec![twin(0, "hda", 25, qmp), twin(1, "xvdb", 16, both)],
            ),
            (
                "only emulated",
                vec![],
                vec![],
                vec![emulated(2, false, 5), emulated(2, true, 6), emulated(5, false, 7)],
                vec![only("sdc", 6), only("hdc", 5), only("xvdf", 7)],
            ),
            (
                "emulated beside one in error",
                vec![kernels(1, "hda", 0)],
                vec![],
                vec![emulated(0, false, 5)],
                vec![twin(1, "hda", 0, both)],
            ),
            (
                "of no name we know",
                vec![],
                vec![],
                vec![backend("nvme0", 4), backend("", 5)],
                vec![found(0, "", 4, qmp), found(0, "", 5, qmp)],
            ),
        ] {
            let mut all = all;
            all.sort_by_key(|vbd| vbd.dev);
            assert_eq!(together(of_kernel, tapdisks, Some((qemus, qmp.unwrap()))), all, "{what}");
        }
    }
}
