//! Series of each domain: names, values last sent, zeros still owed once it vanishes. Rebuilt only when a domain's
//! domid, name or UUID changes. A domain that is present keeps its name in metrics, so that no zeros are sent for it.
//!
//! statsd servers keep repeating a gauge's last value. When a domain or a device disappears, its gauges and intervals
//! are sent as 0 for some polls, and then dropped. Counters keep their last value, because a 0 would look like a reset.
//! A metric that is only omitted, because its collector failed or there is no limit any more, gets no 0.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::metrics::decimal::Decimal;
use crate::metrics::delta::{Devices, NetView, Previous, Sample};
use crate::metrics::devices::{self, Detail, DetailValue};
use crate::metrics::domain::{DOMAIN, DomainMetric};
use crate::metrics::filter::Filter;
use crate::metrics::metric::Kind;
use crate::model::device::{DeviceId, DeviceKind};
use crate::model::snapshot::{Domain, Snapshot};
use crate::model::uuid::Uuid;
use crate::naming::name::{DomainName, Name, Parts};
use crate::naming::namer::{Namer, Names};
use crate::naming::scheme::Layout;
use crate::naming::template::Identity;
use crate::naming::unique::DOMAIN_0;
use crate::statsd::line::write_line;

/// Several, so that lost datagrams do not leave the value of a domain that is gone.
const ZEROS_ON_RETIRE: u32 = 3;

/// `--on-vanish`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnVanish {
    /// Send 0 for gauges and intervals at three polls, then stop; keep counters
    Zero,
    /// Keep the last values
    Keep,
}

/// Which metrics are sent, and by which names.
#[derive(Debug)]
pub struct Selection {
    /// Makes whole names.
    pub namer: Namer,
    /// `--layout`.
    pub layout: Layout,
    /// `--detail`.
    pub details: Vec<Detail>,
    /// Which domains and metrics.
    pub filter: Filter,
    /// `--on-vanish`.
    pub on_vanish: OnVanish,
    /// `--net-view`.
    pub net_view: NetView,
}

/// [`DomainSeries::sent`] has a bit for each.
const _: () = assert!(DOMAIN.len() <= u64::BITS as usize);

/// The domains of the latest snapshot, and those that disappeared lately.
pub struct Series {
    selection: Selection,
    /// The selected rows of [`DOMAIN`], with their names in the layout.
    columns: Vec<(&'static DomainMetric, &'static str)>,
    poll: u64,
    /// One for each domain of the snapshot, in its order.
    active: Vec<DomainSeries>,
    /// Those that still owe zeros.
    retired: Vec<DomainSeries>,
    scratch: Scratch,
}

/// Kept, so that a poll allocates nothing.
#[derive(Default)]
struct Scratch {
    devices: Devices,
    device_name: String,
    joined: String,
    name: Name,
}

/// One domain under one name.
struct DomainSeries {
    id: u32,
    name: Box<[u8]>,
    uuid: Option<Uuid>,
    /// See [`Selection::identity`].
    identity: Option<Box<[u8]>>,
    /// The domain's name in metrics; empty without an identity.
    metric_name: String,
    /// The full names of its metrics, if it has some.
    names: Names,
    /// Whether it passes the filter.
    is_selected: bool,
    /// See [`Selection::has_metrics`].
    has_metrics: bool,
    /// Its place in the previous snapshot.
    previous_place: Option<usize>,
    /// Which of [`Series::columns`] were sent and are no counters, one bit for each.
    sent: u64,
    /// Which details were sent and are no counters.
    details: BTreeMap<DetailKey, SentDetail>,
    /// Zeros still to send once it is retired.
    zeros: u32,
}

/// A detail by its device, if it has one, and its name.
type DetailKey = (Option<DeviceId>, &'static str);

struct SentDetail {
    /// The latest poll at which it was sent.
    poll: u64,
    /// Zeros still to send once its device is gone.
    zeros: u32,
}

impl DomainSeries {
    fn is(&self, domain: &Domain) -> bool {
        (self.id, &self.name, self.uuid) == (domain.id, &domain.name, domain.uuid)
    }

    fn identity(&self) -> Option<&[u8]> {
        self.identity.as_deref()
    }

    fn domain_name(&self) -> DomainName<'_> {
        DomainName { name: &self.metric_name, uuid: self.uuid.as_ref() }
    }

    /// Whether a server has values of it that would have to be set to 0.
    fn has_sent(&self) -> bool {
        self.sent != 0 || !self.details.is_empty()
    }
}

