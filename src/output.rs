//! What becomes of a snapshot: gauges to statsd, a table or document to the terminal.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use log::{debug, info, warn};

use crate::cli::{Options, Print};
use crate::json::{self, Taken};
use crate::metrics::{self, Layout};
use crate::naming::{BadTemplate, Paths, Style};
use crate::snapshot::Snapshot;
use crate::statsd::{Destination, Statsd};
use crate::table::Table;

/// Where snapshots go and by what names.
pub struct Output {
    host: String,
    layout: Layout,
    paths: Paths,
    remote: Option<Remote>,
    printer: Option<Printer>,
    /// Datagrams handed to the kernel, and known to be lost.
    pub totals: (u64, u64),
}

/// The statsd server.
struct Remote {
    destination: Destination,
    statsd: Statsd,
    sending: Trouble,
    looking_up: Trouble,
}

enum Printer {
    Table(Table),
    Json,
    Statsd(Statsd),
}

/// Something that is wrong for a while, told when it begins and when it changes, not at every tick.
#[derive(Default)]
pub struct Trouble(Option<String>);

impl Trouble {
    /// It is wrong now.
    pub fn is(&mut self, what: String) {
        if self.0.as_ref() != Some(&what) {
            warn!("{what}");
            self.0 = Some(what);
        }
    }

    /// It is right now; says so if it was not.
    pub fn is_over(&mut self, what: impl FnOnce() -> String) {
        if self.0.take().is_some() {
            info!("{}", what());
        }
    }
}

impl Output {
    /// Fails on a name that leaves no room or has characters no gauge name may have.
    pub fn new(
        options: &Options,
        prefix: Option<&str>,
        destination: Option<Destination>,
        host: String,
    ) -> Result<Self, BadTemplate> {
        let layout = Layout::from(options.layout);
        let style = match layout {
            Layout::Xentop => Style::Plain,
            Layout::XenMonitor => Style::XenMonitor,
        };
        let remote = |destination| {
            let statsd = if destination == Destination::Stdout { Statsd::to_stdout() } else { Statsd::unconnected() };
            Remote { destination, statsd, sending: Trouble::default(), looking_up: Trouble::default() }
        };
        let printer = |print| match print {
            Print::Table => Printer::Table(Table::default()),
            Print::Json => Printer::Json,
            Print::Statsd => Printer::Statsd(Statsd::to_stdout()),
        };
        Ok(Self {
            paths: Paths::new(&options.template(), prefix, &host, style)?,
            host,
            layout,
            remote: destination.map(remote),
            printer: options.print.map(printer),
            totals: (0, 0),
        })
    }

    /// This host's name, raw.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// In words, for the log.
    pub fn destination(&self) -> String {
        self.remote.as_ref().map_or("nowhere, only printing".into(), |remote| format!("to {}", remote.destination))
    }

    /// The server that has to be looked up before anything can be sent.
    pub fn to_look_up(&self) -> Option<&Destination> {
        let remote = self.remote.as_ref().filter(|remote| !remote.statsd.is_connected());
        remote.map(|remote| &remote.destination)
    }

    /// The server there is to look up at all.
    pub fn can_look_up(&self) -> Option<&Destination> {
        self.remote.as_ref().map(|remote| &remote.destination).filter(|to| **to != Destination::Stdout)
    }

    /// Sends to what a look-up found from now on; after a failed one things stay as they were.
    pub fn looked_up(&mut self, result: io::Result<Vec<SocketAddr>>) {
        let Some(remote) = &mut self.remote else { return };
        match result.and_then(|addresses| remote.statsd.connect(&addresses)) {
            Ok(address) => {
                debug!("{} is {address}", remote.destination);
                remote.looking_up.is_over(|| format!("{} is found, at {address}", remote.destination));
            }
            Err(error) => {
                remote
                    .looking_up
                    .is(format!("cannot reach {}: {error}; trying again at every poll", remote.destination));
            }
        }
    }

    /// Names, sends and prints one snapshot. An error is standard output's: what was asked for on it cannot
    /// be had any more.
    pub fn tick(&mut self, before: Option<(&Snapshot, Duration)>, now: &Snapshot, time: f64) -> io::Result<()> {
        let views = metrics::views(before, now);
        let living: Vec<(&[u8], u32)> = now.domains.iter().map(|domain| (&*domain.name, domain.id)).collect();
        let components = self.paths.domains(&living);

        let lines = match &self.printer {
            Some(Printer::Statsd(statsd)) => Some(statsd),
            _ => None,
        };
        if lines.is_some() || self.remote.is_some() {
            let clients = || self.remote.iter().map(|remote| &remote.statsd).chain(lines);
            metrics::gauges(&views, &components, &self.paths, self.layout, |path, value| {
                clients().for_each(|statsd| statsd.gauge(path, value));
            });
        }
        self.flush()?;
        let text = match &mut self.printer {
            Some(Printer::Table(table)) => table.render(&views),
            Some(Printer::Json) => {
                let elapsed = before.map(|(_, elapsed)| elapsed.as_secs_f64());
                json::document(&Taken { time, elapsed, host: &self.host }, now, &views, &components) + "\n"
            }
            Some(Printer::Statsd(_)) | None => return Ok(()),
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(Printer::Statsd(statsd)) = &self.printer {
            statsd.flush().error.map_or(Ok(()), Err)?;
        }
        let Some(remote) = &mut self.remote else { return Ok(()) };
        let delivery = remote.statsd.flush();
        self.totals.0 += delivery.sent;
        self.totals.1 += delivery.lost;
        match delivery.error {
            Some(error) if remote.destination == Destination::Stdout => return Err(error),
            // Not connected: the look-up has told why.
            Some(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Some(error) => remote.sending.is(format!("gauges for {} are lost: {error}", remote.destination)),
            None => remote.sending.is_over(|| format!("{} takes gauges again", remote.destination)),
        }
        Ok(())
    }
}
