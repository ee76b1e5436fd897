//! What goes into the state machine, and what comes out of it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::statsd::batch::Batch;
use crate::statsd::delivery::connection::Opened;
use crate::statsd::delivery::report::Report;
use crate::statsd::socket::{PeerState, SendError, Unreachable};

/// How a sender ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// After the current batch is sent or cannot be sent.
    Finish,
    /// At once. What is unsent is dropped.
    Now,
}

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
    /// The answer to [`Action::Open`].
    Opened(Result<Opened, Unreachable>),
    /// The answer to [`Action::CheckPeer`].
    Checked(PeerState),
    /// The answer to [`Action::CheckProbe`]: whether the address has not refused.
    Probed(bool),
    /// The answer to [`Action::Send`].
    Sent(Result<(), SendError>),
    /// The answer to [`Action::CheckRefusal`].
    Refusal(Option<SendError>),
    /// The answer to [`Close::Finish`]: why the server cannot read what was sent last.
    Finished(Option<io::Error>),
}

/// What to do next.
#[derive(Debug)]
pub enum Action {
    /// Look the name up, without waiting for the result.
    Resolve,
    /// Open a socket to the first of the [addresses](super::Delivery::addresses) that works.
    Open,
    /// Find out whether the server is still at the other end.
    CheckPeer,
    /// Send an empty datagram to this address from a socket of its own.
    Probe(SocketAddr),
    /// Find out whether that was refused.
    CheckProbe,
    /// Send this [datagram](super::Delivery::datagram). A slow reader may be waited for until this time.
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
