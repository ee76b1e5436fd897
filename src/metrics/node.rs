//! Metrics of the host itself, `node.…`: xentop's summary, and how busy the host is.
//!
//! A new one is a row here, and the same row in docs/metrics.md, which the failing test prints. JSON follows.

use crate::metrics::delta::Previous;
use crate::metrics::metric::{Metric, gauge, interval};
use crate::model::snapshot::{Domain, Snapshot, State};

/// The host at one poll, beside the poll before: all that its metrics are computed from.
pub struct NodeSample<'a> {
    /// What was read.
    pub node: &'a Snapshot,
    /// The poll before, if there was one.
    pub previous: Option<&'a Previous<'a>>,
}

type NodeFn = fn(&NodeSample) -> Option<f64>;

/// Metrics of the host.
#[rustfmt::skip]
pub const NODE: &[Metric<NodeFn>] = &[
    gauge("mem_total_k", "KiB of memory", |s| Some((s.node.tot_mem / 1024) as f64)),
    gauge("mem_free_k", "KiB that no domain uses", |s| Some((s.node.free_mem / 1024) as f64)),
    gauge("mem_used_k", "KiB that domains and Xen itself use", |s| Some((s.mem_used() / 1024) as f64)),
    gauge("mem_percent", "percent of the memory that domains and Xen itself use",
        |s| (s.node.tot_mem > 0).then(|| s.mem_used() as f64 * 100.0 / s.node.tot_mem as f64)),
    gauge("cpus", "physical CPUs", |s| Some(s.node.num_cpus.into())),
    gauge("cpu_mhz", "nominal CPU frequency in MHz; omitted on arm64, where Xen does not know it",
        |s| Some((s.node.cpu_hz? / 1_000_000) as f64)),
    interval("cpu_percent", "CPU that all domains used, at most 100 for each of `cpus`; omitted at the first poll, and \
                             where a domain has started or ended since the previous one",
        |s| s.cpu_percent()),
    gauge("vcpus", "virtual CPUs of all domains, online or not",
        |s| Some(s.node.domains.iter().map(|domain| f64::from(domain.num_vcpus)).sum())),
    gauge("xen_major", "the 4 of Xen 4.17.5", |s| s.xen_version(0)),
    gauge("xen_minor", "the 17 of Xen 4.17.5", |s| s.xen_version(1)),
    gauge("xen_patch", "the 5 of Xen 4.17.5; omitted if there is none, as in 4.18-unstable", |s| s.xen_version(2)),
    gauge("domains", "all domains, including Domain-0", |s| Some(s.node.domains.len() as f64)),
    gauge("domains_running", "domains whose first true state, in the order of these rows, is `running`",
        |s| Some(s.first_state_is(0))),
    gauge("domains_blocked", "the same for `blocked`", |s| Some(s.first_state_is(1))),
    gauge("domains_paused", "the same for `paused`", |s| Some(s.first_state_is(2))),
    gauge("domains_shutdown", "the same for `shutdown`", |s| Some(s.first_state_is(3))),
    gauge("domains_crashed", "the same for `crashed`", |s| Some(s.first_state_is(4))),
    gauge("domains_dying", "the same for `dying`", |s| Some(s.first_state_is(5))),
    gauge("domains_migrating", "domains being migrated, which have no metrics of their own",
        |s| Some(s.node.domains.iter().filter(|domain| domain.is_migrating()).count() as f64)),
];

