//! The metrics that every domain has: xentop's columns, and any others.
//!
//! [`DOMAIN`] is the only table of their names: statsd lines and JSON follow it. A new metric is a row here, and the
//! same row in the README, which a test compares and prints.
//!
//! The arithmetic is xentop's own (`tools/xentop/xentop.c`). But where xentop prints a substitute for an unknown value
//! (`0.0` for the first CPU percentage, "no limit"), the value is `None` here.

use crate::metrics::delta::Sample;
use crate::metrics::metric::{Metric, counter, exact, gauge, interval};
use crate::model::snapshot::{VbdCounters, Vif};
use crate::naming::scheme::Layout;

/// Computes a metric of a domain.
pub type DomainFn = fn(&Sample) -> Option<f64>;

/// A metric that every domain has.
#[derive(Debug)]
pub struct DomainMetric {
    /// Name, kind, meaning, value.
    pub metric: Metric<DomainFn>,
    /// The column of `xentop -b` that shows it, if any.
    pub xentop: Option<&'static str>,
    /// Its name in the XenMonitor script, if the script sent it: `--layout legacy` sends only these.
    pub legacy: Option<&'static str>,
}

/// Every metric of a domain, xentop's columns in their order.
#[rustfmt::skip]
pub const DOMAIN: &[DomainMetric] = &[
    row(gauge("state.running", "1 while a vcpu is running, else 0", |s| zero_or_one(s.domain.state.running)))
        .xentop("STATE"),
    row(gauge("state.blocked", "1 while all vcpus are blocked, else 0", |s| zero_or_one(s.domain.state.blocked)))
        .xentop("STATE"),
    row(gauge("state.paused", "1 while paused, else 0", |s| zero_or_one(s.domain.state.paused)))
        .xentop("STATE"),
    row(gauge("state.shutdown", "1 after the guest has shut down, else 0", |s| zero_or_one(s.domain.state.shutdown)))
        .xentop("STATE"),
    row(gauge("state.crashed", "1 after the guest has crashed, else 0", |s| zero_or_one(s.domain.state.crashed)))
        .xentop("STATE"),
    row(gauge("state.dying", "1 while being destroyed, else 0", |s| zero_or_one(s.domain.state.dying)))
        .xentop("STATE"),
    row(counter("cpu_sec", "seconds of CPU time, to the millisecond", |s| s.cpu_sec()))
        .xentop("CPU(sec)").legacy("CPU_sec"),
    row(interval("cpu_percent", "100 is one CPU; omitted at the first poll", |s| s.cpu_percent()))
        .xentop("CPU(%)").legacy("CPU_percent"),
    row(gauge("mem_k", "KiB", |s| exact(s.domain.cur_mem / 1024)))
        .xentop("MEM(k)").legacy("MEM_k"),
    row(gauge("mem_percent", "percent of the host's memory", |s| s.percent_of_memory(s.domain.cur_mem)))
        .xentop("MEM(%)").legacy("MEM_percent"),
    row(gauge("maxmem_k", "KiB; omitted if there is no limit", |s| exact(s.domain.max_mem? / 1024)))
        .xentop("MAXMEM(k)"),
    row(gauge("maxmem_percent", "percent of the host's memory; omitted if there is no limit",
        |s| s.percent_of_memory(s.domain.max_mem?)))
        .xentop("MAXMEM(%)"),
    row(gauge("vcpus", "virtual CPUs, online or not", |s| Some(s.domain.num_vcpus.into())))
        .xentop("VCPUS").legacy("VCPUs"),
    row(gauge("nets", "network interfaces", |s| s.nets()))
        .xentop("NETS").legacy("Networks"),
    row(counter("nettx_k", "KiB that dom0 sent to the guest: what the guest received", |s| s.nettx()))
        .xentop("NETTX(k)").legacy("NET-TX_k"),
    row(counter("netrx_k", "KiB that dom0 received from the guest: what the guest sent", |s| s.netrx()))
        .xentop("NETRX(k)").legacy("NET-RX_k"),
    row(gauge("vbds", "block devices", |s| s.vbds()))
        .xentop("VBDS").legacy("Block-Devices"),
    row(counter("vbd_oo", "requests that had to wait; omitted if every VBD is in error, or if QEMU serves one",
        |s| s.vbd_sum(|vbd| vbd.oo_reqs)))
        .xentop("VBD_OO"),
    row(counter("vbd_rd", "read requests; omitted if every VBD is in error", |s| s.vbd_sum(|vbd| Some(vbd.rd_reqs))))
        .xentop("VBD_RD").legacy("VBD_Read"),
    row(counter("vbd_wr", "write requests; omitted if every VBD is in error", |s| s.vbd_sum(|vbd| Some(vbd.wr_reqs))))
        .xentop("VBD_WR").legacy("VBD_Write"),
    row(counter("vbd_rsect", "512-byte sectors read; omitted if every VBD is in error",
        |s| s.vbd_sum(|vbd| vbd.rd_sects)))
        .xentop("VBD_RSECT").legacy("VBD_Read-Sectors"),
    row(counter("vbd_wsect", "512-byte sectors written; omitted if every VBD is in error",
        |s| s.vbd_sum(|vbd| Some(vbd.wr_sects))))
        .xentop("VBD_WSECT").legacy("VBD_Write-Sectors"),
    row(gauge("ssid", "number of the security label", |s| Some(s.domain.ssid.into())))
        .xentop("SSID"),
];

