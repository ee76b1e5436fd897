//! The roll of domains: who is there, what each is called in its gauges, and what becomes of the gauges of those
//! who go. While the same domains live under the same names nothing of it is worked out anew.
//!
//! A statsd server repeats a gauge's last value for ever. So when a domain or one of its devices goes, those of
//! its gauges that tell of the moment and were sent are sent as 0 for some ticks, and then never again. What
//! counts up is left as it was: 0 would be a reset that never happened. And what is only not told for a while,
//! as the domain or device is there but its collector fails, or there is no limit any more, gets no 0 either.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::metrics::columns::{GAUGES, Gauge};
use crate::metrics::decimal::Decimal;
use crate::metrics::delta::{Before, NetView, View};
use crate::metrics::devices::{self, Detail};
use crate::metrics::filter::Choice;
use crate::metrics::gauge::Kind;
use crate::model::snapshot::{Domain, Snapshot};
use crate::naming::name::{Name, Parts};
use crate::naming::paths::{Names, Paths};
use crate::naming::scheme::Layout;
use crate::statsd::line::write_line;

/// A lost datagram or two shall not leave a dead VM busy for ever.
const ZEROS: u32 = 3;

/// `--on-vanish`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnVanish {
    /// Send 0 three times for gauges that do not count up, and leave those that do
    Zero,
    /// Leave everything as it was
    Keep,
}

/// Which gauges are told, and by which names.
#[derive(Debug)]
pub struct Telling {
    /// Whole names.
    pub paths: Paths,
    /// Whose names.
    pub layout: Layout,
    /// Which details.
    pub details: Vec<Detail>,
    /// Which domains and gauges.
    pub choice: Choice,
    /// What becomes of gauges of what is gone.
    pub on_vanish: OnVanish,
    /// Whose view of networks.
    pub net_view: NetView,
}

/// [`Entry::sent`] has a bit for each.
const _: () = assert!(GAUGES.len() <= u64::BITS as usize);

/// The domains of the latest snapshot, and those that went not long ago.
pub struct Roll {
    telling: Telling,
    /// Those of [`GAUGES`] that are told, and their names.
    columns: Vec<(&'static Gauge, &'static str)>,
    tick: u64,
    /// One for each domain of the snapshot, in its order.
    living: Vec<Entry>,
    gone: Vec<Entry>,
    /// The latest detail's, kept for the room it has.
    name: Name,
    /// Names have come free since the roll was written.
    freed: bool,
}

/// One domain under one name.
struct Entry {
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
    /// The columns of the moment that were sent, by their place in [`Roll::columns`].
    sent: u64,
    /// The same of details, by their metrics.
    details: BTreeMap<String, Sent>,
    /// Zeros to send once it is gone.
    zeros: u32,
}

/// How it stands with a detail that was sent.
struct Sent {
    /// The tick that last told it.
    tick: u64,
    /// Zeros to send once what it tells of is gone.
    zeros: u32,
}

impl Entry {
    fn is(&self, domain: &Domain) -> bool {
        (self.id, &self.name) == (domain.id, &domain.name)
    }

    /// Whether a server knows anything of it that would have to be set to 0.
    fn has_sent(&self) -> bool {
        self.sent != 0 || !self.details.is_empty()
    }
}

impl Roll {
    /// An empty roll.
    pub fn new(telling: Telling) -> Self {
        let named = |gauge: &'static Gauge| Some((gauge, gauge.name_in(telling.layout)?));
        let columns = GAUGES.iter().filter_map(named).filter(|(_, name)| telling.choice.metric(name)).collect();
        Self { columns, telling, tick: 0, living: Vec::new(), gone: Vec::new(), name: Name::default(), freed: false }
    }

    /// What is told, and how.
    pub fn telling(&self) -> &Telling {
        &self.telling
    }

