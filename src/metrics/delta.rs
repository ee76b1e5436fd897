//! A domain beside its earlier reading, and the time between the two.

use std::time::Duration;

use crate::model::snapshot::{Domain, Moment, Snapshot, Vif};

/// `--net-view`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetView {
    /// As xentop: NETTX is what dom0 sent, so what the guest received
    Dom0,
    /// The guest's: NETTX is what the guest sent
    Guest,
}

/// A domain and what is needed to tell its gauges.
pub struct View<'a> {
    /// The domain as it is now.
    pub domain: &'a Domain,
    /// The snapshot it is in.
    pub node: &'a Snapshot,
    net_view: NetView,
    /// The same domain at the poll before.
    pub before: Option<(&'a Domain, &'a Before<'a>)>,
}

/// The poll that another is measured against.
pub struct Before<'a> {
    /// What it found.
    pub snapshot: &'a Snapshot,
    /// The time between the two, for all that libxenstat tells.
    pub xenstat: Span,
    /// The same for VIFs.
    pub vifs: Span,
}

/// The time between two readings of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From begin to begin.
    pub elapsed: Duration,
    /// By how much it may have been longer or shorter: where in the calls a counter is read nobody knows, only that
    /// it is the same place.
    pub blur: Duration,
}

impl Span {
    /// From one reading to the next.
    pub fn between(then: Moment, now: Moment) -> Self {
        Self { elapsed: now.at.duration_since(then.at), blur: now.took.abs_diff(then.took) }
    }

    /// Nothing is measured against a time that is off by more than a tenth, as when one of two calls hung.
    pub fn is_sharp(&self) -> bool {
        !self.elapsed.is_zero() && self.blur * 10 <= self.elapsed
    }

    /// xentop's: nanoseconds used / 10 / microseconds elapsed. More than so many vcpus could have used is a
    /// miscount (fact 18).
    pub fn percent_of_cpu(&self, used: u64, vcpus: u32) -> Option<f64> {
        let at_most = (self.elapsed + self.blur).as_nanos() * u128::from(vcpus);
        let us_elapsed = self.elapsed.as_nanos() as f64 / 1000.0;
        (self.is_sharp() && u128::from(used) <= at_most).then(|| (used as f64 / 10.0) / us_elapsed)
    }

    /// The sum of what was added, per second; `None` where something was taken away, which is a reset.
    pub fn per_second(&self, mut added: impl Iterator<Item = Option<u64>>) -> Option<f64> {
        let sum = added.try_fold(0_u64, |sum, added| sum.checked_add(added?))?;
        self.is_sharp().then(|| sum as f64 / self.elapsed.as_secs_f64())
    }
}

impl<'a> View<'a> {
    /// A domain of `node`, and `earlier` from the snapshot taken before if that is the same: it has the same domid,
    /// as a rebooted VM has not, and the same name.
    pub fn new(
        domain: &'a Domain,
        node: &'a Snapshot,
        earlier: Option<&'a Domain>,
        before: Option<&'a Before<'a>>,
        net_view: NetView,
    ) -> Self {
        // Less CPU time than before has another one, that got both.
        let earlier = earlier.filter(|earlier| {
            (earlier.id, &earlier.name) == (domain.id, &domain.name) && earlier.cpu_ns <= domain.cpu_ns
        });
        Self { domain, node, net_view, before: earlier.zip(before) }
    }

    /// Which of two opposite counters is meant, by `--net-view`.
    pub fn side(&self, dom0s: fn(&Vif) -> u64, guests: fn(&Vif) -> u64) -> fn(&Vif) -> u64 {
        if self.net_view == NetView::Dom0 { dom0s } else { guests }
    }
}