const fn row(metric: Metric<DomainFn>) -> DomainMetric {
    DomainMetric { metric, xentop: None, legacy: None }
}

impl DomainMetric {
    const fn xentop(mut self, column: &'static str) -> Self {
        self.xentop = Some(column);
        self
    }

    const fn legacy(mut self, name: &'static str) -> Self {
        self.legacy = Some(name);
        self
    }

    /// Its name in a layout, where it has one.
    pub fn name_in(&self, layout: Layout) -> Option<&'static str> {
        match layout {
            Layout::Xentop => Some(self.metric.name),
            Layout::Legacy => self.legacy,
        }
    }

    /// Its value in a layout.
    pub fn value_in(&self, layout: Layout, sample: &Sample) -> Option<f64> {
        let value = self.metric.of(sample)?;
        // The script sent what xentop printed, and xentop prints whole seconds.
        Some(if layout == Layout::Legacy && self.metric.name == "cpu_sec" { value.trunc() } else { value })
    }
}

impl Sample<'_> {
    fn cpu_sec(&self) -> Option<f64> {
        exact(self.domain.cpu_ns / 1_000_000).map(|ms| ms / 1000.0)
    }

    fn cpu_percent(&self) -> Option<f64> {
        let (earlier, previous) = self.previous?;
        let used = self.domain.cpu_ns.checked_sub(earlier.cpu_ns)?;
        previous.xenstat.percent_of_cpu(used, self.domain.num_vcpus.max(earlier.num_vcpus))
    }

    fn percent_of_memory(&self, bytes: u64) -> Option<f64> {
        (self.node.tot_mem > 0).then(|| bytes as f64 / self.node.tot_mem as f64 * 100.0)
    }

    fn nets(&self) -> Option<f64> {
        self.node.collected.network.then_some(self.domain.vifs.len() as f64)
    }

    fn nettx(&self) -> Option<f64> {
        self.vif_sum_k(self.side(|vif| vif.tbytes, |vif| vif.rbytes))
    }

    fn netrx(&self) -> Option<f64> {
        self.vif_sum_k(self.side(|vif| vif.rbytes, |vif| vif.tbytes))
    }

    fn vif_sum_k(&self, bytes: fn(&Vif) -> u64) -> Option<f64> {
        self.node.collected.network.then_some(())?;
        exact(self.domain.vifs.iter().map(bytes).try_fold(0_u64, u64::checked_add)? / 1024)
    }

    fn vbds(&self) -> Option<f64> {
        Some(self.domain.vbds.as_ref()?.len() as f64)
    }

    /// The sum over the VBDs that are not in error; 0 for a domain without VBDs, unknown if all are in error.
    fn vbd_sum(&self, count: fn(&VbdCounters) -> Option<u64>) -> Option<f64> {
        let vbds = self.domain.vbds.as_ref()?;
        let mut working = vbds.iter().filter_map(|vbd| vbd.counters.as_ref()).peekable();
        if working.peek().is_none() && !vbds.is_empty() {
            return None;
        }
        exact(working.map(count).try_fold(0_u64, |sum, count| sum.checked_add(count?))?)
    }
}

