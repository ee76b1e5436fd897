//! UDP: connected, so that a port on which nobody listens is noticed.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu, ipv6_mtu, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

use crate::statsd::pacing::DEFAULT_DATAGRAM;
use crate::statsd::socket::transport::{PeerState, SendError, Socket, is_temporary};

/// Bytes of the headers of a datagram: of IPv4 or IPv6, and UDP.
const IPV4_HEADERS: usize = 20 + 8;
const IPV6_HEADERS: usize = 40 + 8;

/// Every path takes IPv6 packets of this size, and routers do not fragment longer ones.
const IPV6_MIN_MTU: usize = 1280;

/// No network has a larger MTU, only the loopback interface.
const MAX_NETWORK_MTU: usize = 16_384;

/// A connected UDP socket.
pub struct Udp {
    socket: UdpSocket,
    address: SocketAddr,
    /// `--max-datagram`.
    max_datagram: usize,
}

/// Opens a socket of the address's family, with a source address and port of its own.
pub fn connect(address: SocketAddr, max_datagram: usize) -> io::Result<Udp> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    if address.is_ipv4() {
        // Routers may fragment: one that does not say that it takes less would otherwise drop it silently.
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DONT)?;
    }
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(Udp { socket, address, max_datagram })
}

impl Socket for Udp {
    fn send(&mut self, datagram: &[u8], _deadline: Instant) -> Result<(), SendError> {
        self.socket.send(datagram).map(drop).map_err(|error| self.send_error(error))
    }

    fn verdict(&self) -> &'static str {
        "no datagram was refused (UDP reports nothing else)"
    }

    fn peer(&self) -> Option<SocketAddr> {
        Some(self.address)
    }

    /// That of the route, if nothing else is known of the path. Over IPv6 the least that every path takes, unless
    /// larger ones are asked for.
    fn max_datagram(&self) -> Option<usize> {
        let mtu = mtu(&self.socket, self.address).ok()?;
        let max = mtu.saturating_sub(headers(self.address));
        let is_safe = self.address.is_ipv4() || mtu > MAX_NETWORK_MTU;
        if is_safe || self.max_datagram > DEFAULT_DATAGRAM.into() {
            return Some(max);
        }
        Some(max.min(IPV6_MIN_MTU - IPV6_HEADERS))
    }

    fn refusal(&self) -> Option<SendError> {
        self.socket.take_error().ok().flatten().map(|error| self.send_error(error))
    }

    /// A refusal may come late.
    fn peer_state(&mut self) -> PeerState {
        self.refusal().map_or(PeerState::Present, PeerState::Failed)
    }
}

impl Udp {
    fn send_error(&self, error: io::Error) -> SendError {
        match error.kind() {
            ErrorKind::ConnectionRefused => SendError::Refused(error),
            _ if is_too_long(&error) => SendError::TooLong(self.max_datagram()),
            _ if is_temporary(&error) => SendError::Dropped(error),
            // The socket keeps its source address: after that has changed it may never work again.
            _ => SendError::Broken(error),
        }
    }
}

/// Sends a datagram that no router may fragment. Then [`PathProbe::max`] says what the path takes.
pub fn probe_path(address: SocketAddr, datagram: &[u8]) -> io::Result<PathProbe> {
    let Udp { socket, .. } = connect(address, 0)?;
    match address {
        SocketAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?,
        SocketAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)?,
    }
    let sent = socket.send(datagram).map(drop);
    Ok(PathProbe { socket, address, sent })
}

/// A datagram that no router may fragment, on its way.
pub struct PathProbe {
    socket: UdpSocket,
    address: SocketAddr,
    sent: io::Result<()>,
}

impl PathProbe {
    /// How long datagrams may be, if that one was too long.
    pub fn max(self) -> Option<usize> {
        let error = self.sent.err().or_else(|| self.socket.take_error().ok().flatten())?;
        let mtu = is_too_long(&error).then(|| mtu(&self.socket, self.address).ok())??;
        Some(mtu.saturating_sub(headers(self.address)))
    }
}

fn mtu(socket: &UdpSocket, address: SocketAddr) -> io::Result<usize> {
    let mtu = if address.is_ipv4() { ip_mtu(socket)? } else { ipv6_mtu(socket)? };
    Ok(usize::try_from(mtu).unwrap_or(usize::MAX))
}

fn headers(address: SocketAddr) -> usize {
    if address.is_ipv4() { IPV4_HEADERS } else { IPV6_HEADERS }
}

/// Whether the path does not take a datagram of this size.
fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}
