//! Reports snapshots: as gauges to statsd servers, and as a table, JSON or lines on standard output.

pub mod device_series;
pub mod json;
pub mod selection;
pub mod series;
pub mod table;
pub mod terminal;
mod watch;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use log::warn;
use termion::event::Key;

use self::json::Taken;
use crate::metrics::delta::Previous;
use crate::metrics::host_values;
use crate::metrics::node::NodeSample;
use crate::metrics::pcpus::{self, PCPU_KIND};
use crate::metrics::self_metrics::Health;
use crate::model::snapshot::Snapshot;
use crate::model::text::printable;
use crate::naming::name::Name;
use crate::naming::scheme::{Layout, RESERVED};
use crate::report::selection::Selection;
use crate::report::series::Series;
use crate::report::table::{Order, Table};
use crate::report::watch::Watch;
use crate::statsd::batch::BatchWriter;
use crate::statsd::{self, Servers};

/// `--print`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// The same table as `xentop -b -f`
    Table,
    /// One JSON document per poll, on one line
    Json,
    /// The lines that are sent
    Statsd,
}

/// How snapshots are reported.
#[derive(Debug)]
pub struct Settings {
    /// This host's raw name.
    pub host: String,
    /// Which gauges, and by which names.
    pub selection: Selection,
    /// What to print, if anything.
    pub print: Option<Print>,
    /// How to print tables.
    pub table: TableSettings,
}

/// How tables are printed.
#[derive(Debug)]
pub struct TableSettings {
    /// On a terminal, each in the place of the one before.
    pub watch: bool,
    /// The order of domains.
    pub order: Order,
    /// Domain-0 above all others.
    pub dom0_first: bool,
}

/// Sends and prints snapshots.
pub struct Reporter {
    host: String,
    series: Series,
    /// Whether filters that match nothing have been logged.
    filter_checked: bool,
    statsd: BatchWriter,
    servers: Servers,
    printer: Option<Printer>,
    /// The latest gauge of the host; kept so that its memory is used again.
    name: Name,
    joined: String,
}

/// A snapshot to report, and what it is measured against.
pub struct Poll<'a> {
    /// What was read.
    pub snapshot: &'a Snapshot,
    /// The poll before, if there was one.
    pub previous: Option<&'a Previous<'a>>,
    /// Seconds since 1970.
    pub time: f64,
    /// Time between two polls.
    pub interval: Duration,
}

enum Printer {
    Watch(Box<Watch>),
    /// And whether it has colours.
    Table(Table, bool),
    Json,
    Statsd,
}

impl Reporter {
    /// Ready to print, and to send once the servers are started.
    pub fn new(settings: Settings, statsd: statsd::Settings) -> io::Result<Self> {
        let Settings { host, selection, print, table } = settings;
        let printer = match print {
            None => None,
            Some(Print::Json) => Some(Printer::Json),
            Some(Print::Statsd) => Some(Printer::Statsd),
            Some(Print::Table) => {
                let TableSettings { watch, order, dom0_first } = table;
                Some(if watch && terminal::has_screen() {
                    Printer::Watch(Box::new(Watch::new(order, dom0_first, &selection.filter)?))
                } else {
                    Printer::Table(Table::new(order, dom0_first, &selection.filter), terminal::has_colours())
                })
            }
        };
        Ok(Self {
            series: Series::new(selection),
            host,
            filter_checked: false,
            statsd: BatchWriter::new(statsd.max_datagram.longest()),
            servers: Servers::new(statsd),
            name: Name::default(),
            joined: String::new(),
            printer,
        })
    }

    /// For the log: the destinations, and the host's name in the metrics.
    pub fn describe(&self) -> String {
        let host = printable(self.host.as_bytes());
        let servers: Vec<String> = self.servers.destinations().map(ToString::to_string).collect();
        match &servers[..] {
            [] => format!("printing only, as host {host}"),
            _ => format!("sending to {} as host {host}", servers.join(" and ")),
        }
    }

    /// The servers that gauges are sent to.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The same, to start and stop them.
    pub fn servers_mut(&mut self) -> &mut Servers {
        &mut self.servers
    }

    /// Takes notice of the snapshot's domains, before it is reported; returns how many have gauges.
    pub fn update(&mut self, snapshot: &Snapshot) -> usize {
        self.series.update(snapshot);
        if !std::mem::replace(&mut self.filter_checked, true) {
            self.unmatched(snapshot).iter().for_each(|line| warn!("{line}"));
        }
        self.series.len()
    }

