//! Delivery to one server, as a state machine without I/O: events and the time go in, actions come out. The thread,
//! clock and socket around it are in `sender`.
//!
//! What is unsent when the next batch comes is dropped and counted: there are never more than two.

pub mod report;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::statsd::batch::Batch;
use crate::statsd::delivery::report::{DropReason, Outcome, Report};
use crate::statsd::destination::Destination;
use crate::statsd::mailbox::End;
use crate::statsd::pacing::{Pace, Timing};
use crate::statsd::resolver::Resolver;
use crate::statsd::socket::{SendError, Unreachable};

/// Time from a failed attempt to connect or to resolve to the next one: at first, and at most.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);

/// How long a datagram waits for a slow reader: until the next poll within these limits.
const MIN_STALL: Duration = Duration::from_millis(100);
const MAX_STALL: Duration = Duration::from_secs(10);

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// There are gauges to send.
    Batch(Arc<Batch>),
    /// So many datagrams, of so many batches, were replaced by newer ones before they could be taken.
    Replaced(usize, u64),
    /// The destination is to be resolved and connected to again.
    Reopen,
    /// The sender is to end.
    End(End),
    /// A look-up has ended.
    Resolved(io::Result<Vec<SocketAddr>>),
    /// The answer to [`Action::Open`]: the address of the server, if it has one.
    Opened(Result<Option<SocketAddr>, Unreachable>),
    /// The answer to [`Action::CheckPeer`]: whether the server is gone.
    Checked(bool),
    /// The answer to [`Action::Send`].
    Sent(Result<(), SendError>),
    /// The answer to [`Action::CheckRefusal`].
    Refusal(Option<io::Error>),
}

/// What to do next.
#[derive(Debug)]
pub enum Action {
    /// Look the name up, without waiting for the result.
    Resolve,
    /// Open a socket to the first of the [addresses](Delivery::addresses) that works.
    Open,
    /// Find out whether the server is still at the other end.
    CheckPeer,
    /// Send this [datagram](Delivery::datagram). A slow reader may be waited for until this time.
    Send(usize, Instant),
    /// Find out whether the last datagram was refused.
    CheckRefusal,
    /// Close the socket.
    Close(Close),
    /// Report to the daemon.
    Report(Report),
    /// Wait for an event, or for this time if there is one.
    Wait(Option<Instant>),
    /// End the thread.
    Exit,
}

/// How to close a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// At once.
    Now,
    /// So that the server does not take a cut line for a whole one.
    Reset,
    /// After the server has read everything.
    Finish,
}

/// The state of the delivery to one server.
#[derive(Debug)]
pub struct Delivery {
    is_stream: bool,
    timing: Timing,
    resolver: Resolver,
    connection: Connection,
    backoff: Backoff<Duration>,
    sending: Option<Sending>,
    end: Option<End>,
    /// Actions that come before any other.
    queue: VecDeque<Action>,
}

#[derive(Debug, Clone, Copy)]
enum Connection {
    /// Not tried before this time.
    Closed(Instant),
    /// To this address, if the server has one.
    Open(Option<SocketAddr>),
}

/// A batch on its way.
#[derive(Debug)]
struct Sending {
    batch: Arc<Batch>,
    /// The next datagram.
    next: usize,
    /// When its burst is due.
    due: Instant,
    /// The burst that has begun: the datagram after it, and how long each may wait for a slow reader.
    burst: Option<(usize, Instant)>,
    /// `None` before the first burst.
    pace: Option<Pace>,
    /// When the next batch is expected.
    expires: Instant,
    /// The socket was open when the batch came, and may be stale.
    check_peer: bool,
    /// Why the socket had to be replaced.
    broken: Option<SendError>,
    outcome: Outcome,
}

impl Sending {
    fn drop_rest(&mut self, reason: DropReason) {
        self.outcome.drop(self.batch.datagrams() - self.next, reason);
        self.next = self.batch.datagrams();
    }

    /// A burst that was late, as on a busy machine, is not made up for by all the bursts that are due: the next one
    /// comes half a gap later at the earliest.
    fn end_burst(&mut self, now: Instant) {
        let gap = self.pace.map_or(Duration::ZERO, |pace| pace.gap);
        self.due = (self.due + gap).max(now + gap / 2);
        self.burst = None;
    }
}

