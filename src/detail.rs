//! What lies under a domain's columns, for `--detail`: its vcpus, its devices, and rates per second.
//!
//! A new gauge is a row in one of the tables here and the same row in the README, which the failing test prints.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

use crate::metrics::Kind::{self, CountsUp, Now, Since};
use crate::metrics::{Before, View, exact, in_bounds};
use crate::snapshot::{Collectors, Domain, Vbd, VbdCounters, Vcpu, Vif};
use crate::vif;

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

/// One gauge of one kind of device; its whole metric is `KIND.DEVICE.NAME`.
struct DeviceGauge<T> {
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
    value: fn(&Device<T>) -> Option<f64>,
}

/// A device, itself at the poll before, and whose it is.
struct Device<'a, T> {
    now: &'a T,
    before: Option<(&'a T, &'a Before<'a>)>,
    view: &'a View<'a>,
}

#[rustfmt::skip]
const VCPU: &[DeviceGauge<Vcpu>] = &[
    DeviceGauge { name: "online", kind: Now, meaning: "1 while in use, 0 while unplugged", value: |d| Some(d.now.online.into()) },
    DeviceGauge { name: "cpu_sec", kind: CountsUp, meaning: "seconds of CPU time, to the millisecond",
        value: |d| exact(d.now.ns / 1_000_000).map(|ms| ms / 1000.0) },
    DeviceGauge { name: "cpu_percent", kind: Since, meaning: "100 is one CPU; absent on the first sample", value: |d| d.cpu_percent() },
];

#[rustfmt::skip]
const VIF: &[DeviceGauge<Vif>] = &[
    DeviceGauge { name: "rx_bytes", kind: CountsUp, meaning: "bytes dom0 received from the guest", value: |d| d.rx(|v| v.rbytes, |v| v.tbytes) },
    DeviceGauge { name: "rx_packets", kind: CountsUp, meaning: "packets", value: |d| d.rx(|v| v.rpackets, |v| v.tpackets) },
    DeviceGauge { name: "rx_errs", kind: CountsUp, meaning: "packets in error", value: |d| d.rx(|v| v.rerrs, |v| v.terrs) },
    DeviceGauge { name: "rx_drop", kind: CountsUp, meaning: "packets dropped", value: |d| d.rx(|v| v.rdrop, |v| v.tdrop) },
    DeviceGauge { name: "tx_bytes", kind: CountsUp, meaning: "bytes dom0 sent to the guest", value: |d| d.rx(|v| v.tbytes, |v| v.rbytes) },
    DeviceGauge { name: "tx_packets", kind: CountsUp, meaning: "packets", value: |d| d.rx(|v| v.tpackets, |v| v.rpackets) },
    DeviceGauge { name: "tx_errs", kind: CountsUp, meaning: "packets in error", value: |d| d.rx(|v| v.terrs, |v| v.rerrs) },
    DeviceGauge { name: "tx_drop", kind: CountsUp, meaning: "packets dropped", value: |d| d.rx(|v| v.tdrop, |v| v.rdrop) },
];

#[rustfmt::skip]
const VBD: &[DeviceGauge<Vbd>] = &[
    DeviceGauge { name: "oo", kind: CountsUp, meaning: "requests that had to wait", value: |d| exact(d.now.counters?.oo_reqs) },
    DeviceGauge { name: "rd", kind: CountsUp, meaning: "read requests", value: |d| exact(d.now.counters?.rd_reqs) },
    DeviceGauge { name: "wr", kind: CountsUp, meaning: "write requests", value: |d| exact(d.now.counters?.wr_reqs) },
    DeviceGauge { name: "rsect", kind: CountsUp, meaning: "512-byte sectors read", value: |d| exact(d.now.counters?.rd_sects?) },
    DeviceGauge { name: "wsect", kind: CountsUp, meaning: "512-byte sectors written", value: |d| exact(d.now.counters?.wr_sects) },
    DeviceGauge { name: "error", kind: Now, meaning: "1 while its counters cannot be read; then they are absent", value: |d| Some(d.now.counters.is_none().into()) },
    DeviceGauge { name: "type", kind: Now, meaning: "1 BlkBack, 2 BlkTap, 3 Tapdisk3, 0 other", value: |d| Some(d.now.kind.into()) },
];

/// One rate of a domain.
struct Rate {
    name: &'static str,
    meaning: &'static str,
    value: fn(&View) -> Option<f64>,
}

