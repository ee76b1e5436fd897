//! What becomes of a snapshot: gauges to statsd, a table or document to the terminal.

use std::io::{self, Write};
use std::net::SocketAddr;

use log::warn;

use crate::cli::{Options, Print};
use crate::host::{self, Health};
use crate::json::{self, Taken};
use crate::metrics::{self, Before};
use crate::naming::Layout;
use crate::paths::{Paths, Scheme};
use crate::roll::{Roll, Telling};
use crate::snapshot::Snapshot;
use crate::statsd::{Destination, Statsd};
use crate::table::{Table, printable};
use crate::tags::Name;
use crate::template::Prefix;
use crate::trouble::Trouble;

/// Where snapshots go and by what names.
pub struct Output {
    host: String,
    roll: Roll,
    /// Whether patterns that fit nothing have been told.
    choice_checked: bool,
    remote: Option<Remote>,
    printer: Option<Printer>,
}

/// The statsd server.
struct Remote {
    destination: Destination,
    statsd: Statsd,
    /// To be looked up: at the start, after SIGHUP and lasting errors, until it succeeds.
    unresolved: bool,
    sent: u64,
    lost: u64,
    errors: u64,
    sending: Trouble,
    looking_up: Trouble,
}

enum Printer {
    Table(Table),
    Json,
    Statsd(Statsd),
}

impl Output {
    /// Fails, with one line, on a host name that is none or leaves no room for others.
    pub fn new(
        options: &Options,
        prefix: Option<&Prefix>,
        destination: Option<Destination>,
        host: String,
    ) -> Result<Self, String> {
        let remote = |destination| Remote {
            unresolved: destination != Destination::Stdout,
            statsd: if destination == Destination::Stdout { Statsd::to_stdout() } else { Statsd::unconnected() },
            destination,
            sent: 0,
            lost: 0,
            errors: 0,
            sending: Trouble::default(),
            looking_up: Trouble::default(),
        };
        let printer = |print| match print {
            Print::Table => Printer::Table(Table::new(options.dom0_first)),
            Print::Json => Printer::Json,
            Print::Statsd => Printer::Statsd(Statsd::to_stdout()),
        };
        if options.layout == Layout::XenMonitor && !options.detail.is_empty() {
            return Err("--layout xenmonitor has thirteen gauges and no --detail".into());
        }
        let paths = Paths::new(&Scheme {
            template: &options.template(),
            prefix,
            host: &host,
            layout: options.layout,
            letters: options.names,
            dialect: options.tags,
            constants: &options.tag,
        })?;
        Ok(Self {
            roll: Roll::new(Telling {
                paths,
                layout: options.layout,
                details: options.detail.clone(),
                choice: options.choice(),
                on_vanish: options.on_vanish,
                net_view: options.net_view,
            }),
            host,
            choice_checked: false,
            remote: destination.map(remote),
            printer: options.print.map(printer),
        })
    }

    /// For the log: where gauges go and as which host.
    pub fn describe(&self) -> String {
        let host = printable(self.host.as_bytes());
        match &self.remote {
            Some(remote) => format!("sending to {} as host {host}", remote.destination),
            None => format!("printing only, as host {host}"),
        }
    }

    /// Where gauges go, if anywhere.
    pub fn server(&self) -> Option<&Destination> {
        self.remote.as_ref().map(|remote| &remote.destination)
    }

    /// The server to look up before anything can be sent to it.
    pub fn to_look_up(&self) -> Option<&Destination> {
        self.remote.as_ref().filter(|remote| remote.unresolved).map(|remote| &remote.destination)
    }

    /// Has the server looked up again; until that succeeds the old address is sent to.
    pub fn forget_address(&mut self) {
        if let Some(remote) = &mut self.remote {
            remote.unresolved = remote.destination != Destination::Stdout;
        }
    }

    /// What a look-up found.
    pub fn looked_up(&mut self, result: io::Result<Vec<SocketAddr>>) {
        let Some(remote) = &mut self.remote else { return };
        let Remote { destination, looking_up, .. } = remote;
        match result.and_then(|addresses| remote.statsd.connect(&addresses)) {
            Ok(address) => {
                remote.unresolved = false;
                looking_up.is_over(|| format!("{destination} is found, at {address}"));
            }
            Err(error) => looking_up.is(format!("cannot reach {destination}: {error}; trying again at every poll")),
        }
    }

    /// A look-up is still under way at a deadline.
    pub fn look_up_takes_long(&mut self) {
        let Some(Remote { destination, looking_up, .. }) = &mut self.remote else { return };
        if !looking_up.is_told() {
            looking_up.is(format!("still looking up {destination}: gauges are lost until it is found"));
        }
    }

