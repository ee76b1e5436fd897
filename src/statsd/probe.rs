//! `--check`: whether a destination can be reached, at each of its addresses.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fmt, thread};

use crate::statsd::datagrams::MaxDatagram;
use crate::statsd::destination::Destination;
use crate::statsd::resolver;
use crate::statsd::socket::udp::probe_path;
use crate::statsd::socket::{self, Limits, PeerState, SendError, Socket, Unreachable};

/// How long each step may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a refusal is waited for.
const REFUSAL: Duration = Duration::from_millis(300);

/// What was found out about an address of a destination.
#[derive(Debug)]
pub struct Probe {
    /// The address, if there is one.
    pub address: Option<SocketAddr>,
    /// What a success means, or why there is none.
    pub result: Result<Success, ProbeError>,
}

/// What can be said of a destination that nothing has failed at.
#[derive(Debug)]
pub struct Success {
    verdict: &'static str,
    /// Bytes of the datagrams that are sent, and of the longest that the path takes whole, if that is less.
    fragmented: Option<(usize, usize)>,
}

impl fmt::Display for Success {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verdict)?;
        match self.fragmented {
            Some((sent, max)) => {
                write!(
                    f,
                    "; the path takes {max} bytes in one piece, not {sent}: --max-datagram {max} avoids fragments"
                )
            }
            None => Ok(()),
        }
    }
}

/// Why a destination does not work.
#[derive(Debug)]
pub enum ProbeError {
    /// No name server has answered.
    NameServer,
    /// It cannot be resolved or connected to.
    Unreachable(Unreachable),
    /// It was connected to, but a datagram could not be sent, or was refused.
    Send(SendError),
    /// It has closed the connection.
    Closed,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameServer => write!(f, "no name server answered within {TIMEOUT:?}"),
            Self::Unreachable(error) => error.fmt(f),
            Self::Send(error) => error.fmt(f),
            Self::Closed => f.write_str("closed by the server"),
        }
    }
}

impl Error for ProbeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(error),
            Self::Send(error) => Some(error),
            Self::NameServer | Self::Closed => None,
        }
    }
}

/// Resolves and connects to a destination, and sends each of its addresses datagrams that hold no gauge.
pub fn probe(destination: &Destination, max_datagram: MaxDatagram) -> Vec<Probe> {
    let limits = Limits { ack_timeout: TIMEOUT, max_datagram };
    let probe = |address: Option<SocketAddr>| {
        let socket = socket::open(destination, address.as_slice(), limits).map_err(ProbeError::Unreachable);
        Probe { address, result: socket.and_then(|socket| send(socket, destination, max_datagram)) }
    };
    match addresses(destination) {
        Ok(addresses) if addresses.is_empty() => vec![probe(None)],
        Ok(addresses) => addresses.into_iter().map(Some).map(probe).collect(),
        Err(error) => vec![Probe { address: None, result: Err(error) }],
    }
}

/// Sends an empty datagram, and one of full size where that may make a difference: of newlines alone. The kernel learns
/// of the refusal of one, and reports it with the next.
fn send(
    mut socket: Box<dyn Socket>,
    destination: &Destination,
    max_datagram: MaxDatagram,
) -> Result<Success, ProbeError> {
    let send = |socket: &mut Box<dyn Socket>, datagram: &[u8]| {
        socket.send(datagram, Instant::now() + TIMEOUT).map_err(ProbeError::Send)?;
        thread::sleep(REFUSAL);
        socket.refusal().map_or(Ok(()), |error| Err(ProbeError::Send(error)))
    };
    send(&mut socket, b"")?;
    let mut fragmented = None;
    if destination.is_lossy() {
        let longest = max_datagram.longest();
        let max_datagram = socket.max_datagram().map_or(longest, |max| max.min(longest));
        let datagram = vec![b'\n'; max_datagram];
        let path = socket.peer().and_then(|address| probe_path(address, &datagram).ok());
        send(&mut socket, &datagram)?;
        fragmented = path.and_then(|path| path.max()).map(|max| (max_datagram, max));
    } else {
        send(&mut socket, b"")?;
    }
    match socket.peer_state() {
        PeerState::Present => Ok(Success { verdict: socket.verdict(), fragmented }),
        PeerState::Gone => Err(ProbeError::Closed),
        PeerState::Failed(error) => Err(ProbeError::Send(error)),
    }
}

fn addresses(destination: &Destination) -> Result<Vec<SocketAddr>, ProbeError> {
    let Some(host) = destination.host() else { return Ok(Vec::new()) };
    if let Some(address) = host.address() {
        return Ok(vec![address]);
    }
    let (answers, inbox) = mpsc::channel();
    let unreachable = |error| ProbeError::Unreachable(Unreachable::Resolve(error));
    resolver::resolve(host, move |result| drop(answers.send(result))).map_err(unreachable)?;
    let result = inbox.recv_timeout(TIMEOUT).map_err(|_| ProbeError::NameServer)?;
    result.map(resolver::ipv4_first).map_err(unreachable)
}