impl Series {
    /// Without any domain yet.
    pub fn new(selection: Selection) -> Self {
        let named = |row: &'static DomainMetric| Some((row, row.name_in(selection.layout)?));
        let is_selected = |(_, name): &(_, &str)| selection.filter.metric(&[name], &mut String::new());
        let columns = DOMAIN.iter().filter_map(named).filter(is_selected).collect();
        Self { selection, columns, poll: 0, active: Vec::new(), retired: Vec::new(), scratch: Scratch::default() }
    }

    /// Which metrics are sent, and by which names.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// How many domains have metrics.
    pub fn len(&self) -> usize {
        self.active.iter().filter(|series| series.has_metrics).count()
    }

    /// Takes the domains of the next snapshot.
    pub fn update(&mut self, node: &Snapshot) {
        self.poll += 1;
        let mut pairs = self.active.iter().zip(&node.domains);
        let same = self.active.len() == node.domains.len() && pairs.all(|(series, domain)| series.is(domain));
        if same {
            self.active.iter_mut().enumerate().for_each(|(place, series)| series.previous_place = Some(place));
        } else {
            self.rebuild(node);
        }
    }

    fn rebuild(&mut self, node: &Snapshot) {
        let selection = &self.selection;
        let places: HashMap<(u32, Option<&[u8]>), usize> =
            self.active.iter().enumerate().map(|(place, series)| ((series.id, series.identity()), place)).collect();
        let place_of = |domain: &Domain| places.get(&(domain.id, selection.identity(domain))).copied();
        let previous_places: Vec<Option<usize>> = node.domains.iter().map(place_of).collect();
        let metric_names = self.metric_names(node, &previous_places);

        // A domain with the metric name of one that is gone continues its series: a VM that was rebooted.
        let still_have_metrics = node.domains.iter().zip(&metric_names).zip(&previous_places);
        let still_have_metrics = still_have_metrics.filter(|((domain, name), _)| selection.has_metrics(domain, name));
        let present: HashSet<usize> = still_have_metrics.filter_map(|(_, place)| *place).collect();
        let known = self.active.drain(..).enumerate().map(|(place, series)| (present.contains(&place), series));
        let known = known.chain(self.retired.drain(..).map(|series| (false, series)));
        let key = |name: &str, uuid| (name.to_owned(), selection.namer.tag(uuid));
        let mut known: HashMap<(String, Option<Uuid>), (bool, DomainSeries)> =
            known.map(|(is_present, series)| (key(&series.metric_name, series.uuid), (is_present, series))).collect();
        for ((domain, metric_name), previous_place) in node.domains.iter().zip(metric_names).zip(previous_places) {
            let has_metrics = selection.has_metrics(domain, &metric_name);
            let continued = if has_metrics { known.remove(&key(&metric_name, domain.uuid)) } else { None };
            let (names, sent, details) = match continued {
                Some((_, series)) if series.has_metrics => (series.names, series.sent, series.details),
                _ if has_metrics => {
                    let domain_name = DomainName { name: &metric_name, uuid: domain.uuid.as_ref() };
                    (selection.namer.names(domain_name), 0, BTreeMap::new())
                }
                _ => (Names::default(), 0, BTreeMap::new()),
            };
            self.active.push(DomainSeries {
                id: domain.id,
                name: domain.name.clone(),
                uuid: domain.uuid,
                identity: selection.identity(domain).map(Into::into),
                metric_name,
                names,
                is_selected: selection.filter.domain(&domain.name),
                has_metrics,
                previous_place,
                sent,
                details,
                zeros: ZEROS_ON_RETIRE,
            });
        }
        // Zeros would be false for a domain that is present whose metric name changed, as when Domain-0 takes it.
        let leaving = known.into_values().filter(|(is_present, series)| !is_present && series.has_sent());
        self.retired.extend(leaving.map(|(_, series)| series));
        self.retired.sort_by(|a, b| a.metric_name.cmp(&b.metric_name));
    }

