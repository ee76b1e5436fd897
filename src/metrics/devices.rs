//! Metrics that `--detail` adds to a domain: those of its vcpus and devices, and rates per second.
//!
//! A new metric is a row in one of the tables here, and the same row in docs/metrics.md, which the failing test prints.
//! One of a disk's counters is also a field in `snapshot`, filled in by the sources that know it (`xenstat`, `blkback`,
//! `qmp_replies`, `tapdisk`), and a key in `json`.

use crate::metrics::delta::{Devices, Earlier, Paired, Sample, Span};
use crate::metrics::memory::MEMORY;
use crate::metrics::metric::{Entry, Kind, Metric, Rows, counter, exact, gauge, interval};
use crate::metrics::runstates::{RUNSTATE, Runstates};
use crate::model::device::{DeviceId, DeviceKind};
use crate::model::snapshot::{Time, Vbd, VbdCounters, Vcpu, Vif};

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
    /// Each physical CPU of the host
    Pcpus,
    /// Balloon target and what an agent in the guest reports, from xenstore
    Memory,
    /// How long each domain waited for a CPU, on XenServer and XCP-ng
    Runstates,
    /// All of these but runstates
    All,
}

/// A device, and the domain that it belongs to.
struct Device<'a, T> {
    pair: &'a Paired<T>,
    sample: &'a Sample<'a>,
}

/// A domain and its devices.
struct Whole<'a> {
    devices: &'a Devices,
    sample: &'a Sample<'a>,
}

type ValueFn<S> = fn(&S) -> Option<f64>;
type DeviceFn<T> = fn(&Device<T>) -> Option<f64>;
type RateFn = fn(&Whole) -> Option<f64>;

#[rustfmt::skip]
const VCPU: &[Metric<DeviceFn<Vcpu>>] = &[
    gauge("online", "1 if online, 0 if unplugged", |d| Some(d.pair.now.online.into())),
    counter("cpu_sec", "seconds of CPU time, to the millisecond",
        |d| exact(d.pair.now.ns / 1_000_000).map(|ms| ms / 1000.0)),
    interval("cpu_percent", "100 is one CPU; omitted at the first poll", |d| d.cpu_percent()),
];

#[rustfmt::skip]
const VIF: &[Metric<DeviceFn<Vif>>] = &[
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
const VBD: &[Metric<DeviceFn<Vbd>>] = &[
    counter("oo", "requests that had to wait; QEMU counts none", |d| exact(d.pair.now.counters?.oo_reqs?)),
    counter("rd", "read requests", |d| exact(d.pair.now.counters?.rd_reqs)),
    counter("wr", "write requests", |d| exact(d.pair.now.counters?.wr_reqs)),
    counter("rsect", "512-byte sectors read", |d| exact(d.pair.now.counters?.rd_sects?)),
    counter("wsect", "512-byte sectors written", |d| exact(d.pair.now.counters?.wr_sects)),
    interval("rd_ms", "average milliseconds per read; omitted if there was none, or the source has no times",
        |d| d.ms(|c| c.rd_time)),
    interval("wr_ms", "average milliseconds per write; omitted if there was none, or the source has no times",
        |d| d.ms(|c| c.wr_time)),
    counter("flush", "flushes of the disk's cache; omitted if the source does not count them",
        |d| exact(d.pair.now.counters?.flush_reqs?)),
    counter("errs", "requests that failed; omitted if the source does not count them",
        |d| exact(d.pair.now.counters?.errs?)),
    gauge("error", "1 while its counters cannot be read and are omitted, else 0",
        |d| Some(d.pair.now.counters.is_none().into())),
    gauge("type", "1 BlkBack, 2 BlkTap, 3 Tapdisk3, 0 QEMU's or other", |d| Some(d.pair.now.kind.into())),
];

#[rustfmt::skip]
const RATES: &[Metric<RateFn>] = &[
    interval("nettx_bytes_per_sec", "bytes that dom0 sent to the guest", |w| w.vif_rate(|v| v.tbytes, |v| v.rbytes)),
    interval("netrx_bytes_per_sec", "bytes that dom0 received from the guest",
        |w| w.vif_rate(|v| v.rbytes, |v| v.tbytes)),
    interval("vbd_rd_per_sec", "read requests", |w| w.vbd_rate(|c| Some(c.rd_reqs))),
    interval("vbd_wr_per_sec", "write requests", |w| w.vbd_rate(|c| Some(c.wr_reqs))),
    interval("vbd_rd_bytes_per_sec", "bytes read", |w| w.vbd_rate(|c| c.rd_sects?.checked_mul(512))),
    interval("vbd_wr_bytes_per_sec", "bytes written", |w| w.vbd_rate(|c| c.wr_sects.checked_mul(512))),
];

const _: () = {
    assert!(VCPU.len() <= Rows::MAX && VIF.len() <= Rows::MAX && VBD.len() <= Rows::MAX);
    assert!(RATES.len() + MEMORY.len() + RUNSTATE.len() <= Rows::MAX);
};

/// The names of the metrics of each device of a kind, or of those of the whole domain, in the order of their rows.
pub fn metrics(of: Option<DeviceKind>) -> Vec<&'static str> {
    fn names<F>(table: &[Metric<F>]) -> Vec<&'static str> {
        table.iter().map(|row| row.name).collect()
    }
    match of {
        Some(DeviceKind::Vcpu) => names(VCPU),
        Some(DeviceKind::Vif) => names(VIF),
        Some(DeviceKind::Vbd) => names(VBD),
        None => [names(RATES), names(MEMORY), names(RUNSTATE)].concat(),
    }
}

