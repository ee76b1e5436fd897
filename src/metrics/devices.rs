//! What lies under a domain's columns, for `--detail`: its vcpus, its devices, and rates per second.
//!
//! A new gauge is a row in one of the tables here and the same row in docs/metrics.md, which the failing test prints. One
//! of a disk's counters is also a field in `snapshot`, filled in by those that know it (`xenstat`, `blkback`, `drives`,
//! `tapdisk`), and a key in `json`.

use crate::naming::name::device_in;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;

use crate::collect::vif;
use crate::metrics::Row;
use crate::metrics::delta::{Previous, Sample, Span};
use crate::metrics::domain;
use crate::metrics::metric::{Kind, Metric, counter, exact, gauge, interval};
use crate::model::snapshot::{Collectors, Domain, Time, Vbd, VbdCounters, Vcpu, Vif};
use crate::model::vdev;

/// `--detail`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Each virtual CPU
    Vcpus,
    /// Each network interface
    Vifs,
    /// Each block device
    Vbds,
    /// Traffic of all devices per second
    Rates,
    /// All of these
    All,
}

/// A device beside its earlier reading.
struct Device<'a, T> {
    now: &'a T,
    earlier: Option<(&'a T, &'a Previous<'a>)>,
    sample: &'a Sample<'a>,
}

type Value<T> = fn(&Device<T>) -> Option<f64>;

#[rustfmt::skip]
const VCPU: &[Metric<Value<Vcpu>>] = &[
    gauge("online", "1 if online, 0 if unplugged", |d| Some(d.now.online.into())),
    counter("cpu_sec", "seconds of CPU time, to the millisecond", |d| exact(d.now.ns / 1_000_000).map(|ms| ms / 1000.0)),
    interval("cpu_percent", "100 is one CPU; omitted at the first poll", |d| d.cpu_percent()),
];

/// All of them are counters. [`metrics`] pairs no VIFs, and [`has_lost`] knows none that is gone.
#[rustfmt::skip]
const VIF: &[Metric<Value<Vif>>] = &[
    counter("rx_bytes", "bytes that dom0 received from the guest", |d| d.count(|v| v.rbytes, |v| v.tbytes)),
    counter("rx_packets", "packets", |d| d.count(|v| v.rpackets, |v| v.tpackets)),
    counter("rx_errs", "packets in error", |d| d.count(|v| v.rerrs, |v| v.terrs)),
    counter("rx_drop", "packets dropped", |d| d.count(|v| v.rdrop, |v| v.tdrop)),
    counter("tx_bytes", "bytes that dom0 sent to the guest", |d| d.count(|v| v.tbytes, |v| v.rbytes)),
    counter("tx_packets", "packets", |d| d.count(|v| v.tpackets, |v| v.rpackets)),
    counter("tx_errs", "packets in error", |d| d.count(|v| v.terrs, |v| v.rerrs)),
    counter("tx_drop", "packets dropped", |d| d.count(|v| v.tdrop, |v| v.rdrop)),
];

#[rustfmt::skip]
const VBD: &[Metric<Value<Vbd>>] = &[
    counter("oo", "requests that had to wait; QEMU counts none", |d| exact(d.now.counters?.oo_reqs?)),
    counter("rd", "read requests", |d| exact(d.now.counters?.rd_reqs)),
    counter("wr", "write requests", |d| exact(d.now.counters?.wr_reqs)),
    counter("rsect", "512-byte sectors read", |d| exact(d.now.counters?.rd_sects?)),
    counter("wsect", "512-byte sectors written", |d| exact(d.now.counters?.wr_sects)),
    interval("rd_ms", "average milliseconds per read; omitted if there was none, or the source has no times",
        |d| d.ms(|c| c.rd_time)),
    interval("wr_ms", "average milliseconds per write; omitted if there was none, or the source has no times",
        |d| d.ms(|c| c.wr_time)),
    counter("flush", "flushes of the disk's cache; omitted if the source does not count them",
        |d| exact(d.now.counters?.flush_reqs?)),
    counter("errs", "requests that failed; omitted if the source does not count them",
        |d| exact(d.now.counters?.errs?)),
    gauge("error", "1 while its counters cannot be read and are omitted, else 0",
        |d| Some(d.now.counters.is_none().into())),
    gauge("type", "1 BlkBack, 2 BlkTap, 3 Tapdisk3, 0 QEMU's or other", |d| Some(d.now.kind.into())),
];

