//! What becomes of the gauges of what is gone.
//!
//! A statsd server repeats a gauge's last value for ever. So when a domain or one of its devices goes, its
//! gauges of the moment are sent as 0 for some ticks, and then never again. What counts up is left as it was: 0
//! would be a reset that never happened.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::choice::Choice;
use crate::cli::NetView;
use crate::detail::Detail;
use crate::metrics::{self, Before, Kind, View};
use crate::naming::{Layout, Paths};
use crate::snapshot::{Domain, Snapshot};

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
    /// Hands the gauges of a domain that are to be told to `each`: metric, path, kind and value.
    pub fn gauges(&self, view: &View, component: &str, path: &mut String, mut each: impl FnMut(&str, &str, Kind, f64)) {
        if view.domain.is_migrating() || !self.choice.domain(&view.domain.name) {
            return;
        }
        metrics::gauges(view, self.layout, self.details, &mut |metric, kind, value| {
            if self.choice.metric(metric) {
                self.paths.write(path, component, metric);
                each(metric, path, kind, value);
            }
        });
    }
}

/// Paths on their way out, and how many ticks they have left.
#[derive(Default)]
pub struct Afterlife(BTreeMap<String, u32>);

impl Afterlife {
    /// The paths to send as 0 at this tick. Snapshots come with their domains' components.
    pub fn tick(
        &mut self,
        before: Option<(&Snapshot, &[String])>,
        now: (&Snapshot, &[String]),
        telling: &Telling,
    ) -> Vec<String> {
        let gone = before.map(|before| gone(before, now, telling)).unwrap_or_default();
        self.0.extend(gone.into_iter().map(|path| (path, TICKS)));
        if self.0.is_empty() {
            return Vec::new();
        }
        // A rebooted VM, say, has its path again.
        let mut alive = HashSet::new();
        of_the_moment(
            now,
            telling,
            |_, _| true,
            |_, _, _, path| {
                alive.insert(path.to_owned());
            },
        );
        self.0.retain(|path, _| !alive.contains(path));
        let fading = self.0.keys().cloned().collect();
        self.0.retain(|_, left| {
            *left -= 1;
            *left > 0
        });
        fading
    }
}

/// The paths that since `before` lost their domain, which may only be called otherwise now, or its device.
fn gone(before: (&Snapshot, &[String]), now: (&Snapshot, &[String]), telling: &Telling) -> Vec<String> {
    let (now, components) = now;
    let living: HashMap<(u32, &[u8]), (&Domain, &String)> =
        now.domains.iter().zip(components).map(|(domain, component)| (identity(domain), (domain, component))).collect();
    let still = |domain: &Domain, component: &str| {
        living.get(&identity(domain)).filter(|(_, now)| *now == component).map(|(domain, _)| *domain)
    };
    let mut gone = Vec::new();
    let changed =
        |domain: &Domain, component: &str| !still(domain, component).is_some_and(|now| same_devices(domain, now));
    of_the_moment(before, telling, changed, |domain, component, metric, path| {
        let parts = [("vcpu.", now.told.vcpu), ("vif.", now.told.network), ("vbd.", now.told.vbd)];
        // What only was not told this time is not gone.
        let its_device = parts.iter().any(|(part, told)| metric.starts_with(part) && *told);
        if its_device || still(domain, component).is_none() {
            gone.push(path.to_owned());
        }
    });
    gone
}

fn identity(domain: &Domain) -> (u32, &[u8]) {
    (domain.id, &domain.name)
}

fn same_devices(one: &Domain, other: &Domain) -> bool {
    one.vcpus.len() == other.vcpus.len()
        && one.vifs.iter().map(|vif| vif.id).eq(other.vifs.iter().map(|vif| vif.id))
        && one.vbds.iter().map(|vbd| vbd.dev).eq(other.vbds.iter().map(|vbd| vbd.dev))
}

/// Every path that tells how things are or were of late, of the domains that `wanted` picks.
fn of_the_moment(
    (snapshot, components): (&Snapshot, &[String]),
    telling: &Telling,
    wanted: impl Fn(&Domain, &str) -> bool,
    mut each: impl FnMut(&Domain, &str, &str, &str),
) {
    // Measured against itself, so that what needs a poll before is there too.
    let itself = Before { snapshot, elapsed: Duration::from_secs(1), at_most: Duration::from_secs(1) };
    let mut path = String::new();
    for (view, component) in metrics::views(Some(&itself), snapshot, NetView::Dom0).iter().zip(components) {
        if wanted(view.domain, component) {
            telling.gauges(view, component, &mut path, |metric, path, kind, _| {
                if kind != Kind::CountsUp {
                    each(view.domain, component, metric, path);
                }
            });
        }
    }
}
