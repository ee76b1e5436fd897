//! Metrics of how long the vcpus of a domain ran and waited for a CPU, which `--detail runstates` adds: `runstate.…`,
//! in the words of xcp-rrdd.
//!
//! A new one is a row here, and the same row in docs/metrics.md, which the failing test prints.

use crate::metrics::delta::{Sample, Span};
use crate::metrics::metric::{Metric, counter, interval};
use crate::model::snapshot::Runstate;

/// A domain at one poll, beside the poll before.
pub struct Runstates<'a> {
    now: &'a Runstate,
    earlier: Option<(&'a Runstate, Span)>,
}

type RunstateFn = fn(&Runstates) -> Option<f64>;

/// Six states, and the sum of those that wait.
#[rustfmt::skip]
pub const RUNSTATE: &[Metric<RunstateFn>] = &[
    interval("runstate.fullrun_percent", "percent of the time that all vcpus were running", |r| r.percent(&[0])),
    interval("runstate.full_contention_percent", "percent of the time that all vcpus were runnable, waiting for a CPU",
        |r| r.percent(&[1])),
    interval("runstate.concurrency_hazard_percent", "percent of the time that some vcpus were running and some runnable",
        |r| r.percent(&[2])),
    interval("runstate.blocked_percent", "percent of the time that all vcpus were blocked or offline",
        |r| r.percent(&[3])),
    interval("runstate.partial_run_percent", "percent of the time that some vcpus were running and some blocked",
        |r| r.percent(&[4])),
    interval("runstate.partial_contention_percent", "percent of the time that some vcpus were runnable and some blocked",
        |r| r.percent(&[5])),
    interval("runstate.runnable_any_percent", "percent of the time that at least one vcpu was runnable",
        |r| r.percent(&[1, 2, 5])),
    counter("runstate.missed_changes", "changes that Xen missed; the times around them count for another state",
        |r| Some(r.now.missed_changes.into())),
];

impl<'a> Runstates<'a> {
    /// Those of a domain, if they were read.
    pub fn of(sample: &'a Sample<'a>) -> Option<Self> {
        let earlier = sample.previous.and_then(|(earlier, previous)| {
            let (then, now) = (previous.snapshot.runstates.as_ref()?, sample.node.runstates.as_ref()?);
            Some((then.of(earlier.id)?, Span::between(then.read, now.read)))
        });
        Some(Self { now: sample.node.runstates.as_ref()?.of(sample.domain.id)?, earlier })
    }

    /// How much of the time it was in one of these states.
    fn percent(&self, states: &[usize]) -> Option<f64> {
        let (earlier, span) = self.earlier?;
        let mut times = states.iter().map(|&state| self.now.time_ns[state].checked_sub(earlier.time_ns[state]));
        span.percent_of_cpu(times.try_fold(0_u64, |sum, time| sum.checked_add(time?))?, 1)
    }
}