/// Every metric of these details; capitals stand for a device.
pub fn catalogue(wanted: &[Detail]) -> Vec<Entry> {
    fn rows<F>(device: &str, table: &[Metric<F>]) -> Vec<Entry> {
        table.iter().map(|row| (format!("{device}{}", row.name), row.kind, row.meaning)).collect()
    }
    let all = [
        (Detail::Vcpus, rows(&format!("{}.N.", DeviceKind::Vcpu.as_str()), VCPU)),
        (Detail::Vifs, rows(&format!("{}.ID.", DeviceKind::Vif.as_str()), VIF)),
        (Detail::Vbds, rows(&format!("{}.DEV.", DeviceKind::Vbd.as_str()), VBD)),
        (Detail::Rates, rows("", RATES)),
        (Detail::Memory, rows("", MEMORY)),
        (Detail::Runstates, rows("", RUNSTATE)),
    ];
    all.into_iter().filter(|(detail, _)| detail.is_among(wanted)).flat_map(|(_, rows)| rows).collect()
}

impl Detail {
    /// Whether it is wanted, by itself or with all.
    pub fn is_among(self, wanted: &[Detail]) -> bool {
        wanted.contains(&self) || (self != Detail::Runstates && wanted.contains(&Detail::All))
    }
}

/// A value that `--detail` adds.
pub struct DetailValue {
    /// Its place among the [metrics] of such a device, or of the whole domain.
    pub row: usize,
    /// The metric's name, less the device.
    pub metric: &'static str,
    /// What the value covers.
    pub kind: Kind,
    /// The value.
    pub value: f64,
}

/// Takes the values that `--detail` adds.
pub trait DetailSink {
    /// The values of a device; without one those of the whole domain.
    fn take(&mut self, device: Option<DeviceId>, values: impl Iterator<Item = DetailValue>);
}

/// Passes the metrics of these details to `sink`. `devices` are those of the sample.
pub fn values(sample: &Sample, devices: &Devices, wanted: &[Detail], sink: &mut impl DetailSink) {
    if Detail::Vcpus.is_among(wanted) {
        device_values(sample, VCPU, &devices.vcpus, sink);
    }
    if Detail::Vifs.is_among(wanted) {
        device_values(sample, VIF, &devices.vifs, sink);
    }
    if Detail::Vbds.is_among(wanted) {
        device_values(sample, VBD, &devices.vbds, sink);
    }
    let has = |detail: Detail| detail.is_among(wanted).then_some(());
    let whole = has(Detail::Rates).map(|()| Whole { devices, sample });
    let memory = has(Detail::Memory).and(sample.node.memory_of(sample.domain.id));
    let runstates = has(Detail::Runstates).and_then(|()| Runstates::of(sample));
    if has(Detail::Rates).or(has(Detail::Memory)).or(has(Detail::Runstates)).is_some() {
        let rates = whole.iter().flat_map(|whole| table_values(0, RATES, whole));
        let memory = memory.into_iter().flat_map(|memory| table_values(RATES.len(), MEMORY, memory));
        let first = RATES.len() + MEMORY.len();
        let runstates = runstates.iter().flat_map(|runstates| table_values(first, RUNSTATE, runstates));
        sink.take(None, rates.chain(memory).chain(runstates));
    }
}

