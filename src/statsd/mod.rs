//! Delivery of gauges to statsd servers: a sender for each, its counts, and what the log says of it.

pub mod batch;
pub mod delivery;
pub mod destination;
pub mod line;
pub mod mailbox;
pub mod pacing;
pub mod probe;
pub mod resolver;
pub mod sender;
pub mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use log::info;

use crate::logging::throttle::Throttle;
use crate::statsd::batch::Batch;
use crate::statsd::delivery::report::{DropReason, Outcome, Report};
use crate::statsd::destination::Destination;
use crate::statsd::mailbox::End;
use crate::statsd::pacing::{Pace, Timing};
use crate::statsd::sender::Sender;

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
    servers: Vec<Server>,
    timing: Timing,
    too_fast: Throttle,
}

/// One server.
struct Server {
    destination: Destination,
    /// `None` before the start.
    sender: Option<Sender>,
    has_ended: bool,
    count: Count,
    unreachable: Throttle,
    dropping: Throttle,
    /// The address it was last connected to at, and the one of the last good delivery.
    address: Option<SocketAddr>,
    good_address: Option<SocketAddr>,
}

/// What became of datagrams.
#[derive(Debug, Default, Clone, Copy)]
pub struct Count {
    /// Taken by the kernel.
    pub sent: u64,
    /// Not sent, or refused by the server.
    pub dropped: u64,
    /// Polls of which something was dropped.
    pub errors: u64,
}

impl Servers {
    /// Nothing is sent before the [start](Self::start).
    pub fn new(destinations: Vec<Destination>, timing: Timing) -> Self {
        let server = |destination| Server {
            destination,
            sender: None,
            has_ended: false,
            count: Count::default(),
            unreachable: Throttle::default(),
            dropping: Throttle::default(),
            address: None,
            good_address: None,
        };
        Self { servers: destinations.into_iter().map(server).collect(), timing, too_fast: Throttle::default() }
    }

    /// Starts a thread for each; `report` gets the number of the server and what it reports.
    pub fn start(&mut self, report: impl Fn(usize, Report) + Clone + Send + 'static) -> io::Result<()> {
        for (n, server) in self.servers.iter_mut().enumerate() {
            let report = report.clone();
            let sender = Sender::start(server.destination.clone(), self.timing, move |what| report(n, what))?;
            server.sender = Some(sender);
        }
        Ok(())
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
        let pace = Pace::of(batch, window);
        // Other servers slow the sender down.
        if pace.is_too_fast && self.destinations().any(Destination::is_lossy) {
            self.too_fast.raise(too_fast(&pace, window));
        } else {
            self.too_fast.ok(|| format!("the datagrams of a poll fit into {window:?} again"));
        }
        self.senders().for_each(|sender| sender.send(batch));
    }

    /// Has all destinations resolved and connected to again.
    pub fn reopen(&self) {
        self.senders().for_each(Sender::reopen);
    }

    /// Has the senders end; see [`have_ended`](Self::have_ended).
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

    /// The counts of all servers together; `None` without servers.
    pub fn count(&self) -> Option<Count> {
        self.servers.iter().map(|server| server.count).reduce(|one, other| Count {
            sent: one.sent + other.sent,
            dropped: one.dropped + other.dropped,
            errors: one.errors + other.errors,
        })
    }

    /// The first server for which there were gauges, all of which were dropped.
    pub fn without_gauges(&self) -> Option<&Destination> {
        let all_dropped = |Count { sent, dropped, .. }: Count| dropped > 0 && sent <= dropped;
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
                self.unreachable.clear(|| format!("connected to {destination}{}", at(address)));
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
        count.errors += outcome.errors;
        match outcome.reason {
            Some(DropReason::NotConnected) => {
                if !unreachable.is_raised() && !dropping.is_raised() {
                    unreachable.raise(format!("not connected to {destination} yet: metrics are dropped until then"));
                }
            }
            Some(reason) => dropping.raise(format!("metrics for {destination} are dropped: {reason}")),
            None => {
                dropping.ok(|| format!("metrics for {destination} are no longer dropped"));
                // While it is refused, another of its addresses may only have been tried.
                if self.good_address != self.address && !dropping.is_raised() {
                    if self.good_address.is_some() {
                        info!("now connected to {destination}{}", at(self.address));
                    }
                    self.good_address = self.address;
                }
            }
        }
    }
}

/// The address, to end a message.
fn at(address: Option<SocketAddr>) -> String {
    address.map_or_else(String::new, |address| format!(" at {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(urls: &[&str]) -> Servers {
        let timing = Timing { interval: Duration::from_secs(1), spread: 0.5, resolve_every: Duration::from_secs(60) };
        Servers::new(urls.iter().map(|url| url.parse().unwrap()).collect(), timing)
    }

    #[test]
    fn servers_count_and_name_the_one_without_gauges() {
        let mut servers = servers(&["udp://a", "tcp://b"]);
        assert!(servers.without_gauges().is_none());
        let mut deliver = |server, sent, dropped| {
            let outcome = Outcome { sent, dropped, errors: u64::from(dropped > 0), reason: None };
            servers.on_report(server, Report::Delivered(outcome));
        };
        deliver(0, 2, 1);
        deliver(1, 1, 1);
        deliver(0, 2, 0);
        let count = servers.count().unwrap();
        assert_eq!((count.sent, count.dropped, count.errors), (5, 2, 2));
        assert_eq!(servers.without_gauges().unwrap().to_string(), "tcp://b:8125");
    }
}