#[rustfmt::skip]
const RATES: &[Rate] = &[
    Rate { name: "nettx_bytes_per_sec", meaning: "bytes dom0 sent to the guest", value: |v| v.vif_rate(|vif| vif.tbytes, |vif| vif.rbytes) },
    Rate { name: "netrx_bytes_per_sec", meaning: "bytes dom0 got from the guest", value: |v| v.vif_rate(|vif| vif.rbytes, |vif| vif.tbytes) },
    Rate { name: "vbd_rd_per_sec", meaning: "read requests", value: |v| v.vbd_rate(|c| Some(c.rd_reqs)) },
    Rate { name: "vbd_wr_per_sec", meaning: "write requests", value: |v| v.vbd_rate(|c| Some(c.wr_reqs)) },
    Rate { name: "vbd_rd_bytes_per_sec", meaning: "bytes read", value: |v| v.vbd_rate(|c| c.rd_sects?.checked_mul(512)) },
    Rate { name: "vbd_wr_bytes_per_sec", meaning: "bytes written", value: |v| v.vbd_rate(|c| c.wr_sects.checked_mul(512)) },
];

/// A row of the README: metric, kind, meaning.
pub type Row = (String, Kind, &'static str);

/// Every gauge that `wanted` asks for, with what stands for the device in capitals.
pub fn vocabulary(wanted: &[Detail]) -> Vec<Row> {
    fn rows<T>(device: &str, table: &[DeviceGauge<T>]) -> Vec<Row> {
        table.iter().map(|gauge| (format!("{device}.{}", gauge.name), gauge.kind, gauge.meaning)).collect()
    }
    let rates = RATES.iter().map(|rate| (rate.name.to_owned(), Since, rate.meaning)).collect();
    let all = [
        (Detail::Vcpus, rows("vcpu.N", VCPU)),
        (Detail::Vifs, rows("vif.ID", VIF)),
        (Detail::Vbds, rows("vbd.DEV", VBD)),
        (Detail::Rates, rates),
    ];
    all.into_iter().filter(|(detail, _)| detail.is_among(wanted)).flat_map(|(_, rows)| rows).collect()
}

impl Detail {
    fn is_among(self, wanted: &[Detail]) -> bool {
        wanted.iter().any(|wanted| [self, Detail::All].contains(wanted))
    }
}

/// Hands the gauges that `wanted` asks for to `emit`, by their metric.
pub fn gauges(view: &View, wanted: &[Detail], emit: &mut impl FnMut(&str, Kind, f64)) {
    let mut metric = String::new();
    let domain = view.domain;
    let before = view.before.map(|(domain, _)| domain);
    if Detail::Vcpus.is_among(wanted) {
        let named = |(n, vcpu)| (format!("{n}"), vcpu);
        let before = before.iter().flat_map(|domain| domain.vcpus.iter().enumerate().map(named)).collect();
        devices(view, "vcpu", VCPU, domain.vcpus.iter().enumerate().map(named), &before, &mut metric, emit);
    }
    if Detail::Vifs.is_among(wanted) && view.node.told.network {
        let cards = cards(&domain.vifs);
        devices(
            view,
            "vif",
            VIF,
            cards.iter().map(|vif| (vif.id.to_string(), vif)),
            &HashMap::new(),
            &mut metric,
            emit,
        );
    }
    if Detail::Vbds.is_among(wanted) && view.node.told.vbd {
        let before = before.iter().flat_map(|domain| named_vbds(&domain.vbds)).collect();
        devices(view, "vbd", VBD, named_vbds(&domain.vbds).into_iter(), &before, &mut metric, emit);
    }
    if Detail::Rates.is_among(wanted) {
        for rate in RATES {
            if let Some(value) = in_bounds((rate.value)(view)) {
                emit(rate.name, Since, value);
            }
        }
    }
}

fn devices<'a, T>(
    view: &View,
    kind: &str,
    table: &[DeviceGauge<T>],
    devices: impl Iterator<Item = (String, &'a T)>,
    before: &HashMap<String, &'a T>,
    metric: &mut String,
    emit: &mut impl FnMut(&str, Kind, f64),
) where
    T: 'a,
{
    for (name, now) in devices {
        let before = before.get(&name).copied().zip(view.before.map(|(_, before)| before));
        let device = Device { now, before, view };
        for gauge in table {
            if let Some(value) = in_bounds((gauge.value)(&device)) {
                metric.clear();
                let _ = write!(metric, "{kind}.{name}.{}", gauge.name);
                emit(metric, gauge.kind, value);
            }
        }
    }
}

impl Device<'_, Vcpu> {
    fn cpu_percent(&self) -> Option<f64> {
        let (vcpu, before) = self.before?;
        before.xenstat.percent_of_cpu(self.now.ns.checked_sub(vcpu.ns)?, 1)
    }
}

