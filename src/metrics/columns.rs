//! The vocabulary: which gauges there are, what they are called and how each comes from a snapshot.
//!
//! [`GAUGES`] is the one table of names; the README's table, the printed table and the JSON follow it. A new
//! gauge is a field in `snapshot`, its getter in `xenstat` (and the getter's name in `missing` there), a row
//! here, and the same row in the README, which the failing test prints; tests/it/statsd.rs then wants its
//! values. What is no column of xentop's goes into `detail` or `host`.
//!
//! The arithmetic is xentop's own (`tools/xentop/xentop.c`), except that what xentop cannot know (`0.0` for a first
//! CPU sample, "no limit") is absent here rather than a number.

use crate::metrics::delta::View;
use crate::metrics::gauge::Kind::{self, CountsUp, Now, Since};
use crate::metrics::gauge::{exact, in_bounds};
use crate::model::snapshot::{VbdCounters, Vif};
use crate::naming::scheme::Layout;

/// One gauge of a domain.
#[derive(Debug)]
pub struct Gauge {
    /// Its name in statsd: the xentop column in lower case, its unit spelled.
    pub name: &'static str,
    /// The column of `xentop -b` it comes from.
    pub xentop: &'static str,
    /// Its name in the paths of the XenMonitor script, which sent no others.
    pub xenmonitor: Option<&'static str>,
    /// Unit, and what is told with it.
    pub meaning: &'static str,
    /// How to read it.
    pub kind: Kind,
    value: fn(&View) -> Option<f64>,
}

/// Every gauge of a domain, in the order of xentop's columns.
#[rustfmt::skip]
pub const GAUGES: &[Gauge] = &[
    gauge("state.running", "STATE", None, Now,
        "1 while a vcpu is on a CPU, else 0", |v| truth(v.domain.state.running)),
    gauge("state.blocked", "STATE", None, Now,
        "1 while all vcpus wait, else 0", |v| truth(v.domain.state.blocked)),
    gauge("state.paused", "STATE", None, Now,
        "1 while paused, else 0", |v| truth(v.domain.state.paused)),
    gauge("state.shutdown", "STATE", None, Now,
        "1 once the guest has shut down, else 0", |v| truth(v.domain.state.shutdown)),
    gauge("state.crashed", "STATE", None, Now,
        "1 once the guest has crashed, else 0", |v| truth(v.domain.state.crashed)),
    gauge("state.dying", "STATE", None, Now,
        "1 while being destroyed, else 0", |v| truth(v.domain.state.dying)),
    gauge("cpu_sec", "CPU(sec)", Some("CPU_sec"), CountsUp,
        "seconds of CPU time, to the millisecond", |v| v.cpu_sec()),
    gauge("cpu_percent", "CPU(%)", Some("CPU_percent"), Since,
        "100 is one CPU; absent on the first sample", |v| v.cpu_percent()),
    gauge("mem_k", "MEM(k)", Some("MEM_k"), Now,
        "KiB", |v| exact(v.domain.cur_mem / 1024)),
    gauge("mem_percent", "MEM(%)", Some("MEM_percent"), Now,
        "of the host's memory", |v| v.of_memory(v.domain.cur_mem)),
    gauge("maxmem_k", "MAXMEM(k)", None, Now,
        "KiB; absent when there is no limit", |v| exact(v.domain.max_mem? / 1024)),
    gauge("maxmem_percent", "MAXMEM(%)", None, Now,
        "of the host's memory; absent when there is no limit", |v| v.of_memory(v.domain.max_mem?)),
    gauge("vcpus", "VCPUS", Some("VCPUs"), Now,
        "virtual CPUs, online or not", |v| Some(v.domain.num_vcpus.into())),
    gauge("nets", "NETS", Some("Networks"), Now,
        "network interfaces", |v| v.nets()),
    gauge("nettx_k", "NETTX(k)", Some("NET-TX_k"), CountsUp,
        "KiB dom0 sent to the guest: what the guest received", |v| v.nettx()),
    gauge("netrx_k", "NETRX(k)", Some("NET-RX_k"), CountsUp,
        "KiB dom0 got from the guest: what the guest sent", |v| v.netrx()),
    gauge("vbds", "VBDS", Some("Block-Devices"), Now,
        "block devices", |v| v.vbds()),
    gauge("vbd_oo", "VBD_OO", None, CountsUp,
        "requests that had to wait; absent when every VBD is in error, or one is QEMU's, which counts none", |v| v.vbd(|vbd| vbd.oo_reqs)),
    gauge("vbd_rd", "VBD_RD", Some("VBD_Read"), CountsUp,
        "read requests; absent when every VBD is in error", |v| v.vbd(|vbd| Some(vbd.rd_reqs))),
    gauge("vbd_wr", "VBD_WR", Some("VBD_Write"), CountsUp,
        "write requests; absent when every VBD is in error", |v| v.vbd(|vbd| Some(vbd.wr_reqs))),
    gauge("vbd_rsect", "VBD_RSECT", Some("VBD_Read-Sectors"), CountsUp,
        "512-byte sectors read; absent when every VBD is in error", |v| v.vbd(|vbd| vbd.rd_sects)),
    gauge("vbd_wsect", "VBD_WSECT", Some("VBD_Write-Sectors"), CountsUp,
        "512-byte sectors written; absent when every VBD is in error", |v| v.vbd(|vbd| Some(vbd.wr_sects))),
    gauge("ssid", "SSID", None, Now,
        "number of the security label", |v| Some(v.domain.ssid.into())),
];

