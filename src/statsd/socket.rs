//! An open way to a destination, and what its errors mean.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::statsd::destination::Destination;
use crate::statsd::resolver;

/// How long each address of a TCP server is tried.
const CONNECTING: Duration = Duration::from_secs(5);

/// Where datagrams are written to. TCP and unix sockets may block for as long as [`Socket::send`] is told.
pub enum Socket {
    /// Connected, so that it hears of refusals.
    Udp(UdpSocket),
    /// Connected to the socket that had this device and inode.
    Unix(UnixDatagram, PathBuf, (u64, u64)),
    /// A stream of lines. It is no good any more once a line may have been cut.
    Tcp(TcpStream),
}

/// A datagram that was not sent.
#[derive(Debug)]
pub struct Unsent {
    /// What becomes of it.
    pub fate: Fate,
    /// Why.
    pub error: io::Error,
}

/// What becomes of a datagram that was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was not even tried: one before it was refused.
    Refused,
    /// It is lost; the next may go.
    Lost,
    /// Who should read does not.
    Stalled,
    /// Another socket may send it; this one never will.
    Broken,
}

impl Socket {
    /// Opens the way to a destination: to the first of the addresses, where it has some, that can be. A peer that
    /// acknowledges nothing for as long as `patience` is taken for gone.
    pub fn open(destination: &Destination, addresses: &[SocketAddr], patience: Duration) -> io::Result<Self> {
        let connect: fn(SocketAddr, Duration) -> io::Result<Self> = match destination {
            Destination::Unix(path) => return Self::unix(path),
            Destination::Udp(_) => |address, _| Self::udp(address),
            Destination::Tcp(_) => Self::tcp,
        };
        let mut result = Err(resolver::none());
        for &address in addresses {
            result = connect(address, patience);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// A refusal of the last datagram, which the next would otherwise be the first to hear of: on this host it is there
    /// at once.
    pub fn refusal(&self) -> Option<io::Error> {
        match self {
            Socket::Udp(socket) => socket.take_error().ok().flatten(),
            Socket::Unix(..) | Socket::Tcp(_) => None,
        }
    }

    /// Has the peer get all that was sent: to close with something of its own unread would take that away.
    pub fn finish(&mut self, deadline: Instant) {
        let Socket::Tcp(stream) = self else { return };
        let _ = stream.shutdown(Shutdown::Write);
        let mut heard = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let set = stream.set_read_timeout(Some(left.max(Duration::from_millis(1))));
            if left.is_zero() || set.is_err() || !matches!(stream.read(&mut heard), Ok(1..)) {
                return;
            }
        }
    }

    /// Gives up a connection in which a line may have been cut: what the peer has not read it shall not take for whole.
    pub fn give_up(self) {
        if let Socket::Tcp(stream) = self {
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
        }
    }

    /// The address at the other end, where it has one.
    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Socket::Udp(socket) => socket.peer_addr().ok(),
            Socket::Tcp(stream) => stream.peer_addr().ok(),
            Socket::Unix(..) => None,
        }
    }

    /// A datagram socket that only `address` is on the other end of.
    fn udp(address: SocketAddr) -> io::Result<Self> {
        let any: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Socket::Udp(socket))
    }

    fn tcp(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECTING)?;
        SockRef::from(&stream).set_tcp_user_timeout(Some(patience))?;
        Ok(Socket::Tcp(stream))
    }

    /// A datagram socket in the file system.
    fn unix(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        let with_advice = |error: io::Error| match error.kind() {
            ErrorKind::PermissionDenied => io::Error::new(
                error.kind(),
                format!(
                    "{error}; it has to be writable, and root's power over others' files is given up (see \
                     --keep-privileges)"
                ),
            ),
            _ => error,
        };
        let inode = inode(path).map_err(with_advice)?;
        socket.connect(path).map_err(with_advice)?;
        Ok(Socket::Unix(socket, path.to_owned(), inode))
    }

    /// Whether it is known before anything is sent that nobody would get it: the peer has closed, or another socket
    /// is in the place of the one this is connected to.
    pub fn is_stale(&mut self) -> bool {
        match self {
            Socket::Udp(_) => false,
            Socket::Unix(_, path, connected) => inode(path).is_ok_and(|inode| inode != *connected),
            Socket::Tcp(stream) => has_closed(stream).unwrap_or(true),
        }
    }

    /// Writes one datagram, by `deadline` if it has to wait. Only a peer of TCP that reads a little now and then may
    /// take longer.
    pub fn send(&mut self, datagram: &[u8], deadline: Instant) -> Result<(), Unsent> {
        // 0 would be no limit at all.
        let patience = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let (sent, fate): (_, fn(&io::Error) -> Fate) = match self {
            Socket::Udp(socket) => (socket.send(datagram).map(drop), |error| match error.kind() {
                ErrorKind::ConnectionRefused => Fate::Refused,
                _ if is_passing(error) => Fate::Lost,
                // It keeps its source address, and after a change of ours may never work again.
                _ => Fate::Broken,
            }),
            Socket::Unix(socket, ..) => {
                let set = socket.set_write_timeout(Some(patience));
                (set.and_then(|()| retry(|| socket.send(datagram))).map(drop), |error| match error.kind() {
                    ErrorKind::WouldBlock => Fate::Stalled,
                    _ if is_passing(error) => Fate::Lost,
                    _ => Fate::Broken,
                })
            }
            Socket::Tcp(stream) => {
                let set = stream.set_write_timeout(Some(patience));
                (set.and_then(|()| stream.write_all(datagram)), |error| match error.kind() {
                    ErrorKind::WouldBlock => Fate::Stalled,
                    _ => Fate::Broken,
                })
            }
        };
        sent.map_err(|error| match fate(&error) {
            Fate::Stalled => {
                Unsent { fate: Fate::Stalled, error: io::Error::new(ErrorKind::TimedOut, "it does not read") }
            }
            fate => Unsent { fate, error },
        })
    }
}

/// No room at the moment, or not for a datagram of this size: no fault of the socket's.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EMSGSIZE))
}

fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let socket = fs::metadata(path)?;
    Ok((socket.dev(), socket.ino()))
}

/// Whether the peer has closed its end. What it says, if it says something, is of no interest.
fn has_closed(stream: &mut TcpStream) -> io::Result<bool> {
    stream.set_nonblocking(true)?;
    let mut heard = [0; 4096];
    let closed = loop {
        match retry(|| stream.read(&mut heard)) {
            Ok(0) => break true,
            Ok(length) if length == heard.len() => {}
            Ok(_) => break false,
            Err(error) => break error.kind() != ErrorKind::WouldBlock,
        }
    };
    stream.set_nonblocking(false)?;
    Ok(closed)
}
