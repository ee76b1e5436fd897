//! Delivery to one server, as a state machine without I/O: events and the time go in, actions come out. The thread,
//! clock and socket around it are in `sender`.
//!
//! Datagrams that are unsent when the next batch comes are dropped and counted. So at most two batches are held: the
//! one being sent, and the next one in the mailbox.

mod connection;
mod protocol;
pub mod report;
mod sending;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::statsd::batch::Batch;
pub use crate::statsd::delivery::connection::Opened;
use crate::statsd::delivery::connection::{Connection, Open};
pub use crate::statsd::delivery::protocol::{Action, Close, End, Event};
use crate::statsd::delivery::report::{DropReason, Outcome, Report};
use crate::statsd::delivery::sending::Sending;
use crate::statsd::destination::Destination;
use crate::statsd::pacing::Timing;
use crate::statsd::resolver::Resolver;
use crate::statsd::socket::{PeerState, SendError, Unreachable};

/// Time from a failed attempt to connect or to resolve to the next one: at first, and at most.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// The state of the delivery to one server.
#[derive(Debug)]
pub struct Delivery {
    is_stream: bool,
    /// Datagrams are dropped silently, and the socket may be replaced at any time.
    is_lossy: bool,
    timing: Timing,
    resolver: Resolver,
    connection: Connection,
    /// The socket that is being closed by [`Close::Finish`].
    finishing: Option<Open>,
    backoff: Backoff<Duration>,
    /// When an empty datagram was sent to the [refused](Resolver::refused) address. Its refusal is checked later.
    probed: Option<Instant>,
    /// An address, and the longest datagram that the path to it takes, as a refusal showed.
    path_limit: Option<(SocketAddr, usize)>,
    sending: Option<Sending>,
    end: Option<End>,
    /// Actions that come before any other.
    queue: VecDeque<Action>,
}

impl Delivery {
    /// Not connected, and nothing to send.
    pub fn new(destination: &Destination, timing: Timing, now: Instant) -> Self {
        let max_retry = timing.interval.clamp(RETRY, MAX_RETRY);
        Self {
            is_stream: destination.is_stream(),
            is_lossy: destination.is_lossy(),
            timing,
            resolver: Resolver::new(destination.host(), timing.resolve_every, max_retry, now),
            connection: Connection::Closed(now),
            finishing: None,
            backoff: Backoff::new(RETRY, max_retry),
            probed: None,
            path_limit: None,
            sending: None,
            end: None,
            queue: VecDeque::new(),
        }
    }