const fn gauge(
    name: &'static str,
    xentop: &'static str,
    xenmonitor: Option<&'static str>,
    kind: Kind,
    meaning: &'static str,
    value: fn(&View) -> Option<f64>,
) -> Gauge {
    Gauge { name, xentop, xenmonitor, kind, meaning, value }
}

impl Gauge {
    /// The gauge's value, or `None` where it cannot be told truly. Never NaN, infinite or above 2^53.
    pub fn value(&self, view: &View) -> Option<f64> {
        in_bounds((self.value)(view))
    }

    /// Its name in a layout, where it has one.
    pub fn name_in(&self, layout: Layout) -> Option<&'static str> {
        match layout {
            Layout::Xentop => Some(self.name),
            Layout::XenMonitor => self.xenmonitor,
        }
    }

    /// Its value as a layout has it.
    pub fn value_in(&self, layout: Layout, view: &View) -> Option<f64> {
        let value = self.value(view)?;
        // The script passed on xentop's text, in which this one has no decimals.
        Some(if layout == Layout::XenMonitor && self.name == "cpu_sec" { value.trunc() } else { value })
    }
}

impl View<'_> {
    fn cpu_sec(&self) -> Option<f64> {
        exact(self.domain.cpu_ns / 1_000_000).map(|ms| ms / 1000.0)
    }

    fn cpu_percent(&self) -> Option<f64> {
        let (domain, before) = self.before?;
        let used = self.domain.cpu_ns.checked_sub(domain.cpu_ns)?;
        before.xenstat.percent_of_cpu(used, self.domain.num_vcpus.max(domain.num_vcpus))
    }

    fn of_memory(&self, bytes: u64) -> Option<f64> {
        (self.node.tot_mem > 0).then(|| bytes as f64 / self.node.tot_mem as f64 * 100.0)
    }

    fn nets(&self) -> Option<f64> {
        self.node.told.network.then_some(self.domain.vifs.len() as f64)
    }

    fn nettx(&self) -> Option<f64> {
        self.net(self.side(|vif| vif.tbytes, |vif| vif.rbytes))
    }

    fn netrx(&self) -> Option<f64> {
        self.net(self.side(|vif| vif.rbytes, |vif| vif.tbytes))
    }

    fn net(&self, bytes: fn(&Vif) -> u64) -> Option<f64> {
        self.node.told.network.then_some(())?;
        exact(self.domain.vifs.iter().map(bytes).try_fold(0_u64, u64::checked_add)? / 1024)
    }

    fn vbds(&self) -> Option<f64> {
        Some(self.domain.vbds.as_ref()?.len() as f64)
    }

    /// The sum over the VBDs that are not in error; a domain without VBDs has done 0 requests.
    fn vbd(&self, count: fn(&VbdCounters) -> Option<u64>) -> Option<f64> {
        let vbds = self.domain.vbds.as_ref()?;
        let mut working = vbds.iter().filter_map(|vbd| vbd.counters.as_ref()).peekable();
        if working.peek().is_none() && !vbds.is_empty() {
            return None;
        }
        exact(working.map(count).try_fold(0_u64, |sum, count| sum.checked_add(count?))?)
    }
}

fn truth(it_is: bool) -> Option<f64> {
    Some(it_is.into())
}

#[cfg(test)]
mod tests {
    use crate::metrics::delta::Before;
    use crate::metrics::delta::NetView;
    use crate::metrics::delta::Span;
    use crate::model::snapshot::Domain;
    use crate::model::snapshot::Moment;
    use crate::model::snapshot::Snapshot;
    use std::time::Duration;
    use std::time::Instant;

