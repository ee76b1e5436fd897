//! Every domain's disks, from whoever serves them: QEMU, the kernel, tapdisk3.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::blkback::{self, TAPDISK3, number};
use crate::cli;
use crate::metrics::Moment;
use crate::qmp::{self, Disk, Name};
use crate::snapshot::{Snapshot, Time, Vbd, VbdCounters};
use crate::table::printable;
use crate::tapdisk;
use crate::vdev;

/// Where libxl has QEMU listen, the second on systems where that is no link to the first.
const SOCKETS: [&str; 2] = ["/run/xen", "/var/run/xen"];

/// What libxl calls the socket that is meant for us, before the domid.
const SOCKET: &str = "qmp-libxenstat-";

/// Whom to ask, apart from the kernel.
#[derive(Debug)]
pub struct Sources {
    sockets: BTreeMap<u32, PathBuf>,
}

/// A guest whose disks could not be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silent {
    /// Its domid.
    pub id: u32,
    /// Its name, fit for a log.
    pub name: String,
    /// What its QEMU did instead.
    pub why: String,
}

/// Whether we ask ourselves, and whom; libxenstat is right where neither a QEMU nor tapdisk3 serves disks.
pub fn look(who: cli::Disks) -> Option<Sources> {
    let sources = || Sources { sockets: sockets() };
    match who {
        cli::Disks::Libxenstat => None,
        cli::Disks::Kernel => Some(sources()),
        cli::Disks::Auto => Some(sources()).filter(|found| !found.sockets.is_empty() || !tapdisk::read().is_empty()),
    }
}

fn sockets() -> BTreeMap<u32, PathBuf> {
    let mut sockets = BTreeMap::new();
    for entry in SOCKETS.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten() {
        let domid = entry.file_name().to_str().and_then(|name| number(name.strip_prefix(SOCKET)?));
        // Without following links.
        if let Some(domid) = domid.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_socket())) {
            sockets.entry(domid).or_insert_with(|| entry.path());
        }
    }
    sockets
}

impl Sources {
    /// Puts in each domain's disks, and tells when they were read. A guest whose QEMU has not answered within `limit`
    /// has none that could be told.
    pub fn fill(&self, snapshot: &mut Snapshot, limit: Duration) -> io::Result<(Vec<Silent>, Moment)> {
        let at = Instant::now();
        let mut kernels: BTreeMap<u32, Vec<Vbd>> = BTreeMap::new();
        for (domid, vbd) in blkback::read()? {
            kernels.entry(domid).or_default().push(vbd);
        }
        let tapdisks = tapdisk::read();
        let asked: Vec<(usize, &Path)> = snapshot
            .domains
            .iter()
            .enumerate()
            .filter_map(|(n, domain)| Some((n, &**self.sockets.get(&domain.id)?)))
            .collect();
        let local = at.elapsed();
        let (answers, took) = qmp::ask(&asked.iter().map(|(_, socket)| *socket).collect::<Vec<_>>(), limit);
        // Those that did not answer do not make the time of the others unsure.
        let moment = Moment { at, took: local + took };
        let mut answers: BTreeMap<usize, _> = asked.iter().map(|(n, _)| *n).zip(answers).collect();

        let mut silent = Vec::new();
        for (n, domain) in snapshot.domains.iter_mut().enumerate() {
            let id = domain.id;
            domain.vbds = match answers.remove(&n).unwrap_or(Ok(Vec::new())) {
                Ok(qemus) => {
                    let tapdisks = tapdisks.range((id, 0)..=(id, u32::MAX));
                    let tapdisks = tapdisks.map(|((_, dev), counters)| (*dev, *counters)).collect();
                    Some(together(kernels.remove(&id).unwrap_or_default(), tapdisks, qemus))
                }
                Err(error) => {
                    silent.push(Silent { id, name: printable(&domain.name), why: error.to_string() });
                    None
                }
            };
        }
        (snapshot.told.vbd, snapshot.own_disks) = (true, true);
        Ok((silent, moment))
    }
}

