//! `--check`: would the daemon do its whole job here? One line for each thing it needs.

use std::io::{self, Write};
use std::sync::mpsc;
use std::time::Duration;

use crate::collect::disks::{DiskSource, Unavailable};
use crate::collect::poller::{self, Notes, Polled, Request, Sources};
use crate::collect::release;
use crate::collect::vif::VifSource;
use crate::collect::xenstat::Error;
use crate::model::snapshot::{Collectors, Domain, Snapshot, Vbd};
use crate::report::Output;
use crate::statsd::destination::Destination;
use crate::statsd::probe::{Probe, probe};

/// How long libxenstat is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// A line's verdict: fine, not fine, or only to be known.
enum Verdict {
    Good,
    Bad,
    Note,
}
use Verdict::{Bad, Good, Note};

/// Prints the diagnosis; returns whether all is well.
pub fn run(sources: &Sources, output: &Output) -> io::Result<bool> {
    let mut lines = libxenstat(sources, output);
    lines.extend(output.servers().destinations().map(|server| ("destination", reach(server))));
    let mut out = io::stdout().lock();
    for (what, (verdict, words)) in &lines {
        let verdict = match verdict {
            Good => "ok",
            Bad => "BAD",
            Note => "",
        };
        writeln!(out, "{what:<12} {verdict:<4} {words}")?;
    }
    Ok(!lines.iter().any(|(_, (verdict, _))| matches!(verdict, Bad)))
}

type Line = (&'static str, (Verdict, String));

fn libxenstat(sources: &Sources, output: &Output) -> Vec<Line> {
    let polled = match poll(sources.clone()) {
        Ok(polled) => polled,
        Err(why) => return vec![("libxenstat", (Bad, why))],
    };
    let Polled { result, took, notes, .. } = polled;
    let Notes { opened, vifs_from_kernel, vif_error, disk_error, unavailable, cause } = notes;
    let library = opened.map(|(path, why)| ("libxenstat", (Good, format!("{} ({why})", path.display()))));
    let mut lines: Vec<Line> = library.into_iter().collect();
    let node = match result {
        Ok(node) => node,
        Err(error) => {
            let of_library = matches!(error, Error::NotFound { .. } | Error::Unloadable(_) | Error::Lacks { .. });
            lines.push((if of_library { "libxenstat" } else { "Xen" }, (Bad, error.to_string())));
            return lines;
        }
    };
    lines.push(("Xen", (Good, format!("{}, {} domains read in {took:.1?}", node.xen_version, node.domains.len()))));
    if release::miscounts_read_sectors(&node.xen_version) && !node.own_disks {
        lines.push(("", (Bad, "this release miscounts the sectors read from disks: vbd_rsect is withheld".into())));
    }
    let Collectors { vcpu, network, vbd } = node.collected;
    let why = || cause.as_ref().map(ToString::to_string).unwrap_or_default();
    let part = |told, words: String| if told { (Good, words) } else { (Bad, format!("withheld: {}", why())) };
    lines.push(("vcpus", part(vcpu, count(&node, |domain| domain.vcpus.len()))));
    let source = if vifs_from_kernel { "the kernel" } else { "libxenstat" };
    let found = count(&node, |domain| domain.vifs.len());
    let (xentops_vifs, xentops_disks) = xentops(sources);
    let words = format!("{found}, from {source}; xentop would show {xentops_vifs}");
    let networks = match &vif_error {
        Some(error) if !network => (Bad, format!("withheld: {error}")),
        // Fewer than xentop shows are not all.
        _ if found == "0" && xentops_vifs != "0" && network => (Bad, words),
        _ => part(network, words),
    };
    lines.push(("networks", networks));
    let source = if node.own_disks { "QEMU, tapdisk3 and the kernel" } else { "libxenstat" };
    let in_error = count(&node, |domain| disks(domain).filter(|vbd| vbd.counters.is_none()).count());
    let found = count(&node, |domain| disks(domain).count());
    let words = format!("{found}, of which {in_error} in error, from {source}; xentop would show {xentops_disks}");
    let unheard =
        |Unavailable { name, error, .. }: &Unavailable| format!("those of {name} are withheld: its QEMU {error}");
    lines.push((
        "disks",
        match &disk_error {
            Some(error) => (Bad, format!("withheld: none {error}")),
            None if !unavailable.is_empty() => (Bad, words),
            None if found == "0" && xentops_disks != "0" && vbd => (Bad, words),
            None => part(vbd, words),
        },
    ));
    lines.extend(unavailable.iter().map(|guest| ("", (Bad, unheard(guest)))));
    lines.extend(output.unmatched(&node).into_iter().map(|line| ("filter", (Bad, line))));
    lines.extend(output.example(&node).map(|line| ("example", (Note, line))));
    lines
}

fn disks(domain: &Domain) -> impl Iterator<Item = &Vbd> {
    domain.vbds.iter().flatten()
}

fn count(node: &Snapshot, devices: impl Fn(&Domain) -> usize) -> String {
    node.domains.iter().map(devices).sum::<usize>().to_string()
}

/// One poll, by a poller of its own: the call may never return.
fn poll(sources: Sources) -> Result<Polled, String> {
    let (answers, inbox) = mpsc::channel();
    let answer = move |polled| drop(answers.send(polled));
    let requests = poller::start(sources, answer).map_err(|error| format!("cannot start a thread: {error}"))?;
    let _ = requests.send(Request::default());
    match inbox.recv_timeout(PATIENCE) {
        Ok(Some(polled)) => Ok(polled),
        Ok(None) => Err("the thread that polls it has panicked".into()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}: is xenstored running?")),
    }
}

/// The networks and disks that libxenstat alone shows.
fn xentops(sources: &Sources) -> (String, String) {
    let sources = Sources { vifs: VifSource::Libxenstat, disks: DiskSource::Libxenstat, ..sources.clone() };
    let theirs = poll(sources).and_then(|polled| polled.result.map_err(|error| error.to_string())).unwrap_or_default();
    let told = |told, number: String| if told { number } else { "none, failing".into() };
    (
        told(theirs.collected.network, count(&theirs, |domain| domain.vifs.len())),
        told(theirs.collected.vbd, count(&theirs, |domain| disks(domain).count())),
    )
}

/// Whether the server can be reached.
fn reach(destination: &Destination) -> (Verdict, String) {
    let Probe { address, result } = probe(destination);
    let at = address.map_or_else(|| destination.to_string(), |address| format!("{destination} at {address}"));
    match result {
        Ok(words) => (Good, format!("{at}: {words}")),
        Err(error) => (Bad, format!("{at}: {error}")),
    }
}