fn zero_or_one(is: bool) -> Option<f64> {
    Some(is.into())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::metrics::delta::{NetView, Previous, Span};
    use crate::model::snapshot::{Collectors, Domain, Moment, Snapshot, Vbd};
    use crate::naming::namer::MAX_METRIC;

    fn vbd(rd_reqs: u64) -> Vbd {
        Vbd { counters: Some(VbdCounters { rd_reqs, ..VbdCounters::default() }), ..Vbd::default() }
    }

    /// The first domain, at the first poll.
    fn first_poll(node: &Snapshot, net_view: NetView) -> Sample<'_> {
        Sample::new(&node.domains[0], node, None, None, net_view)
    }

    fn value(metric: &str, domain: Domain, before: Option<(Domain, Duration)>) -> Option<f64> {
        let host = |domain| Snapshot {
            tot_mem: 8 << 30,
            domains: vec![domain],
            collected: Collectors::ALL,
            ..Snapshot::default()
        };
        let now = host(domain);
        let before = before.map(|(domain, elapsed)| (host(domain), Span { elapsed, uncertainty: Duration::ZERO }));
        let previous = before.as_ref().map(|(snapshot, span)| Previous { snapshot, xenstat: *span, vifs: *span });
        let earlier = previous.as_ref().map(|previous| &previous.snapshot.domains[0]);
        let sample = Sample::new(&now.domains[0], &now, earlier, previous.as_ref(), NetView::Dom0);
        DOMAIN.iter().find(|row| row.metric.name == metric).unwrap().metric.of(&sample)
    }

    #[test]
    fn domain_metrics_of_one_snapshot() {
        let vifs = |bytes: &[u64]| bytes.iter().map(|&tbytes| Vif { tbytes, ..Vif::default() }).collect();
        let error = Vbd::default();
        for (metric, domain, expected) in [
            ("cpu_sec", Domain { cpu_ns: 1_999_999_999, ..Domain::default() }, Some(1.999)),
            ("mem_k", Domain { cur_mem: 2047, ..Domain::default() }, Some(1.0)),
            ("mem_percent", Domain { cur_mem: 2 << 30, ..Domain::default() }, Some(25.0)),
            ("maxmem_k", Domain { max_mem: Some(4096), ..Domain::default() }, Some(4.0)),
            ("maxmem_k", Domain { max_mem: None, ..Domain::default() }, None),
            ("maxmem_percent", Domain { max_mem: None, ..Domain::default() }, None),
            ("nets", Domain { vifs: vifs(&[1, 2]), ..Domain::default() }, Some(2.0)),
            // xentop divides the sum.
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
            assert_eq!(value(metric, domain.clone(), None), expected, "{metric} of {domain:?}");
        }
        let empty = Snapshot { domains: vec![Domain::default()], ..Snapshot::default() };
        assert_eq!(first_poll(&empty, NetView::Dom0).percent_of_memory(1), None, "a host without memory");
    }

    /// Unknown is not 0.
    #[test]
    fn domain_metrics_are_omitted_where_a_collector_failed() {
        let vif = Vif { rbytes: 4096, tbytes: 8192, ..Vif::default() };
        let counters = Some(VbdCounters { oo_reqs: Some(1), rd_sects: Some(1), ..VbdCounters::default() });
        let vbds = Some(vec![Vbd { counters, ..Vbd::default() }]);
        let domain = Domain { vifs: vec![vif], vbds, num_vcpus: 2, ..Domain::default() };
        let (all, node) = (Collectors::ALL, Snapshot { domains: vec![domain], ..Snapshot::default() });
        let omitted = |collected: Collectors, net_view| {
            let mut node = Snapshot { collected, ..node.clone() };
            node.domains[0].vbds.take_if(|_| !collected.vbd);
            let sample = &first_poll(&node, net_view);
            let of_devices = DOMAIN.iter().map(|row| &row.metric).filter(|metric| metric.name.starts_with(['n', 'v']));
            of_devices.filter(|metric| metric.of(sample).is_none()).map(|metric| metric.name).collect::<Vec<_>>()
        };
        assert_eq!(omitted(all, NetView::Dom0), [""; 0]);
        assert_eq!(omitted(Collectors { network: false, ..all }, NetView::Dom0), ["nets", "nettx_k", "netrx_k"]);
        assert_eq!(
            omitted(Collectors { vbd: false, ..all }, NetView::Dom0),
            ["vbds", "vbd_oo", "vbd_rd", "vbd_wr", "vbd_rsect", "vbd_wsect"]
        );
        let node = Snapshot { collected: all, ..node };
        for (net_view, tx, rx) in [(NetView::Dom0, 8.0, 4.0), (NetView::Guest, 4.0, 8.0)] {
            let sample = &first_poll(&node, net_view);
            assert_eq!((sample.nettx(), sample.netrx()), (Some(tx), Some(rx)), "{net_view:?}");
        }
    }

    #[test]
    fn cpu_percent_needs_an_earlier_reading_of_the_same_domain() {
        let domain = |id, name: &str, cpu_ns| Domain {
            id,
            name: name.as_bytes().into(),
            cpu_ns,
            num_vcpus: 2,
            ..Domain::default()
        };
        let second = Duration::from_secs(1);
        for (before, elapsed, expected) in [
            (domain(1, "web", 1_000_000_000), second, Some(150.0)),
            (domain(1, "web", 2_500_000_000), second, Some(0.0)),
            (domain(1, "web", 1_000_000_000), second * 3, Some(50.0)),
            (domain(1, "web", 1_000_000_000), Duration::ZERO, None),
            // All that two vcpus can use; up to a tenth more, by another clock; and more than that.
            (domain(1, "web", 500_000_000), second, Some(200.0)),
            (domain(1, "web", 499_900_000), second, Some(200.0)),
            (domain(1, "web", 300_000_000), second, Some(200.0)),
            (domain(1, "web", 299_000_000), second, None),
            // Less CPU time, another domid (a reboot), another name: another domain.
            (domain(1, "web", 2_500_000_001), second, None),
            (domain(2, "web", 1_000_000_000), second, None),
            (domain(1, "db", 1_000_000_000), second, None),
        ] {
            let now = domain(1, "web", 2_500_000_000);
            assert_eq!(value("cpu_percent", now, Some((before.clone(), elapsed))), expected, "{before:?}");
        }
        assert_eq!(value("cpu_percent", domain(1, "web", 5), None), None, "at the first poll");
    }

    #[test]
    fn intervals_of_uncertain_length_have_no_values() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        for (then, now, uncertainty, percent) in [
            ((0, 0), (1000, 0), 0, Some(50.0)),
            // Both calls took equally long.
            ((0, 900), (1000, 900), 0, Some(50.0)),
            ((0, 0), (1000, 100), 100, Some(50.0)),
            // One of the two calls hung.
            ((0, 0), (1000, 101), 101, None),
            ((0, 101), (1000, 0), 101, None),
            ((0, 0), (0, 0), 0, None),
        ] {
            let moment = |(at, took)| Moment { at: start + ms(at), took: ms(took) };
            let span = Span::between(moment(then), moment(now));
            assert_eq!(span.uncertainty, ms(uncertainty));
            assert_eq!(span.percent_of_cpu(500_000_000, 1), percent, "{then:?} {now:?}");
            assert_eq!(span.per_second([Some(25), Some(25)].into_iter()), percent, "{then:?} {now:?}");
        }
        let span = Span { elapsed: ms(1000), uncertainty: ms(50) };
        for (used, vcpus, percent) in [
            (1_000_050_000, 1, Some(100.0)),
            (1_150_000_000, 1, Some(100.0)),
            (1_151_000_000, 1, None),
            (4_600_000_000, 4, Some(400.0)),
            (4_601_000_000, 4, None),
            (0, 0, Some(0.0)),
            (1, 0, None),
            // A leaked flag appears.
            (1 << 63, 128, None),
        ] {
            assert_eq!(span.percent_of_cpu(used, vcpus), percent, "{used} by {vcpus}");
        }
        assert_eq!(span.per_second([Some(1), None].into_iter()), None, "a reset");
    }

    #[test]
    fn domain_metric_names_fit_and_differ() {
        for layout in [Layout::Xentop, Layout::Legacy] {
            let mut names: Vec<&str> = DOMAIN.iter().filter_map(|row| row.name_in(layout)).collect();
            assert!(names.iter().all(|name| name.len() <= MAX_METRIC && !name.is_empty()));
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
        }
    }
}