    /// Names, sends and prints one snapshot. An error is standard output's: what was asked for on it cannot
    /// be had any more.
    pub fn tick(&mut self, before: Option<&Before>, now: &Snapshot, health: &mut Health, time: f64) -> io::Result<()> {
        self.roll.call(now);
        health.domains = self.roll.len();
        if !std::mem::replace(&mut self.choice_checked, true) {
            let names: Vec<&[u8]> = now.domains.iter().map(|domain| &*domain.name).collect();
            let Telling { choice, layout, details, .. } = self.roll.telling();
            choice.in_vain(&names, *layout, details).iter().for_each(|line| warn!("{line}"));
        }
        let Self { roll, remote, printer, .. } = self;
        if clients(remote, printer).next().is_some() {
            roll.gauges(now, before, &mut |name, value| {
                let value = metrics::to_three_decimals(value);
                clients(remote, printer).for_each(|statsd| statsd.gauge(name, value));
            });
        }
        self.send_host(Some(now), health)?;
        let text = match &mut self.printer {
            Some(Printer::Table(table)) => table.render(self.roll.views(now, before).iter().map(|(view, _)| view)),
            Some(Printer::Json) => {
                let elapsed = before.map(|before| before.xenstat.elapsed.as_secs_f64());
                json::document(&Taken { time, elapsed, host: &self.host }, now, &self.roll.views(now, before)) + "\n"
            }
            Some(Printer::Statsd(_)) | None => String::new(),
        };
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
    }

    /// The name of the gauge that says this program is up.
    pub fn name_of_up(&self) -> Name {
        let mut name = Name::default();
        self.roll.telling().paths.write_host(&mut name, host::RESERVED[1], "up");
        name
    }

    /// One line as it would be sent.
    pub fn example(&self, node: &Snapshot) -> Option<String> {
        self.roll.telling().example(node)
    }

    /// Sends what is to be told of the host and of this program, and all that is still held back.
    pub fn send_host(&mut self, node: Option<&Snapshot>, health: &mut Health) -> io::Result<()> {
        if let Some(remote) = &self.remote {
            (health.datagrams, health.lost, health.send_errors) = (remote.sent, remote.lost, remote.errors);
        }
        // The XenMonitor script knew none of these.
        let Telling { paths, layout, choice, .. } = self.roll.telling();
        if *layout == Layout::Xentop {
            let mut name = Name::default();
            let mut emit = |group: &str, metric: &str, value| {
                if choice.metric(&format!("{group}.{metric}")) {
                    paths.write_host(&mut name, group, metric);
                    let value = metrics::to_three_decimals(value);
                    clients(&self.remote, &self.printer).for_each(|statsd| statsd.gauge(&name, value));
                }
            };
            if let Some(node) = node {
                host::node_gauges(node, &mut emit);
            }
            host::own_gauges(health, emit);
        }
        if let Some(Printer::Statsd(statsd)) = &self.printer {
            statsd.flush().error.map_or(Ok(()), Err)?;
        }
        self.remote.as_mut().map_or(Ok(()), Remote::flush)
    }

    /// What was sent so far, where there is a server.
    pub fn sent(&self) -> Option<Sent<'_>> {
        let Remote { destination, sent, lost, .. } = self.remote.as_ref()?;
        Some(Sent { destination, datagrams: *sent, lost: *lost })
    }
}

/// What a server was sent.
pub struct Sent<'a> {
    /// The server.
    pub destination: &'a Destination,
    /// Handed to the kernel.
    pub datagrams: u64,
    /// Known to be lost, before or after.
    pub lost: u64,
}

/// Whoever gets lines: the server, and those who look at what it gets.
fn clients<'a>(remote: &'a Option<Remote>, printer: &'a Option<Printer>) -> impl Iterator<Item = &'a Statsd> {
    let printed = match printer {
        Some(Printer::Statsd(statsd)) => Some(statsd),
        _ => None,
    };
    remote.iter().map(|remote| &remote.statsd).chain(printed)
}

impl Remote {
    fn flush(&mut self) -> io::Result<()> {
        let Self { destination, sending, .. } = self;
        let delivery = self.statsd.flush();
        self.sent += delivery.sent;
        self.lost += delivery.lost;
        self.errors += u64::from(delivery.error.is_some());
        match delivery.error {
            Some(error) if *destination == Destination::Stdout => return Err(error),
            // Not looked up yet, which is told already.
            Some(error) if error.kind() == io::ErrorKind::NotConnected => {}
            Some(error) => {
                sending.is(format!("gauges for {destination} are lost: {error}"));
                self.unresolved = !self.statsd.is_connected();
            }
            None => sending.seems_over(|| format!("{destination} takes gauges again")),
        }
        Ok(())
    }
}
