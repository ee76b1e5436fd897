//! `--check`: whether the daemon would find everything it needs. One line for each thing.

use std::fmt;
use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Duration;

use crate::collect::disks::{self, DiskSource};
use crate::collect::poller::{self, Notes, Polled, Request, Sources};
use crate::collect::vif::VifSource;
use crate::collect::xenstat_error::Error;
use crate::daemon::poll_log::omitted_disks;
use crate::model::snapshot::{Collectors, Domain, Snapshot, Vbd};
use crate::report::Reporter;
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

/// Prints the lines; returns whether all are good.
pub fn run(sources: &Sources, reporter: &Reporter) -> io::Result<bool> {
    let mut lines = libxenstat(sources, reporter);
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

fn libxenstat(sources: &Sources, reporter: &Reporter) -> Vec<Line> {
    let polled = match poll(sources.clone()) {
        Ok(polled) => polled,
        Err(error) => return vec![("libxenstat", (Bad, error.to_string()))],
    };
    let Polled { result, took, notes, .. } = polled;
    let Notes { opened, vifs_from_kernel, vif_error, disk_error, unavailable, cause } = notes;
    let library = opened.map(|(path, why)| ("libxenstat", (Good, format!("{} ({why})", path.display()))));
    let mut lines: Vec<Line> = library.into_iter().collect();
    let snapshot = match result {
        Ok(snapshot) => snapshot,
        Err(error) => {
            let of_library = matches!(error, Error::NotFound { .. } | Error::Unloadable(_) | Error::Lacks { .. });
            lines.push((if of_library { "libxenstat" } else { "Xen" }, (Bad, error.to_string())));
            return lines;
        }
    };
    let (release, domains) = (&snapshot.xen_version, snapshot.domains.len());
    lines.push(("Xen", (Good, format!("{release}, {domains} domains read in {took:.1?}"))));
    if snapshot.miscounts_read_sectors && !snapshot.own_disks {
        lines.push(("", (Bad, "this release miscounts the sectors read from disks: vbd_rsect is omitted".into())));
    }
    let Collectors { vcpu, network, vbd } = snapshot.collected;
    let part = |is_collected, text: String| match is_collected {
        true => (Good, text),
        false => (Bad, cause.as_ref().map_or("omitted".into(), |cause| format!("omitted: {cause}"))),
    };
    lines.push(("vcpus", part(vcpu, count(&snapshot, |domain| domain.vcpus.len()).to_string())));

    let source = if vifs_from_kernel { "the kernel" } else { "libxenstat" };
    let found = count(&snapshot, |domain| domain.vifs.len());
    let (xentop_vifs, xentop_disks) = xentop(sources);
    let text = format!("{found}, from {source}; {xentop_vifs}");
    let networks = match &vif_error {
        Some(error) if !network => (Bad, format!("omitted: {error}")),
        // None where xentop shows some: the wrong source.
        _ if found == 0 && xentop_vifs.are_some() && network => (Bad, text),
        _ => part(network, text),
    };
    lines.push(("networks", networks));

    let source = if snapshot.own_disks { "QEMU, tapdisk3 and the kernel" } else { "libxenstat" };
    let in_error = count(&snapshot, |domain| vbds(domain).filter(|vbd| vbd.counters.is_none()).count());
    let found = count(&snapshot, |domain| vbds(domain).count());
    let shown = xentop_disks.as_ref().map(|disks| format!("; {disks}")).unwrap_or_default();
    let text = format!("{found}, of which {in_error} in error, from {source}{shown}");
    let of_domains = match &disk_error {
        Some(error) => (Bad, format!("omitted: cannot be read {error}")),
        None if !unavailable.is_empty() => (Bad, text),
        None if found == 0 && xentop_disks.is_some_and(|disks| disks.are_some()) && vbd => (Bad, text),
        None => part(vbd, text),
    };
    lines.push(("disks", of_domains));
    lines.extend(unavailable.iter().map(|guest| ("", (Bad, omitted_disks(&guest.name, &guest.error)))));
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
fn poll(sources: Sources) -> Result<Polled, NoAnswer> {
    // Some of the time may be spent on waiting for QEMUs.
    let limit = ANSWER_TIMEOUT.max(sources.qmp_timeout * 2);
    let (sender, answers) = mpsc::channel();
    let answer = move |polled| drop(sender.send(polled));
    let started = poller::start(sources, answer);
    let poller = started.map_err(|error| NoAnswer::Thread(format!("cannot start a thread: {error}")))?;
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

/// The networks that libxenstat alone shows, and the disks. It is not asked for disks where QEMU may serve some: it
/// would leave a QEMU before it has answered, beside a daemon that may be running.
fn xentop(sources: &Sources) -> (Shown, Option<Shown>) {
    let qemus_listen = disks::qemus_listen();
    // In no time no QEMU is asked by us either.
    let (disks, qmp_timeout) = match qemus_listen {
        true => (DiskSource::Backends, Duration::ZERO),
        false => (DiskSource::Libxenstat, sources.qmp_timeout),
    };
    let polled = poll(Sources { vifs: VifSource::Libxenstat, disks, qmp_timeout, ..sources.clone() });
    let shown = |is_collected: fn(Collectors) -> bool, devices: fn(&Domain) -> usize| match &polled {
        Err(NoAnswer::Slow(limit)) => Shown::Unknown(*limit),
        Ok(Polled { result: Ok(snapshot), .. }) if is_collected(snapshot.collected) => {
            Shown::Devices(count(snapshot, devices))
        }
        _ => Shown::Failing,
    };
    (
        shown(|collected| collected.network, |domain| domain.vifs.len()),
        (!qemus_listen).then(|| shown(|collected| collected.vbd, |domain| vbds(domain).count())),
    )
}

/// Whether the server can be reached, at each of its addresses. One that works is enough.
fn destination(destination: &Destination, max_datagram: usize) -> Vec<Line> {
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