#[rustfmt::skip]
const RATES: &[Metric<domain::Value>] = &[
    interval("nettx_bytes_per_sec", "bytes that dom0 sent to the guest", |s| s.vif_rate(|v| v.tbytes, |v| v.rbytes)),
    interval("netrx_bytes_per_sec", "bytes that dom0 received from the guest",
        |s| s.vif_rate(|v| v.rbytes, |v| v.tbytes)),
    interval("vbd_rd_per_sec", "read requests", |s| s.vbd_rate(|c| Some(c.rd_reqs))),
    interval("vbd_wr_per_sec", "write requests", |s| s.vbd_rate(|c| Some(c.wr_reqs))),
    interval("vbd_rd_bytes_per_sec", "bytes read", |s| s.vbd_rate(|c| c.rd_sects?.checked_mul(512))),
    interval("vbd_wr_bytes_per_sec", "bytes written", |s| s.vbd_rate(|c| c.wr_sects.checked_mul(512))),
];

/// Every metric of these details; capitals stand for a device.
pub fn catalogue(wanted: &[Detail]) -> Vec<Row> {
    fn rows<F>(device: &str, table: &[Metric<F>]) -> Vec<Row> {
        table.iter().map(|row| (format!("{device}{}", row.name), row.kind, row.meaning)).collect()
    }
    let all = [
        (Detail::Vcpus, rows("vcpu.N.", VCPU)),
        (Detail::Vifs, rows("vif.ID.", VIF)),
        (Detail::Vbds, rows("vbd.DEV.", VBD)),
        (Detail::Rates, rows("", RATES)),
    ];
    all.into_iter().filter(|(detail, _)| detail.is_among(wanted)).flat_map(|(_, rows)| rows).collect()
}

impl Detail {
    fn is_among(self, wanted: &[Detail]) -> bool {
        wanted.iter().any(|wanted| [self, Detail::All].contains(wanted))
    }
}

/// Passes the metrics of these details that have a value to `emit`.
pub fn metrics(sample: &Sample, wanted: &[Detail], emit: &mut impl FnMut(&str, Kind, f64)) {
    let mut metric = String::new();
    let domain = sample.domain;
    let earlier = sample.previous.map(|(domain, _)| domain);
    if Detail::Vcpus.is_among(wanted) {
        let named = |(n, vcpu)| (format!("{n}"), vcpu);
        let earlier = earlier.iter().flat_map(|domain| domain.vcpus.iter().enumerate().map(named)).collect();
        devices(sample, "vcpu", VCPU, domain.vcpus.iter().enumerate().map(named), &earlier, &mut metric, emit);
    }
    if Detail::Vifs.is_among(wanted) && sample.node.collected.network {
        let cards = cards(&domain.vifs);
        let named = cards.iter().map(|vif| (vif.id.to_string(), vif));
        devices(sample, "vif", VIF, named, &HashMap::new(), &mut metric, emit);
    }
    if let Some(vbds) = domain.vbds.as_ref().filter(|_| Detail::Vbds.is_among(wanted)) {
        let earlier = sample.vbds_before().into_iter().flatten();
        let earlier = earlier.filter_map(|(name, _, then)| Some((name, then?))).collect();
        devices(sample, "vbd", VBD, named_vbds(vbds).into_iter(), &earlier, &mut metric, emit);
    }
    if Detail::Rates.is_among(wanted) {
        for rate in RATES {
            if let Some(value) = rate.of(sample) {
                emit(rate.name, rate.kind, value);
            }
        }
    }
}

