//! The gauges of the host itself (`node.…`, xentop's summary) and of this program (`xenmonitor.…`).
//!
//! A new one is a row here and the same row in docs/metrics.md, which the failing test prints.

use std::time::Duration;

use crate::metrics::Kind::{self, CountsUp, Now};
use crate::metrics::in_bounds;
use crate::snapshot::{Collectors, Domain, Snapshot, State};

/// How this program is doing, for its own gauges.
#[derive(Debug, Default)]
pub struct Health {
    /// Whether the poll gave a snapshot.
    pub up: bool,
    /// How long the poll took, if it is over.
    pub poll: Option<Duration>,
    /// How long it has been under way, if it is late.
    pub stuck: Duration,
    /// How long naming, packing and printing took at the good poll before.
    pub send: Option<Duration>,
    /// Domains with gauges, if it is over.
    pub domains: Option<usize>,
    /// Polls left out because one was still under way.
    pub skipped: u64,
    /// Polls that gave nothing.
    pub failed: u64,
    /// Ticks of which something is known to be lost.
    pub send_errors: u64,
    /// Handed to the kernel.
    pub datagrams: u64,
    /// Known to be lost.
    pub lost: u64,
    /// What it told, if it is over or given up.
    pub told: Option<Collectors>,
}

/// One gauge, of `node` or of this program.
struct HostGauge<T> {
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
    value: fn(&T) -> Option<f64>,
}

const fn gauge<T>(name: &'static str, kind: Kind, meaning: &'static str, value: fn(&T) -> Option<f64>) -> HostGauge<T> {
    HostGauge { name, kind, meaning, value }
}

#[rustfmt::skip]
const NODE: &[HostGauge<Snapshot>] = &[
    gauge("mem_total_k", Now, "KiB of memory", |n| Some((n.tot_mem / 1024) as f64)),
    gauge("mem_free_k", Now, "KiB that belong to no domain", |n| Some((n.free_mem / 1024) as f64)),
    gauge("mem_used_k", Now, "KiB that do, Xen's own among them",
        |n| Some((n.tot_mem.saturating_sub(n.free_mem) / 1024) as f64)),
    gauge("cpus", Now, "physical CPUs", |n| Some(n.num_cpus.into())),
    gauge("cpu_mhz", Now, "their nominal frequency", |n| Some((n.cpu_hz / 1_000_000) as f64)),
    gauge("domains", Now, "all domains, Domain-0 among them", |n| Some(n.domains.len() as f64)),
    gauge("domains_running", Now, "each is counted once, by the first of these states it is in",
        |n| Some(first_is(n, 0))),
    gauge("domains_blocked", Now, "", |n| Some(first_is(n, 1))),
    gauge("domains_paused", Now, "", |n| Some(first_is(n, 2))),
    gauge("domains_shutdown", Now, "", |n| Some(first_is(n, 3))),
    gauge("domains_crashed", Now, "", |n| Some(first_is(n, 4))),
    gauge("domains_dying", Now, "", |n| Some(first_is(n, 5))),
    gauge("domains_migrating", Now, "halves of VMs on the move, which have no gauges of their own",
        |n| Some(n.domains.iter().filter(|domain| domain.is_migrating()).count() as f64)),
];

