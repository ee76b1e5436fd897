//! Metrics of the physical CPUs, which `--detail pcpus` adds to those of the host: `node.pcpu.N.…`.
//!
//! A new one is a row here, and the same row in docs/metrics.md, which the failing test prints.

use crate::metrics::delta::Span;
use crate::metrics::metric::{Entry, Metric, interval};
use crate::metrics::node::NodeSample;

/// What they are called, after the group of the host's metrics.
pub const PCPU_KIND: &str = "pcpu";

/// A physical CPU at one poll, beside the poll before.
struct Pcpu {
    idle_ns: u64,
    earlier: u64,
    span: Span,
}

type PcpuFn = fn(&Pcpu) -> Option<f64>;

const PCPU: &[Metric<PcpuFn>] = &[interval(
    "percent",
    "with `--detail pcpus`: how busy a physical CPU is; omitted at the first poll, and while it is offline",
    |cpu| cpu.busy_percent(),
)];

impl Pcpu {
    /// 100 less what it was idle. The idle time of a CPU that is offline is 0.
    fn busy_percent(&self) -> Option<f64> {
        let idle = self.idle_ns.checked_sub(self.earlier).filter(|_| self.earlier > 0)?;
        self.span.percent_of_cpu(idle, 1).map(|idle| 100.0 - idle)
    }
}

/// The metrics of the CPUs that have a value: number, name, value.
pub fn values<'a>(sample: &'a NodeSample) -> impl Iterator<Item = (usize, &'static str, f64)> + 'a {
    let pcpus = sample.node.pcpus.as_ref().zip(sample.previous.and_then(|previous| previous.snapshot.pcpus.as_ref()));
    pcpus.into_iter().flat_map(|(now, then)| {
        let span = Span::between(then.read, now.read);
        let pairs = now.idle_ns.iter().zip(&then.idle_ns).enumerate();
        pairs.flat_map(move |(number, (&idle_ns, &earlier))| {
            let cpu = Pcpu { idle_ns, earlier, span };
            PCPU.iter().filter_map(move |row| Some((number, row.name, row.of(&cpu)?)))
        })
    })
}

/// All of them, by their names below the group; `N` stands for the number.
pub fn catalogue() -> impl Iterator<Item = Entry> {
    PCPU.iter().map(|row| (format!("{PCPU_KIND}.N.{}", row.name), row.kind, row.meaning))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::metrics::delta::Previous;
    use crate::model::snapshot::{Moment, Pcpus, Snapshot};

    #[test]
    fn pcpu_percent_is_what_is_not_idle() {
        let start = Instant::now();
        let snapshot = |at: u64, took: u64, idle_ms: &[u64]| {
            let read = Moment { at: start + Duration::from_millis(at), took: Duration::from_millis(took) };
            let idle_ns = idle_ms.iter().map(|ms| ms * 1_000_000).collect();
            Snapshot { pcpus: Some(Pcpus { idle_ns, read }), ..Snapshot::default() }
        };
        for (now, expected) in [
            // Busy, idle, half, a little more than there was; offline; more than there was; another's counter.
            (
                snapshot(1000, 0, &[500, 1500, 1000, 1550, 0, 7000, 400]),
                &[(0, 100.0), (1, 0.0), (2, 50.0), (3, 0.0)][..],
            ),
            // The fifth and the eighth came.
            (
                snapshot(1000, 0, &[750, 500, 500, 500, 1, 500, 500, 9]),
                &[(0, 75.0), (1, 100.0), (2, 100.0), (3, 100.0), (5, 100.0), (6, 100.0)],
            ),
            // Of uncertain length.
            (snapshot(1000, 200, &[500, 1500]), &[]),
            (Snapshot::default(), &[]),
        ] {
            let earlier = snapshot(0, 0, &[500, 500, 500, 500, 0, 500, 500]);
            let span = Span { elapsed: Duration::from_secs(1), uncertainty: Duration::ZERO };
            let previous = Previous { snapshot: &earlier, xenstat: span, vifs: span };
            let sample = NodeSample { node: &now, previous: Some(&previous) };
            let values: Vec<_> = values(&sample).map(|(number, _, value)| (number, value)).collect();
            assert_eq!(values, expected, "{now:?}");
            assert_eq!(super::values(&NodeSample { node: &now, previous: None }).count(), 0);
        }
    }
}
