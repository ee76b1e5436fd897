//! The roll of domains: who is there, what each is called in its gauges, and what becomes of the gauges of those
//! who go. While the same domains live under the same names nothing of it is worked out anew.
//!
//! A statsd server repeats a gauge's last value for ever. So when a domain or one of its devices goes, those of
//! its gauges that tell of the moment and were sent are sent as 0 for some ticks, and then never again. What
//! counts up is left as it was: 0 would be a reset that never happened. And what is only not told for a while,
//! as the domain or device is there but its collector fails, or there is no limit any more, gets no 0 either.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::metrics::decimal::Decimal;
use crate::metrics::delta::{NetView, Previous, Sample};
use crate::metrics::devices::{self, Detail};
use crate::metrics::domain::{DOMAIN, DomainMetric};
use crate::metrics::filter::Filter;
use crate::metrics::metric::Kind;
use crate::model::snapshot::{Domain, Snapshot};
use crate::naming::name::{Name, Parts};
use crate::naming::paths::{Names, Paths};
use crate::naming::scheme::Layout;
use crate::statsd::line::write_line;

/// A lost datagram or two shall not leave a dead VM busy for ever.
const ZEROS_ON_RETIRE: u32 = 3;

/// `--on-vanish`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnVanish {
    /// Send 0 three times for gauges that do not count up, and leave those that do
    Zero,
    /// Leave everything as it was
    Keep,
}

/// Which metrics are sent, and by which names.
#[derive(Debug)]
pub struct Selection {
    /// Whole names.
    pub paths: Paths,
    /// Whose names.
    pub layout: Layout,
    /// Which details.
    pub details: Vec<Detail>,
    /// Which domains and gauges.
    pub filter: Filter,
    /// What becomes of gauges of what is retired.
    pub on_vanish: OnVanish,
    /// Whose view of networks.
    pub net_view: NetView,
}

/// [`DomainSeries::sent`] has a bit for each.
const _: () = assert!(DOMAIN.len() <= u64::BITS as usize);

/// The domains of the latest snapshot, and those that went not long ago.
pub struct Series {
    selection: Selection,
    /// Those of [`DOMAIN`] that are told, and their names.
    columns: Vec<(&'static DomainMetric, &'static str)>,
    tick: u64,
    /// One for each domain of the snapshot, in its order.
    active: Vec<DomainSeries>,
    retired: Vec<DomainSeries>,
    /// The latest detail's, kept for the room it has.
    name: Name,
    /// Names have come free since the roll was written.
    freed: bool,
}

/// One domain under one name.
struct DomainSeries {
    id: u32,
    name: Box<[u8]>,
    /// What stands for it in names.
    component: String,
    /// Of its columns, if it has gauges.
    names: Names,
    /// Chosen to be told at all.
    chosen: bool,
    /// Chosen, and no half of a VM on the move.
    has_gauges: bool,
    /// Where it stood in the snapshot before.
    before: Option<usize>,
    /// The columns of the moment that were sent, by their place in [`Series::columns`].
    sent: u64,
    /// The same of details, by their metrics.
    details: BTreeMap<String, Sent>,
    /// Zeros to send once it is retired.
    zeros: u32,
}

/// How it stands with a detail that was sent.
struct Sent {
    /// The tick that last told it.
    tick: u64,
    /// Zeros to send once what it tells of is retired.
    zeros: u32,
}

impl DomainSeries {
    fn is(&self, domain: &Domain) -> bool {
        (self.id, &self.name) == (domain.id, &domain.name)
    }

    /// Whether a server knows anything of it that would have to be set to 0.
    fn has_sent(&self) -> bool {
        self.sent != 0 || !self.details.is_empty()
    }
}

impl Series {
    /// An empty roll.
    pub fn new(selection: Selection) -> Self {
        let named = |row: &'static DomainMetric| Some((row, row.name_in(selection.layout)?));
        let columns = DOMAIN.iter().filter_map(named).filter(|(_, name)| selection.filter.metric(name)).collect();
        Self {
            columns,
            selection,
            tick: 0,
            active: Vec::new(),
            retired: Vec::new(),
            name: Name::default(),
            freed: false,
        }
    }

