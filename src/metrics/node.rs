//! The gauges of the host itself (`node.…`, xentop's summary) and of this program (`xenmonitor.…`).
//!
//! A new one is a row here and the same row in docs/metrics.md, which the failing test prints.

use crate::metrics::gauge::HostGauge;
use crate::metrics::gauge::gauge;
use crate::metrics::gauge::gauges;
use crate::naming::scheme::RESERVED;

use crate::metrics::gauge::Kind::Now;
use crate::model::snapshot::{Domain, Snapshot, State};

/// Metrics of the host.
#[rustfmt::skip]
pub const NODE: &[HostGauge<Snapshot>] = &[
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

/// Hands the host's gauges to `emit`: group, name and value.
pub fn node_gauges(node: &Snapshot, emit: impl FnMut(&str, &str, f64)) {
    gauges(RESERVED[0], NODE, node, emit);
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
