//! What becomes of the gauges of what is gone.
//!
//! A statsd server repeats a gauge's last value for ever. So when a domain or one of its devices goes, those of
//! its gauges that tell of the moment and were sent are sent as 0 for some ticks, and then never again. What
//! counts up is left as it was: 0 would be a reset that never happened. And what is only not told for a while,
//! as the domain or device is there but its collector fails, or there is no limit any more, gets no 0 either.

use std::collections::HashMap;

use crate::choice::Choice;
use crate::detail::{self, Detail};
use crate::metrics::{self, Kind, View};
use crate::naming::{Layout, fold};
use crate::paths::Paths;
use crate::snapshot::{Collectors, Domain};
use crate::tags::Name;

/// A lost datagram or two shall not leave a dead VM busy for ever.
const TICKS: u32 = 3;

/// Which gauges are told, and by which names.
pub struct Telling<'a> {
    /// Paths of the domains' gauges.
    pub paths: &'a Paths,
    /// Whose names.
    pub layout: Layout,
    /// Which details.
    pub details: &'a [Detail],
    /// Which domains and gauges.
    pub choice: &'a Choice,
}

impl Telling<'_> {
    /// Hands the gauges of a domain that are to be told to `each`: metric, whole name, kind and value.
    pub fn gauges(&self, view: &View, component: &str, name: &mut Name, mut each: impl FnMut(&str, &Name, Kind, f64)) {
        if view.domain.is_migrating() || !self.choice.domain(&view.domain.name) {
            return;
        }
        metrics::gauges(view, self.layout, self.details, &mut |metric, kind, value| {
            if self.choice.metric(metric) {
                self.paths.write(name, component, metric);
                each(metric, name, kind, value);
            }
        });
    }
}

/// Every gauge of the moment that a server has a value of.
#[derive(Default)]
pub struct Afterlife {
    tick: u64,
    sent: HashMap<Name, Sent>,
}

/// Whose a gauge is, and how it stands with it.
struct Sent {
    component: String,
    metric: String,
    /// The tick that last told it.
    tick: u64,
    /// Zeros to send once what it tells of is gone.
    left: u32,
}

impl Afterlife {
    /// A gauge was sent at this tick.
    pub fn sent(&mut self, component: &str, metric: &str, name: &Name, kind: Kind) {
        if kind == Kind::CountsUp {
            return;
        }
        match self.sent.get_mut(name) {
            Some(sent) => (sent.tick, sent.left) = (self.tick, TICKS),
            None => {
                let (component, metric) = (component.to_owned(), metric.to_owned());
                self.sent.insert(name.clone(), Sent { component, metric, tick: self.tick, left: TICKS });
            }
        }
    }

    /// Ends the tick: the gauges to send as 0. `living` are the domains that have gauges, by their components.
    pub fn end<'a>(&mut self, living: impl Iterator<Item = (&'a str, &'a Domain)>, told: Collectors) -> Vec<Name> {
        let tick = self.tick;
        self.tick += 1;
        if self.sent.values().all(|sent| sent.tick == tick) {
            return Vec::new();
        }
        // Folded, as a server may fold: it takes a renamed VM for the same then.
        let living: HashMap<String, &Domain> = living.map(|(component, domain)| (fold(component), domain)).collect();
        let mut gone = Vec::new();
        self.sent.retain(|name, sent| {
            let is_gone = sent.tick != tick
                && living.get(&fold(&sent.component)).is_none_or(|domain| detail::has_lost(domain, &sent.metric, told));
            if is_gone {
                gone.push(name.clone());
                sent.left -= 1;
            }
            sent.left > 0
        });
        gone.sort();
        gone
    }
}