/// One domain's disks by their numbers. Those on the kernel's bus that are tapdisk3's get its counters.
fn together(kernels: Vec<Vbd>, mut tapdisks: BTreeMap<u32, Option<VbdCounters>>, qemus: Vec<Disk>) -> Vec<Vbd> {
    let mut vbds = kernels;
    for vbd in vbds.iter_mut().filter(|vbd| vbd.kind == TAPDISK3) {
        vbd.counters = tapdisks.remove(&vbd.dev).flatten();
    }
    vbds.extend(tapdisks.into_iter().map(|(dev, counters)| Vbd { kind: TAPDISK3, dev, counters }));
    let (emulated, backends): (Vec<Disk>, _) =
        qemus.into_iter().partition(|disk| matches!(disk.name, Name::Emulated { .. }));
    for Disk { name, counters } in backends.into_iter().chain(emulated) {
        let dev = match &name {
            Name::Vdev(vdev) => vdev::number(vdev),
            Name::Emulated { nth, scsi } => {
                // The guest has one disk by two ways, as a network card and its tap are one.
                if let Some(twin) = vbds.iter_mut().find(|vbd| vdev::is_disk(vbd.dev, *nth, *scsi)) {
                    twin.counters = twin.counters.map(|own| sum(&own, &counters));
                    continue;
                }
                vdev::emulated(*nth, *scsi)
            }
            Name::Other => None,
        };
        // As libxenstat does with what it finds no number for.
        vbds.push(Vbd { kind: 0, dev: dev.unwrap_or(0), counters: Some(counters) });
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
        let reads = |rd_reqs| VbdCounters { rd_reqs, ..VbdCounters::default() };
        let vbd = |kind, name: &str, reqs: u64| {
            let dev = vdev::number(name).unwrap_or(0);
            Vbd { kind, dev, counters: (reqs > 0).then(|| reads(reqs)) }
        };
        let backend = |vdev: &str, reqs| Disk { name: Name::Vdev(vdev.into()), counters: reads(reqs) };
        let emulated = |nth, scsi, reqs| Disk { name: Name::Emulated { nth, scsi }, counters: reads(reqs) };
        let tapdisk = |name: &str, reqs| (vdev::number(name).unwrap(), Some(reqs).filter(|n| *n > 0).map(reads));
        for (what, kernels, tapdisks, qemus, all) in [
            ("none", vec![], vec![], vec![], vec![]),
            (
                "one of each, by number",
                vec![vbd(1, "xvdc", 3), vbd(3, "xvdb", 0)],
                vec![tapdisk("xvdb", 2)],
                vec![backend("xvda", 1)],
                vec![vbd(0, "xvda", 1), vbd(3, "xvdb", 2), vbd(1, "xvdc", 3)],
            ),
            ("tapdisk3's, not on the bus", vec![], vec![tapdisk("xvda", 7)], vec![], vec![vbd(3, "xvda", 7)]),
            ("on the bus, without numbers", vec![vbd(3, "xvda", 0)], vec![], vec![], vec![vbd(3, "xvda", 0)]),
            ("a file that says nothing", vec![], vec![tapdisk("xvda", 0)], vec![], vec![vbd(3, "xvda", 0)]),
            (
                "emulated beside QEMU's own backend, and beside the kernel's",
                vec![vbd(1, "xvdb", 10)],
                vec![],
                vec![emulated(0, false, 5), emulated(1, false, 6), backend("hda", 20)],
                vec![vbd(0, "hda", 25), vbd(1, "xvdb", 16)],
            ),
            (
                "only emulated",
                vec![],
                vec![],
                vec![emulated(2, false, 5), emulated(2, true, 6), emulated(5, false, 7)],
                vec![vbd(0, "sdc", 6), vbd(0, "hdc", 5), vbd(0, "xvdf", 7)],
            ),
            (
                "emulated beside one in error",
                vec![vbd(1, "hda", 0)],
                vec![],
                vec![emulated(0, false, 5)],
                vec![vbd(1, "hda", 0)],
            ),
            (
                "of no name we know",
                vec![],
                vec![],
                vec![Disk { name: Name::Other, counters: reads(4) }, backend("nvme0", 5)],
                vec![vbd(0, "", 4), vbd(0, "", 5)],
            ),
        ] {
            let mut all = all;
            all.sort_by_key(|vbd| vbd.dev);
            assert_eq!(together(kernels, tapdisks.into_iter().collect(), qemus), all, "{what}");
        }
    }
}