    /// What is told, and how.
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// How many domains have gauges.
    pub fn len(&self) -> usize {
        self.active.iter().filter(|entry| entry.has_gauges).count()
    }

    /// Calls the roll: finds out who is there now.
    pub fn update(&mut self, node: &Snapshot) {
        self.tick += 1;
        let mut entries = self.active.iter().zip(&node.domains);
        let same = self.active.len() == node.domains.len() && entries.all(|(entry, domain)| entry.is(domain));
        if same && !std::mem::take(&mut self.freed) {
            self.active.iter_mut().enumerate().for_each(|(place, entry)| entry.before = Some(place));
        } else {
            self.rebuild(node);
        }
    }

    fn rebuild(&mut self, node: &Snapshot) {
        let components = self.components(node);
        let places: HashMap<(u32, &[u8]), usize> =
            self.active.iter().enumerate().map(|(place, entry)| ((entry.id, &*entry.name), place)).collect();
        let befores: Vec<Option<usize>> =
            node.domains.iter().map(|domain| places.get(&(domain.id, &*domain.name)).copied()).collect();

        // Who has the same name as one before goes on with its gauges: a reboot.
        let known = self.active.drain(..).filter(DomainSeries::has_sent).chain(self.retired.drain(..));
        let mut leaving: HashMap<String, DomainSeries> = known.map(|entry| (entry.component.clone(), entry)).collect();
        for ((domain, component), place) in node.domains.iter().zip(components).zip(befores) {
            let chosen = self.selection.filter.domain(&domain.name);
            let has_gauges = chosen && !domain.is_migrating();
            let heir_of = if has_gauges { leaving.remove(&component) } else { None };
            let (names, sent, details) = match heir_of {
                Some(entry) => (entry.names, entry.sent, entry.details),
                None if has_gauges => (self.names(&component), 0, BTreeMap::new()),
                None => (Names::default(), 0, BTreeMap::new()),
            };
            self.active.push(DomainSeries {
                id: domain.id,
                name: domain.name.clone(),
                component,
                names,
                chosen,
                has_gauges,
                before: place,
                sent,
                details,
                zeros: ZEROS_ON_RETIRE,
            });
        }
        self.retired.extend(leaving.into_values());
        self.retired.sort_by(|a, b| a.component.cmp(&b.component));
    }

    fn names(&self, component: &str) -> Names {
        self.selection.paths.names(component, self.columns.iter().map(|(_, name)| *name))
    }

    /// What stands for each domain now. A name that is left stays empty until its zeros are sent, so that they are
    /// taken for nobody else's.
    fn components(&self, node: &Snapshot) -> Vec<String> {
        let stays: HashSet<(u32, &[u8])> = node.domains.iter().map(|domain| (domain.id, &*domain.name)).collect();
        let (staying, leaving): (Vec<&DomainSeries>, Vec<&DomainSeries>) = self
            .active
            .iter()
            .filter(|entry| entry.has_sent())
            .partition(|entry| stays.contains(&(entry.id, &*entry.name)));
        let mut left: HashSet<&str> = HashSet::new();
        let mut names: Vec<&str> = leaving.into_iter().chain(&self.retired).map(|entry| &*entry.component).collect();
        // First those of the retired: where they are let be, the active may all keep theirs.
        for staying in [Vec::new(), staying] {
            names.extend(staying.iter().map(|entry| &*entry.component));
            loop {
                let components = self.selection.components(node, &left);
                let taken: HashSet<&str> = components.iter().map(String::as_str).collect();
                let is_left = |name: &&str| left.contains(name) || !taken.contains(name);
                let now_left: HashSet<&str> = names.iter().copied().filter(is_left).collect();
                if now_left.len() == left.len() {
                    break;
                }
                left = now_left;
            }
        }
        self.selection.components(node, &left)
    }

