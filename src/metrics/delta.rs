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

/// A domain at one poll, beside its earlier reading: all that its metrics are computed from.
pub struct Sample<'a> {
    /// The domain.
    pub domain: &'a Domain,
    /// The snapshot that it is in.
    pub node: &'a Snapshot,
    net_view: NetView,
    /// The same domain at the previous poll.
    pub previous: Option<(&'a Domain, &'a Previous<'a>)>,
}

/// The previous poll, and the time since.
pub struct Previous<'a> {
    /// What it read.
    pub snapshot: &'a Snapshot,
    /// The time between the two readings of libxenstat.
    pub xenstat: Span,
    /// The time between the two readings of the VIFs.
    pub vifs: Span,
}

/// The time between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From begin to begin.
    pub elapsed: Duration,
    /// Each counter was read at an unknown but constant offset within its call; so the time between two readings of it
    /// may differ from `elapsed` by this much.
    pub uncertainty: Duration,
}

impl Span {
    /// From one reading to the next.
    pub fn between(earlier: Moment, now: Moment) -> Self {
        Self { elapsed: now.at.duration_since(earlier.at), uncertainty: now.took.abs_diff(earlier.took) }
    }

    /// Whether the uncertainty is at most a tenth, as it is not if one of the two calls hung. Else there are no interval
    /// values.
    pub fn is_certain(&self) -> bool {
        !self.elapsed.is_zero() && self.uncertainty * 10 <= self.elapsed
    }

    /// As xentop: nanoseconds used / 10 / microseconds elapsed. `None` if that is more than so many vcpus could use: the
    /// counter is wrong then (fact 18).
    pub fn percent_of_cpu(&self, used: u64, vcpus: u32) -> Option<f64> {
        let at_most = (self.elapsed + self.uncertainty).as_nanos() * u128::from(vcpus);
        let us_elapsed = self.elapsed.as_nanos() as f64 / 1000.0;
        (self.is_certain() && u128::from(used) <= at_most).then(|| (used as f64 / 10.0) / us_elapsed)
    }

    /// The sum of these increases, per second; `None` if one of them is `None`, because its counter was reset.
    pub fn per_second(&self, mut increases: impl Iterator<Item = Option<u64>>) -> Option<f64> {
        let sum = increases.try_fold(0_u64, |sum, increase| sum.checked_add(increase?))?;
        self.is_certain().then(|| sum as f64 / self.elapsed.as_secs_f64())
    }
}

impl<'a> Sample<'a> {
    /// A domain of `node`. `earlier` is used only if it is the same domain: a VM that was rebooted has a new domid.
    pub fn new(
        domain: &'a Domain,
        node: &'a Snapshot,
        earlier: Option<&'a Domain>,
        previous: Option<&'a Previous<'a>>,
        net_view: NetView,
    ) -> Self {
        // With less CPU time it is another domain that got the same domid and name.
        let earlier = earlier.filter(|earlier| {
            (earlier.id, &earlier.name) == (domain.id, &domain.name) && earlier.cpu_ns <= domain.cpu_ns
        });
        Self { domain, node, net_view, previous: earlier.zip(previous) }
    }

    /// Which of two opposite counters `--net-view` selects.
    pub fn side(&self, dom0s: fn(&Vif) -> u64, guests: fn(&Vif) -> u64) -> fn(&Vif) -> u64 {
        if self.net_view == NetView::Dom0 { dom0s } else { guests }
    }
}