impl Device<'_, Vif> {
    fn rx(&self, dom0s: fn(&Vif) -> u64, guests: fn(&Vif) -> u64) -> Option<f64> {
        exact(self.view.side(dom0s, guests)(self.now))
    }
}

impl View<'_> {
    fn vif_rate(&self, dom0s: fn(&Vif) -> u64, guests: fn(&Vif) -> u64) -> Option<f64> {
        let (domain, before) = self.before?;
        (self.node.told.network && before.snapshot.told.network).then_some(())?;
        let bytes = self.side(dom0s, guests);
        let earlier: HashMap<u32, Vif> = cards(&domain.vifs).into_iter().map(|vif| (vif.id, vif)).collect();
        let now = cards(&self.domain.vifs);
        let both = now.iter().filter_map(|vif| Some((vif, earlier.get(&vif.id)?)));
        before.vifs.per_second(both.map(|(now, then)| bytes(now).checked_sub(bytes(then))))
    }

    fn vbd_rate(&self, count: fn(&VbdCounters) -> Option<u64>) -> Option<f64> {
        let (domain, before) = self.before?;
        (self.node.told.vbd && before.snapshot.told.vbd).then_some(())?;
        // Twins of one number are told apart by their place alone, which a change of the disks may shift.
        let numbers = |vbds: &[Vbd]| vbds.iter().map(|vbd| (vbd.kind, vbd.dev)).collect::<Vec<_>>();
        let has_twins = |vbds: &[Vbd]| numbers(vbds).len() > numbers(vbds).into_iter().collect::<HashSet<_>>().len();
        let shifted = numbers(&domain.vbds) != numbers(&self.domain.vbds);
        if shifted && (has_twins(&domain.vbds) || has_twins(&self.domain.vbds)) {
            return None;
        }
        // A disk that has come or gone has no share in it; what one in error has done nobody knows.
        let earlier: HashMap<String, &Vbd> = named_vbds(&domain.vbds).into_iter().collect();
        let both =
            named_vbds(&self.domain.vbds).into_iter().filter_map(|(name, vbd)| Some((vbd, *earlier.get(&name)?)));
        before.xenstat.per_second(both.map(|(now, then)| count(&now.counters?)?.checked_sub(count(&then.counters?)?)))
    }
}

/// Device and gauge of a metric that has three parts: `vbd`, `xvda` and `rd`.
pub fn device_in(metric: &str) -> Option<(&str, &str, &str)> {
    let (kind, rest) = metric.split_once('.')?;
    let (device, gauge) = rest.split_once('.')?;
    Some((kind, device, gauge))
}

/// Whether a metric is one of a device that the domain, though its collector tells, no longer has.
pub fn has_lost(domain: &Domain, metric: &str, told: Collectors) -> bool {
    match device_in(metric) {
        Some(("vcpu", n, _)) if told.vcpu => n.parse().is_ok_and(|n: usize| n >= domain.vcpus.len()),
        Some(("vbd", device, _)) if told.vbd => !named_vbds(&domain.vbds).iter().any(|(name, _)| name == device),
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
        let name = device_name(vbd.dev).unwrap_or_else(|| vbd.dev.to_string());
        let times = seen.entry(name.clone()).or_default();
        *times += 1;
        if *times == 1 { name } else { format!("{name}_{times}") }
    };
    let names: Vec<String> = vbds.iter().map(named).collect();
    names.into_iter().zip(vbds).collect()
}

/// What a guest calls the device of a Xen virtual device number, where the number says it: `xvda1`, `sdb`, `hdc`.
fn device_name(dev: u32) -> Option<String> {
    let (major, minor) = (dev >> 8, dev & 0xff);
    let (stem, disk, partition) = match major {
        _ if dev >> 28 == 1 => ("xvd", (dev >> 8) & 0xf_ffff, minor),
        202 => ("xvd", minor >> 4, minor & 0xf),
        8 => ("sd", minor >> 4, minor & 0xf),
        3 | 22 if minor >> 6 < 2 => ("hd", (minor >> 6) + if major == 22 { 2 } else { 0 }, minor & 0x3f),
        _ => return None,
    };
    let partition = if partition == 0 { String::new() } else { partition.to_string() };
    Some(format!("{stem}{}{partition}", letters(disk)))
}

