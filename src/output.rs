//! What becomes of a snapshot: gauges to statsd, a table or document to the terminal.

use std::io::{self, Write};

use log::warn;

use crate::choice::Choice;
use crate::cli::{NetView, OnVanish, Options, Print};
use crate::destination::Destination;
use crate::detail::Detail;
use crate::host::{self, Health};
use crate::json::{self, Taken};
use crate::lifecycle::{Afterlife, Telling};
use crate::metrics::{self, Before, View};
use crate::naming::{Layout, Paths};
use crate::servers::Servers;
use crate::snapshot::Snapshot;
use crate::statsd::{self, Statsd};
use crate::table::{Table, printable};
use crate::template::Prefix;

/// Where snapshots go and by what names.
pub struct Output {
    host: String,
    layout: Layout,
    net_view: NetView,
    details: Vec<Detail>,
    choice: Choice,
    /// Whether patterns that fit nothing have been told.
    choice_checked: bool,
    /// `None` with `--on-vanish keep`.
    afterlife: Option<Afterlife>,
    paths: Paths,
    /// Packs the lines, for whoever gets them.
    statsd: Statsd,
    servers: Servers,
    printer: Option<Printer>,
}

enum Printer {
    Table(Table),
    Json,
    Statsd,
}

impl Output {
    /// Fails, with one line, on a host name that is none or leaves no room for others.
    pub fn new(
        options: &Options,
        prefix: Option<&Prefix>,
        destinations: Vec<Destination>,
        host: String,
    ) -> Result<Self, String> {
        let printer = |print| match print {
            Print::Table => Printer::Table(Table::new(options.dom0_first)),
            Print::Json => Printer::Json,
            Print::Statsd => Printer::Statsd,
        };
        Ok(Self {
            paths: Paths::new(&options.template(), prefix, &host, options.layout)?,
            host,
            layout: options.layout,
            net_view: options.net_view,
            details: options.detail.clone(),
            choice: options.choice(),
            choice_checked: false,
            afterlife: (options.on_vanish == OnVanish::Zero).then(Afterlife::default),
            statsd: Statsd::new(options.max_datagram()),
            servers: Servers::new(destinations, options.timing()),
            printer: options.print.map(printer),
        })
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
    pub fn tick(&mut self, before: Option<&Before>, now: &Snapshot, health: &mut Health, time: f64) -> io::Result<()> {
        let views = metrics::views(before, now, self.net_view);
        let components = self.components(now);
        let told: Vec<(&View, &String)> =
            views.iter().zip(&components).filter(|(view, _)| self.choice.domain(&view.domain.name)).collect();
        health.domains = told.iter().filter(|(view, _)| !view.domain.is_migrating()).count();
        if !std::mem::replace(&mut self.choice_checked, true) {
            let names: Vec<&[u8]> = now.domains.iter().map(|domain| &*domain.name).collect();
            self.choice.in_vain(&names).for_each(|line| warn!("{line}"));
        }

        let telling = Telling { paths: &self.paths, layout: self.layout, details: &self.details, choice: &self.choice };
        let mut afterlife = self.afterlife.take();
        if self.has_readers() {
            let mut path = String::new();
            for (view, component) in &told {
                telling.gauges(view, component, &mut path, |metric, path, kind, value| {
                    self.statsd.gauge(path, value);
                    if let Some(afterlife) = &mut afterlife {
                        afterlife.sent(component, metric, path, kind);
                    }
                });
            }
            let living = told.iter().filter(|(view, _)| !view.domain.is_migrating());
            let living = living.map(|(view, component)| (component.as_str(), view.domain));
            let gone = afterlife.as_mut().map(|afterlife| afterlife.end(living, now.told)).unwrap_or_default();
            gone.iter().for_each(|path| self.statsd.gauge(path, 0.0));
        }
        self.afterlife = afterlife;
        self.send_host(Some(now), health)?;
        let text = match &mut self.printer {
            Some(Printer::Table(table)) => table.render(told.iter().map(|(view, _)| *view)),
            Some(Printer::Json) => {
                let elapsed = before.map(|before| before.elapsed.as_secs_f64());
                json::document(&Taken { time, elapsed, host: &self.host }, now, &told) + "\n"
            }
            Some(Printer::Statsd) | None => String::new(),
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    }

    /// The path of the gauge that says this program is up.
    pub fn path_of_up(&self) -> String {
        let mut path = String::new();
        self.paths.write_host(&mut path, host::RESERVED[1], "up");
        path
    }

    /// What stands for each domain in its paths.
    fn components(&self, node: &Snapshot) -> Vec<String> {
        let living: Vec<(&[u8], u32)> = node.domains.iter().map(|domain| (&*domain.name, domain.id)).collect();
        self.paths.domains(&living)
    }

    /// One line as it would be sent: the CPU time of the domain listed last, as a rule a guest.
    pub fn example(&self, node: &Snapshot) -> Option<String> {
        let views = metrics::views(None, node, self.net_view);
        let components = self.components(node);
        let telling = Telling { paths: &self.paths, layout: self.layout, details: &[], choice: &self.choice };
        let mut example = None;
        for (view, component) in views.iter().zip(&components) {
            telling.gauges(view, component, &mut String::new(), |metric, path, _, value| {
                if metric.eq_ignore_ascii_case("cpu_sec") {
                    example = statsd::sendable(value).map(|value| format!("{path}:{value}|g"));
                }
            });
        }
        example
    }

    /// Whether anyone gets lines: servers, or who looks at what they get.
    fn has_readers(&self) -> bool {
        self.servers.destinations().next().is_some() || matches!(self.printer, Some(Printer::Statsd))
    }

    /// Sends what is to be told of the host and of this program, and all that is still held back.
    pub fn send_host(&mut self, node: Option<&Snapshot>, health: &mut Health) -> io::Result<()> {
        if let Some(count) = self.servers.count() {
            (health.datagrams, health.lost, health.send_errors) = (count.sent, count.lost, count.errors);
        }
        // The XenMonitor script knew none of these.
        if self.layout == Layout::Xentop && self.has_readers() {
            let mut path = String::new();
            let mut emit = |group: &str, metric: &str, value| {
                if self.choice.metric(&format!("{group}.{metric}")) {
                    self.paths.write_host(&mut path, group, metric);
                    self.statsd.gauge(&path, value);
                }
            };
            if let Some(node) = node {
                host::node_gauges(node, &mut emit);
            }
            host::own_gauges(health, emit);
        }
        let batch = self.statsd.take();
        self.servers.send(&batch);
        if matches!(self.printer, Some(Printer::Statsd)) {
            let mut stdout = io::stdout().lock();
            stdout.write_all(batch.text()).and_then(|()| stdout.flush())?;
        }
        Ok(())
    }
}
