//! UDP: connected, so that a port on which nobody listens is noticed.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Instant;

use super::{SendError, Socket, is_temporary};

pub struct Udp(UdpSocket);

pub fn connect(address: SocketAddr) -> io::Result<Udp> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(Udp(socket))
}

impl Socket for Udp {
    fn send(&mut self, datagram: &[u8], _deadline: Instant) -> Result<(), SendError> {
        self.0.send(datagram).map(drop).map_err(|error| match error.kind() {
            ErrorKind::ConnectionRefused => SendError::Refused(error),
            _ if is_temporary(&error) => SendError::Dropped(error),
            // The socket keeps its source address: after that has changed it may never work again.
            _ => SendError::Broken(error),
        })
    }

    fn verdict(&self) -> &'static str {
        "no datagram was refused (UDP reports nothing else)"
    }

    fn peer(&self) -> Option<SocketAddr> {
        self.0.peer_addr().ok()
    }

    fn refusal(&self) -> Option<io::Error> {
        self.0.take_error().ok().flatten()
    }
}
