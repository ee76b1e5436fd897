//! Whole hosts, poll by poll, on their way to lines, table and JSON.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fuzz::input::{Input, steers};
use crate::fuzz::lines::{are_whole, read, text};
use crate::fuzz::names::{WAYS, named};
use crate::fuzz::snapshots::change;
use crate::metrics::delta::{NetView, Previous, Span};
use crate::metrics::devices::Detail;
use crate::metrics::domain::DOMAIN;
use crate::metrics::filter::Filter;
use crate::metrics::host_values;
use crate::metrics::node::NodeSample;
use crate::metrics::self_metrics::Health;
use crate::model::snapshot::Snapshot;
use crate::naming::name::Name;
use crate::naming::namer::Namer;
use crate::naming::sanitize::fold_case;
use crate::naming::scheme::{Charset, Layout, Scheme};
use crate::naming::tags::TagFormat;
use crate::report::json::{self, Taken};
use crate::report::selection::{OnVanish, Selection};
use crate::report::series::Series;
use crate::report::table::{Order, Table};
use crate::statsd::batch::BatchWriter;

/// Polls without a change after which nothing that happened before may show.
const QUIET: usize = 12;

/// Some polls of a host on which anything happens, and then some on which nothing does.
pub fn host(input: &[u8]) {
    let mut input = Input(input);
    let way @ (layout, charset, tag_format) = *input.of(&WAYS);
    let max_datagram = *input.of(&[512, 1432, 8932]);
    let details = match layout {
        Layout::Legacy => Vec::new(),
        Layout::Xentop => {
            input.of(&[vec![], vec![Detail::All, Detail::Runstates], vec![Detail::Vbds, Detail::Rates]]).clone()
        }
    };
    let on_vanish = *input.of(&[OnVanish::Zero, OnVanish::Keep]);
    let net_view = *input.of(&[NetView::Dom0, NetView::Guest]);
    let template = input.byte() % 3;
    let order = *input.of(&[Order::Name, Order::Metric(&DOMAIN[7].metric)]);
    let selection = || Selection {
        namer: namer(way, template),
        layout,
        details: details.clone(),
        filter: Filter::default(),
        on_vanish,
        net_view,
    };
    let reporter = || Reporter {
        series: Series::new(selection()),
        namer: namer(way, template),
        tag_format,
        // A server that turns dots to `_` finds no name twice either; none does that to tags.
        flat: charset == Charset::Strict && template == 0 && tag_format == TagFormat::None,
        statsd: BatchWriter::new(max_datagram),
        max_datagram,
        table: Table::new(order, true, &Filter::default()),
        health: Health::default(),
    };
    let (mut old, mut fresh) = (reporter(), reporter());
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
        old.health.poll = Some(xenstat.elapsed);
        old.health.dropped = input.number();
        let previous = before.as_ref().map(|snapshot| Previous { snapshot, xenstat, vifs });
        old.names(previous.as_ref(), &now, "");
        old.print(previous.as_ref(), &now);
        before = Some(now.clone());
    }
    let span = Span { elapsed: Duration::from_secs(10), uncertainty: Duration::ZERO };
    let previous = Previous { snapshot: &now, xenstat: span, vifs: span };
    old.health = Health::default();
    for _ in 1..QUIET {
        // A metric that every domain has, in either layout: only names may still change.
        old.names(Some(&previous), &now, if layout == Layout::Xentop { "state.running" } else { "MEM_k" });
    }
    let last = old.names(Some(&previous), &now, "");
    assert_eq!(last, old.names(Some(&previous), &now, ""), "after {QUIET} polls without a change");
    // Domains keep the names that they got earlier; another process gives them others, but as many.
    fresh.names(None, &now, "");
    let first = fresh.names(Some(&previous), &now, "");
    assert_eq!(last.len(), first.len(), "after {QUIET} polls without a change: {last:?}, {first:?}");
}

/// By the default template, or by one that has host, domain and metric elsewhere.
fn namer(way: (Layout, Charset, TagFormat), template: u8) -> Namer {
    let (layout, charset, tag_format) = way;
    let text = match (tag_format, template) {
        (TagFormat::None, 1) => "{metric}.{host}.vm-{domain}-vm",
        (TagFormat::None, 2) => "{domain}.{metric}_x",
        (TagFormat::None, _) | (_, 0) => return named("Xen-1.example.com", way),
        (_, 1) => "{metric}",
        (_, _) => "a.{metric}.b-c",
    };
    let template = &text.parse().expect("a template");
    let tags = if tag_format == TagFormat::None { vec![] } else { vec!["env=pr\u{f6}d".parse().expect("a tag")] };
    let tag_uuid = tag_format != TagFormat::None;
    let scheme = Scheme { template, prefix: None, host: "h 1", layout, charset, tag_format, tag_uuid, tags: &tags };
    Namer::new(&scheme).expect("these go together")
}

/// Reports snapshots, as `report::Output` does.
struct Reporter {
    series: Series,
    namer: Namer,
    tag_format: TagFormat,
    flat: bool,
    statsd: BatchWriter,
    max_datagram: usize,
    table: Table,
    health: Health,
}

impl Reporter {
    /// Writes and checks all lines. Returns the names that have `part` in them, as servers see them.
    fn names(&mut self, previous: Option<&Previous>, now: &Snapshot, part: &str) -> HashSet<String> {
        let Self { series, namer, statsd, health, .. } = self;
        series.update(now);
        health.domains = Some(series.len());
        series.emit(now, previous, statsd);
        if series.selection().layout == Layout::Xentop {
            let mut name = Name::default();
            for (group, metric, value) in host_values(Some(&NodeSample { node: now, previous }), health) {
                namer.write_host(&mut name, group, None, metric);
                statsd.names(name.parts());
                statsd.gauge("", value);
            }
        }
        let batch = statsd.take();
        are_whole(&batch, self.max_datagram);
        let mut seen = HashSet::new();
        for line in text(&batch).lines().filter(|line| line.contains(part)) {
            let (name, value) = read(line, self.tag_format);
            assert!(!value.starts_with('-'), "{line}");
            let name = if self.flat { fold_case(&name).replace('.', "_") } else { fold_case(&name) };
            assert!(seen.insert(name), "{line:?} has the name of another");
        }
        seen
    }

    fn print(&mut self, previous: Option<&Previous>, now: &Snapshot) {
        let samples = self.series.samples(now, previous);
        let rows = self.table.rows(samples.iter().map(|(sample, _)| sample));
        assert_eq!(rows.len(), samples.len() + 1);
        rows.iter().for_each(|row| assert!(!row.text.contains(steers), "{:?}", row.text));
        let elapsed = previous.map(|previous| previous.xenstat.elapsed.as_secs_f64());
        let document = json::document(
            &Taken { time: 0.5, elapsed, host: "h\n1\u{202e}" },
            &NodeSample { node: now, previous },
            &samples,
        );
        assert!(!document.contains(steers), "{document:?}");
        let read: Value = serde_json::from_str(&document).expect("JSON");
        assert_eq!(read["domains"].as_array().map(Vec::len), Some(samples.len()));
    }
}
