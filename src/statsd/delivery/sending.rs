//! A batch on its way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::statsd::batch::Batch;
use crate::statsd::datagrams::Datagrams;
use crate::statsd::delivery::report::{DropReason, Outcome};
use crate::statsd::pacing::{Pace, Timing};
use crate::statsd::socket::SendError;

/// How long a datagram waits for a server that does not read: until the next poll, within these limits.
const MIN_STALL: Duration = Duration::from_millis(100);
const MAX_STALL: Duration = Duration::from_secs(10);

/// A batch on its way.
#[derive(Debug)]
pub struct Sending {
    /// The datagrams, cut for the path.
    pub datagrams: Datagrams,
    /// What they were cut for.
    max_datagram: Option<usize>,
    /// The next datagram.
    pub next: usize,
    /// When its burst is due.
    pub due: Instant,
    /// The burst that has begun: the datagram after it, and how long each may wait for a slow reader.
    burst: Option<(usize, Instant)>,
    /// `None` before the first burst.
    pace: Option<Pace>,
    /// When the next batch is expected.
    pub expires: Instant,
    /// The socket was open when the batch came, and may be stale.
    pub check_peer: bool,
    /// Why the socket had to be replaced.
    pub broken: Option<SendError>,
    /// What has become of the datagrams.
    pub outcome: Outcome,
}

impl Sending {
    /// Nothing has been sent.
    pub fn new(batch: Arc<Batch>, interval: Duration, check_peer: bool, now: Instant) -> Self {
        Self {
            datagrams: Datagrams::new(batch),
            max_datagram: None,
            next: 0,
            due: now,
            burst: None,
            pace: None,
            expires: now + interval,
            check_peer,
            broken: None,
            outcome: Outcome::default(),
        }
    }

    /// Whether all has been sent.
    pub fn is_over(&self) -> bool {
        self.next == self.datagrams.count()
    }

    /// Whether a burst is over.
    pub fn is_burst_over(&self) -> bool {
        self.is_over() || self.burst.is_some_and(|(end, _)| self.next == end)
    }

    /// Repacks the unsent datagrams for the limit of a path.
    pub fn limit(&mut self, max_datagram: Option<usize>) {
        if self.max_datagram != max_datagram {
            self.max_datagram = max_datagram;
            max_datagram.into_iter().for_each(|max| self.datagrams.limit(self.next, max));
            (self.pace, self.burst) = (None, None);
        }
    }

    /// How long a datagram waits for a server that does not read.
    pub fn max_stall(&self, now: Instant) -> Duration {
        self.expires.saturating_duration_since(now).clamp(MIN_STALL, MAX_STALL)
    }

    /// The time until which the next datagram may wait for a slow reader, as the first of a burst if none has begun.
    pub fn deadline(&mut self, timing: &Timing, stall: Duration, now: Instant) -> Instant {
        let left = self.datagrams.count() - self.next;
        let pace = *self.pace.get_or_insert_with(|| {
            let left_time = self.expires.saturating_duration_since(now);
            let window = timing.window().min(left_time);
            Pace::new(left, self.datagrams.longest(self.next), window, timing.pause())
        });
        self.burst.get_or_insert_with(|| (self.next + pace.burst.min(left), now + stall)).1
    }

    /// A burst that was late, as on a busy machine, is not made up for by all the bursts that are due: the next one
    /// comes half a gap later at the earliest.
    pub fn end_burst(&mut self, now: Instant) {
        let gap = self.pace.map_or(Duration::ZERO, |pace| pace.gap);
        self.due = (self.due + gap).max(now + gap / 2);
        self.burst = None;
    }

    /// Drops the unsent datagrams.
    pub fn drop_rest(&mut self, reason: DropReason) {
        self.outcome.drop(self.datagrams.count() - self.next, reason);
        self.next = self.datagrams.count();
    }
}