    /// The addresses of the server, in the order to try them in.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.resolver.addresses()
    }

    /// A datagram of the batch that is being sent.
    pub fn datagram(&self, n: usize) -> &[u8] {
        self.sending.as_ref().map_or(&[], |sending| sending.datagrams.get(n))
    }

    /// Handles an event.
    pub fn on(&mut self, event: Event, now: Instant) {
        match event {
            Event::Batch(batch) => self.on_batch(batch, now),
            Event::Replaced(datagrams, batches) => {
                self.finish_batch();
                let mut outcome = Outcome::default();
                outcome.drop(datagrams, self.connection.drop_reason());
                outcome.errors = batches;
                self.queue.push_back(Action::Report(Report::Delivered(outcome)));
            }
            Event::Reopen => {
                self.close(Close::Finish, now);
                self.resolver.expire_now(now);
                self.path_limit = None;
            }
            Event::End(end) => self.on_end(end, now),
            Event::Resolved(result) => self.on_resolved(result, now),
            Event::Opened(result) => self.on_opened(result, now),
            Event::Checked(state) => self.on_checked(state, now),
            Event::Probed(works) => {
                self.probed = None;
                if works {
                    self.resolver.restore();
                    self.close(Close::Now, now);
                } else {
                    self.probe_refused(now);
                }
            }
            Event::Sent(result) => self.on_sent(result, now),
            Event::Refusal(refusal) => {
                refusal.into_iter().for_each(|error| self.on_refusal(error, now));
                self.finish_batch();
                if matches!(&self.connection, Connection::Open(open) if open.has_refused) {
                    self.close(Close::Now, now);
                }
            }
            Event::Finished(error) => {
                if let (Some(error), Some(mut open)) = (error, self.finishing.take()) {
                    self.lose(open.lost(&error), DropReason::ConnectionLost(error));
                }
            }
        }
    }

    /// The next thing to do. To be called again once that is done and its result, if any, is [handled](Self::on).
    pub fn next(&mut self, now: Instant) -> Action {
        loop {
            if let Some(action) = self.queue.pop_front() {
                return action;
            }
            if self.resolver.start(now) {
                return Action::Resolve;
            }
            let Some(sending) = &mut self.sending else {
                match (self.end, &self.connection) {
                    (None, _) => return Action::Wait(self.resolver.due()),
                    (Some(End::Finish), Connection::Open(_)) => self.close(Close::Finish, now),
                    (Some(_), _) => return Action::Exit,
                }
                continue;
            };
            match self.connection {
                Connection::Open(_) if sending.is_over() => return Action::CheckRefusal,
                _ if now >= sending.expires && self.end.is_none() => self.finish_batch(),
                Connection::Open(_) if std::mem::take(&mut sending.check_peer) => return Action::CheckPeer,
                Connection::Open(_) if now < sending.due => {
                    return Action::Wait(Some(earlier(self.resolver.due(), sending.due)));
                }
                Connection::Open(_) => return self.send(now),
                Connection::Closed(retry_at) if now >= retry_at && !self.resolver.is_unresolved() => {
                    return Action::Open;
                }
                Connection::Closed(_) if self.end.is_some() && self.resolver.in_flight() => {
                    return Action::Wait(None);
                }
                Connection::Closed(_) if self.end.is_some() => self.finish_batch(),
                Connection::Closed(retry_at) => {
                    let retry_at = if self.resolver.is_unresolved() { sending.expires } else { retry_at };
                    return Action::Wait(Some(earlier(self.resolver.due(), retry_at.min(sending.expires))));
                }
            }
        }
    }

    fn on_batch(&mut self, batch: Arc<Batch>, now: Instant) {
        self.finish_batch();
        let check_peer = match &mut self.connection {
            Connection::Open(_) => true,
            Connection::Closed(retry_at) => {
                // Only a stream is expensive to open: other sockets are opened for each batch, without a wait.
                *retry_at = if self.is_stream { *retry_at } else { now };
                false
            }
        };
        self.sending = Some(Sending::new(batch, self.timing.interval, check_peer, now));
        self.probe_refused(now);
    }

    fn on_end(&mut self, end: End, now: Instant) {
        self.end = Some(end);
        if let Connection::Closed(retry_at) = &mut self.connection {
            *retry_at = now;
        }
        if self.resolver.is_unresolved() {
            self.resolver.expire_now(now);
        }
        if end == End::Now {
            self.finish_batch();
        }
    }

    fn on_resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Instant) {
        match self.resolver.resolved(result, now) {
            // The addresses have changed. Connect to a new one, unless the peer is still among them.
            Ok(true) => {
                self.probed = None;
                let peer = if let Connection::Open(open) = &self.connection { open.peer } else { None };
                if !peer.is_some_and(|peer| self.addresses().contains(&peer)) {
                    self.close(Close::Finish, now);
                }
            }
            Ok(false) => {}
            Err(error) => self.queue.push_back(Action::Report(Report::Unreachable(error))),
        }
    }

    fn on_opened(&mut self, result: Result<Opened, Unreachable>, now: Instant) {
        let report = match result {
            Ok(opened) => {
                let mut open = Open::new(opened, now);
                if let Some((_, max)) = self.path_limit.filter(|&(peer, _)| open.peer == Some(peer)) {
                    open.limit(max);
                }
                self.connection = Connection::Open(open);
                if let Some(sending) = &mut self.sending {
                    sending.check_peer = false;
                }
                self.backoff.reset();
                Report::Connected(opened.peer)
            }
            Err(error) => {
                self.connection = Connection::Closed(now + self.backoff.wait());
                self.resolver.expire(now);
                // This error replaces that of the last socket.
                if let Some(sending) = &mut self.sending {
                    sending.broken = None;
                }
                Report::Unreachable(error)
            }
        };
        self.queue.push_back(Action::Report(report));
    }

    fn on_checked(&mut self, state: PeerState, now: Instant) {
        let Connection::Open(open) = &mut self.connection else { return };
        match state {
            PeerState::Present => {
                open.begin_batch(self.timing.ack_timeout() + self.timing.interval, now);
                // A new socket has a new source address and port. Routes may have changed, and NAT may still send
                // datagrams from the old port to a server that has moved.
                if self.is_lossy && (open.has_refused || now >= open.since + self.timing.resolve_every) {
                    self.close(Close::Now, now);
                }
            }
            PeerState::Gone => self.close(Close::Now, now),
            PeerState::Failed(SendError::Broken(error)) => {
                let datagrams = open.lost(&error);
                self.resolver.expire(now);
                self.lose(datagrams, DropReason::ConnectionLost(error));
                self.close(Close::Now, now);
            }
            PeerState::Failed(error) => {
                self.on_refusal(error, now);
                self.close(Close::Now, now);
            }
        }
    }

    /// Probes the preferred address if it has refused: it may accept datagrams again, while the address in use may
    /// discard them silently.
    fn probe_refused(&mut self, now: Instant) {
        let Some(refused) = self.resolver.refused() else { return };
        match self.probed {
            None => {
                self.probed = Some(now);
                self.queue.push_back(Action::Probe(refused));
            }
            Some(probed) if now >= probed + RETRY => self.queue.push_back(Action::CheckProbe),
            Some(_) => {}
        }
    }

    /// Handles the error of a datagram that was sent before: nobody listens, or the path does not take its length.
    fn on_refusal(&mut self, error: SendError, now: Instant) {
        if let Connection::Open(open) = &mut self.connection {
            match error {
                SendError::TooLong(max) => {
                    max.into_iter().for_each(|max| open.limit(max));
                    self.path_limit = open.peer.zip(open.max_datagram);
                }
                _ => {
                    open.has_refused = true;
                    self.resolver.expire(now);
                    self.resolver.rotate();
                }
            }
        }
        self.lose(1, DropReason::Send(error));
    }

    /// Sends the next datagram.
    fn send(&mut self, now: Instant) -> Action {
        let (Some(sending), Connection::Open(open)) = (&mut self.sending, &self.connection) else {
            return Action::Wait(None);
        };
        sending.limit(open.max_datagram);
        // Reopening a stream is expensive, so it waits longer.
        let stall = if self.is_stream { self.timing.peer_timeout() } else { sending.max_stall(now) };
        let deadline = sending.deadline(&self.timing, stall, now);
        Action::Send(sending.next, deadline)
    }

    fn on_sent(&mut self, result: Result<(), SendError>, now: Instant) {
        let (Some(sending), Connection::Open(open)) = (&mut self.sending, &mut self.connection) else { return };
        let (mut close, mut retry_at) = (None, now);
        match result {
            Ok(()) => {
                sending.outcome.sent += 1;
                sending.next += 1;
                open.on_sent();
            }
            Err(error @ SendError::Dropped(_)) => {
                sending.outcome.drop(1, DropReason::Send(error));
                sending.next += 1;
            }
            Err(error @ (SendError::Refused(_) | SendError::TooLong(_))) => {
                // The error is that of the datagram before; this one was not tried and is next again. The server may
                // listen on another of its addresses.
                let peer = open.peer;
                self.on_refusal(error, now);
                close = (peer.as_ref() != self.addresses().first()).then_some(Close::Now);
            }
            Err(error @ SendError::Stalled) => {
                sending.drop_rest(DropReason::Send(error));
                if self.is_stream {
                    let error = ErrorKind::ConnectionReset.into();
                    sending.outcome.lose(open.lost(&error), DropReason::ConnectionLost(error));
                    (close, retry_at) = (Some(Close::Reset), now + RETRY);
                }
            }
            Err(SendError::Broken(error)) => {
                if self.is_stream {
                    sending.outcome.lose(open.lost(&error), DropReason::ConnectionLost(report::copy(&error)));
                }
                let error = SendError::Broken(error);
                match sending.broken {
                    Some(_) => sending.drop_rest(DropReason::Send(error)),
                    None => sending.broken = Some(error),
                }
                self.resolver.expire(now);
                close = Some(Close::Now);
            }
        }
        let Some(sending) = &mut self.sending else { return };
        let is_over = sending.is_over();
        if close.is_some() || sending.is_burst_over() {
            sending.end_burst(now);
        }
        if let Some(close) = close {
            self.close(close, retry_at);
            if is_over {
                self.finish_batch();
            }
        }
    }

    /// Ends the batch and reports its outcome. Unsent datagrams are dropped.
    fn finish_batch(&mut self) {
        let Some(mut sending) = self.sending.take() else { return };
        if !sending.is_over() {
            let reason = sending.broken.take().map_or_else(|| self.connection.drop_reason(), DropReason::Send);
            sending.drop_rest(reason);
        }
        self.queue.push_back(Action::Report(Report::Delivered(sending.outcome)));
    }

    /// Counts datagrams that were sent and then lost.
    fn lose(&mut self, datagrams: usize, reason: DropReason) {
        if let Some(sending) = &mut self.sending {
            sending.outcome.lose(datagrams, reason);
        } else if datagrams > 0 {
            let mut outcome = Outcome::default();
            outcome.lose(datagrams, reason);
            self.queue.push_back(Action::Report(Report::Delivered(outcome)));
        }
    }

    fn close(&mut self, close: Close, retry_at: Instant) {
        if let Connection::Open(open) = std::mem::replace(&mut self.connection, Connection::Closed(retry_at)) {
            self.finishing = (close == Close::Finish).then_some(open);
            self.queue.push_back(Action::Close(close));
        }
    }
}

fn earlier(one: Option<Instant>, other: Instant) -> Instant {
    one.map_or(other, |one| one.min(other))
}
