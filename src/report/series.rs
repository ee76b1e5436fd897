//! Series of each domain: names, values last sent, zeros still owed once it vanishes. Rebuilt only when a domain's
//! domid, name or UUID changes. A domain that is present keeps its name in metrics, so that no zeros are sent for it.
//!
//! statsd servers keep repeating a gauge's last value. When a domain or a device disappears, its gauges and intervals
//! are sent as 0 for some polls, and then dropped. Counters keep their last value, because a 0 would look like a reset.
//! A metric that is only omitted, because its collector failed or there is no limit any more, gets no 0.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::metrics::delta::{Devices, NetView, Previous, Sample};
use crate::metrics::devices;
use crate::metrics::domain::{DOMAIN, DomainMetric};
use crate::metrics::metric::{Kind, Rows};
use crate::model::snapshot::{Domain, Snapshot};
use crate::model::uuid::Uuid;
use crate::naming::name::DomainName;
use crate::naming::namer::Names;
use crate::report::device_series::{DeviceSeries, Emitter, ZEROS_ON_RETIRE};
use crate::report::selection::{OnVanish, Selection};
use crate::statsd::batch::BatchWriter;

const _: () = assert!(DOMAIN.len() <= Rows::MAX);

/// The domains of the latest snapshot, and those that disappeared lately.
pub struct Series {
    selection: Selection,
    /// The selected rows of [`DOMAIN`], with their names in the layout.
    columns: Vec<(&'static DomainMetric, &'static str)>,
    /// One for each domain of the snapshot, in its order.
    active: Vec<DomainSeries>,
    /// Those that still owe zeros.
    retired: Vec<DomainSeries>,
    /// Kept, so that a poll allocates nothing.
    devices: Devices,
}

/// One domain under one name.
#[derive(Default)]
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
    /// Which of [`Series::columns`] were sent and are no counters.
    sent: Rows,
    /// With `--detail`.
    devices: DeviceSeries,
    /// Zeros still to send once it is retired.
    zeros: u32,
}

impl DomainSeries {
    fn is(&self, domain: &Domain) -> bool {
        (self.id, &self.name, self.uuid) == (domain.id, &domain.name, domain.uuid)
    }

    fn identity(&self) -> Option<&[u8]> {
        self.identity.as_deref()
    }

    fn sample<'a>(
        &self,
        domain: &'a Domain,
        node: &'a Snapshot,
        previous: Option<&'a Previous>,
        net_view: NetView,
    ) -> Sample<'a> {
        let earlier = previous.and_then(|previous| previous.snapshot.domains.get(self.previous_place?));
        Sample::new(domain, node, earlier, previous, net_view)
    }

    /// Whether a server has values of it that would have to be set to 0.
    fn has_sent(&self) -> bool {
        !self.sent.is_empty() || self.devices.have_sent()
    }
}

impl Series {
    /// Without any domain yet.
    pub fn new(selection: Selection) -> Self {
        let named = |row: &'static DomainMetric| Some((row, row.name_in(selection.layout)?));
        let is_selected = |(_, name): &(_, &str)| selection.filter.metric(&[name], &mut String::new());
        let columns = DOMAIN.iter().filter_map(named).filter(is_selected).collect();
        Self { selection, columns, active: Vec::new(), retired: Vec::new(), devices: Devices::default() }
    }

    /// Which metrics are sent, and by which names.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// How many domains have metrics.
    pub fn len(&self) -> usize {
        self.active.iter().filter(|series| series.has_metrics).count()
    }

    /// Takes the domains of the next snapshot. Only those that came, went or changed take work.
    pub fn update(&mut self, node: &Snapshot) {
        // Domain-0 may take the name that any other domain has.
        let dom0 = node.domains.first().filter(|domain| domain.id == 0);
        let may_keep = dom0.is_none_or(|dom0| self.active.first().is_some_and(|series| series.is(dom0)));
        let (mut former, mut new, mut place) = (Vec::new(), Vec::new(), 0..);
        let mut domains = node.domains.iter().peekable();
        // Both are in the order of their domids.
        self.active.retain_mut(|series| {
            series.previous_place = place.next();
            new.extend(std::iter::from_fn(|| domains.next_if(|domain| domain.id < series.id)));
            let keeps = may_keep && domains.next_if(|domain| series.is(domain)).is_some();
            if !keeps {
                former.push(std::mem::take(series));
            }
            keeps
        });
        new.extend(domains);
        if !former.is_empty() || !new.is_empty() {
            self.replace(former, &new);
        }
    }