    /// How many domains have gauges.
    pub fn len(&self) -> usize {
        self.living.iter().filter(|entry| entry.has_gauges).count()
    }

    /// Calls the roll: finds out who is there now.
    pub fn call(&mut self, node: &Snapshot) {
        self.tick += 1;
        let mut entries = self.living.iter().zip(&node.domains);
        let same = self.living.len() == node.domains.len() && entries.all(|(entry, domain)| entry.is(domain));
        if same && !std::mem::take(&mut self.freed) {
            self.living.iter_mut().enumerate().for_each(|(place, entry)| entry.before = Some(place));
        } else {
            self.write_anew(node);
        }
    }

    fn write_anew(&mut self, node: &Snapshot) {
        let components = self.components(node);
        let places: HashMap<(u32, &[u8]), usize> =
            self.living.iter().enumerate().map(|(place, entry)| ((entry.id, &*entry.name), place)).collect();
        let befores: Vec<Option<usize>> =
            node.domains.iter().map(|domain| places.get(&(domain.id, &*domain.name)).copied()).collect();

        // Who has the same name as one before goes on with its gauges: a reboot.
        let known = self.living.drain(..).filter(Entry::has_sent).chain(self.gone.drain(..));
        let mut leaving: HashMap<String, Entry> = known.map(|entry| (entry.component.clone(), entry)).collect();
        for ((domain, component), place) in node.domains.iter().zip(components).zip(befores) {
            let chosen = self.telling.choice.domain(&domain.name);
            let has_gauges = chosen && !domain.is_migrating();
            let heir_of = if has_gauges { leaving.remove(&component) } else { None };
            let (names, sent, details) = match heir_of {
                Some(entry) => (entry.names, entry.sent, entry.details),
                None if has_gauges => (self.names(&component), 0, BTreeMap::new()),
                None => (Names::default(), 0, BTreeMap::new()),
            };
            self.living.push(Entry {
                id: domain.id,
                name: domain.name.clone(),
                component,
                names,
                chosen,
                has_gauges,
                before: place,
                sent,
                details,
                zeros: ZEROS,
            });
        }
        self.gone.extend(leaving.into_values());
        self.gone.sort_by(|a, b| a.component.cmp(&b.component));
    }

    fn names(&self, component: &str) -> Names {
        self.telling.paths.names(component, self.columns.iter().map(|(_, name)| *name))
    }

    /// What stands for each domain now. A name that is left stays empty until its zeros are sent, so that they are
    /// taken for nobody else's.
    fn components(&self, node: &Snapshot) -> Vec<String> {
        let stays: HashSet<(u32, &[u8])> = node.domains.iter().map(|domain| (domain.id, &*domain.name)).collect();
        let (staying, leaving): (Vec<&Entry>, Vec<&Entry>) = self
            .living
            .iter()
            .filter(|entry| entry.has_sent())
            .partition(|entry| stays.contains(&(entry.id, &*entry.name)));
        let mut left: HashSet<&str> = HashSet::new();
        let mut names: Vec<&str> = leaving.into_iter().chain(&self.gone).map(|entry| &*entry.component).collect();
        // First those of the gone: where they are let be, the living may all keep theirs.
        for staying in [Vec::new(), staying] {
            names.extend(staying.iter().map(|entry| &*entry.component));
            loop {
                let components = self.telling.components(node, &left);
                let taken: HashSet<&str> = components.iter().map(String::as_str).collect();
                let is_left = |name: &&str| left.contains(name) || !taken.contains(name);
                let now_left: HashSet<&str> = names.iter().copied().filter(is_left).collect();
                if now_left.len() == left.len() {
                    break;
                }
                left = now_left;
            }
        }
        self.telling.components(node, &left)
    }