    /// The chosen domains of the snapshot that was called, and what stands for each in names.
    pub fn samples<'a>(&'a self, node: &'a Snapshot, before: Option<&'a Previous>) -> Vec<(Sample<'a>, &'a str)> {
        let entries = self.active.iter().zip(&node.domains).filter(|(entry, _)| entry.chosen);
        entries.map(|(entry, domain)| (self.selection.sample(entry, domain, node, before), &*entry.component)).collect()
    }

    /// Hands every gauge of the snapshot that was called to `each`, and the zeros of what is retired.
    pub fn emit(&mut self, node: &Snapshot, before: Option<&Previous>, each: &mut impl FnMut(Parts, f64)) {
        let Self { selection, columns, tick, active, retired, name, freed } = self;
        let remembers = selection.on_vanish == OnVanish::Zero;
        for (entry, domain) in active.iter_mut().zip(&node.domains).filter(|(entry, _)| entry.has_gauges) {
            let sample = selection.sample(entry, domain, node, before);
            for (place, (row, _)) in columns.iter().enumerate() {
                let Some(value) = row.value_in(selection.layout, &sample) else { continue };
                each(entry.names.get(place), value);
                if remembers && row.metric.kind != Kind::Counter {
                    entry.sent |= 1 << place;
                }
            }
            let DomainSeries { component, details, .. } = entry;
            devices::metrics(&sample, &selection.details, &mut |metric, kind, value| {
                if !selection.filter.metric(metric) {
                    return;
                }
                selection.paths.write(name, component, metric);
                each(name.parts(), value);
                if remembers && kind != Kind::Counter {
                    let now = Sent { tick: *tick, zeros: ZEROS_ON_RETIRE };
                    match details.get_mut(metric) {
                        Some(sent) => *sent = now,
                        None => drop(details.insert(metric.to_owned(), now)),
                    }
                }
            });
            details.retain(|metric, sent| {
                if sent.tick != *tick && devices::has_lost(domain, metric, node.collected) {
                    selection.paths.write(name, component, metric);
                    each(name.parts(), 0.0);
                    sent.zeros -= 1;
                }
                sent.zeros > 0
            });
        }
        retired.retain_mut(|entry| {
            for place in (0..columns.len()).filter(|place| entry.sent & 1 << place != 0) {
                each(entry.names.get(place), 0.0);
            }
            for metric in entry.details.keys() {
                selection.paths.write(name, &entry.component, metric);
                each(name.parts(), 0.0);
            }
            entry.zeros -= 1;
            *freed |= entry.zeros == 0;
            entry.zeros > 0
        });
    }
}

impl Selection {
    /// What stands for each domain in its names.
    fn components(&self, node: &Snapshot, left: &HashSet<&str>) -> Vec<String> {
        let active: Vec<(&[u8], u32)> = node.domains.iter().map(|domain| (&*domain.name, domain.id)).collect();
        self.paths.domains(&active, left)
    }

    fn sample<'a>(
        &self,
        entry: &DomainSeries,
        domain: &'a Domain,
        node: &'a Snapshot,
        before: Option<&'a Previous>,
    ) -> Sample<'a> {
        let earlier = before.and_then(|before| before.snapshot.domains.get(entry.before?));
        Sample::new(domain, node, earlier, before, self.net_view)
    }

    /// One line as it would be sent: the CPU time of the domain listed last, as a rule a guest.
    pub fn example(&self, node: &Snapshot) -> Option<String> {
        let row = DOMAIN.iter().find(|row| row.metric.name == "cpu_sec")?;
        let metric = row.name_in(self.layout).filter(|metric| self.filter.metric(metric))?;
        let told = |(domain, _): &(&Domain, String)| self.filter.domain(&domain.name) && !domain.is_migrating();
        let (domain, component) = node.domains.iter().zip(self.components(node, &HashSet::new())).rfind(told)?;
        let value = row.value_in(self.layout, &Sample::new(domain, node, None, None, self.net_view))?;
        let (mut name, mut line) = (Name::default(), String::new());
        self.paths.write(&mut name, &component, metric);
        write_line(&mut line, name.parts(), Decimal::of(value)?);
        Some(line)
    }
}
