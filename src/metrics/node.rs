//! Metrics of the host itself, `node.…`: xentop's summary.
//!
//! A new one is a row here, and the same row in docs/metrics.md, which the failing test prints. JSON follows.

use crate::metrics::metric::{Metric, gauge};
use crate::model::snapshot::{Domain, Snapshot, State};

type NodeFn = fn(&Snapshot) -> Option<f64>;

/// Metrics of the host.
#[rustfmt::skip]
pub const NODE: &[Metric<NodeFn>] = &[
    gauge("mem_total_k", "KiB of memory", |n| Some((n.tot_mem / 1024) as f64)),
    gauge("mem_free_k", "KiB that no domain uses", |n| Some((n.free_mem / 1024) as f64)),
    gauge("mem_used_k", "KiB that domains and Xen itself use",
        |n| Some((n.tot_mem.saturating_sub(n.free_mem) / 1024) as f64)),
    gauge("cpus", "physical CPUs", |n| Some(n.num_cpus.into())),
    gauge("cpu_mhz", "nominal CPU frequency in MHz; omitted on arm64, where Xen does not know it",
        |n| Some((n.cpu_hz? / 1_000_000) as f64)),
    gauge("domains", "all domains, including Domain-0", |n| Some(n.domains.len() as f64)),
    gauge("domains_running", "domains whose first true state, in the order of these rows, is `running`",
        |n| Some(first_state_is(n, 0))),
    gauge("domains_blocked", "the same for `blocked`", |n| Some(first_state_is(n, 1))),
    gauge("domains_paused", "the same for `paused`", |n| Some(first_state_is(n, 2))),
    gauge("domains_shutdown", "the same for `shutdown`", |n| Some(first_state_is(n, 3))),
    gauge("domains_crashed", "the same for `crashed`", |n| Some(first_state_is(n, 4))),
    gauge("domains_dying", "the same for `dying`", |n| Some(first_state_is(n, 5))),
    gauge("domains_migrating", "domains being migrated, which have no metrics of their own",
        |n| Some(n.domains.iter().filter(|domain| domain.is_migrating()).count() as f64)),
];

/// How many domains are in the given state and in none before it, as xentop's summary counts them.
fn first_state_is(node: &Snapshot, state: usize) -> f64 {
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
    fn node_metrics_count_domains_as_xentop_does() {
        let domain = |name: &str, state| Domain { name: name.as_bytes().into(), state, ..Domain::default() };
        let none = State::default();
        let node = Snapshot {
            tot_mem: 10 << 20,
            free_mem: 3 << 20,
            num_cpus: 16,
            cpu_hz: Some(2_400_999_999),
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
        for (name, value) in [
            ("mem_total_k", 10240.0),
            ("mem_free_k", 3072.0),
            ("mem_used_k", 7168.0),
            ("cpus", 16.0),
            ("cpu_mhz", 2400.0),
            ("domains", 6.0),
            ("domains_running", 1.0),
            ("domains_blocked", 1.0),
            ("domains_paused", 1.0),
            ("domains_shutdown", 1.0),
            ("domains_crashed", 0.0),
            ("domains_dying", 1.0),
            ("domains_migrating", 2.0),
        ] {
            let row = NODE.iter().find(|row| row.name == name).unwrap();
            assert_eq!(row.of(&node), Some(value), "{name}");
        }
        let node = Snapshot { cpu_hz: None, ..node };
        let unknown = NODE.iter().filter(|row| row.of(&node).is_none()).map(|row| row.name);
        assert_eq!(unknown.collect::<Vec<_>>(), ["cpu_mhz"]);
    }
}