    /// Puts series of domains that are new or changed in the place of former ones.
    fn replace(&mut self, former: Vec<DomainSeries>, new: &[&Domain]) {
        let selection = &self.selection;
        let place_of = |domain: &&Domain| {
            let place = former.binary_search_by_key(&domain.id, |series| series.id).ok()?;
            (former[place].identity() == selection.identity(domain)).then_some(place)
        };
        let places: Vec<Option<usize>> = new.iter().map(place_of).collect();
        let metric_names = self.metric_names(&former, new, &places);

        // A domain with the metric name of one that is gone continues its series: a VM that was rebooted.
        let still_have_metrics = new.iter().zip(&metric_names).zip(&places);
        let still_have_metrics = still_have_metrics.filter(|((domain, name), _)| selection.has_metrics(domain, name));
        let present = still_have_metrics.filter_map(|((domain, _), place)| Some((domain, (*place)?)));
        // With another UUID as its tag a domain has other series.
        let tag_of = |uuid| selection.namer.tag(uuid);
        let present = present.filter(|(domain, place)| tag_of(former[*place].uuid) == tag_of(domain.uuid));
        let present: HashSet<usize> = present.map(|(_, place)| place).collect();
        let previous_places: Vec<_> = places.iter().map(|place| former[(*place)?].previous_place).collect();
        let known = former.into_iter().enumerate().map(|(place, series)| (present.contains(&place), series));
        let known = known.chain(self.retired.drain(..).map(|series| (false, series)));
        let key = |name: &str, uuid| (name.to_owned(), selection.namer.tag(uuid));
        let mut known: HashMap<(String, Option<Uuid>), (bool, DomainSeries)> =
            known.map(|(is_present, series)| (key(&series.metric_name, series.uuid), (is_present, series))).collect();
        for ((domain, metric_name), previous_place) in new.iter().zip(metric_names).zip(previous_places) {
            let has_metrics = selection.has_metrics(domain, &metric_name);
            let continued = if has_metrics { known.remove(&key(&metric_name, domain.uuid)) } else { None };
            let (names, sent, devices) = match continued {
                Some((_, series)) if series.has_metrics => (series.names, series.sent, series.devices),
                _ if has_metrics => {
                    let domain_name = DomainName { name: &metric_name, uuid: domain.uuid.as_ref() };
                    (selection.namer.names(domain_name, None), Rows::default(), DeviceSeries::default())
                }
                _ => (Names::default(), Rows::default(), DeviceSeries::default()),
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
                devices,
                zeros: ZEROS_ON_RETIRE,
            });
        }
        self.active.sort_by_key(|series| series.id);
        // Zeros would be false for a domain that is present whose metric name changed, as when Domain-0 takes it.
        let leaving = known.into_values().filter(|(is_present, series)| !is_present && series.has_sent());
        self.retired.extend(leaving.map(|(_, series)| series));
        self.retired.sort_by(|a, b| a.metric_name.cmp(&b.metric_name));
    }

    /// The names in metrics of new domains. One whose series is among the former ones at `places` keeps the name, also
    /// across a reboot, after which it is another domain of the same identity. A freed name is not reused while zeros
    /// for it are still being sent.
    fn metric_names(&self, former: &[DomainSeries], new: &[&Domain], places: &[Option<usize>]) -> Vec<String> {
        let present: HashSet<usize> = places.iter().flatten().copied().collect();
        let gone = former.iter().enumerate().filter(|(place, _)| !present.contains(place));
        let mut gone: Vec<&DomainSeries> = gone.map(|(_, series)| series).chain(&self.retired).collect();
        let mut held: Vec<Option<&str>> = Vec::with_capacity(new.len());
        for (domain, place) in new.iter().zip(places) {
            let identity = self.selection.identity(domain);
            let rebooted = || gone.iter().position(|series| series.identity() == identity);
            held.push(match place {
                Some(place) => Some(&*former[*place].metric_name),
                None => rebooted().map(|place| &*gone.remove(place).metric_name),
            });
        }
        let others = self.active.iter().map(|series| &*series.metric_name).filter(|name| !name.is_empty());
        let mut names: BTreeSet<&str> =
            gone.iter().filter(|series| series.has_sent()).map(|series| &*series.metric_name).collect();
        for other in others.clone() {
            names.remove(other);
        }
        let others = if held.contains(&None) { self.selection.namer.views(others) } else { Vec::new() };
        // A name that another domain takes over unchanged needs no zeros, so it is not reserved.
        let mut reserved: Vec<&str> = Vec::new();
        loop {
            let metric_names = self.selection.metric_names(new, &held, &others, &reserved);
            let taken: HashSet<&str> = metric_names.iter().map(String::as_str).collect();
            let is_reserved = |name: &&str| reserved.binary_search(name).is_ok() || !taken.contains(name);
            let now_reserved: Vec<&str> = names.iter().copied().filter(is_reserved).collect();
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
            (series.sample(domain, node, previous, self.selection.net_view), metric_name)
        };
        pairs.map(sample).collect()
    }

    /// Adds every metric of the latest snapshot, and the zeros that are owed.
    pub fn emit(&mut self, node: &Snapshot, previous: Option<&Previous>, statsd: &mut BatchWriter) {
        let Self { selection, columns, active, retired, devices } = self;
        let remembers = selection.on_vanish == OnVanish::Zero;
        for (series, domain) in active.iter_mut().zip(&node.domains).filter(|(series, _)| series.has_metrics) {
            let sample = series.sample(domain, node, previous, selection.net_view);
            statsd.names(series.names.parts());
            for (place, (row, metric)) in columns.iter().enumerate() {
                let Some(value) = row.value_in(selection.layout, &sample) else { continue };
                statsd.gauge(metric, value);
                if remembers && row.metric.kind != Kind::Counter {
                    series.sent.insert(place);
                }
            }
            if selection.details.is_empty() {
                continue;
            }
            devices.pair(&sample);
            let DomainSeries { metric_name, uuid, devices: details, .. } = series;
            let domain = DomainName { name: metric_name, uuid: uuid.as_ref() };
            let mut emitter = Emitter { series: details, domain, selection, statsd };
            devices::values(&sample, devices, &selection.details, &mut emitter);
            details.retire(|id| devices.have_lost(id), statsd);
        }
        retired.retain_mut(|series| {
            statsd.names(series.names.parts());
            for (_, (_, metric)) in columns.iter().enumerate().filter(|(place, _)| series.sent.contains(*place)) {
                statsd.gauge(metric, 0.0);
            }
            series.devices.zero(statsd);
            series.zeros -= 1;
            series.zeros > 0
        });
    }
}
