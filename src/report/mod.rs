//! What becomes of a snapshot: gauges to statsd, a table or document to the terminal.

pub mod json;
pub mod series;
pub mod table;
pub mod terminal;

use std::io::{self, Write};
use std::time::Duration;

use log::warn;

use self::json::Taken;
use crate::metrics::delta::Previous;
use crate::metrics::host_values;
use crate::metrics::self_metrics::Health;
use crate::model::snapshot::Snapshot;
use crate::model::text::printable;
use crate::naming::name::Name;
use crate::naming::scheme::Layout;
use crate::report::series::{Selection, Series};
use crate::report::table::{Order, Table};
use crate::report::terminal::Screen;
use crate::statsd::batch::BatchWriter;
use crate::statsd::{self, Servers};

/// `--print`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// What `xentop -b -f` prints
    Table,
    /// One JSON document a poll, on one line
    Json,
    /// The lines as sent
    Statsd,
}

/// What is made of snapshots.
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
    /// Each in the place of the one before.
    pub watch: bool,
    /// The order of domains.
    pub order: Order,
    /// Domain-0 above all others.
    pub dom0_first: bool,
}

/// Where snapshots go and by what names.
pub struct Output {
    host: String,
    series: Series,
    /// Whether patterns that fit nothing have been told.
    filter_checked: bool,
    /// Packs the lines, for whoever gets them.
    statsd: BatchWriter,
    servers: Servers,
    printer: Option<Printer>,
    interval: Duration,
    /// The latest gauge of the host, kept for the room it has.
    name: Name,
    joined: String,
}

enum Printer {
    Table(Table, Screen),
    Json,
    Statsd,
}

impl Output {
    /// Ready to print, and to send once its servers are started.
    pub fn new(settings: Settings, statsd: statsd::Settings) -> Self {
        let Settings { host, selection, print, table } = settings;
        let printer = print.map(|print| match print {
            Print::Table => {
                let screen = Screen::new(table.watch);
                let table = Table::new(table.order, table.dom0_first, &selection.filter, screen.longest_name());
                Printer::Table(table, screen)
            }
            Print::Json => Printer::Json,
            Print::Statsd => Printer::Statsd,
        });
        Self {
            series: Series::new(selection),
            host,
            filter_checked: false,
            statsd: BatchWriter::new(statsd.max_datagram),
            interval: statsd.timing.interval,
            servers: Servers::new(statsd.destinations, statsd.timing),
            name: Name::default(),
            joined: String::new(),
            printer,
        }
    }

    /// For the log: where gauges go and as which host.
    pub fn describe(&self) -> String {
        let host = printable(self.host.as_bytes());
        let servers: Vec<String> = self.servers.destinations().map(ToString::to_string).collect();
        match &servers[..] {
            [] => format!("printing only, as host {host}"),
            _ => format!("sending to {} as host {host}", servers.join(" and ")),
        }
    }

    /// Where gauges go, if anywhere.
    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// The same, to be started, listened to and ended.
    pub fn servers_mut(&mut self) -> &mut Servers {
        &mut self.servers
    }

    /// Names, sends and prints one snapshot. An error is standard output's: what was asked for on it cannot
    /// be had any more.
    pub fn tick(
        &mut self,
        before: Option<&Previous>,
        now: &Snapshot,
        health: &mut Health,
        time: f64,
    ) -> io::Result<()> {
        self.series.update(now);
        health.domains = Some(self.series.len());
        if !std::mem::replace(&mut self.filter_checked, true) {
            self.unmatched(now).iter().for_each(|line| warn!("{line}"));
        }
        if self.has_readers() {
            self.series.emit(now, before, &mut |name, value| self.statsd.gauge(name, value));
        }
        self.add_host(Some(now), health);
        self.send()?;
        let text = match &mut self.printer {
            Some(Printer::Table(table, screen)) => {
                let rows = table.rows(self.series.samples(now, before).iter().map(|(sample, _)| sample));
                screen.draw(&rows, now, &self.host, self.interval)
            }
            Some(Printer::Json) => {
                let elapsed = before.map(|before| before.xenstat.elapsed.as_secs_f64());
                json::document(&Taken { time, elapsed, host: &self.host }, now, &self.series.samples(now, before))
                    + "\n"
            }
            Some(Printer::Statsd) | None => String::new(),
        };
        if text.is_empty() {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    }

    /// A line for each filter that fits nothing.
    pub fn unmatched(&self, node: &Snapshot) -> Vec<String> {
        let names: Vec<&[u8]> = node.domains.iter().map(|domain| &*domain.name).collect();
        let Selection { filter, layout, details, .. } = self.series.selection();
        filter.unmatched(&names, *layout, details)
    }

    /// One line as it would be sent.
    pub fn example(&self, node: &Snapshot) -> Option<String> {
        self.series.selection().example(node)
    }

    /// Whether anyone gets lines: servers, or who looks at what they get.
    fn has_readers(&self) -> bool {
        self.servers.destinations().next().is_some() || matches!(self.printer, Some(Printer::Statsd))
    }

    /// Sends what is to be told of this program alone, as there is no snapshot.
    pub fn tick_without_snapshot(&mut self, health: &mut Health) -> io::Result<()> {
        self.add_host(None, health);
        self.send()
    }

    /// Adds the gauges of the host and of this program.
    fn add_host(&mut self, node: Option<&Snapshot>, health: &mut Health) {
        if let Some(count) = self.servers.count() {
            (health.datagrams, health.dropped, health.send_errors) = (count.sent, count.dropped, count.errors);
        }
        let readers = self.has_readers();
        let Self { series, statsd, name, joined, .. } = self;
        let Selection { paths, layout, filter, .. } = series.selection();
        // The XenMonitor script knew none of these.
        if *layout == Layout::Xentop && readers {
            for (group, metric, value) in host_values(node, health) {
                if filter.metric(&[group, metric], joined) {
                    paths.write_host(name, group, metric);
                    statsd.gauge(name.parts(), value);
                }
            }
        }
    }

    /// Sends what was added.
    fn send(&mut self) -> io::Result<()> {
        let batch = self.statsd.take();
        self.servers.send(&batch);
        if matches!(self.printer, Some(Printer::Statsd)) {
            let mut stdout = io::stdout().lock();
            stdout.write_all(batch.text()).and_then(|()| stdout.flush())?;
        }
        Ok(())
    }
}
