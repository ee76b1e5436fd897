//! Delivery of gauges to statsd servers: a sender for each, its counts, and what the log says of it.

pub mod batch;
pub mod datagrams;
pub mod delivery;
pub mod destination;
pub mod mailbox;
pub mod pacing;
pub mod probe;
pub mod resolver;
pub mod sender;
pub mod socket;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, info};

use crate::logging::throttle::Throttle;
use crate::statsd::batch::Batch;
use crate::statsd::datagrams::MaxDatagram;
use crate::statsd::delivery::End;
use crate::statsd::delivery::report::{DropReason, Outcome, Report};
use crate::statsd::destination::Destination;
use crate::statsd::pacing::{Pace, Timing};
use crate::statsd::sender::Sender;

/// Maximum number of addresses of a server that are remembered as logged.
const MAX_LOGGED_ADDRESSES: usize = 32;

/// How gauges are delivered.
#[derive(Debug)]
pub struct Settings {
    /// Where to.
    pub destinations: Vec<Destination>,
    /// When.
    pub timing: Timing,
    /// Most bytes in a datagram.
    pub max_datagram: MaxDatagram,
}

/// All servers.
pub struct Servers {
    servers: Vec<Server>,
    timing: Timing,
    max_datagram: MaxDatagram,
    too_fast: Throttle,
}

/// One server.
struct Server {
    destination: Destination,
    /// `None` before [`Servers::start`].
    sender: Option<Sender>,
    has_ended: bool,
    count: Count,
    unreachable: Throttle,
    dropping: Throttle,
    /// The address of the latest connection, and that of the latest delivery without losses.
    address: Option<SocketAddr>,
    good_address: Option<SocketAddr>,
    /// The last of the addresses that were logged.
    logged_addresses: VecDeque<SocketAddr>,
}

/// What became of datagrams.
#[derive(Debug, Default, Clone, Copy)]
pub struct Count {
    /// Taken by the kernel.
    pub sent: u64,
    /// Not sent, or lost after that.
    pub dropped: u64,
    /// Lost after they were sent.
    pub lost: u64,
    /// Polls of which something was dropped.
    pub errors: u64,
}

impl Servers {
    /// Nothing is sent before the [start](Self::start).
    pub fn new(settings: Settings) -> Self {
        let Settings { destinations, timing, max_datagram } = settings;
        let server = |destination| Server {
            destination,
            sender: None,
            has_ended: false,
            count: Count::default(),
            unreachable: Throttle::default(),
            dropping: Throttle::default(),
            address: None,
            good_address: None,
            logged_addresses: VecDeque::new(),
        };
        let servers = destinations.into_iter().map(server).collect();
        Self { servers, timing, max_datagram, too_fast: Throttle::default() }
    }

    /// Starts a thread for each server; `report` gets the number of the server and its report.
    pub fn start(&mut self, report: impl Fn(usize, Report) + Clone + Send + 'static) -> io::Result<()> {
        for (n, server) in self.servers.iter_mut().enumerate() {
            let report = report.clone();
            let report = move |what| report(n, what);
            let sender = Sender::start(server.destination.clone(), self.timing, self.max_datagram, report)?;
            server.sender = Some(sender);
        }
        Ok(())
    }

    /// `--max-datagram`.
    pub fn max_datagram(&self) -> MaxDatagram {
        self.max_datagram
    }

    /// The destinations, if there are any.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        self.servers.iter().map(|server| &server.destination)
    }

    /// Hands the gauges of a poll to each sender.
    pub fn send(&mut self, batch: &Arc<Batch>) {
        if batch.datagrams() == 0 || self.servers.is_empty() {
            return;
        }
        let window = self.timing.window();
        let pace = Pace::of(batch, &self.timing);
        // Other destinations do not lose datagrams: they slow the sender down.
        if pace.is_too_fast && self.destinations().any(Destination::is_lossy) {
            self.too_fast.raise(too_fast(&pace, window));
        } else {
            self.too_fast.ok(|| format!("the datagrams of a poll fit into {window:?} again"));
        }
        self.senders().for_each(|sender| sender.send(batch));
    }

    /// Resolves and connects to all destinations again.
    pub fn reopen(&self) {
        self.senders().for_each(Sender::reopen);
    }

    /// Ends all senders; see [`have_ended`](Self::have_ended).
    pub fn end(&self, end: End) {
        self.senders().for_each(|sender| sender.end(end));
    }

    /// Whether all senders have ended.
    pub fn have_ended(&self) -> bool {
        self.servers.iter().all(|server| server.has_ended)
    }

    /// Takes a report of the `n`-th sender.
    pub fn on_report(&mut self, n: usize, report: Report) {
        self.servers[n].on_report(report);
    }

    /// Takes what the senders have not reported, as nothing went wrong.
    pub fn catch_up(&mut self) {
        for server in &mut self.servers {
            let outcome = server.sender.as_ref().and_then(Sender::delivered);
            outcome.into_iter().for_each(|outcome| server.on_delivered(outcome));
        }
    }

    /// The counts of all servers together; `None` without servers.
    pub fn count(&self) -> Option<Count> {
        self.servers.iter().map(|server| server.count).reduce(|one, other| Count {
            sent: one.sent + other.sent,
            dropped: one.dropped + other.dropped,
            lost: one.lost + other.lost,
            errors: one.errors + other.errors,
        })
    }

    /// The first server that may have received nothing, although there was something to send.
    pub fn first_unreached(&self) -> Option<&Destination> {
        let all_dropped = |Count { sent, dropped, lost, .. }: Count| dropped > 0 && sent <= lost;
        self.servers.iter().find(|server| all_dropped(server.count)).map(|server| &server.destination)
    }

    fn senders(&self) -> impl Iterator<Item = &Sender> {
        self.servers.iter().filter_map(|server| server.sender.as_ref())
    }
}