impl NodeSample<'_> {
    fn mem_used(&self) -> u64 {
        self.node.tot_mem.saturating_sub(self.node.free_mem)
    }

    fn cpu_percent(&self) -> Option<f64> {
        let previous = self.previous?;
        let cpus = self.node.num_cpus.max(previous.snapshot.num_cpus);
        previous.xenstat.percent_of_cpu(self.cpu_used(previous)?, cpus)
    }

    /// The CPU time in nanoseconds that all domains have used since the previous poll; `None` if one's share is
    /// unknown. What a domain used before it ended is unknown, unless it was dying: its vcpus do not run any more. What
    /// a domain used that was not listed is unknown, too, unless it has used nothing so far, as while it is built: it
    /// may have lacked a name, not existence (fact 12). A domid names a domain, whatever its name.
    fn cpu_used(&self, previous: &Previous) -> Option<u64> {
        let find = |domains: &[Domain], id| domains.binary_search_by_key(&id, |domain: &Domain| domain.id).ok();
        let (now, earlier) = (&self.node.domains, &previous.snapshot.domains);
        if earlier.iter().any(|domain| !domain.state.dying && find(now, domain.id).is_none()) {
            return None;
        }
        now.iter().try_fold(0_u64, |sum, domain| {
            let before = match find(earlier, domain.id) {
                Some(place) => earlier[place].cpu_ns,
                None if domain.cpu_ns == 0 => 0,
                None => return None,
            };
            // With less CPU time it is another domain that got the same domid.
            let used = domain.cpu_ns.checked_sub(before)?;
            previous.xenstat.percent_of_cpu(used, domain.num_vcpus)?;
            sum.checked_add(used)
        })
    }

    /// One number of the version, which may end with any text, as in `4.11.1-7.13`.
    fn xen_version(&self, place: usize) -> Option<f64> {
        let part = self.node.xen_version.split('.').nth(place)?;
        let number = part.split(|c: char| !c.is_ascii_digit()).next()?;
        number.parse::<u16>().ok().map(f64::from)
    }

    /// How many domains are in the given state and in none before it, as xentop's summary counts them.
    fn first_state_is(&self, state: usize) -> f64 {
        let first = |domain: &&Domain| {
            let State { running, blocked, paused, shutdown, crashed, dying } = domain.state;
            [running, blocked, paused, shutdown, crashed, dying].iter().position(|is| *is) == Some(state)
        };
        self.node.domains.iter().filter(first).count() as f64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::metrics::delta::Span;

    fn value(name: &str, node: &Snapshot, previous: Option<&Previous>) -> Option<f64> {
        NODE.iter().find(|row| row.name == name).unwrap().of(&NodeSample { node, previous })
    }

    #[test]
    fn node_metrics_count_domains_as_xentop_does() {
        let domain = |name: &str, state| {
            let num_vcpus = 1 + u32::from(name == "a");
            Domain { name: name.as_bytes().into(), state, num_vcpus, ..Domain::default() }
        };
        let none = State::default();
        let node = Snapshot {
            xen_version: "4.18-unstable".into(),
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
            ("mem_percent", 70.0),
            ("vcpus", 7.0),
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
            assert_eq!(self::value(name, &node, None), Some(value), "{name}");
        }
        let node = Snapshot { cpu_hz: None, tot_mem: 0, ..node };
        let unknown = NODE.iter().map(|row| row.name).filter(|name| self::value(name, &node, None).is_none());
        assert_eq!(unknown.collect::<Vec<_>>(), ["mem_percent", "cpu_mhz", "cpu_percent", "xen_patch"]);
    }

    #[test]
    fn node_xen_version_in_numbers() {
        for (version, expected) in [
            ("4.17.5", [Some(4.0), Some(17.0), Some(5.0)]),
            ("4.11.1-7.13", [Some(4.0), Some(11.0), Some(1.0)]),
            ("4.18-unstable", [Some(4.0), Some(18.0), None]),
            ("4.19.0-rc2", [Some(4.0), Some(19.0), Some(0.0)]),
            ("", [None, None, None]),
            ("x.-1.99999", [None, None, None]),
        ] {
            let node = Snapshot { xen_version: version.into(), ..Snapshot::default() };
            let numbers = ["xen_major", "xen_minor", "xen_patch"].map(|name| value(name, &node, None));
            assert_eq!(numbers, expected, "{version}");
        }
    }

    /// Every share is known, or there is no sum.
    #[test]
    fn node_cpu_percent_is_the_sum_of_what_all_domains_used() {
        let (none, dying) = (State::default(), State { dying: true, ..State::default() });
        // Domid, CPU time in milliseconds, state.
        let snapshot = |domains: &[(u32, u64, State)]| {
            let domain = |&(id, ms, state): &(u32, u64, State)| {
                let name = format!("{id} at {ms}").into_bytes().into();
                Domain { id, name, cpu_ns: ms * 1_000_000, state, num_vcpus: 2, ..Domain::default() }
            };
            Snapshot { num_cpus: 4, domains: domains.iter().map(domain).collect(), ..Snapshot::default() }
        };
        let second = Duration::from_secs(1);
        let certain = Span { elapsed: second, uncertainty: Duration::ZERO };
        for (case, earlier, now, span, expected) in [
            (
                "two",
                &[(0, 500, none), (7, 100, none)][..],
                &[(0, 750, none), (7, 1600, none)][..],
                certain,
                Some(175.0),
            ),
            ("idle", &[(0, 500, none)], &[(0, 500, none)], certain, Some(0.0)),
            ("uncertain", &[(0, 1, none)], &[(0, 2, none)], Span { uncertainty: second, ..certain }, None),
            // By Xen's clock a little more than there was, and more than that.
            ("all", &[(0, 0, none), (1, 0, none)], &[(0, 2050, none), (1, 2050, none)], certain, Some(400.0)),
            ("too much", &[(0, 0, none), (1, 0, none)], &[(0, 2300, none), (1, 0, none)], certain, None),
            (
                "too much together",
                &[(0, 0, none), (1, 0, none), (2, 0, none)],
                &[(0, 2000, none), (1, 2000, none), (2, 1000, none)],
                certain,
                None,
            ),
            ("one ended", &[(0, 0, none), (1, 0, none)], &[(0, 500, none)], certain, None),
            ("one was dying", &[(0, 0, none), (1, 0, dying)], &[(0, 500, none)], certain, Some(50.0)),
            ("one started", &[(0, 0, none)], &[(0, 500, none), (1, 1, none)], certain, None),
            ("one is being built", &[(0, 0, none)], &[(0, 500, none), (1, 0, none)], certain, Some(50.0)),
            (
                "another by the same domid",
                &[(0, 0, none), (1, 2, none)],
                &[(0, 500, none), (1, 1, none)],
                certain,
                None,
            ),
        ] {
            let (earlier, now) = (snapshot(earlier), snapshot(now));
            let previous = Previous { snapshot: &earlier, xenstat: span, vifs: span };
            assert_eq!(value("cpu_percent", &now, Some(&previous)), expected, "{case}");
        }
    }
}