/// 0 is a, 25 z, 26 aa, as spreadsheets count.
fn letters(disk: u32) -> String {
    let last = char::from(b'a' + (disk % 26) as u8);
    if disk < 26 { last.to_string() } else { letters(disk / 26 - 1) + &last.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::NetView;
    use crate::metrics::Span;
    use crate::paths::MAX_METRIC;
    use crate::snapshot::Snapshot;
    use std::time::Duration;

    #[test]
    fn device_names() {
        for (dev, name) in [
            (51712, "xvda"),
            (51713, "xvda1"),
            (51728, "xvdb"),
            (202 << 8 | 15 << 4 | 15, "xvdp15"),
            (1 << 28 | 16 << 8, "xvdq"),
            (1 << 28 | 26 << 8 | 3, "xvdaa3"),
            (1 << 28 | 701 << 8, "xvdzz"),
            (1 << 28 | 702 << 8, "xvdaaa"),
            (8 << 8, "sda"),
            (8 << 8 | 1 << 4 | 2, "sdb2"),
            (3 << 8, "hda"),
            (3 << 8 | 64, "hdb"),
            (768 + 1, "hda1"),
            (22 << 8, "hdc"),
            (22 << 8 | 64 | 5, "hdd5"),
        ] {
            assert_eq!(device_name(dev).as_deref(), Some(name), "{dev}");
        }
        for dev in [0, 1, 51, 3 << 8 | 128, 9 << 8, 2 << 28, u32::MAX] {
            assert_eq!(device_name(dev), None, "{dev}");
        }
    }

    fn host(domain: Domain) -> Snapshot {
        Snapshot { domains: vec![domain], told: Collectors::ALL, ..Snapshot::default() }
    }

    fn told(now: Domain, then: Option<Domain>, net_view: NetView) -> Vec<String> {
        let (now, then) = (host(now), then.map(host));
        let span = Span { elapsed: Duration::from_secs(2), blur: Duration::ZERO };
        let before = then.as_ref().map(|snapshot| Before { snapshot, xenstat: span, vifs: span });
        let mut told = Vec::new();
        let earlier = before.as_ref().map(|before| &before.snapshot.domains[0]);
        let view = View::new(&now.domains[0], &now, earlier, before.as_ref(), net_view);
        gauges(&view, &[Detail::All], &mut |metric, _, value| told.push(format!("{metric} {value}")));
        told
    }

    fn disk(dev: u32, rd_reqs: u64, rd_sects: u64) -> Vbd {
        let counters = VbdCounters { rd_reqs, rd_sects: Some(rd_sects), ..VbdCounters::default() };
        Vbd { kind: 1, dev, counters: Some(counters) }
    }

    fn card(id: u32, rbytes: u64, tbytes: u64) -> Vif {
        Vif { id, rbytes, tbytes, ..Vif::default() }
    }

    #[test]
    fn devices_of_one_poll() {
        let vcpus = vec![Vcpu { online: true, ns: 1_500_000_000 }, Vcpu::default()];
        let vbds = vec![disk(51712, 5, 6), disk(51712, 7, 8), Vbd { kind: 0, dev: 99, counters: None }];
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
        let (nothing, one) = (Domain::default, |vbds, vifs| Domain { vbds, vifs, ..Domain::default() });
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
                "one is in error, or was",
                one(vec![disk(51712, 10, 0), error], vec![]),
                one(vec![disk(51712, 12, 0), disk(51728, 5, 0)], vec![]),
                &["nettx_bytes_per_sec 0"],
            ),
            (
                "a reset",
                one(vec![disk(51712, 10, 0)], vec![card(0, 0, 10)]),
                one(vec![disk(51712, 9, 0)], vec![card(0, 0, 9)]),
                &["netrx_bytes_per_sec 0", "vbd_wr_per_sec 0"],
            ),
        ] {
            let told = told(now, Some(then), NetView::Dom0);
            for line in lines {
                assert!(told.iter().any(|told| told == line), "{what}: {line} is not in {told:?}");
            }
            if what.starts_with("twins") || what.starts_with("one is in error") {
                assert!(!told.iter().any(|told| told.contains("vbd_rd_per")), "{told:?}");
            }
            if what == "a reset" {
                assert!(!told.iter().any(|told| told.contains("vbd_rd_per") || told.contains("nettx")), "{told:?}");
            }
        }
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
        let longest = vocabulary(&[Detail::All]).into_iter().map(|(metric, ..)| metric.len()).max().unwrap();
        // Capitals stand for a number of 10 digits at the most, and DEV for one with `_` and another.
        assert!(longest + 20 <= MAX_METRIC, "{longest}");
    }
}
