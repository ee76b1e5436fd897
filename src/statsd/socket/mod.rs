//! Opens sockets to servers. Each transport is a file, an implementation of [`Socket`].

mod tcp;
mod transport;
pub mod udp;
mod unix;

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use crate::statsd::datagrams::MaxDatagram;
use crate::statsd::destination::Destination;
pub use crate::statsd::socket::transport::{PeerState, SendError, Socket};

/// What a socket is opened with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A TCP peer that acknowledges nothing for this time is considered gone.
    pub ack_timeout: Duration,
    /// `--max-datagram`.
    pub max_datagram: MaxDatagram,
}

/// Opens a socket to a destination: to the first of its addresses that can be connected to.
pub fn open(
    destination: &Destination,
    addresses: &[SocketAddr],
    limits: Limits,
) -> Result<Box<dyn Socket>, Unreachable> {
    match destination {
        Destination::Udp(_) => first(addresses, |address| udp::connect(address, limits.max_datagram)),
        Destination::Tcp(_) => first(addresses, |address| tcp::connect(address, limits.ack_timeout)),
        Destination::Unix(path) => in_file_system(unix::connect(path)),
    }
}

fn first<S: Socket + 'static>(
    addresses: &[SocketAddr],
    connect: impl Fn(SocketAddr) -> io::Result<S>,
) -> Result<Box<dyn Socket>, Unreachable> {
    let mut result = Err(Unreachable::NoAddress);
    for &address in addresses {
        result = connect(address).map(boxed).map_err(Unreachable::Connect);
        if result.is_ok() {
            break;
        }
    }
    result
}

fn in_file_system<S: Socket + 'static>(connected: io::Result<S>) -> Result<Box<dyn Socket>, Unreachable> {
    connected.map(boxed).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Unreachable::Permission(error),
        _ => Unreachable::Connect(error),
    })
}

fn boxed<S: Socket + 'static>(socket: S) -> Box<dyn Socket> {
    Box::new(socket)
}

/// Why a server cannot be reached.
#[derive(Debug)]
pub enum Unreachable {
    /// Its name cannot be resolved.
    Resolve(io::Error),
    /// Its name has no address.
    NoAddress,
    /// It cannot be connected to.
    Connect(io::Error),
    /// Its socket may not be written to.
    Permission(io::Error),
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) | Self::Connect(error) => error.fmt(f),
            Self::NoAddress => f.write_str("the name has no address"),
            Self::Permission(error) => {
                write!(f, "{error}: the socket must be writable without root's capabilities (see --keep-privileges)")
            }
        }
    }
}

impl Error for Unreachable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Resolve(error) | Self::Connect(error) | Self::Permission(error) => Some(error),
            Self::NoAddress => None,
        }
    }
}