fn devices<'a, T>(
    sample: &'a Sample,
    kind: &str,
    table: &[Metric<Value<T>>],
    devices: impl Iterator<Item = (String, &'a T)>,
    earlier: &HashMap<String, &'a T>,
    metric: &mut String,
    emit: &mut impl FnMut(&str, Kind, f64),
) where
    T: 'a,
{
    for (name, now) in devices {
        let earlier = earlier.get(&name).copied().zip(sample.previous.map(|(_, previous)| previous));
        let device = Device { now, earlier, sample };
        for row in table {
            if let Some(value) = row.of(&device) {
                metric.clear();
                let _ = write!(metric, "{kind}.{name}.{}", row.name);
                emit(metric, row.kind, value);
            }
        }
    }
}

impl Device<'_, Vcpu> {
    fn cpu_percent(&self) -> Option<f64> {
        let (vcpu, previous) = self.earlier?;
        previous.xenstat.percent_of_cpu(self.now.ns.checked_sub(vcpu.ns)?, 1)
    }
}

impl Device<'_, Vif> {
    fn count(&self, dom0s: fn(&Vif) -> u64, guests: fn(&Vif) -> u64) -> Option<f64> {
        exact(self.sample.side(dom0s, guests)(self.now))
    }
}

impl Device<'_, Vbd> {
    /// The mean of the requests that were done since the last poll.
    fn ms(&self, time: fn(&VbdCounters) -> Option<Time>) -> Option<f64> {
        let (before, _) = self.earlier?;
        let (then, now) = (time(before.counters.as_ref()?)?, time(self.now.counters.as_ref()?)?);
        let (reqs, ns) = (now.reqs.checked_sub(then.reqs)?, now.ns.checked_sub(then.ns)?);
        (reqs > 0).then(|| ns as f64 / reqs as f64 / 1e6)
    }
}

impl Sample<'_> {
    fn vif_rate(&self, dom0s: fn(&Vif) -> u64, guests: fn(&Vif) -> u64) -> Option<f64> {
        let (domain, before) = self.previous?;
        (self.node.collected.network && before.snapshot.collected.network).then_some(())?;
        let bytes = self.side(dom0s, guests);
        let earlier: HashMap<u32, Vif> = cards(&domain.vifs).into_iter().map(|vif| (vif.id, vif)).collect();
        let now = cards(&self.domain.vifs);
        let both = now.iter().filter_map(|vif| Some((vif, earlier.get(&vif.id)?)));
        before.vifs.per_second(both.map(|(now, then)| bytes(now).checked_sub(bytes(then))))
    }

    fn vbd_rate(&self, count: fn(&VbdCounters) -> Option<u64>) -> Option<f64> {
        let (domain, before) = self.previous?;
        let both = self.vbds_before()?;
        if both.is_empty() {
            // Nothing was done where there was nothing; what was done by those who came or went nobody knows.
            let nothing = [&domain.vbds, &self.domain.vbds].iter().all(|vbds| vbds.as_ref().is_some_and(Vec::is_empty));
            return before.xenstat.per_second(std::iter::empty()).filter(|_| nothing);
        }
        // Beside others, what has come or gone has no share in it.
        both.into_iter().try_fold(0.0, |sum, (_, now, then)| {
            let then = then?;
            let span = then.read.zip(now.read).map_or(before.xenstat, |(then, now)| Span::between(then, now));
            let (then, now) = (count(then.counters.as_ref()?)?, count(now.counters.as_ref()?)?);
            Some(sum + span.per_second(std::iter::once(now.checked_sub(then)))?)
        })
    }

    /// The VBDs that were there at the poll before too, by their names, and as they were then; without that where
    /// nothing can be measured against it. `None` where anything could be anything: those of one name are told apart by
    /// their place alone, which a change of the disks may shift.
    fn vbds_before(&self) -> Option<Vec<(String, &Vbd, Option<&Vbd>)>> {
        let (domain, _) = self.previous?;
        let (then, now) = (named_vbds(domain.vbds.as_ref()?), named_vbds(self.domain.vbds.as_ref()?));
        let has_twins = |vbds: &[(String, &Vbd)]| vbds.iter().any(|(name, vbd)| *name != name_of(vbd));
        let same_list =
            then.len() == now.len() && then.iter().zip(&now).all(|((_, then), (_, now))| is_same(then, now));
        if !same_list && (has_twins(&then) || has_twins(&now)) {
            return None;
        }
        let then: HashMap<String, &Vbd> = then.into_iter().collect();
        let both = now.into_iter().filter_map(|(name, now)| {
            let then = *then.get(&name).filter(|then| is_same(then, now))?;
            Some((name, now, can_be_measured(then, now).then_some(then)))
        });
        Some(both.collect())
    }
}

