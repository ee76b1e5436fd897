//! `--check`: whether the daemon would find everything it needs. One line for each thing.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use log::debug;

use crate::collect::disks::{self, DiskSource};
use crate::collect::poller::{self, Notes, Polled, Request, Sources, Stopper};
use crate::collect::xenstat_error::Error;
use crate::daemon::poll_log::{QEMUS_ASKED_BY_LIBXENSTAT, omitted_disks};
use crate::model::snapshot::{Collectors, Domain, Snapshot, Vbd};
use crate::report::Reporter;
use crate::statsd::datagrams::MaxDatagram;
use crate::statsd::destination::Destination;
use crate::statsd::probe::{Probe, probe};

/// How long to wait for a poll, at least.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a line says.
enum Verdict {
    Good,
    Bad,
    Note,
}
use Verdict::{Bad, Good, Note};

/// The poller that may be asking QEMUs.
type Current = Mutex<Option<Stopper>>;

/// Prints the lines; returns whether all are good.
pub fn run(sources: &Sources, reporter: &Reporter, current: &Current) -> io::Result<bool> {
    let mut lines = libxenstat(sources, reporter, current);
    let servers = reporter.servers();
    lines.extend(servers.destinations().flat_map(|server| destination(server, servers.max_datagram())));
    let mut out = io::stdout().lock();
    for (subject, (verdict, text)) in &lines {
        let verdict = match verdict {
            Good => "ok",
            Bad => "BAD",
            Note => "",
        };
        writeln!(out, "{subject:<12} {verdict:<4} {text}")?;
    }
    Ok(!lines.iter().any(|(_, (verdict, _))| matches!(verdict, Bad)))
}

type Line = (&'static str, (Verdict, String));

fn libxenstat(sources: &Sources, reporter: &Reporter, current: &Current) -> Vec<Line> {
    // Vcpus are asked for even if nobody wants them: that shows whether libxenstat is that of the running Xen. And
    // libxenstat is not asked for disks where QEMU may serve some: it does not wait for a slow QEMU, beside a daemon
    // that may be running.
    let qemus_listen = disks::qemus_listen();
    let from_backends = qemus_listen && sources.disks == DiskSource::Libxenstat;
    let asked = if from_backends { DiskSource::Backends } else { sources.disks };
    let polled = match poll(Sources { vcpus: true, disks: asked, ..sources.clone() }, current) {
        Ok(polled) => polled,
        Err(error) => return vec![("libxenstat", (Bad, error.to_string()))],
    };
    let Polled { result, took, notes, .. } = polled;
    let Notes { opened, vifs_from_kernel, vif_error, disk_error, unavailable, cause, messages, .. } = notes;
    let library = opened.map(|(path, why)| ("libxenstat", (Good, format!("{} ({why})", path.display()))));
    let mut lines: Vec<Line> = library.into_iter().collect();
    lines.extend(messages.into_iter().map(|message| ("", (Note, format!("libxenstat: {message}")))));
    let snapshot = match result {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let of_library = matches!(error, Error::NotFound { .. } | Error::Unloadable(_) | Error::Lacks { .. });
            lines.push((if of_library { "libxenstat" } else { "hypervisor" }, (Bad, error.to_string())));
            return lines;
        }
    };
    let Snapshot { xen_version, num_cpus, domains, .. } = &snapshot;
    let text = format!("Xen {xen_version}, {num_cpus} CPUs; {} domains read in {took:.1?}", domains.len());
    lines.push(("hypervisor", (Good, text)));
    if snapshot.miscounts_read_sectors && !snapshot.own_disks {
        lines.push(("", (Bad, "this release miscounts the sectors read from disks: vbd_rsect is omitted".into())));
    }
    let Collectors { vcpu, network, vbd } = snapshot.collected;
    let part = |is_collected, text: String| match is_collected {
        true => (Good, text),
        false => (Bad, cause.as_ref().map_or("omitted".into(), |cause| format!("omitted: {cause}"))),
    };
    lines.push(match part(vcpu, count(&snapshot, |domain| domain.vcpus.len()).to_string()) {
        (Bad, text) if !sources.vcpus => ("vcpus", (Note, format!("{text}, which is none of what is sent"))),
        line => ("vcpus", line),
    });

    let source = if vifs_from_kernel { "the kernel" } else { "libxenstat" };
    let found = count(&snapshot, |domain| domain.vifs.len());
    let networks = match &vif_error {
        Some(error) if !network => (Bad, format!("omitted: {error}")),
        _ => part(network, format!("{found}, from {source}")),
    };
    lines.push(("networks", networks));

    let source = if snapshot.own_disks { "QEMU, tapdisk3 and the kernel" } else { "libxenstat" };
    let in_error = count(&snapshot, |domain| vbds(domain).filter(|vbd| vbd.counters.is_none()).count());
    let found = count(&snapshot, |domain| vbds(domain).count());
    let xentop_disks = match snapshot.own_disks {
        true if qemus_listen => None,
        true => xentop(sources, current),
        false => vbd.then_some(Shown::Devices(found)),
    };
    let shown = xentop_disks.as_ref().map(|disks| format!("; {disks}")).unwrap_or_default();
    let text = format!("{found}, of which {in_error} in error, from {source}{shown}");
    let of_domains = match &disk_error {
        Some(error) => (Bad, format!("omitted: cannot be read {error}")),
        None if !unavailable.is_empty() => (Bad, text),
        None if found == 0 && xentop_disks.is_some_and(|disks| disks.are_some()) && vbd => (Bad, text),
        None => part(vbd, text),
    };
    lines.push(("disks", of_domains));
    if from_backends {
        lines.push(("", (Note, QEMUS_ASKED_BY_LIBXENSTAT.to_owned())));
    }
    lines.extend(unavailable.iter().map(|guest| ("", (Bad, omitted_disks(&guest.name, &guest.error)))));
    if sources.pcpus {
        let found = snapshot.pcpus.as_ref().map_or(0, |pcpus| pcpus.idle_ns.iter().filter(|ns| **ns > 0).count());
        let found = || (Good, format!("{found}, from libxenctrl"));
        lines.push(("pcpus", notes.pcpu_error.map_or_else(found, |error| (Bad, format!("omitted: {error}")))));
    }
    if sources.runstates {
        let found = snapshot.runstates.as_ref().map_or(0, |runstates| runstates.of_domains.len());
        let found = || (Good, format!("of {found} domains, from libxenctrl"));
        lines.push(("runstates", notes.runstate_error.map_or_else(found, |error| (Bad, format!("omitted: {error}")))));
    }
    if sources.uuids {
        let known = snapshot.domains.iter().filter(|domain| domain.uuid.is_some()).count();
        let found = || (Good, format!("{known}, from xenstore"));
        lines.push(("uuids", notes.unknown_uuids.map_or_else(found, |unknown| (Bad, unknown.to_string()))));
    }
    if sources.memory {
        let found = || (Good, format!("of {} domains, from xenstore", snapshot.memory.len()));
        lines.push(("memory", notes.memory_error.map_or_else(found, |error| (Bad, format!("omitted: {error}")))));
    }
    lines.extend(reporter.unmatched(&snapshot).into_iter().map(|line| ("filter", (Bad, line))));
    lines.extend(reporter.example(&snapshot).map(|line| ("example", (Note, line))));
    lines
}

