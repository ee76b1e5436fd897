//! What a sender reports to the daemon.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::statsd::socket::{SendError, Unreachable};

/// What the daemon is to know.
#[derive(Debug)]
pub enum Report {
    /// The destination cannot be resolved or connected to.
    Unreachable(Unreachable),
    /// It is connected to, at this address if it has one.
    Connected(Option<SocketAddr>),
    /// What became of a batch.
    Delivered(Outcome),
    /// The thread has ended.
    Ended,
}

/// What became of the datagrams of a batch.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Taken by the kernel.
    pub sent: u64,
    /// Not sent, or lost after that.
    pub dropped: u64,
    /// Lost after they were sent: refused by the server, or on their way in a connection that broke.
    pub lost: u64,
    /// Batches of which something was dropped.
    pub errors: u64,
    /// Why the first was dropped.
    pub reason: Option<DropReason>,
}

impl Outcome {
    /// Adds dropped datagrams.
    pub fn drop(&mut self, datagrams: usize, reason: DropReason) {
        self.dropped += datagrams as u64;
        self.errors = self.errors.max(1);
        self.reason.get_or_insert(reason);
    }

    /// Adds datagrams that were sent and are lost.
    pub fn lose(&mut self, datagrams: usize, reason: DropReason) {
        if datagrams > 0 {
            self.lost += datagrams as u64;
            self.drop(datagrams, reason);
        }
    }
}

/// Why datagrams were dropped.
#[derive(Debug)]
pub enum DropReason {
    /// There was no connection; why was [reported](Report::Unreachable) when it failed.
    NotConnected,
    /// They were unsent when the next batch came.
    Late,
    /// The server does not read, or its socket has failed.
    Send(SendError),
    /// The connection broke after they were sent.
    ConnectionLost(io::Error),
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConnected => f.write_str("not connected"),
            Self::Late => f.write_str("not sent before the next poll"),
            Self::Send(error) => error.fmt(f),
            Self::ConnectionLost(error) => error.fmt(f),
        }
    }
}

impl Error for DropReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotConnected | Self::Late => None,
            Self::Send(error) => Some(error),
            Self::ConnectionLost(error) => Some(error),
        }
    }
}

/// Errors of the system cannot be cloned.
pub fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}