fn device_values<T>(sample: &Sample, table: &[Metric<DeviceFn<T>>], devices: &[Paired<T>], sink: &mut impl DetailSink) {
    for pair in devices {
        sink.take(Some(pair.id), table_values(0, table, &Device { pair, sample }));
    }
}

/// The values of a table whose rows begin at `first`.
fn table_values<S>(first: usize, table: &[Metric<ValueFn<S>>], subject: &S) -> impl Iterator<Item = DetailValue> {
    let value = move |(row, metric): (usize, &Metric<ValueFn<S>>)| {
        Some(DetailValue { row: first + row, metric: metric.name, kind: metric.kind, value: metric.of(subject)? })
    };
    table.iter().enumerate().filter_map(value)
}

impl Device<'_, Vcpu> {
    fn cpu_percent(&self) -> Option<f64> {
        let (_, previous) = self.sample.previous?;
        let used = self.pair.now.ns.checked_sub(self.pair.earlier.reading()?.ns)?;
        previous.xenstat.percent_of_cpu(used, 1)
    }
}

impl Device<'_, Vif> {
    fn count(&self, dom0s: fn(&Vif) -> u64, guests: fn(&Vif) -> u64) -> Option<f64> {
        exact(self.sample.side(dom0s, guests)(&self.pair.now))
    }
}

impl Device<'_, Vbd> {
    /// The mean time of the requests since the previous poll.
    fn ms(&self, time: fn(&VbdCounters) -> Option<Time>) -> Option<f64> {
        let earlier = self.pair.earlier.reading()?;
        let (then, now) = (time(earlier.counters.as_ref()?)?, time(self.pair.now.counters.as_ref()?)?);
        let (reqs, ns) = (now.reqs.checked_sub(then.reqs)?, now.ns.checked_sub(then.ns)?);
        (reqs > 0).then(|| ns as f64 / reqs as f64 / 1e6)
    }
}