fn vbds(domain: &Domain) -> impl Iterator<Item = &Vbd> {
    domain.vbds.iter().flatten()
}

fn count(snapshot: &Snapshot, devices: impl Fn(&Domain) -> usize) -> usize {
    snapshot.domains.iter().map(devices).sum()
}

/// Why there was no answer to a poll.
enum NoAnswer {
    /// It was not waited for any longer.
    Slow(Duration),
    /// There is no thread that could answer.
    Thread(String),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoAnswer::Slow(limit) => {
                write!(f, "no answer within {limit:?}: dom0 is overloaded, or what libxenstat reads hangs (xenstored?)")
            }
            NoAnswer::Thread(error) => f.write_str(error),
        }
    }
}

/// One poll. In a thread, as the call may never return.
fn poll(sources: Sources, current: &Current) -> Result<Polled, NoAnswer> {
    // Some of the time may be spent on waiting for QEMUs.
    let limit = ANSWER_TIMEOUT.max(sources.qmp_timeout * 2);
    let (sender, answers) = mpsc::channel();
    let answer = move |polled| drop(sender.send(polled));
    let started = poller::start(sources, |call| debug!("{call}"), answer);
    let poller = started.map_err(|error| NoAnswer::Thread(format!("cannot start a thread: {error}")))?;
    *current.lock().unwrap_or_else(PoisonError::into_inner) = Some(poller.stopper());
    let _ = poller.request(Request::default());
    match answers.recv_timeout(limit) {
        Ok(Some(polled)) => Ok(polled),
        Ok(None) => Err(NoAnswer::Thread("the poller thread has died".into())),
        Err(_) => Err(NoAnswer::Slow(limit)),
    }
}

/// What xentop would show of one kind of device.
enum Shown {
    Devices(usize),
    /// libxenstat cannot read them.
    Failing,
    /// It did not answer in time. xentop, which waits without a limit, may still show them.
    Unknown(Duration),
}

impl Shown {
    fn are_some(&self) -> bool {
        matches!(self, Shown::Devices(1..))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shown::Devices(number) => write!(f, "xentop would show {number}"),
            Shown::Failing => f.write_str("xentop would show none, as libxenstat fails"),
            Shown::Unknown(limit) => write!(f, "not compared with xentop: no answer from libxenstat within {limit:?}"),
        }
    }
}

/// The disks that libxenstat alone shows; `None` if a QEMU has appeared.
fn xentop(sources: &Sources, current: &Current) -> Option<Shown> {
    // With this source the poller does not ask libxenstat if a QEMU has appeared, or a tapdisk3.
    let polled = poll(Sources { disks: DiskSource::Auto, ..sources.clone() }, current);
    match polled {
        Err(NoAnswer::Slow(limit)) => Some(Shown::Unknown(limit)),
        Ok(Polled { result: Ok(snapshot), .. }) if snapshot.own_disks => None,
        Ok(Polled { result: Ok(snapshot), .. }) if snapshot.collected.vbd => {
            Some(Shown::Devices(count(&snapshot, |domain| vbds(domain).count())))
        }
        _ => Some(Shown::Failing),
    }
}

/// Whether the server can be reached, at each of its addresses. One that works is enough.
fn destination(destination: &Destination, max_datagram: MaxDatagram) -> Vec<Line> {
    let probes = probe(destination, max_datagram);
    let any_works = probes.iter().any(|probe| probe.result.is_ok());
    let line = |Probe { address, result }: Probe| {
        let at = address.map_or_else(|| destination.to_string(), |address| format!("{destination} at {address}"));
        match result {
            Ok(success) => (Good, format!("{at}: {success}")),
            Err(error) if any_works => (Note, format!("{at}: {error}; another address is used")),
            Err(error) => (Bad, format!("{at}: {error}")),
        }
    };
    probes.into_iter().map(|probe| ("destination", line(probe))).collect()
}