    /// The name in metrics of each domain of the snapshot. A domain keeps the one that it has, also across a reboot,
    /// after which it is another domain of the same identity. A freed name is not reused while zeros for it are still
    /// being sent.
    fn metric_names(&self, node: &Snapshot, previous_places: &[Option<usize>]) -> Vec<String> {
        let present: HashSet<usize> = previous_places.iter().flatten().copied().collect();
        let gone = self.active.iter().enumerate().filter(|(place, _)| !present.contains(place));
        let mut gone: Vec<&DomainSeries> = gone.map(|(_, series)| series).chain(&self.retired).collect();
        let mut held: Vec<Option<&str>> = Vec::with_capacity(node.domains.len());
        for (domain, place) in node.domains.iter().zip(previous_places) {
            let identity = self.selection.identity(domain);
            let rebooted = || gone.iter().position(|series| series.identity() == identity);
            held.push(match place {
                Some(place) => Some(&*self.active[*place].metric_name),
                None => rebooted().map(|place| &*gone.remove(place).metric_name),
            });
        }
        let names: Vec<&str> =
            gone.iter().filter(|series| series.has_sent()).map(|series| &*series.metric_name).collect();
        // A name that another domain takes over unchanged needs no zeros, so it is not reserved.
        let mut reserved: HashSet<&str> = HashSet::new();
        loop {
            let metric_names = self.selection.metric_names(node, &held, &reserved);
            let taken: HashSet<&str> = metric_names.iter().map(String::as_str).collect();
            let is_reserved = |name: &&str| reserved.contains(name) || !taken.contains(name);
            let now_reserved: HashSet<&str> = names.iter().copied().filter(is_reserved).collect();
            if now_reserved.len() == reserved.len() {
                return metric_names;
            }
            reserved = now_reserved;
        }
    }

    /// The selected domains of the latest snapshot, with their names in metrics if they have one.
    pub fn samples<'a>(
        &'a self,
        node: &'a Snapshot,
        previous: Option<&'a Previous>,
    ) -> Vec<(Sample<'a>, Option<&'a str>)> {
        let pairs = self.active.iter().zip(&node.domains).filter(|(series, _)| series.is_selected);
        let sample = |(series, domain): (&'a DomainSeries, _)| {
            let metric_name = Some(&*series.metric_name).filter(|name| !name.is_empty());
            (self.selection.sample(series, domain, node, previous), metric_name)
        };
        pairs.map(sample).collect()
    }

    /// Passes every metric of the latest snapshot to `each`, and the zeros that are owed.
    pub fn emit(&mut self, node: &Snapshot, previous: Option<&Previous>, each: &mut impl FnMut(Parts, f64)) {
        let Self { selection, columns, poll, active, retired, scratch } = self;
        let Scratch { devices, device_name, joined, name } = scratch;
        let remembers = selection.on_vanish == OnVanish::Zero;
        for (series, domain) in active.iter_mut().zip(&node.domains).filter(|(series, _)| series.has_metrics) {
            let sample = selection.sample(series, domain, node, previous);
            for (place, (row, metric)) in columns.iter().enumerate() {
                let Some(value) = row.value_in(selection.layout, &sample) else { continue };
                each(series.names.get(metric), value);
                if remembers && row.metric.kind != Kind::Counter {
                    series.sent |= 1 << place;
                }
            }
            if selection.details.is_empty() {
                continue;
            }
            devices.pair(&sample);
            let DomainSeries { metric_name, uuid, details, .. } = series;
            let domain_name = DomainName { name: metric_name, uuid: uuid.as_ref() };
            devices::values(&sample, devices, &selection.details, device_name, &mut |detail| {
                let DetailValue { device, metric, kind, value } = detail;
                let named = device.map(|(id, name)| (id.kind, name));
                if selection.has_detail(named, metric, joined) {
                    selection.namer.write(name, domain_name, named, metric);
                    each(name.parts(), value);
                    if remembers && kind != Kind::Counter {
                        let sent = SentDetail { poll: *poll, zeros: ZEROS_ON_RETIRE };
                        details.insert((device.map(|(id, _)| id), metric), sent);
                    }
                }
            });
            details.retain(|&(device, metric), sent| {
                if sent.poll != *poll && device.is_some_and(|device| devices.have_lost(device)) {
                    selection.write_detail(name, domain_name, (device, metric), device_name);
                    each(name.parts(), 0.0);
                    sent.zeros -= 1;
                }
                sent.zeros > 0
            });
        }
        retired.retain_mut(|series| {
            for (_, (_, metric)) in columns.iter().enumerate().filter(|(place, _)| series.sent & 1 << place != 0) {
                each(series.names.get(metric), 0.0);
            }
            for key in series.details.keys() {
                selection.write_detail(name, series.domain_name(), *key, device_name);
                each(name.parts(), 0.0);
            }
            series.zeros -= 1;
            series.zeros > 0
        });
    }
}

