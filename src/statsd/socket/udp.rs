//! UDP: connected, so that a port on which nobody listens is noticed.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, ip_mtu, ipv6_mtu, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

use crate::statsd::datagrams::{LOCAL_DATAGRAM, MaxDatagram, NETWORK_DATAGRAM};
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
    max_datagram: MaxDatagram,
}

/// Opens a socket of the address's family, with a source address and port of its own.
pub fn connect(address: SocketAddr, max_datagram: MaxDatagram) -> io::Result<Udp> {
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

    /// By what the kernel knows of the path: the MTU of the route, if nothing else.
    fn max_datagram(&self) -> Option<usize> {
        let mtu = mtu(&self.socket, self.address).ok();
        Some(longest(self.max_datagram, self.address.is_ipv4(), mtu, headers(self.address)))
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
    let Udp { socket, .. } = connect(address, MaxDatagram::Auto)?;
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

/// Bytes of the longest datagram for a path whose MTU may be known. Over IPv6 to another host it is the least that every
/// path takes, unless larger ones are asked for.
fn longest(max_datagram: MaxDatagram, is_ipv4: bool, mtu: Option<usize>, headers: usize) -> usize {
    let is_local = mtu.is_some_and(|mtu| mtu > MAX_NETWORK_MTU);
    let safe = if is_ipv4 { NETWORK_DATAGRAM } else { IPV6_MIN_MTU - IPV6_HEADERS };
    let wanted = match max_datagram {
        MaxDatagram::Auto if is_local => LOCAL_DATAGRAM,
        MaxDatagram::Auto => safe,
        MaxDatagram::Bytes(bytes) if is_local || is_ipv4 || usize::from(bytes) > NETWORK_DATAGRAM => bytes.into(),
        MaxDatagram::Bytes(bytes) => safe.min(bytes.into()),
    };
    mtu.map_or(wanted, |mtu| wanted.min(mtu.saturating_sub(headers)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn udp_datagram_size_by_path() {
        const LOOPBACK: Option<usize> = Some(65_536);
        for (max_datagram, is_ipv4, mtu, expected) in [
            ("auto", true, LOOPBACK, 3700),
            ("auto", false, LOOPBACK, 3700),
            ("auto", true, Some(1500), 1432),
            ("auto", true, Some(9000), 1432),
            ("auto", true, Some(1400), 1372),
            ("auto", false, Some(1500), 1232),
            ("auto", false, Some(9000), 1232),
            ("auto", false, Some(1280), 1232),
            ("auto", true, None, 1432),
            ("auto", false, None, 1232),
            ("8932", true, LOOPBACK, 8932),
            ("8932", true, Some(9000), 8932),
            ("8932", false, Some(9000), 8932),
            ("8932", true, Some(1500), 1472),
            ("8932", false, Some(1500), 1452),
            ("1432", false, Some(1500), 1232),
            ("1432", false, LOOPBACK, 1432),
            ("512", true, Some(1500), 512),
            ("512", false, None, 512),
        ] {
            let headers = if is_ipv4 { IPV4_HEADERS } else { IPV6_HEADERS };
            let found = longest(max_datagram.parse().unwrap(), is_ipv4, mtu, headers);
            assert_eq!(found, expected, "{max_datagram} {is_ipv4} {mtu:?}");
        }
    }
}