    /// Sends and prints a snapshot. Only standard output fails.
    pub fn report(&mut self, poll: &Poll, health: &Health) -> io::Result<()> {
        let &Poll { snapshot, previous, time, interval } = poll;
        if self.needs_lines() {
            self.series.emit(snapshot, previous, &mut self.statsd);
        }
        let node = NodeSample { node: snapshot, previous };
        self.add_host(Some(&node), health);
        self.send()?;
        let text = match &mut self.printer {
            Some(Printer::Watch(watch)) => {
                let samples = self.series.samples(snapshot, previous);
                return watch.update(samples.iter().map(|(sample, _)| sample), &node, &self.host, interval);
            }
            Some(Printer::Table(table, has_colours)) => {
                let samples = self.series.samples(snapshot, previous);
                terminal::text(&table.rows(samples.iter().map(|(sample, _)| sample)), *has_colours)
            }
            Some(Printer::Json) => {
                let elapsed = previous.map(|previous| previous.xenstat.elapsed.as_secs_f64());
                let samples = self.series.samples(snapshot, previous);
                json::document(&Taken { time, elapsed, host: &self.host }, &node, &samples) + "\n"
            }
            Some(Printer::Statsd) | None => return Ok(()),
        };
        print(text.as_bytes())
    }

    /// The table, where one is watched, may not be on the screen any longer, or has to have another size.
    pub fn redraw(&mut self) {
        self.watch().into_iter().for_each(Watch::redraw);
    }

    /// A key was pressed.
    pub fn on_key(&mut self, key: Key) {
        self.watch().into_iter().for_each(|watch| watch.on_key(key));
    }

    /// A line was logged.
    pub fn on_log(&mut self) {
        self.watch().into_iter().for_each(Watch::on_log);
    }

    /// Whether the table is watched and has changed.
    pub fn has_changed(&self) -> bool {
        matches!(&self.printer, Some(Printer::Watch(watch)) if watch.has_changed())
    }

    /// Draws the table, where it is watched.
    pub fn draw(&mut self) -> io::Result<()> {
        self.watch().map_or(Ok(()), Watch::draw)
    }

    fn watch(&mut self) -> Option<&mut Watch> {
        match &mut self.printer {
            Some(Printer::Watch(watch)) => Some(watch),
            _ => None,
        }
    }

    /// Sends this program's own metrics alone, as there is no snapshot.
    pub fn report_health(&mut self, health: &Health) -> io::Result<()> {
        self.add_host(None, health);
        self.send()?;
        self.watch().into_iter().for_each(Watch::on_missing_poll);
        Ok(())
    }

    /// A message for each filter that matches nothing.
    pub fn unmatched(&self, snapshot: &Snapshot) -> Vec<String> {
        let names: Vec<&[u8]> = snapshot.domains.iter().map(|domain| &*domain.name).collect();
        let Selection { filter, layout, details, .. } = self.series.selection();
        filter.unmatched(&names, *layout, details)
    }

    /// An example of the lines that are sent.
    pub fn example(&self, snapshot: &Snapshot) -> Option<String> {
        self.series.selection().example(snapshot)
    }

    /// Whether lines are sent or printed.
    fn needs_lines(&self) -> bool {
        self.servers.destinations().next().is_some() || matches!(self.printer, Some(Printer::Statsd))
    }

    /// Adds the metrics of the host and of this program.
    fn add_host(&mut self, node: Option<&NodeSample>, health: &Health) {
        let needs_lines = self.needs_lines();
        let Self { series, statsd, name, joined, .. } = self;
        let Selection { namer, layout, filter, .. } = series.selection();
        // The old script had none of them.
        if *layout == Layout::Xentop && needs_lines {
            for (group, metric, value) in host_values(node, health) {
                if filter.metric(&[group, metric], joined) {
                    namer.write_host(name, group, None, metric);
                    statsd.names(name.parts());
                    statsd.gauge("", value);
                }
            }
            let mut number = String::new();
            for (cpu, metric, value) in node.into_iter().flat_map(|node| pcpus::values(node)) {
                number.clear();
                let _ = write!(number, "{cpu}");
                let group = RESERVED[0];
                if filter.metric(&[group, PCPU_KIND, &number, metric], joined) {
                    namer.write_host(name, group, Some((PCPU_KIND, &number)), metric);
                    statsd.names(name.parts());
                    statsd.gauge("", value);
                }
            }
        }
    }

    /// Sends what was added.
    fn send(&mut self) -> io::Result<()> {
        let batch = self.statsd.take();
        self.servers.send(&batch);
        if matches!(self.printer, Some(Printer::Statsd)) { print(batch.text()) } else { Ok(()) }
    }
}

fn print(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text).and_then(|()| stdout.flush())
}
