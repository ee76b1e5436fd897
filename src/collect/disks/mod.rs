//! Every domain's disks, read from their backends: QEMU, the kernel, tapdisk3.

pub mod blkback;
mod directory;
pub mod qmp;
pub mod qmp_client;
pub mod qmp_error;
pub mod qmp_replies;
pub mod tapdisk;

use std::collections::BTreeMap;
use std::error;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use rustix::fs::{FileType, RawDirEntry};
use rustix::io::Errno;

use self::blkback::TAPDISK3;
use self::qmp::Guest;
use self::qmp_client::{Client, Owed};
use self::qmp_error::Answer;
use self::qmp_replies::{Disk, DriveId};
use crate::model::snapshot::{AccessPath, Moment, Snapshot, Vbd, VbdCounters};
use crate::model::text::{decimal, printable};
use crate::model::vdev;

/// Where libxl lets QEMU listen; the second only on systems where it is not the first.
static SOCKETS: LazyLock<&[&str]> = LazyLock::new(|| {
    let is_link = fs::canonicalize("/var/run").is_ok_and(|path| path == Path::new("/run"));
    if is_link { &["/run/xen"] } else { &["/run/xen", "/var/run/xen"] }
});

/// What libxl calls the socket that is meant for libxenstat, before the domid.
const SOCKET: &str = "qmp-libxenstat-";

/// `--disks`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSource {
    /// `backends` if a QEMU or a tapdisk3 serves any disk, else `libxenstat`
    Auto,
    /// Each disk's own backend: blkback in the kernel, QEMU, tapdisk3
    Backends,
    /// libxenstat alone, as xentop
    Libxenstat,
}

/// Why the disks of no domain are available.
#[derive(Debug)]
pub enum Error {
    /// The bus of the kernel's backends cannot be listed.
    Bus(io::Error),
    /// This user may not look for tapdisk3's disks.
    Tapdisks {
        /// Where they are.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// This user may not look for QEMU's sockets.
    Sockets {
        /// Where they are.
        directory: &'static str,
        /// Why it cannot be listed.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Bus(error) => write!(f, "from the kernel: {error}"),
            Error::Tapdisks { path, source } => write!(f, "from tapdisk3: {}: {source}", path.display()),
            Error::Sockets { directory, source } => {
                write!(f, "from QEMU: {directory}: {source}, let this user read it or use --disks libxenstat")
            }
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Bus(source) | Error::Tapdisks { source, .. } | Error::Sockets { source, .. } => Some(source),
        }
    }
}

/// A guest whose disks are unavailable.
#[derive(Debug)]
pub struct Unavailable {
    /// Its domid.
    pub id: u32,
    /// Its name, fit for a log.
    pub name: String,
    /// What happened to the questions to its QEMU.
    pub error: qmp_error::Error,
}

/// Whether disks are read from their backends. libxenstat is right where neither a QEMU nor a tapdisk3 serves any.
pub fn come_from_backends(source: DiskSource) -> bool {
    match source {
        DiskSource::Libxenstat => false,
        DiskSource::Backends => true,
        DiskSource::Auto => {
            let is_tapdisks = |name: &str, _: &RawDirEntry| tapdisk::is_tapdisks(name);
            qemus_listen() || directory::has(tapdisk::SHM, is_tapdisks).unwrap_or_else(may_have_some)
        }
    }
}

/// Whether a QEMU may serve disks: then libxenstat should not be asked for them, as it leaves QEMUs unanswered.
pub fn qemus_listen() -> bool {
    // Not every file system shows the type of its entries.
    let may_be_socket = |kind| matches!(kind, FileType::Socket | FileType::Unknown);
    let is_qemus = |name: &str, entry: &RawDirEntry| may_be_socket(entry.file_type()) && domid(name).is_some();
    SOCKETS.iter().any(|path| directory::has(*path, is_qemus).unwrap_or_else(may_have_some))
}

/// A directory that may not be listed may have some. Then no disks are reported, with the reason.
fn may_have_some(error: Errno) -> bool {
    matches!(error, Errno::ACCESS | Errno::PERM)
}

fn domid(socket: &str) -> Option<u32> {
    decimal(socket.strip_prefix(SOCKET)?)
}

/// The files with the name of a guest's socket, and whether each is a socket; links are not followed.
fn sockets() -> Result<BTreeMap<u32, (Guest, bool)>, Error> {
    let mut sockets = BTreeMap::new();
    for directory in *SOCKETS {
        let listed = directory::has(*directory, |name, entry| {
            if let Some(domid) = domid(name) {
                let socket = Path::new(directory).join(name);
                let is_socket = match entry.file_type() {
                    FileType::Unknown => fs::symlink_metadata(&socket).is_ok_and(|file| file.file_type().is_socket()),
                    kind => kind == FileType::Socket,
                };
                sockets.entry(domid).or_insert_with(|| (Guest { domid, socket, inode: entry.ino() }, is_socket));
            }
            // All are looked at.
            false
        });
        if let Err(source @ (Errno::ACCESS | Errno::PERM)) = listed {
            return Err(Error::Sockets { directory, source: source.into() });
        }
    }
    Ok(sockets)
}

/// The backends of disks: the guests' QEMUs, asked poll by poll, and the files of the others.
pub struct Backends {
    client: Client,
    bus: blkback::Bus,
}

impl Backends {
    /// Counts in `owed` what the QEMUs have not answered. `flushes`: whether to read those of the kernel's disks.
    pub fn new(owed: Arc<Owed>, flushes: bool) -> Self {
        Self { client: Client::new(owed), bus: blkback::Bus::new(flushes) }
    }

    /// Makes connections again, except those on which an answer is owed.
    pub fn reopen(&mut self) {
        self.client.reopen();
    }

