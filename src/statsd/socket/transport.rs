//! What a transport has to implement, and what its errors mean for delivery.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// An open socket to a server. It is closed when it is dropped.
pub trait Socket {
    /// Sends one datagram of at most [`max_datagram`](Self::max_datagram) bytes. Waits for a slow reader until
    /// `deadline`; only TCP may take longer, if the peer reads a little now and then.
    fn send(&mut self, datagram: &[u8], deadline: Instant) -> Result<(), SendError>;

    /// What `--check` reports if nothing failed.
    fn verdict(&self) -> &'static str;

    /// The address of the server, if it has one.
    fn peer(&self) -> Option<SocketAddr> {
        None
    }

    /// Bytes of the longest datagram that the path takes whole, as far as is known.
    fn max_datagram(&self) -> Option<usize> {
        None
    }

    /// A refusal of the last datagram, which otherwise the next [`send`](Self::send) would return.
    fn refusal(&self) -> Option<SendError> {
        None
    }

    /// What is known of the server at the other end.
    fn peer_state(&mut self) -> PeerState {
        PeerState::Present
    }

    /// Waits until the server has read everything, but not beyond `deadline`. Returns why it cannot any more.
    fn finish(&mut self, _deadline: Instant) -> Option<io::Error> {
        None
    }

    /// Prepares a close after which the server discards the last line, which may be cut.
    fn reset(&mut self) {}
}

/// What is known of the server at the other end of a socket.
#[derive(Debug)]
pub enum PeerState {
    /// Nothing has come that says otherwise.
    Present,
    /// It has gone. Everything was read.
    Gone,
    /// It has gone, or refuses: what was sent last may be lost.
    Failed(SendError),
}

/// Why a datagram was not sent, and what that means for it and the socket.
#[derive(Debug)]
pub enum SendError {
    /// The datagram before it was refused. This one was not tried.
    Refused(io::Error),
    /// The datagram before it was too long for the path, which [takes](Socket::max_datagram) less than was known. This
    /// one was not tried.
    TooLong(Option<usize>),
    /// It is dropped. The next one may be sent.
    Dropped(io::Error),
    /// The server does not read.
    Stalled,
    /// The socket is of no more use. Another one may send it.
    Broken(io::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) | Self::Dropped(error) | Self::Broken(error) => error.fmt(f),
            Self::TooLong(Some(max)) => write!(f, "too long for the path, which takes {max} bytes"),
            Self::TooLong(None) => f.write_str("too long for the path"),
            Self::Stalled => f.write_str("the server does not read"),
        }
    }
}

impl Error for SendError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Refused(error) | Self::Dropped(error) | Self::Broken(error) => Some(error),
            Self::TooLong(_) | Self::Stalled => None,
        }
    }
}

/// Whether the kernel has no memory for a datagram now, or never for one of this size: the socket is sound.
pub fn is_temporary(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EMSGSIZE))
}

/// The time left until `deadline`, as a timeout of a socket, for which 0 would mean none.
pub fn timeout(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// Repeats a call that a signal interrupts.
pub fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
