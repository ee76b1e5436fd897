//! The socket to a server, as the state machine sees it.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::statsd::delivery::report::DropReason;

/// Whether there is a socket.
#[derive(Debug)]
pub enum Connection {
    /// Not tried before this time.
    Closed(Instant),
    /// Open.
    Open(Open),
}

impl Connection {
    /// Why datagrams are unsent when their time is over.
    pub fn drop_reason(&self) -> DropReason {
        match self {
            Self::Open(_) => DropReason::Late,
            Self::Closed(_) => DropReason::NotConnected,
        }
    }
}

/// What is known of an open socket when it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The address of the server, if it has one.
    pub peer: Option<SocketAddr>,
    /// Bytes of the longest datagram that the path takes, if that is known.
    pub max_datagram: Option<usize>,
}

/// An open socket.
#[derive(Debug)]
pub struct Open {
    /// The address of the server, if it has one.
    pub peer: Option<SocketAddr>,
    /// Bytes of the longest datagram that the path takes, if that is known.
    pub max_datagram: Option<usize>,
    /// When it was opened.
    pub since: Instant,
    /// The server has refused a datagram.
    pub has_refused: bool,
    /// The datagrams of each batch that may be on their way.
    sent: VecDeque<(Instant, usize)>,
}

impl Open {
    /// Nothing has been sent.
    pub fn new(opened: Opened, now: Instant) -> Self {
        let Opened { peer, max_datagram } = opened;
        Self { peer, max_datagram, since: now, has_refused: false, sent: VecDeque::from([(now, 0)]) }
    }

    /// The path takes no longer datagrams than this.
    pub fn limit(&mut self, max: usize) {
        self.max_datagram = Some(self.max_datagram.map_or(max, |known| known.min(max)));
    }

    /// A batch begins. Those that are `older` have arrived.
    pub fn begin_batch(&mut self, older: Duration, now: Instant) {
        self.sent.retain(|&(time, datagrams)| datagrams > 0 && now.duration_since(time) <= older);
        self.sent.push_back((now, 0));
    }

    /// A datagram has been sent.
    pub fn on_sent(&mut self) {
        if let Some((_, datagrams)) = self.sent.back_mut() {
            *datagrams += 1;
        }
    }

    /// How many datagrams this error may have cost: after a time-out all that were not acknowledged before it, else the
    /// ones of the last batch.
    pub fn lost(&mut self, error: &io::Error) -> usize {
        let sent = std::mem::take(&mut self.sent);
        let batches = if error.kind() == ErrorKind::TimedOut { sent.len() } else { 1 };
        sent.iter().rev().take(batches).map(|(_, datagrams)| datagrams).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_counts_what_may_be_lost() {
        const OLDER: Duration = Duration::from_secs(6);
        let start = Instant::now();
        for (error, expected) in [(ErrorKind::TimedOut, 3 + 4), (ErrorKind::ConnectionReset, 4)] {
            let mut open = Open::new(Opened { peer: None, max_datagram: None }, start);
            for (second, datagrams) in [(0, 1), (1, 2), (4, 3), (8, 4)] {
                open.begin_batch(OLDER, start + Duration::from_secs(second));
                (0..datagrams).for_each(|_| open.on_sent());
            }
            assert_eq!(open.lost(&error.into()), expected, "{error}");
            assert_eq!(open.lost(&error.into()), 0, "once");
        }
    }
}