impl Selection {
    /// What identifies a domain, whatever its domid: its raw name, or with `{uuid}` its UUID. `None` while that is
    /// unknown, or another domain is the VM, as during a migration.
    fn identity<'a>(&self, domain: &'a Domain) -> Option<&'a [u8]> {
        match self.namer.identity() {
            Identity::Name => Some(&domain.name),
            Identity::Uuid if domain.is_migrating() => None,
            Identity::Uuid => {
                let of_dom0 = (domain.id == 0).then_some(DOMAIN_0);
                domain.uuid.as_ref().map(|uuid| uuid.as_str().as_bytes()).or(of_dom0)
            }
        }
    }

    /// The name in metrics of each domain: the one that it holds, or one that cannot be confused with a reserved one; none
    /// without an identity.
    fn metric_names(&self, node: &Snapshot, held: &[Option<&str>], reserved: &HashSet<&str>) -> Vec<String> {
        let (mut domains, mut holds) = (Vec::new(), Vec::new());
        for (domain, held) in node.domains.iter().zip(held.iter().copied().chain(std::iter::repeat(None))) {
            if let Some(identity) = self.identity(domain) {
                domains.push((identity, domain.id));
                holds.push(held);
            }
        }
        let mut names = self.namer.domains(&domains, &holds, reserved).into_iter();
        let name = |domain| self.identity(domain).and_then(|_| names.next()).unwrap_or_default();
        node.domains.iter().map(name).collect()
    }

    /// Whether a domain is selected, is not being migrated, and has a name in metrics.
    fn has_metrics(&self, domain: &Domain, metric_name: &str) -> bool {
        self.filter.domain(&domain.name) && !domain.is_migrating() && !metric_name.is_empty()
    }

    fn sample<'a>(
        &self,
        series: &DomainSeries,
        domain: &'a Domain,
        node: &'a Snapshot,
        previous: Option<&'a Previous>,
    ) -> Sample<'a> {
        let earlier = previous.and_then(|previous| previous.snapshot.domains.get(series.previous_place?));
        Sample::new(domain, node, earlier, previous, self.net_view)
    }

    /// Whether a detail passes the filter. `joined` is a buffer.
    fn has_detail(&self, device: Option<(DeviceKind, &str)>, metric: &str, joined: &mut String) -> bool {
        match device {
            Some((kind, device)) => self.filter.metric(&[kind.as_str(), device, metric], joined),
            None => self.filter.metric(&[metric], joined),
        }
    }

    /// Writes the whole name of a detail over `name`. `device_name` is a buffer.
    fn write_detail(&self, name: &mut Name, domain: DomainName, (device, metric): DetailKey, device_name: &mut String) {
        let device = device.map(|id| {
            id.write_name(device_name);
            (id.kind, &**device_name)
        });
        self.namer.write(name, domain, device, metric);
    }

    /// One line as it would be sent: the CPU time of the last domain, as a rule a guest.
    pub fn example(&self, node: &Snapshot) -> Option<String> {
        let row = DOMAIN.iter().find(|row| row.metric.name == "cpu_sec")?;
        let metric = row.name_in(self.layout).filter(|metric| self.filter.metric(&[metric], &mut String::new()))?;
        let mut domains = node.domains.iter().zip(self.metric_names(node, &[], &HashSet::new()));
        let (domain, metric_name) = domains.rfind(|(domain, name)| self.has_metrics(domain, name))?;
        let value = row.value_in(self.layout, &Sample::new(domain, node, None, None, self.net_view))?;
        let (mut name, mut line) = (Name::default(), String::new());
        self.namer.write(&mut name, DomainName { name: &metric_name, uuid: domain.uuid.as_ref() }, None, metric);
        write_line(&mut line, name.parts(), Decimal::of(value)?);
        Some(line)
    }
}