    use super::*;
    use crate::model::snapshot::{Collectors, Vbd};
    use crate::naming::paths::MAX_METRIC;

    fn vbd(rd_reqs: u64) -> Vbd {
        Vbd { counters: Some(VbdCounters { rd_reqs, ..VbdCounters::default() }), ..Vbd::default() }
    }

    /// The first domain, at the first poll.
    fn alone(node: &Snapshot, net_view: NetView) -> View<'_> {
        View::new(&node.domains[0], node, None, None, net_view)
    }

    fn told(gauge: &str, domain: Domain, before: Option<(Domain, Duration)>) -> Option<f64> {
        let host =
            |domain| Snapshot { tot_mem: 8 << 30, domains: vec![domain], told: Collectors::ALL, ..Snapshot::default() };
        let now = host(domain);
        let before = before.map(|(domain, elapsed)| (host(domain), Span { elapsed, blur: Duration::ZERO }));
        let before = before.as_ref().map(|(snapshot, span)| Before { snapshot, xenstat: *span, vifs: *span });
        let earlier = before.as_ref().map(|before| &before.snapshot.domains[0]);
        let view = View::new(&now.domains[0], &now, earlier, before.as_ref(), NetView::Dom0);
        GAUGES.iter().find(|candidate| candidate.name == gauge).unwrap().value(&view)
    }

    #[test]
    fn columns_of_one_snapshot() {
        let vifs = |bytes: &[u64]| bytes.iter().map(|&tbytes| Vif { tbytes, ..Vif::default() }).collect();
        let error = Vbd::default();
        for (gauge, domain, value) in [
            ("cpu_sec", Domain { cpu_ns: 1_999_999_999, ..Domain::default() }, Some(1.999)),
            ("mem_k", Domain { cur_mem: 2047, ..Domain::default() }, Some(1.0)),
            ("mem_percent", Domain { cur_mem: 2 << 30, ..Domain::default() }, Some(25.0)),
            ("maxmem_k", Domain { max_mem: Some(4096), ..Domain::default() }, Some(4.0)),
            ("maxmem_k", Domain { max_mem: None, ..Domain::default() }, None),
            ("maxmem_percent", Domain { max_mem: None, ..Domain::default() }, None),
            ("nets", Domain { vifs: vifs(&[1, 2]), ..Domain::default() }, Some(2.0)),
            // Summed first, divided then, as xentop does.
            ("nettx_k", Domain { vifs: vifs(&[1023, 1]), ..Domain::default() }, Some(1.0)),
            ("nettx_k", Domain::default(), Some(0.0)),
            ("nettx_k", Domain { vifs: vifs(&[u64::MAX, 1]), ..Domain::default() }, None),
            ("vbd_rd", Domain { vbds: Some(vec![]), ..Domain::default() }, Some(0.0)),
            ("vbd_rd", Domain::default(), None),
            ("vbds", Domain::default(), None),
            ("vbd_rd", Domain { vbds: Some(vec![vbd(5), error, vbd(7)]), ..Domain::default() }, Some(12.0)),
            ("vbd_rsect", Domain { vbds: Some(vec![vbd(5)]), ..Domain::default() }, None),
            ("vbd_rd", Domain { vbds: Some(vec![error]), ..Domain::default() }, None),
            ("vbds", Domain { vbds: Some(vec![error]), ..Domain::default() }, Some(1.0)),
            (
                "vbd_rd",
                Domain { vbds: Some(vec![vbd((1 << 53) - 1)]), ..Domain::default() },
                Some(9_007_199_254_740_991.0),
            ),
            ("vbd_rd", Domain { vbds: Some(vec![vbd(1 << 53)]), ..Domain::default() }, None),
        ] {
            assert_eq!(told(gauge, domain.clone(), None), value, "{gauge} of {domain:?}");
        }
        let nowhere = Snapshot { domains: vec![Domain::default()], ..Snapshot::default() };
        assert_eq!(alone(&nowhere, NetView::Dom0).of_memory(1), None, "a host without memory");
    }

    /// Unknown is not 0.
    #[test]
    fn what_was_not_told_is_absent() {
        let vif = Vif { rbytes: 4096, tbytes: 8192, ..Vif::default() };
        let counters = Some(VbdCounters { oo_reqs: Some(1), rd_sects: Some(1), ..VbdCounters::default() });
        let vbds = Some(vec![Vbd { counters, ..Vbd::default() }]);
        let domain = Domain { vifs: vec![vif], vbds, num_vcpus: 2, ..Domain::default() };
        let (all, node) = (Collectors::ALL, Snapshot { domains: vec![domain], ..Snapshot::default() });
        let absent = |told, net_view| {
            let mut node = Snapshot { told, ..node.clone() };
            node.domains[0].vbds.take_if(|_| !told.vbd);
            let view = &alone(&node, net_view);
            let absent = |gauge: &&Gauge| gauge.name.starts_with(['n', 'v']) && gauge.value(view).is_none();
            GAUGES.iter().filter(absent).map(|gauge| gauge.name).collect::<Vec<_>>()
        };
        assert_eq!(absent(all, NetView::Dom0), [""; 0]);
        assert_eq!(absent(Collectors { network: false, ..all }, NetView::Dom0), ["nets", "nettx_k", "netrx_k"]);
        assert_eq!(
            absent(Collectors { vbd: false, ..all }, NetView::Dom0),
            ["vbds", "vbd_oo", "vbd_rd", "vbd_wr", "vbd_rsect", "vbd_wsect"]
        );
        let node = Snapshot { told: all, ..node };
        for (net_view, tx, rx) in [(NetView::Dom0, 8.0, 4.0), (NetView::Guest, 4.0, 8.0)] {
            let view = &alone(&node, net_view);
            assert_eq!((view.nettx(), view.netrx()), (Some(tx), Some(rx)), "{net_view:?}");
        }
    }

    #[test]
    fn cpu_percent_needs_the_same_domain_before() {
        let domain = |id, name: &str, cpu_ns| Domain {
            id,
            name: name.as_bytes().into(),
            cpu_ns,
            num_vcpus: 2,
            ..Domain::default()
        };
        let second = Duration::from_secs(1);
        for (before, elapsed, value) in [
            (domain(1, "web", 1_000_000_000), second, Some(150.0)),
            (domain(1, "web", 2_500_000_000), second, Some(0.0)),
            (domain(1, "web", 1_000_000_000), second * 3, Some(50.0)),
            (domain(1, "web", 1_000_000_000), Duration::ZERO, None),
            // All that two vcpus can use, and a millisecond more.
            (domain(1, "web", 500_000_000), second, Some(200.0)),
            (domain(1, "web", 499_000_000), second, None),
            // Less than before, another domid (a reboot), another name: no longer the same.
            (domain(1, "web", 2_500_000_001), second, None),
            (domain(2, "web", 1_000_000_000), second, None),
            (domain(1, "db", 1_000_000_000), second, None),
        ] {
            let now = domain(1, "web", 2_500_000_000);
            assert_eq!(told("cpu_percent", now, Some((before.clone(), elapsed))), value, "{before:?}");
        }
        assert_eq!(told("cpu_percent", domain(1, "web", 5), None), None, "on the first sample");
    }

    #[test]
    fn what_was_not_read_sharply_is_not_measured() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        for (then, now, blur, percent) in [
            ((0, 0), (1000, 0), 0, Some(50.0)),
            // A call that takes long takes long each time.
            ((0, 900), (1000, 900), 0, Some(50.0)),
            ((0, 0), (1000, 100), 100, Some(50.0)),
            // One of two has hung, the other not.
            ((0, 0), (1000, 101), 101, None),
            ((0, 101), (1000, 0), 101, None),
            ((0, 0), (0, 0), 0, None),
        ] {
            let moment = |(at, took)| Moment { at: start + ms(at), took: ms(took) };
            let span = Span::between(moment(then), moment(now));
            assert_eq!(span.blur, ms(blur));
            assert_eq!(span.percent_of_cpu(500_000_000, 1), percent, "{then:?} {now:?}");
            assert_eq!(span.per_second([Some(25), Some(25)].into_iter()), percent, "{then:?} {now:?}");
        }
        let span = Span { elapsed: ms(1000), blur: ms(50) };
        assert_eq!(span.percent_of_cpu(1_050_000_000, 1), Some(105.0));
        assert_eq!(span.percent_of_cpu(1_051_000_000, 1), None, "more than there was");
        assert_eq!(span.per_second([Some(1), None].into_iter()), None, "a reset");
    }

    #[test]
    fn names_fit_and_differ() {
        for layout in [|gauge: &Gauge| Some(gauge.name), |gauge: &Gauge| gauge.xenmonitor] {
            let mut names: Vec<&str> = GAUGES.iter().filter_map(layout).collect();
            assert!(names.iter().all(|name| name.len() <= MAX_METRIC && !name.is_empty()));
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        }
    }
}