/// The warning for a poll that cannot be paced.
fn too_fast(pace: &Pace, window: Duration) -> String {
    let most = pace.max_burst;
    if window.is_zero() {
        format!("a poll has more than {most} datagrams and --spread 0 sends them all at once: the server may drop some")
    } else {
        format!(
            "a poll has too many datagrams for {window:?} in bursts of {most}: the server may drop some; lengthen \
             --interval"
        )
    }
}

impl Server {
    fn on_report(&mut self, report: Report) {
        let destination = &self.destination;
        match report {
            Report::Unreachable(error) => {
                self.unreachable.raise(format!("cannot reach {destination}: {error}; retrying"));
            }
            Report::Connected(address) => {
                let message = || format!("{} {destination}{}", connected(destination), at(address));
                self.unreachable.seems_over(message);
                self.address = address;
            }
            Report::Delivered(outcome) => self.on_delivered(outcome),
            Report::Ended => self.has_ended = true,
        }
    }

    fn on_delivered(&mut self, outcome: Outcome) {
        let Self { destination, dropping, unreachable, count, .. } = self;
        count.sent += outcome.sent;
        count.dropped += outcome.dropped;
        count.lost += outcome.lost;
        count.errors += outcome.errors;
        match outcome.reason {
            Some(DropReason::NotConnected) => {
                if !unreachable.is_raised() && !dropping.is_raised() {
                    unreachable.raise(format!("not connected to {destination} yet: metrics are dropped until then"));
                }
            }
            Some(DropReason::ConnectionLost(error)) => {
                dropping.raise(format!("the connection to {destination} broke, so metrics may be lost: {error}"));
            }
            Some(reason) => dropping.raise(format!("metrics for {destination} are dropped: {reason}")),
            None => {
                unreachable.ok(|| format!("{} {destination}{}", connected(destination), at(self.address)));
                let was_dropping = dropping.is_raised();
                dropping.ok(|| match destination.is_lossy() {
                    // It is not known whether anything arrives.
                    true => format!("sending to {destination}{} without errors again", at(self.address)),
                    false => format!("metrics for {destination} are no longer dropped"),
                });
                // While datagrams are refused, another address may be in use only for a trial.
                if !dropping.is_raised() {
                    self.on_good_address(was_dropping && self.destination.is_lossy());
                }
            }
        }
    }

    /// Logs a new address of the server. If its name resolves to one of several addresses in turn, each is logged once.
    fn on_good_address(&mut self, is_logged: bool) {
        let (Some(address), Some(before)) = (self.address, self.good_address) else {
            self.good_address = self.address;
            self.logged_addresses.extend(self.address);
            return;
        };
        if address == before {
            return;
        }
        self.good_address = Some(address);
        let destination = &self.destination;
        let message = format!("now {} {destination} at {address}", connected(destination));
        if self.logged_addresses.contains(&address) {
            debug!("{message}");
        } else {
            if !is_logged {
                info!("{message}");
            }
            self.logged_addresses.push_back(address);
            if self.logged_addresses.len() > MAX_LOGGED_ADDRESSES {
                self.logged_addresses.pop_front();
            }
        }
    }
}

/// How to log a connection: over UDP it is never known whether a server is there.
fn connected(destination: &Destination) -> &'static str {
    if destination.is_lossy() { "sending to" } else { "connected to" }
}

/// The address as the end of a message.
fn at(address: Option<SocketAddr>) -> String {
    address.map_or_else(String::new, |address| format!(" at {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(urls: &[&str]) -> Servers {
        let timing = Timing { interval: Duration::from_secs(1), spread: 0.5, resolve_every: Duration::from_secs(60) };
        let destinations = urls.iter().map(|url| url.parse().unwrap()).collect();
        Servers::new(Settings { destinations, timing, max_datagram: MaxDatagram::Auto })
    }

    /// Over TCP and unix sockets, dropped datagrams were mostly not sent; over UDP they were sent and then lost.
    #[test]
    fn servers_count_and_name_the_unreached_one() {
        let mut servers = servers(&["udp://a", "tcp://b", "tcp://c"]);
        assert!(servers.first_unreached().is_none());
        let mut deliver = |server, sent, dropped, lost| {
            let outcome = Outcome { sent, dropped, lost, errors: u64::from(dropped > 0), reason: None };
            servers.on_report(server, Report::Delivered(outcome));
        };
        deliver(0, 2, 2, 1);
        deliver(1, 1, 30, 0);
        deliver(2, 0, 3, 0);
        deliver(2, 2, 5, 2);
        let count = servers.count().unwrap();
        assert_eq!((count.sent, count.dropped, count.lost, count.errors), (5, 40, 3, 4));
        assert_eq!(servers.first_unreached().unwrap().to_string(), "tcp://c:8125");
    }

    #[test]
    fn servers_remember_which_addresses_they_have_logged() {
        let mut servers = servers(&["udp://a"]);
        for n in 0..100 {
            let address = SocketAddr::from(([10, 1, 0, 1 + n % 3], 8125));
            servers.on_report(0, Report::Connected(Some(address)));
            servers.on_report(0, Report::Delivered(Outcome { sent: 1, ..Outcome::default() }));
            assert_eq!(servers.servers[0].good_address, Some(address));
        }
        assert_eq!(servers.servers[0].logged_addresses.len(), 3);
        for n in 0..200 {
            servers.on_report(0, Report::Connected(Some(([10, 2, 0, n], 8125).into())));
            servers.on_report(0, Report::Delivered(Outcome { sent: 1, ..Outcome::default() }));
        }
        assert_eq!(servers.servers[0].logged_addresses.len(), MAX_LOGGED_ADDRESSES);
    }
}