    /// After [`Owed::stop`]: takes the answers that QEMUs owe.
    pub fn close(&mut self) {
        self.client.close();
    }

    /// Reads late answers of QEMUs that are not asked any more.
    pub fn settle(&mut self) {
        self.client.ask(Vec::new(), Duration::ZERO);
    }

    /// Fills in each domain's disks. Those of a guest whose QEMU does not answer within `limit` are unavailable.
    /// The sockets are looked for here, after the domains: a running guest has its QEMU.
    pub fn fill(&mut self, snapshot: &mut Snapshot, limit: Duration) -> Result<Vec<Unavailable>, Error> {
        snapshot.own_disks = true;
        let mut kernel: BTreeMap<u32, Vec<Vbd>> = BTreeMap::new();
        for (domid, vbd) in self.bus.read().map_err(Error::Bus)? {
            kernel.entry(domid).or_default().push(vbd);
        }
        let at = Instant::now();
        let tapdisks = tapdisk::read().map_err(|(path, source)| Error::Tapdisks { path, source })?;
        let read = (!tapdisks.is_empty()).then(|| Moment { at, took: at.elapsed() });
        let mut answers = self.ask(snapshot, limit)?;

        let mut unavailable = Vec::new();
        for domain in &mut snapshot.domains {
            let id = domain.id;
            domain.vbds = match answers.remove(&id).transpose() {
                Ok(qemu) => {
                    let tapdisks = tapdisks.range((id, 0)..=(id, u32::MAX));
                    let tapdisks = tapdisks.map(|((_, dev), counters)| vbd(TAPDISK3, *dev, *counters, read)).collect();
                    Some(merge(kernel.remove(&id).unwrap_or_default(), tapdisks, qemu))
                }
                Err(error) => {
                    unavailable.push(Unavailable { id, name: printable(&domain.name), error });
                    None
                }
            };
        }
        snapshot.collected.vbd = true;
        Ok(unavailable)
    }

    /// The answers of the QEMUs of running guests.
    fn ask(&mut self, snapshot: &Snapshot, limit: Duration) -> Result<BTreeMap<u32, Answer>, Error> {
        let mut sockets = sockets()?;
        let running = snapshot.domains.iter().filter_map(|domain| sockets.remove(&domain.id));
        let (guests, others): (Vec<_>, Vec<_>) = running.partition(|(_, is_socket)| *is_socket);
        let mut answers = self.client.ask(guests.into_iter().map(|(guest, _)| guest).collect(), limit);
        let no_socket = || Err(io::Error::other("no socket is where libxl puts one").into());
        answers.extend(others.into_iter().map(|(guest, _)| (guest.domid, no_socket())));
        Ok(answers)
    }
}

fn vbd(kind: u32, dev: u32, counters: Option<VbdCounters>, read: Option<Moment>) -> Vbd {
    Vbd { kind, dev, counters, read, ..Vbd::default() }
}

/// One domain's disks, sorted by device number. A disk of tapdisk3 on the kernel's bus gets tapdisk3's counters; a file
/// that tapdisk3 left behind of a disk that another backend serves now is ignored.
pub fn merge(kernel: Vec<Vbd>, mut tapdisks: Vec<Vbd>, qemu: Option<(Vec<Disk>, Moment)>) -> Vec<Vbd> {
    let mut vbds = kernel;
    tapdisks.retain(|tapdisk| !vbds.iter().any(|vbd| vbd.dev == tapdisk.dev && vbd.kind != TAPDISK3));
    vbds.retain(|vbd| !tapdisks.iter().any(|tapdisk| tapdisk.dev == vbd.dev));
    vbds.extend(tapdisks);
    let (qemu, read) = qemu.map(|(disks, moment)| (disks, Some(moment))).unwrap_or_default();
    let (emulated, backends): (Vec<Disk>, _) =
        qemu.into_iter().partition(|disk| matches!(disk.id, DriveId::Emulated { .. }));
    for Disk { id, counters } in backends.into_iter().chain(emulated) {
        let (dev, access) = match id {
            // As in libxenstat, 0 is a disk whose number is unknown.
            DriveId::Xen(dev) => (dev, AccessPath::Pv),
            DriveId::Emulated { nth, scsi } => {
                // The guest has one disk by two paths, as a network card and its tap are one.
                if let Some(twin) = vbds.iter_mut().find(|vbd| vdev::is_emulated_as(vbd.dev, nth, scsi)) {
                    let emulated_alone = twin.access == AccessPath::Emulated;
                    twin.access = if emulated_alone { AccessPath::Emulated } else { AccessPath::Both };
                    twin.counters = twin.counters.map(|own| own.sum(&counters));
                    twin.read = twin.read.zip(read).map(|(own, emulated)| own.and(emulated));
                    continue;
                }
                (vdev::emulated(nth, scsi).unwrap_or(0), AccessPath::Emulated)
            }
        };
        vbds.push(Vbd { access, ..vbd(0, dev, Some(counters), read) });
    }
    vbds.sort_by_key(|vbd| vbd.dev);
    vbds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merge_puts_one_domains_disks_together() {
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
            |name: &str, reqs| Disk { id: DriveId::Xen(vdev::number(name).unwrap_or(0)), counters: reads(reqs) };
        let emulated = |nth, scsi, reqs| Disk { id: DriveId::Emulated { nth, scsi }, counters: reads(reqs) };
        let twin = |kind, name, reqs, read| Vbd { access: AccessPath::Both, ..found(kind, name, reqs, read) };
        let only = |name, reqs| Vbd { access: AccessPath::Emulated, ..found(0, name, reqs, qmp) };
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
            assert_eq!(merge(of_kernel, tapdisks, Some((qemus, qmp.unwrap()))), all, "{what}");
        }
    }
}