/// Whether it is the same disk, served in the same way.
fn is_same(then: &Vbd, now: &Vbd) -> bool {
    (then.kind, then.dev) == (now.kind, now.dev)
}

/// Not if it is now the sum of other things or told by another, who may count otherwise; nor if one of its counters has
/// fallen: then it is another disk, whatever has become of the other counters.
fn can_be_measured(then: &Vbd, now: &Vbd) -> bool {
    let counters = then.counters.as_ref().zip(now.counters.as_ref());
    then.access == now.access
        && then.read.is_some() == now.read.is_some()
        && counters.is_some_and(|(then, now)| {
            let pairs = all(then).into_iter().zip(all(now));
            pairs.into_iter().all(|(then, now)| then.zip(now).is_none_or(|(then, now)| then <= now))
        })
}

fn all(counters: &VbdCounters) -> [Option<u64>; 11] {
    let VbdCounters { oo_reqs, rd_reqs, wr_reqs, rd_sects, wr_sects, rd_time, wr_time, flush_reqs, errs } = *counters;
    let [(rd_done, rd_ns), (wr_done, wr_ns)] =
        [rd_time, wr_time].map(|time| (time.map(|time| time.reqs), time.map(|time| time.ns)));
    let (rd, wr) = (Some(rd_reqs), Some(wr_reqs));
    [oo_reqs, rd, wr, rd_sects, Some(wr_sects), rd_done, rd_ns, wr_done, wr_ns, flush_reqs, errs]
}

/// Whether a metric is one of a device that the domain, though its collector tells, no longer has.
pub fn has_lost(domain: &Domain, metric: &str, told: Collectors) -> bool {
    match device_in(metric) {
        Some(("vcpu", n, _)) if told.vcpu => n.parse().is_ok_and(|n: usize| n >= domain.vcpus.len()),
        Some(("vbd", device, _)) => {
            domain.vbds.as_ref().is_some_and(|vbds| !named_vbds(vbds).iter().any(|(name, _)| name == device))
        }
        _ => false,
    }
}

/// The VIFs by the guest's numbers: libxenstat lists an HVM guest's card and its tap under one (fact 3).
fn cards(vifs: &[Vif]) -> Vec<Vif> {
    let mut cards: BTreeMap<u32, Vif> = BTreeMap::new();
    for vif in vifs {
        vif::add(cards.entry(vif.id).or_insert(Vif { id: vif.id, ..Vif::default() }), vif);
    }
    cards.into_values().collect()
}

/// Each VBD by the guest's name for it; `_2`, `_3` … by their place where several bear one (fact 20).
fn named_vbds(vbds: &[Vbd]) -> Vec<(String, &Vbd)> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    let named = |vbd: &'_ Vbd| {
        let name = name_of(vbd);
        let times = seen.entry(name.clone()).or_default();
        *times += 1;
        if *times == 1 { name } else { format!("{name}_{times}") }
    };
    let names: Vec<String> = vbds.iter().map(named).collect();
    names.into_iter().zip(vbds).collect()
}