    /// The chosen domains of the snapshot that was called, and what stands for each in names.
    pub fn views<'a>(&'a self, node: &'a Snapshot, before: Option<&'a Before>) -> Vec<(View<'a>, &'a str)> {
        let entries = self.living.iter().zip(&node.domains).filter(|(entry, _)| entry.chosen);
        entries.map(|(entry, domain)| (self.telling.view(entry, domain, node, before), &*entry.component)).collect()
    }

    /// Hands every gauge of the snapshot that was called to `each`, and the zeros of what is gone.
    pub fn gauges(&mut self, node: &Snapshot, before: Option<&Before>, each: &mut impl FnMut(Parts, f64)) {
        let Self { telling, columns, tick, living, gone, name, freed } = self;
        let remembers = telling.on_vanish == OnVanish::Zero;
        for (entry, domain) in living.iter_mut().zip(&node.domains).filter(|(entry, _)| entry.has_gauges) {
            let view = telling.view(entry, domain, node, before);
            for (place, (gauge, _)) in columns.iter().enumerate() {
                let Some(value) = gauge.value_in(telling.layout, &view) else { continue };
                each(entry.names.get(place), value);
                if remembers && gauge.kind != Kind::CountsUp {
                    entry.sent |= 1 << place;
                }
            }
            let Entry { component, details, .. } = entry;
            devices::gauges(&view, &telling.details, &mut |metric, kind, value| {
                if !telling.choice.metric(metric) {
                    return;
                }
                telling.paths.write(name, component, metric);
                each(name.parts(), value);
                if remembers && kind != Kind::CountsUp {
                    let now = Sent { tick: *tick, zeros: ZEROS };
                    match details.get_mut(metric) {
                        Some(sent) => *sent = now,
                        None => drop(details.insert(metric.to_owned(), now)),
                    }
                }
            });
            details.retain(|metric, sent| {
                if sent.tick != *tick && devices::has_lost(domain, metric, node.told) {
                    telling.paths.write(name, component, metric);
                    each(name.parts(), 0.0);
                    sent.zeros -= 1;
                }
                sent.zeros > 0
            });
        }
        gone.retain_mut(|entry| {
            for place in (0..columns.len()).filter(|place| entry.sent & 1 << place != 0) {
                each(entry.names.get(place), 0.0);
            }
            for metric in entry.details.keys() {
                telling.paths.write(name, &entry.component, metric);
                each(name.parts(), 0.0);
            }
            entry.zeros -= 1;
            *freed |= entry.zeros == 0;
            entry.zeros > 0
        });
    }
}

impl Telling {
    /// What stands for each domain in its names.
    fn components(&self, node: &Snapshot, left: &HashSet<&str>) -> Vec<String> {
        let living: Vec<(&[u8], u32)> = node.domains.iter().map(|domain| (&*domain.name, domain.id)).collect();
        self.paths.domains(&living, left)
    }

    fn view<'a>(&self, entry: &Entry, domain: &'a Domain, node: &'a Snapshot, before: Option<&'a Before>) -> View<'a> {
        let earlier = before.and_then(|before| before.snapshot.domains.get(entry.before?));
        View::new(domain, node, earlier, before, self.net_view)
    }

    /// One line as it would be sent: the CPU time of the domain listed last, as a rule a guest.
    pub fn example(&self, node: &Snapshot) -> Option<String> {
        let gauge = GAUGES.iter().find(|gauge| gauge.name == "cpu_sec")?;
        let metric = gauge.name_in(self.layout).filter(|metric| self.choice.metric(metric))?;
        let told = |(domain, _): &(&Domain, String)| self.choice.domain(&domain.name) && !domain.is_migrating();
        let (domain, component) = node.domains.iter().zip(self.components(node, &HashSet::new())).rfind(told)?;
        let value = gauge.value_in(self.layout, &View::new(domain, node, None, None, self.net_view))?;
        let (mut name, mut line) = (Name::default(), String::new());
        self.paths.write(&mut name, &component, metric);
        write_line(&mut line, name.parts(), Decimal::of(value)?);
        Some(line)
    }
}
