//! `--check`: whether a destination can be reached.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fmt, thread};

use crate::statsd::destination::Destination;
use crate::statsd::resolver;
use crate::statsd::socket::{self, SendError, Unreachable};

/// How long each step may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a refusal is waited for.
const REFUSAL: Duration = Duration::from_millis(300);

/// What was found out about a destination.
#[derive(Debug)]
pub struct Probe {
    /// The address that was connected to, if there is one.
    pub address: Option<SocketAddr>,
    /// What a success means, or why there is none.
    pub result: Result<&'static str, ProbeError>,
}

/// Why a destination does not work.
#[derive(Debug)]
pub enum ProbeError {
    /// No name server has answered.
    NameServer,
    /// It cannot be resolved or connected to.
    Unreachable(Unreachable),
    /// It was connected to, but an empty datagram could not be sent.
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

/// Resolves and connects to a destination and sends it empty datagrams, which hold no gauge, to see whether they are
/// refused.
pub fn probe(destination: &Destination) -> Probe {
    let failed = |error| Probe { address: None, result: Err(error) };
    let addresses = match addresses(destination) {
        Ok(addresses) => addresses,
        Err(error) => return failed(error),
    };
    let mut socket = match socket::open(destination, &addresses, TIMEOUT) {
        Ok(socket) => socket,
        Err(error) => return failed(ProbeError::Unreachable(error)),
    };
    let address = socket.peer();
    // The kernel learns of the refusal of the first, and reports it with the second.
    for _ in 0..2 {
        if let Err(error) = socket.send(b"", Instant::now() + TIMEOUT) {
            return Probe { address, result: Err(ProbeError::Send(error)) };
        }
        thread::sleep(REFUSAL);
    }
    let result = if socket.is_stale() { Err(ProbeError::Closed) } else { Ok(socket.verdict()) };
    Probe { address, result }
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