#[rustfmt::skip]
const OWN: &[HostGauge<Health>] = &[
    gauge("up", Now, "1 if the latest poll gave something; 0 if it failed or has taken two intervals",
        |h| Some(h.up.into())),
    gauge("poll_ms", Now, "milliseconds reading took: libxenstat, the kernel, QEMU", |h| h.poll.map(milliseconds)),
    gauge("send_ms", Now, "milliseconds naming, packing and printing took, at the good poll before",
        |h| h.send.map(milliseconds)),
    gauge("stuck_sec", Now, "seconds a poll has been under way, while that is longer than the interval; else 0",
        |h| Some(h.stuck.as_secs_f64())),
    gauge("domains", Now, "domains with gauges", |h| h.domains.map(|domains| domains as f64)),
    gauge("skipped_ticks", CountsUp, "polls left out because one still ran, or this program was stopped",
        |h| Some(h.skipped as f64)),
    gauge("poll_errors", CountsUp, "polls that gave nothing", |h| Some(h.failed as f64)),
    gauge("send_errors", CountsUp, "polls of which something is known to be lost, for each server",
        |h| Some(h.send_errors as f64)),
    gauge("datagrams", CountsUp, "handed to the kernel", |h| Some(h.datagrams as f64)),
    gauge("dropped_datagrams", CountsUp, "known to be lost", |h| Some(h.lost as f64)),
    gauge("collector.vcpu", Now, "1 if vcpus could be told, else 0", |h| Some(h.told?.vcpu.into())),
    gauge("collector.vif", Now, "1 if network interfaces could be told, else 0", |h| Some(h.told?.network.into())),
    gauge("collector.vbd", Now, "1 if the disks of every domain could be told, else 0", |h| Some(h.told?.vbd.into())),
];

/// The components that stand in a domain's place, so that no domain may bear them.
pub const RESERVED: [&str; 2] = ["node", "xenmonitor"];

/// Every gauge of the host and of this program: metric, kind, meaning.
pub fn vocabulary() -> Vec<(String, Kind, &'static str)> {
    let node = NODE.iter().map(|gauge| (format!("{}.{}", RESERVED[0], gauge.name), gauge.kind, gauge.meaning));
    let own = OWN.iter().map(|gauge| (format!("{}.{}", RESERVED[1], gauge.name), gauge.kind, gauge.meaning));
    node.chain(own).collect()
}

/// Hands the host's gauges to `emit`: group, name and value.
pub fn node_gauges(node: &Snapshot, emit: impl FnMut(&str, &str, f64)) {
    gauges(RESERVED[0], NODE, node, emit);
}

/// Hands this program's gauges to `emit`: group, name and value.
pub fn own_gauges(health: &Health, emit: impl FnMut(&str, &str, f64)) {
    gauges(RESERVED[1], OWN, health, emit);
}

fn gauges<T>(group: &str, table: &[HostGauge<T>], of: &T, mut emit: impl FnMut(&str, &str, f64)) {
    for gauge in table {
        if let Some(value) = in_bounds((gauge.value)(of)) {
            emit(group, gauge.name, value);
        }
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// How many domains are in the given state and in none before it, as xentop's summary counts them.
fn first_is(node: &Snapshot, state: usize) -> f64 {
    let first = |domain: &&Domain| {
        let State { running, blocked, paused, shutdown, crashed, dying } = domain.state;
        [running, blocked, paused, shutdown, crashed, dying].iter().position(|is| *is) == Some(state)
    };
    node.domains.iter().filter(first).count() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_counts_as_xentop_does() {
        let domain = |name: &str, state| Domain { name: name.as_bytes().into(), state, ..Domain::default() };
        let none = State::default();
        let node = Snapshot {
            tot_mem: 10 << 20,
            free_mem: 3 << 20,
            num_cpus: 16,
            cpu_hz: 2_400_999_999,
            domains: vec![
                domain("Domain-0", State { running: true, blocked: true, ..none }),
                domain("a", State { blocked: true, paused: true, ..none }),
                domain("b", State { crashed: true, shutdown: true, ..none }),
                domain("c", none),
                domain("d--incoming", State { paused: true, ..none }),
                domain("e--migratedaway", State { dying: true, ..none }),
            ],
            ..Snapshot::default()
        };
        let mut told = Vec::new();
        node_gauges(&node, |group, name, value| told.push(format!("{group}.{name} {value}")));
        assert_eq!(
            told,
            [
                "node.mem_total_k 10240",
                "node.mem_free_k 3072",
                "node.mem_used_k 7168",
                "node.cpus 16",
                "node.cpu_mhz 2400",
                "node.domains 6",
                "node.domains_running 1",
                "node.domains_blocked 1",
                "node.domains_paused 1",
                "node.domains_shutdown 1",
                "node.domains_crashed 0",
                "node.domains_dying 1",
                "node.domains_migrating 2",
            ]
        );
    }
}
