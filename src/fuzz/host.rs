//! Whole hosts, poll by poll, on their way to lines, table and JSON.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::lines::{are_whole, read, text};
use super::names::{WAYS, named};
use super::snapshots::change;
use super::{Input, steers};
use crate::metrics::delta::{NetView, Previous, Span};
use crate::metrics::devices::Detail;
use crate::metrics::domain::DOMAIN;
use crate::metrics::filter::Filter;
use crate::metrics::host_values;
use crate::metrics::self_metrics::Health;
use crate::model::snapshot::Snapshot;
use crate::naming::name::Name;
use crate::naming::paths::{Paths, Scheme};
use crate::naming::sanitize::fold;
use crate::naming::scheme::Dialect;
use crate::naming::scheme::{Layout, Letters};
use crate::report::json::{self, Taken};
use crate::report::series::{OnVanish, Selection, Series};
use crate::report::table::{Order, Table};
use crate::statsd::batch::BatchWriter;

/// Polls without a change after which nothing may tell of what was before.
const QUIET: usize = 12;

/// Some polls of a host on which anything happens, and then some on which nothing does.
pub fn host(input: &[u8]) {
    let mut input = Input(input);
    let way @ (layout, letters, dialect) = *input.of(&WAYS);
    let max_datagram = *input.of(&[512, 1432, 8932]);
    let details = match layout {
        Layout::XenMonitor => Vec::new(),
        Layout::Xentop => input.of(&[vec![], vec![Detail::All], vec![Detail::Vbds, Detail::Rates]]).clone(),
    };
    let on_vanish = *input.of(&[OnVanish::Zero, OnVanish::Keep]);
    let net_view = *input.of(&[NetView::Dom0, NetView::Guest]);
    let template = input.byte() % 3;
    let order = *input.of(&[Order::Name, Order::Metric(&DOMAIN[7].metric)]);
    let selection = || Selection {
        paths: paths(way, template),
        layout,
        details: details.clone(),
        filter: Filter::default(),
        on_vanish,
        net_view,
    };
    let teller = || Teller {
        series: Series::new(selection()),
        paths: paths(way, template),
        dialect,
        // A server that turns dots to `_` takes nothing for another either; none does it to tags.
        flat: letters == Letters::Strict && template == 0 && dialect == Dialect::None,
        statsd: BatchWriter::new(max_datagram),
        max_datagram,
        table: Table::new(order, true, &Filter::default(), usize::MAX),
        health: Health::default(),
    };
    let (mut told, mut fresh) = (teller(), teller());
    let begin = Instant::now();
    let mut now = Snapshot::default();
    let mut before: Option<Snapshot> = None;
    for poll in 0..1 + input.byte() % 5 {
        change(&mut now, &mut input, begin + Duration::from_secs(10) * poll.into());
        let mut span = || Span {
            elapsed: Duration::from_nanos(input.number()),
            uncertainty: Duration::from_nanos(input.number() % 5_000_000_000),
        };
        let (xenstat, vifs) = (span(), span());
        told.health.poll = Some(xenstat.elapsed);
        told.health.dropped = input.number();
        let before_it = before.as_ref().map(|snapshot| Previous { snapshot, xenstat, vifs });
        told.tell(before_it.as_ref(), &now, "");
        told.print(before_it.as_ref(), &now);
        before = Some(now.clone());
    }
    let span = Span { elapsed: Duration::from_secs(10), uncertainty: Duration::ZERO };
    let before = Previous { snapshot: &now, xenstat: span, vifs: span };
    told.health = Health::default();
    for _ in 1..QUIET {
        // Which every domain has, in one layout or the other: what they are called is what may change.
        told.tell(Some(&before), &now, if layout == Layout::Xentop { "state.running" } else { "MEM_k" });
    }
    fresh.tell(None, &now, "");
    let (last, first) = [told, fresh].map(|mut teller| teller.tell(Some(&before), &now, "")).into();
    let other: Vec<&String> = last.symmetric_difference(&first).collect();
    assert!(other.is_empty(), "{other:?} after {QUIET} polls without a change");
}

/// The default names, or ones by a template that has host, domain and metric elsewhere.
fn paths(way: (Layout, Letters, Dialect), template: u8) -> Paths {
    let (layout, letters, dialect) = way;
    let text = match (dialect, template) {
        (Dialect::None, 1) => "{metric}.{host}.vm-{domain}-vm",
        (Dialect::None, 2) => "{domain}.{metric}_x",
        (Dialect::None, _) | (_, 0) => return named("Xen-1.example.com", way),
        (_, 1) => "{metric}",
        (_, _) => "a.{metric}.b-c",
    };
    let template = &text.parse().expect("a template");
    let constants = if dialect == Dialect::None { vec![] } else { vec!["env=pr\u{f6}d".parse().expect("a tag")] };
    let scheme = Scheme { template, prefix: None, host: "h 1", layout, letters, dialect, constants: &constants };
    Paths::new(&scheme).expect("these go together")
}

/// What tells of snapshots, as `output` does.
struct Teller {
    series: Series,
    paths: Paths,
    dialect: Dialect,
    flat: bool,
    statsd: BatchWriter,
    max_datagram: usize,
    table: Table,
    health: Health,
}

impl Teller {
    /// Returns what was told, of the gauges whose names have this in them: those names as servers see them.
    fn tell(&mut self, before: Option<&Previous>, now: &Snapshot, of: &str) -> HashSet<String> {
        let Self { series, paths, statsd, health, .. } = self;
        series.update(now);
        health.domains = Some(series.len());
        series.emit(now, before, &mut |name, value| statsd.gauge(name, value));
        if series.selection().layout == Layout::Xentop {
            let mut name = Name::default();
            for (group, metric, value) in host_values(Some(now), health) {
                paths.write_host(&mut name, group, metric);
                statsd.gauge(name.parts(), value);
            }
        }
        let batch = statsd.take();
        are_whole(&batch, self.max_datagram);
        let mut seen = HashSet::new();
        for line in text(&batch).lines().filter(|line| line.contains(of)) {
            let (name, value) = read(line, self.dialect);
            assert!(!value.starts_with('-'), "{line}");
            let name = if self.flat { fold(&name).replace('.', "_") } else { fold(&name) };
            assert!(seen.insert(name), "{line:?} has the name of another");
        }
        seen
    }

    fn print(&mut self, before: Option<&Previous>, now: &Snapshot) {
        let samples = self.series.samples(now, before);
        let rows = self.table.rows(samples.iter().map(|(sample, _)| sample));
        assert_eq!(rows.len(), samples.len() + 1);
        rows.iter().for_each(|row| assert!(!row.text.contains(steers), "{:?}", row.text));
        let elapsed = before.map(|before| before.xenstat.elapsed.as_secs_f64());
        let document = json::document(&Taken { time: 0.5, elapsed, host: "h\n1\u{202e}" }, now, &samples);
        assert!(!document.contains(steers), "{document:?}");
        let read: Value = serde_json::from_str(&document).expect("JSON");
        assert_eq!(read["domains"].as_array().map(Vec::len), Some(samples.len()));
    }
}
