//! The servers that gauges go to: a sender for each, what has become of its datagrams, and what the log says of it.

pub mod batch;
pub mod destination;
pub mod line;
pub mod mailbox;
pub mod pacing;
pub mod resolver;
pub mod sender;
pub mod socket;

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use log::info;

use crate::logging::throttle::Throttle;
use crate::statsd::batch::Batch;
use crate::statsd::destination::Destination;
use crate::statsd::mailbox::End;
use crate::statsd::pacing::{Pace, Timing};
use crate::statsd::sender::{Report, Sender};

/// How gauges are delivered.
#[derive(Debug)]
pub struct Settings {
    /// Where to.
    pub destinations: Vec<Destination>,
    /// When.
    pub timing: Timing,
    /// Most bytes in a datagram.
    pub max_datagram: usize,
}

/// All servers.
pub struct Servers {
    each: Vec<Server>,
    timing: Timing,
    crowded: Throttle,
}

/// One of them.
struct Server {
    destination: Destination,
    /// `None` before the start.
    sender: Option<Sender>,
    has_ended: bool,
    count: Count,
    reaching: Throttle,
    sending: Throttle,
    /// Where it was reached last, and where it took gauges last.
    address: Option<SocketAddr>,
    used: Option<SocketAddr>,
}

/// What became of datagrams.
#[derive(Debug, Default, Clone, Copy)]
pub struct Count {
    /// Handed to the kernel.
    pub sent: u64,
    /// Known to be lost, before or after.
    pub lost: u64,
    /// Polls of which something is known to be lost.
    pub errors: u64,
}

impl Servers {
    /// They are not sent to before the [start](Self::start).
    pub fn new(destinations: Vec<Destination>, timing: Timing) -> Self {
        let server = |destination| Server {
            destination,
            sender: None,
            has_ended: false,
            count: Count::default(),
            reaching: Throttle::default(),
            sending: Throttle::default(),
            address: None,
            used: None,
        };
        Self { each: destinations.into_iter().map(server).collect(), timing, crowded: Throttle::default() }
    }

    /// Starts a thread for each; `report` gets what the `n`-th has to tell.
    pub fn start(&mut self, report: impl Fn(usize, Report) + Clone + Send + 'static) -> io::Result<()> {
        for (n, server) in self.each.iter_mut().enumerate() {
            let report = report.clone();
            let sender = Sender::start(server.destination.clone(), self.timing, move |told| report(n, told))?;
            server.sender = Some(sender);
        }
        Ok(())
    }

    /// Where gauges go, if anywhere.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.each.iter().map(|server| &server.destination)
    }

    /// Sends a tick, to each in its own time.
    pub fn send(&mut self, batch: &Arc<Batch>) {
        if batch.datagrams() == 0 || self.each.is_empty() {
            return;
        }
        let window = self.timing.window();
        let Pace { is_crowded, at_once, .. } = Pace::of(batch, window);
        // Others have the sender wait.
        if is_crowded && self.destinations().any(Destination::is_lossy) {
            self.crowded.raise(if window.is_zero() {
                format!(
                    "a poll has more than {at_once} datagrams, and with --spread 0 all are sent at once: a server may \
                     lose some of them"
                )
            } else {
                format!(
                    "a poll has more datagrams than can be spread over {window:?}, {at_once} at once: a server may \
                     lose some of them; lengthen --interval"
                )
            });
        } else {
            self.crowded.ok(|| format!("the datagrams of a poll can be spread over {window:?} again"));
        }
        self.senders().for_each(|sender| sender.send(batch));
    }

    /// Looks up and connects anew.
    pub fn reopen(&self) {
        self.senders().for_each(Sender::reopen);
    }

    /// Has the senders end; see [`have_ended`](Self::have_ended).
    pub fn end(&self, end: End) {
        self.senders().for_each(|sender| sender.end(end));
    }

    /// Whether all senders are at their end.
    pub fn have_ended(&self) -> bool {
        self.each.iter().all(|server| server.has_ended)
    }

    /// Takes a report of the `n`-th sender.
    pub fn on_report(&mut self, n: usize, report: Report) {
        self.each[n].on_report(report);
    }

    /// All that became of datagrams, to all servers; `None` where there are none.
    pub fn count(&self) -> Option<Count> {
        self.each.iter().map(|server| server.count).reduce(|one, other| Count {
            sent: one.sent + other.sent,
            lost: one.lost + other.lost,
            errors: one.errors + other.errors,
        })
    }

    /// The first server that got nothing of what there was for it, as far as is known.
    pub fn left_out(&self) -> Option<&Destination> {
        let got_nothing = |Count { sent, lost, .. }: Count| lost > 0 && sent <= lost;
        self.each.iter().find(|server| got_nothing(server.count)).map(|server| &server.destination)
    }

    fn senders(&self) -> impl Iterator<Item = &Sender> {
        self.each.iter().filter_map(|server| server.sender.as_ref())
    }
}

impl Server {
    fn on_report(&mut self, report: Report) {
        let Self { destination, sending, reaching, count, .. } = self;
        match report {
            Report::Unreachable(error) => {
                reaching.raise(format!("cannot reach {destination}: {error}; trying again"));
            }
            Report::Reached(address) => {
                reaching.clear(|| format!("{destination} is found{}", at(address)));
                self.address = address;
            }
            Report::Delivered(delivery) => {
                count.sent += delivery.sent;
                count.lost += delivery.lost;
                count.errors += delivery.errors;
                match delivery.error {
                    Some(error) if error.kind() == ErrorKind::NotConnected => {
                        if !reaching.is_raised() && !sending.is_raised() {
                            reaching.raise(format!("{destination} is not found yet: gauges are lost until it is"));
                        }
                    }
                    Some(error) => sending.raise(format!("gauges for {destination} are lost: {error}")),
                    None => {
                        sending.ok(|| format!("{destination} takes gauges again"));
                        // Where it was refused it may only have been tried at another of its addresses.
                        if self.used != self.address && !sending.is_raised() {
                            if self.used.is_some() {
                                info!("{destination} is found{} now", at(self.address));
                            }
                            self.used = self.address;
                        }
                    }
                }
            }
            Report::Ended => self.has_ended = true,
        }
    }
}

fn at(address: Option<SocketAddr>) -> String {
    address.map_or_else(String::new, |address| format!(", at {address}"))
}