impl Delivery {
    /// Not connected, and nothing to send.
    pub fn new(destination: &Destination, timing: Timing, now: Instant) -> Self {
        let max_retry = timing.interval.clamp(RETRY, MAX_RETRY);
        Self {
            is_stream: destination.is_stream(),
            timing,
            resolver: Resolver::new(destination.host(), timing.resolve_every, max_retry, now),
            connection: Connection::Closed(now),
            backoff: Backoff::new(RETRY, max_retry),
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
        self.sending.as_ref().map_or(&[], |sending| sending.batch.datagram(n))
    }

    /// Takes an event.
    pub fn on(&mut self, event: Event, now: Instant) {
        match event {
            Event::Batch(batch) => self.on_batch(batch, now),
            Event::Replaced(datagrams, batches) => {
                self.finish_batch();
                let mut outcome = Outcome::default();
                outcome.drop(datagrams, self.drop_reason());
                outcome.errors = batches;
                self.queue.push_back(Action::Report(Report::Delivered(outcome)));
            }
            Event::Reopen => {
                self.close(Close::Finish, now);
                self.resolver.expire_now(now);
            }
            Event::End(end) => self.on_end(end, now),
            Event::Resolved(result) => self.on_resolved(result, now),
            Event::Opened(result) => self.on_opened(result, now),
            Event::Checked(is_gone) => {
                if is_gone {
                    self.close(Close::Now, now);
                }
            }
            Event::Sent(result) => self.on_sent(result, now),
            Event::Refusal(refusal) => {
                if let (Some(error), Some(sending)) = (refusal, &mut self.sending) {
                    sending.outcome.drop(1, DropReason::Send(SendError::Refused(error)));
                    self.resolver.expire(now);
                }
                self.finish_batch();
            }
        }
    }

    /// The next thing to do. To be called again once it is done and its answer, if it has one, is [taken](Self::on).
    pub fn next(&mut self, now: Instant) -> Action {
        loop {
            if let Some(action) = self.queue.pop_front() {
                return action;
            }
            if self.resolver.start(now) {
                return Action::Resolve;
            }
            let Some(sending) = &mut self.sending else {
                match (self.end, self.connection) {
                    (None, _) => return Action::Wait(self.resolver.due()),
                    (Some(End::Finish), Connection::Open(_)) => self.close(Close::Finish, now),
                    (Some(_), _) => return Action::Exit,
                }
                continue;
            };
            match self.connection {
                Connection::Open(_) if sending.next == sending.batch.datagrams() => return Action::CheckRefusal,
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
                // Only a stream is expensive to open. Others are tried for each batch.
                *retry_at = if self.is_stream { *retry_at } else { now };
                false
            }
        };
        self.sending = Some(Sending {
            batch,
            next: 0,
            due: now,
            burst: None,
            pace: None,
            expires: now + self.timing.interval,
            check_peer,
            broken: None,
            outcome: Outcome::default(),
        });
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
            // The server may have moved: away from the peer, or to an address that can be connected to.
            Ok(true) => match self.connection {
                Connection::Open(Some(peer)) if self.addresses().contains(&peer) => {}
                _ => self.close(Close::Finish, now),
            },
            Ok(false) => {}
            Err(error) => self.queue.push_back(Action::Report(Report::Unreachable(error))),
        }
    }

    fn on_opened(&mut self, result: Result<Option<SocketAddr>, Unreachable>, now: Instant) {
        let report = match result {
            Ok(peer) => {
                self.connection = Connection::Open(peer);
                self.backoff.reset();
                Report::Connected(peer)
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

    /// Sends the next datagram, as the first of a burst if none has begun.
    fn send(&mut self, now: Instant) -> Action {
        let Some(sending) = &mut self.sending else { return Action::Wait(None) };
        let left = sending.expires.saturating_duration_since(now);
        let pace = *sending.pace.get_or_insert_with(|| Pace::of(&sending.batch, self.timing.window().min(left)));
        let (_, deadline) = *sending.burst.get_or_insert_with(|| {
            let end = sending.batch.datagrams().min(sending.next + pace.burst);
            // To give up a stream is expensive.
            let stall = if self.is_stream { self.timing.peer_timeout() } else { left.clamp(MIN_STALL, MAX_STALL) };
            (end, now + stall)
        });
        Action::Send(sending.next, deadline)
    }

    fn on_sent(&mut self, result: Result<(), SendError>, now: Instant) {
        let Some(sending) = &mut self.sending else { return };
        let (mut close, mut retry_at) = (None, now);
        match result {
            Ok(()) => {
                sending.outcome.sent += 1;
                sending.next += 1;
            }
            Err(error @ SendError::Dropped(_)) => {
                sending.outcome.drop(1, DropReason::Send(error));
                sending.next += 1;
            }
            Err(error @ SendError::Refused(_)) => {
                // Not this datagram but the one before it. The server may listen on another of its addresses.
                sending.outcome.drop(1, DropReason::Send(error));
                self.resolver.expire(now);
                close = self.resolver.rotate().then_some(Close::Now);
            }
            Err(error @ SendError::Stalled) => {
                sending.drop_rest(DropReason::Send(error));
                (close, retry_at) = (self.is_stream.then_some(Close::Reset), now + RETRY);
            }
            Err(error @ SendError::Broken(_)) => {
                match sending.broken {
                    Some(_) => sending.drop_rest(DropReason::Send(error)),
                    None => sending.broken = Some(error),
                }
                self.resolver.expire(now);
                close = Some(Close::Now);
            }
        }
        let is_over = sending.next == sending.batch.datagrams();
        if is_over || close.is_some() || sending.burst.is_some_and(|(end, _)| sending.next == end) {
            sending.end_burst(now);
        }
        if let Some(close) = close {
            self.close(close, retry_at);
            if is_over {
                self.finish_batch();
            }
        }
    }

    /// Reports what became of the batch. What is unsent is dropped.
    fn finish_batch(&mut self) {
        let Some(mut sending) = self.sending.take() else { return };
        if sending.next < sending.batch.datagrams() {
            let reason = sending.broken.take().map_or_else(|| self.drop_reason(), DropReason::Send);
            sending.drop_rest(reason);
        }
        self.queue.push_back(Action::Report(Report::Delivered(sending.outcome)));
    }

    fn drop_reason(&self) -> DropReason {
        match self.connection {
            Connection::Open(_) => DropReason::Late,
            Connection::Closed(_) => DropReason::NotConnected,
        }
    }

    fn close(&mut self, close: Close, retry_at: Instant) {
        if let Connection::Open(_) = self.connection {
            self.queue.push_back(Action::Close(close));
        }
        self.connection = Connection::Closed(retry_at);
    }
}

fn earlier(one: Option<Instant>, other: Instant) -> Instant {
    one.map_or(other, |one| one.min(other))
}