fn name_of(vbd: &Vbd) -> String {
    vdev::name(vbd.dev).unwrap_or_else(|| vbd.dev.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::delta::NetView;
    use crate::model::snapshot::{AccessPath, Moment, Snapshot};
    use crate::naming::paths::MAX_METRIC;
    use std::time::{Duration, Instant};

    fn host(domain: Domain) -> Snapshot {
        Snapshot { domains: vec![domain], collected: Collectors::ALL, ..Snapshot::default() }
    }

    fn told(now: Domain, then: Option<Domain>, net_view: NetView) -> Vec<String> {
        let (now, then) = (host(now), then.map(host));
        let span = Span { elapsed: Duration::from_secs(2), uncertainty: Duration::ZERO };
        let before = then.as_ref().map(|snapshot| Previous { snapshot, xenstat: span, vifs: span });
        let mut told = Vec::new();
        let earlier = before.as_ref().map(|before| &before.snapshot.domains[0]);
        let view = Sample::new(&now.domains[0], &now, earlier, before.as_ref(), net_view);
        metrics(&view, &[Detail::All], &mut |metric, _, value| told.push(format!("{metric} {value}")));
        told
    }

    fn disk(dev: u32, rd_reqs: u64, rd_sects: u64) -> Vbd {
        let counters = VbdCounters { oo_reqs: Some(0), rd_reqs, rd_sects: Some(rd_sects), ..VbdCounters::default() };
        Vbd { kind: 1, dev, counters: Some(counters), ..Vbd::default() }
    }

    fn card(id: u32, rbytes: u64, tbytes: u64) -> Vif {
        Vif { id, rbytes, tbytes, ..Vif::default() }
    }

    #[test]
    fn devices_of_one_poll() {
        let vcpus = vec![Vcpu { online: true, ns: 1_500_000_000 }, Vcpu::default()];
        let vbds = vec![disk(51712, 5, 6), disk(51712, 7, 8), Vbd { dev: 99, ..Vbd::default() }];
        let vbds = Some(vbds);
        let told = told(Domain { vcpus, vifs: vec![card(3, 10, 20)], vbds, ..Domain::default() }, None, NetView::Dom0);
        for line in [
            "vcpu.0.online 1",
            "vcpu.0.cpu_sec 1.5",
            "vcpu.1.online 0",
            "vif.3.rx_bytes 10",
            "vif.3.tx_bytes 20",
            "vbd.xvda.rd 5",
            "vbd.xvda.rsect 6",
            "vbd.xvda.error 0",
            "vbd.xvda.type 1",
            "vbd.xvda_2.rd 7",
            "vbd.99.error 1",
            "vbd.99.type 0",
        ] {
            assert!(told.iter().any(|told| told == line), "{line} is not in {told:?}");
        }
        for absent in ["vbd.99.rd", "cpu_percent", "per_sec"] {
            assert!(!told.iter().any(|told| told.contains(absent)), "{absent} is in {told:?}");
        }
    }

    #[test]
    fn rates_from_what_is_there_in_both_polls() {
        let error = Vbd { counters: None, ..disk(51728, 0, 0) };
        let one = |vbds, vifs| Domain { vbds: Some(vbds), vifs, ..Domain::default() };
        let nothing = || one(vec![], vec![]);
        let qemus = |dev, rd_reqs| Vbd { kind: 0, ..disk(dev, rd_reqs, 0) };
        for (what, then, now, lines) in [
            ("nothing there", nothing(), nothing(), &["nettx_bytes_per_sec 0", "vbd_rd_per_sec 0"][..]),
            (
                "steady",
                one(vec![disk(51712, 10, 100)], vec![card(0, 1000, 3000)]),
                one(vec![disk(51712, 14, 104)], vec![card(0, 1002, 3500)]),
                &["nettx_bytes_per_sec 250", "netrx_bytes_per_sec 1", "vbd_rd_per_sec 2", "vbd_rd_bytes_per_sec 1024"],
            ),
            (
                "another has come, one has gone: no reset",
                one(vec![disk(51712, 10, 0), disk(51744, 1 << 40, 0)], vec![card(1, 9, 9)]),
                one(vec![disk(51712, 12, 0), disk(51760, 77, 0), error], vec![card(0, 5, 5)]),
                &["vbd_rd_per_sec 1", "nettx_bytes_per_sec 0"],
            ),
            (
                "twins of one number, the first of which has gone: anything could be subtracted from anything",
                one(vec![disk(51712, 100, 0), disk(51712, 5000, 0)], vec![]),
                one(vec![disk(51712, 5000, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            (
                "one name by two numbers, and a card in two halves",
                one(vec![disk(51712, 10, 0), disk(1 << 28, 70, 0)], vec![card(0, 1, 1), card(0, 100, 1)]),
                one(vec![disk(51712, 12, 0), disk(1 << 28, 74, 0)], vec![card(0, 3, 1), card(0, 102, 1)]),
                &["vbd_rd_per_sec 3", "netrx_bytes_per_sec 2", "vif.0.rx_bytes 105", "vbd.xvda_2.rd 74"],
            ),
            (
                "another of its name: what QEMU serves is not what the kernel served, nor what has another number",
                one(vec![disk(51712, 10, 0), disk(51728, 100, 0), disk(51744, 100, 0)], vec![]),
                one(vec![disk(51712, 12, 0), qemus(51728, 5000), disk(1 << 28 | 2 << 8, 5000, 0)], vec![]),
                &["vbd_rd_per_sec 1"],
            ),
            (
                "twins by name, which are two numbers",
                one(vec![disk(51712, 100, 0), disk(1 << 28, 5000, 0)], vec![]),
                one(vec![disk(1 << 28, 5000, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            (
                "twins of which one is QEMU's now",
                one(vec![disk(51712, 100, 0), disk(51712, 100, 0)], vec![]),
                one(vec![qemus(51712, 100), disk(51712, 100, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            ("only new ones", nothing(), one(vec![disk(51712, 5000, 0)], vec![]), &["nettx_bytes_per_sec 0"]),
            ("all gone", one(vec![disk(51712, 5000, 0)], vec![]), nothing(), &["nettx_bytes_per_sec 0"]),
            (
                "the sum of other things",
                one(vec![disk(51712, 100, 0), disk(51728, 1, 0)], vec![]),
                one(vec![Vbd { access: AccessPath::Both, ..disk(51712, 200, 0) }, disk(51728, 2, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            (
                "one is in error, or was",
                one(vec![disk(51712, 10, 0), error], vec![]),
                one(vec![disk(51712, 12, 0), disk(51728, 5, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            (
                "a reset",
                one(vec![disk(51712, 10, 0)], vec![card(0, 0, 10)]),
                one(vec![disk(51712, 9, 0)], vec![card(0, 0, 9)]),
                &["netrx_bytes_per_sec 0"],
            ),
        ] {
            let told = told(now, Some(then), NetView::Dom0);
            for line in lines {
                assert!(told.iter().any(|told| told == line), "{what}: {line} is not in {told:?}");
            }
            // Of disks all are expected, or none.
            let has_rates = lines.iter().any(|line| line.starts_with("vbd_rd"));
            for rate in ["vbd_rd_per_sec", "vbd_wr_per_sec"] {
                assert_eq!(told.iter().any(|told| told.starts_with(rate)), has_rates, "{what}: {told:?}");
            }
            if what == "a reset" {
                assert!(!told.iter().any(|told| told.contains("nettx")), "{told:?}");
            }
        }
    }

    #[test]
    fn means_of_what_was_done_since() {
        let disk = |reqs: u64, us: u64| VbdCounters {
            rd_time: Some(Time { reqs, ns: us * 1000 }),
            flush_reqs: Some(reqs),
            errs: Some(1),
            ..VbdCounters::default()
        };
        let start = Instant::now();
        let host = |counters, read| {
            let vbds = Some(vec![Vbd { dev: 51712, counters, read, ..Vbd::default() }]);
            Snapshot {
                collected: Collectors::ALL,
                domains: vec![Domain { vbds, ..Domain::default() }],
                ..Snapshot::default()
            }
        };
        let read = |at| Some(Moment { at: start + Duration::from_secs(at), took: Duration::ZERO });
        let own = |counters| host(Some(counters), read(0));
        for (what, then, now, rd_ms) in [
            ("done in between", own(disk(10, 50_000)), own(disk(14, 60_000)), Some("2.5")),
            ("none in between", own(disk(10, 50_000)), own(disk(10, 50_000)), None),
            ("a reset", own(disk(10, 50_000)), own(disk(14, 40_000)), None),
            ("no times told", own(VbdCounters::default()), own(disk(14, 60_000)), None),
            ("in error before", host(None, read(0)), own(disk(14, 60_000)), None),
            ("told by another", host(Some(disk(10, 50_000)), None), own(disk(14, 60_000)), None),
            ("a disk of its name", own(VbdCounters { wr_reqs: 7, ..disk(10, 50_000) }), own(disk(14, 60_000)), None),
        ] {
            let mut now = now;
            now.domains[0].vbds.iter_mut().flatten().for_each(|vbd| vbd.read = read(2));
            let span = Span { elapsed: Duration::from_secs(2), uncertainty: Duration::ZERO };
            let before = Previous { snapshot: &then, xenstat: span, vifs: span };
            let view = Sample::new(&now.domains[0], &now, Some(&then.domains[0]), Some(&before), NetView::Dom0);
            let mut told = HashMap::new();
            metrics(&view, &[Detail::All], &mut |metric, _, value| {
                drop(told.insert(metric.to_owned(), value.to_string()))
            });
            assert_eq!(told.get("vbd.xvda.rd_ms").map(String::as_str), rd_ms, "{what}");
            assert_eq!(told.get("vbd.xvda.wr_ms"), None, "{what}");
            let has_rate = !["told by another", "in error before", "a reset", "a disk of its name"].contains(&what);
            assert_eq!(told.contains_key("vbd_rd_per_sec"), has_rate, "{what}: {told:?}");
            let counts = ["vbd.xvda.errs", "vbd.xvda.flush", "vbd.xvda.oo"].map(|metric| told.contains_key(metric));
            assert_eq!(counts, [true, true, false], "{what}");
        }
    }

    /// What is only not told is not lost.
    #[test]
    fn a_device_is_lost_only_where_the_others_are_told() {
        let lost = |vbds| has_lost(&Domain { vbds, ..Domain::default() }, "vbd.xvda.type", Collectors::ALL);
        assert!(lost(Some(vec![])) && !lost(Some(vec![disk(51712, 0, 0)])) && !lost(None));
    }

    #[test]
    fn the_guests_view_swaps_the_directions() {
        let domain = |rbytes, tbytes| Domain { vifs: vec![card(0, rbytes, tbytes)], ..Domain::default() };
        let told = told(domain(12, 50), Some(domain(10, 20)), NetView::Guest);
        for line in ["vif.0.rx_bytes 50", "vif.0.tx_bytes 12", "nettx_bytes_per_sec 1", "netrx_bytes_per_sec 15"] {
            assert!(told.iter().any(|told| told == line), "{line} is not in {told:?}");
        }
    }

    #[test]
    fn metrics_fit() {
        let longest = catalogue(&[Detail::All]).into_iter().map(|(metric, ..)| metric.len()).max().unwrap();
        // Capitals stand for a number of 10 digits at the most, and DEV for one with `_` and another.
        assert!(longest + 20 <= MAX_METRIC, "{longest}");
    }
}