impl Whole<'_> {
    /// Over the VIFs that were there at both polls.
    fn vif_rate(&self, dom0s: fn(&Vif) -> u64, guests: fn(&Vif) -> u64) -> Option<f64> {
        let (_, previous) = self.sample.previous?;
        (self.sample.node.collected.network && previous.snapshot.collected.network).then_some(())?;
        let bytes = self.sample.side(dom0s, guests);
        let both = self.devices.vifs.iter().filter_map(|vif| Some((&vif.now, vif.earlier.reading()?)));
        previous.vifs.per_second(both.map(|(now, earlier)| bytes(now).checked_sub(bytes(earlier))))
    }

    /// Over the VBDs that were there at both polls.
    fn vbd_rate(&self, count: fn(&VbdCounters) -> Option<u64>) -> Option<f64> {
        let (earlier, previous) = self.sample.previous?;
        self.devices.vbds_are_paired.then_some(())?;
        let mut both = self.devices.vbds.iter().filter(|vbd| vbd.earlier != Earlier::Absent).peekable();
        if both.peek().is_none() {
            // 0 for a domain without disks; unknown if all of them are new or gone.
            let has_none = |vbds: &Option<Vec<Vbd>>| vbds.as_ref().is_some_and(Vec::is_empty);
            let zero = previous.xenstat.per_second(std::iter::empty());
            return zero.filter(|_| has_none(&earlier.vbds) && has_none(&self.sample.domain.vbds));
        }
        both.try_fold(0.0, |sum, Paired { now, earlier, .. }| {
            let earlier = earlier.reading()?;
            let span = earlier.read.zip(now.read).map_or(previous.xenstat, |(then, now)| Span::between(then, now));
            let (then, now) = (count(earlier.counters.as_ref()?)?, count(now.counters.as_ref()?)?);
            Some(sum + span.per_second(std::iter::once(now.checked_sub(then)))?)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::metrics::delta::{NetView, Previous};
    use crate::model::snapshot::{AccessPath, Collectors, Domain, Moment, Snapshot};
    use crate::naming::namer::MAX_METRIC;

    fn host(domain: Domain) -> Snapshot {
        Snapshot { domains: vec![domain], collected: Collectors::ALL, ..Snapshot::default() }
    }

    impl DetailSink for HashMap<String, f64> {
        fn take(&mut self, device: Option<DeviceId>, values: impl Iterator<Item = DetailValue>) {
            let names = metrics(device.map(|id| id.kind));
            let device = device.map_or(String::new(), |id| format!("{}.{}.", id.kind.as_str(), id.name()));
            for DetailValue { row, metric, value, .. } in values {
                assert_eq!(names[row], metric);
                assert_eq!(self.insert(format!("{device}{metric}"), value), None, "{device}{metric} twice");
            }
        }
    }

    /// Every detail of the only domain, by its name.
    fn values_of(now: &Snapshot, then: Option<&Snapshot>, net_view: NetView) -> HashMap<String, f64> {
        let span = Span { elapsed: Duration::from_secs(2), uncertainty: Duration::ZERO };
        let previous = then.map(|snapshot| Previous { snapshot, xenstat: span, vifs: span });
        let earlier = previous.as_ref().map(|previous| &previous.snapshot.domains[0]);
        let sample = Sample::new(&now.domains[0], now, earlier, previous.as_ref(), net_view);
        let mut devices = Devices::default();
        devices.pair(&sample);
        let mut found = HashMap::new();
        values(&sample, &devices, &[Detail::All], &mut found);
        found
    }

    fn lines_of(now: Domain, then: Option<Domain>, net_view: NetView) -> Vec<String> {
        let values = values_of(&host(now), then.map(host).as_ref(), net_view);
        values.into_iter().map(|(metric, value)| format!("{metric} {value}")).collect()
    }

    fn disk(dev: u32, rd_reqs: u64, rd_sects: u64) -> Vbd {
        let counters = VbdCounters { oo_reqs: Some(0), rd_reqs, rd_sects: Some(rd_sects), ..VbdCounters::default() };
        Vbd { kind: 1, dev, counters: Some(counters), ..Vbd::default() }
    }

    fn card(id: u32, rbytes: u64, tbytes: u64) -> Vif {
        Vif { id, rbytes, tbytes, ..Vif::default() }
    }

    #[test]
    fn details_of_one_poll() {
        let vcpus = vec![Vcpu { online: true, ns: 1_500_000_000 }, Vcpu::default()];
        let vbds = vec![disk(51712, 5, 6), disk(51712, 7, 8), Vbd { dev: 99, ..Vbd::default() }];
        let vbds = Some(vbds);
        let lines =
            lines_of(Domain { vcpus, vifs: vec![card(3, 10, 20)], vbds, ..Domain::default() }, None, NetView::Dom0);
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
            assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:?}");
        }
        for omitted in ["vbd.99.rd", "cpu_percent", "per_sec"] {
            assert!(!lines.iter().any(|found| found.contains(omitted)), "{omitted} is in {lines:?}");
        }
    }

    #[test]
    fn rates_cover_devices_of_both_polls() {
        let error = Vbd { counters: None, ..disk(51728, 0, 0) };
        let one = |vbds, vifs| Domain { vbds: Some(vbds), vifs, ..Domain::default() };
        let nothing = || one(vec![], vec![]);
        let qemus = |dev, rd_reqs| Vbd { kind: 0, ..disk(dev, rd_reqs, 0) };
        for (what, then, now, expected) in [
            ("no devices", nothing(), nothing(), &["nettx_bytes_per_sec 0", "vbd_rd_per_sec 0"][..]),
            (
                "steady",
                one(vec![disk(51712, 10, 100)], vec![card(0, 1000, 3000)]),
                one(vec![disk(51712, 14, 104)], vec![card(0, 1002, 3500)]),
                &["nettx_bytes_per_sec 250", "netrx_bytes_per_sec 1", "vbd_rd_per_sec 2", "vbd_rd_bytes_per_sec 1024"],
            ),
            (
                "one detached, two attached: no reset",
                one(vec![disk(51712, 10, 0), disk(51744, 1 << 40, 0)], vec![card(1, 9, 9)]),
                one(vec![disk(51712, 12, 0), disk(51760, 77, 0), error], vec![card(0, 5, 5)]),
                &["vbd_rd_per_sec 1", "nettx_bytes_per_sec 0"],
            ),
            (
                "two of one number, one detached: ambiguous",
                one(vec![disk(51712, 100, 0), disk(51712, 5000, 0)], vec![]),
                one(vec![disk(51712, 5000, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            (
                "two numbers of one name, and a card of two interfaces",
                one(vec![disk(51712, 10, 0), disk(1 << 28, 70, 0)], vec![card(0, 1, 1), card(0, 100, 1)]),
                one(vec![disk(51712, 12, 0), disk(1 << 28, 74, 0)], vec![card(0, 3, 1), card(0, 102, 1)]),
                &["vbd_rd_per_sec 3", "netrx_bytes_per_sec 2", "vif.0.rx_bytes 105", "vbd.xvda_2.rd 74"],
            ),
            (
                "of one name, but another backend or number",
                one(vec![disk(51712, 10, 0), disk(51728, 100, 0), disk(51744, 100, 0)], vec![]),
                one(vec![disk(51712, 12, 0), qemus(51728, 5000), disk(1 << 28 | 2 << 8, 5000, 0)], vec![]),
                &["vbd_rd_per_sec 1"],
            ),
            (
                "two numbers of one name, one detached: ambiguous",
                one(vec![disk(51712, 100, 0), disk(1 << 28, 5000, 0)], vec![]),
                one(vec![disk(1 << 28, 5000, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            (
                "two of one number, one served by QEMU now: ambiguous",
                one(vec![disk(51712, 100, 0), disk(51712, 100, 0)], vec![]),
                one(vec![qemus(51712, 100), disk(51712, 100, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            ("all attached", nothing(), one(vec![disk(51712, 5000, 0)], vec![]), &["nettx_bytes_per_sec 0"]),
            ("all detached", one(vec![disk(51712, 5000, 0)], vec![]), nothing(), &["nettx_bytes_per_sec 0"]),
            (
                "summed over other paths",
                one(vec![disk(51712, 100, 0), disk(51728, 1, 0)], vec![]),
                one(vec![Vbd { access: AccessPath::Both, ..disk(51712, 200, 0) }, disk(51728, 2, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            (
                "one in error before",
                one(vec![disk(51712, 10, 0), error], vec![]),
                one(vec![disk(51712, 12, 0), disk(51728, 5, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            (
                "counters fell",
                one(vec![disk(51712, 10, 0)], vec![card(0, 0, 10)]),
                one(vec![disk(51712, 9, 0)], vec![card(0, 0, 9)]),
                &["netrx_bytes_per_sec 0"],
            ),
        ] {
            let lines = lines_of(now, Some(then), NetView::Dom0);
            for line in expected {
                assert!(lines.iter().any(|found| found == line), "{what}: {line} is not in {lines:?}");
            }
            // Disks have all rates, or none.
            let has_rates = expected.iter().any(|line| line.starts_with("vbd_rd"));
            for rate in ["vbd_rd_per_sec", "vbd_wr_per_sec"] {
                assert_eq!(lines.iter().any(|line| line.starts_with(rate)), has_rates, "{what}: {lines:?}");
            }
            if what == "counters fell" {
                assert!(!lines.iter().any(|line| line.contains("nettx")), "{lines:?}");
            }
        }
    }

    #[test]
    fn mean_times_of_requests() {
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
            ("some in between", own(disk(10, 50_000)), own(disk(14, 60_000)), Some(2.5)),
            ("none in between", own(disk(10, 50_000)), own(disk(10, 50_000)), None),
            ("a counter fell", own(disk(10, 50_000)), own(disk(14, 40_000)), None),
            ("no times before", own(VbdCounters::default()), own(disk(14, 60_000)), None),
            ("in error before", host(None, read(0)), own(disk(14, 60_000)), None),
            ("another source", host(Some(disk(10, 50_000)), None), own(disk(14, 60_000)), None),
            ("another counter fell", own(VbdCounters { wr_reqs: 7, ..disk(10, 50_000) }), own(disk(14, 60_000)), None),
        ] {
            let mut now = now;
            now.domains[0].vbds.iter_mut().flatten().for_each(|vbd| vbd.read = read(2));
            let values = values_of(&now, Some(&then), NetView::Dom0);
            assert_eq!(values.get("vbd.xvda.rd_ms").copied(), rd_ms, "{what}");
            assert_eq!(values.get("vbd.xvda.wr_ms"), None, "{what}");
            let has_rate =
                !["another source", "in error before", "a counter fell", "another counter fell"].contains(&what);
            assert_eq!(values.contains_key("vbd_rd_per_sec"), has_rate, "{what}: {values:?}");
            let counts = ["vbd.xvda.errs", "vbd.xvda.flush", "vbd.xvda.oo"].map(|metric| values.contains_key(metric));
            assert_eq!(counts, [true, true, false], "{what}");
        }
    }

    #[test]
    fn devices_are_lost_only_if_their_kind_was_read() {
        let lost = |domain, collected, kind, number| {
            let node = Snapshot { domains: vec![domain], collected, ..Snapshot::default() };
            let mut devices = Devices::default();
            devices.pair(&Sample::new(&node.domains[0], &node, None, None, NetView::Dom0));
            devices.have_lost(DeviceId::new(kind, number))
        };
        let (all, none) = (Collectors::ALL, Collectors::NONE);
        let one = || Domain {
            vcpus: vec![Vcpu::default()],
            vifs: vec![card(0, 1, 2)],
            vbds: Some(vec![disk(51712, 0, 0)]),
            ..Domain::default()
        };
        for (kind, number) in [(DeviceKind::Vcpu, 0), (DeviceKind::Vif, 0), (DeviceKind::Vbd, 51712)] {
            assert!(!lost(one(), all, kind, number), "{kind:?} is there");
            assert!(lost(one(), all, kind, number + 1), "{kind:?} is gone");
            assert!(!lost(Domain::default(), none, kind, number), "{kind:?} was not read");
        }
    }

    #[test]
    fn pairing_keeps_the_order_of_vbds_and_forgets_the_domain_before() {
        let vbds = Some([51728, 51712, 51728].map(|dev| disk(dev, 1, 1)).into());
        let one =
            host(Domain { vcpus: vec![Vcpu::default(); 2], vifs: vec![card(1, 1, 1)], vbds, ..Domain::default() });
        let other = host(Domain { vcpus: vec![Vcpu::default()], ..Domain::default() });
        let mut devices = Devices::default();
        devices.pair(&Sample::new(&one.domains[0], &one, None, None, NetView::Dom0));
        let ids: Vec<_> = devices.vbds.iter().map(|vbd| (vbd.id.number, vbd.id.nth)).collect();
        assert_eq!(ids, [(51728, 1), (51712, 1), (51728, 2)]);
        devices.pair(&Sample::new(&other.domains[0], &other, None, None, NetView::Dom0));
        assert_eq!((devices.vcpus.len(), devices.vifs.len(), devices.vbds.len()), (1, 0, 0));
    }

    #[test]
    fn net_view_guest_swaps_the_directions() {
        let domain = |rbytes, tbytes| Domain { vifs: vec![card(0, rbytes, tbytes)], ..Domain::default() };
        let lines = lines_of(domain(12, 50), Some(domain(10, 20)), NetView::Guest);
        for line in ["vif.0.rx_bytes 50", "vif.0.tx_bytes 12", "nettx_bytes_per_sec 1", "netrx_bytes_per_sec 15"] {
            assert!(lines.iter().any(|found| found == line), "{line} is not in {lines:?}");
        }
    }

    #[test]
    fn detail_names_fit() {
        // Capitals stand for at most a number of 10 digits, `_`, and another number.
        let device = |metric: &str| if metric.bytes().any(|byte| byte.is_ascii_uppercase()) { 20 } else { 0 };
        for (metric, ..) in catalogue(&[Detail::All, Detail::Runstates]) {
            assert!(metric.len() + device(&metric) <= MAX_METRIC, "{metric}");
        }
    }
}
