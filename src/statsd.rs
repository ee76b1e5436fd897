//! Where the gauges go: a destination, and cadence's client over a sink that packs lines into datagrams.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use cadence::{Gauged, MetricSink, StatsdClient};

/// The port statsd listens on.
pub const DEFAULT_PORT: u16 = 8125;

/// What fits an Ethernet frame with room for tunnels; a longer datagram is lost whole when a piece is.
const MAX_DATAGRAM: usize = 1432;

/// A statsd server, as `--statsd` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `udp://HOST[:PORT]`; an IPv6 address stands in brackets.
    Udp {
        /// Name or address.
        host: String,
        /// `8125` unless named.
        port: u16,
    },
    /// `stdout:`, one line a gauge.
    Stdout,
}

/// What is wrong with a destination; one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadDestination(String);

impl fmt::Display for BadDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadDestination {}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Udp { host, port } if host.contains(':') => write!(f, "udp://[{host}]:{port}"),
            Destination::Udp { host, port } => write!(f, "udp://{host}:{port}"),
            Destination::Stdout => f.write_str("stdout:"),
        }
    }
}

impl FromStr for Destination {
    type Err = BadDestination;

    fn from_str(url: &str) -> Result<Self, BadDestination> {
        let bad = |why: &str| Err(BadDestination(format!("{why}: udp://HOST[:PORT] and stdout: are understood")));
        if url == "stdout:" {
            return Ok(Destination::Stdout);
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return bad("this is no URL");
        };
        if scheme != "udp" {
            return bad(&format!("'{scheme}://' is not a way to statsd"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(bracketed) => match bracketed.split_once(']') {
                Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => (host, port),
                _ => return bad("what stands in brackets is no IPv6 address"),
            },
            None => match rest.find(':') {
                Some(_) if rest.parse::<Ipv6Addr>().is_ok() => return bad("an IPv6 address stands in [brackets]"),
                Some(colon) => rest.split_at(colon),
                None => (rest, ""),
            },
        };
        if host.is_empty() {
            return bad("no host is named");
        }
        if let Some(c) = host.chars().find(|&c| !(c.is_ascii_alphanumeric() || ".-_:".contains(c))) {
            return bad(&format!("{c:?} cannot stand in a host name"));
        }
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => Some(DEFAULT_PORT),
            None => None,
            Some(digits) => digits.parse().ok().filter(|&port: &u16| port > 0),
        };
        match port {
            Some(port) => Ok(Destination::Udp { host: host.to_owned(), port }),
            None => bad("the port is no number from 1 to 65535"),
        }
    }
}

impl Destination {
    /// Looks the host up and hands the addresses to `then`: at once where there is nothing to look up,
    /// else from a thread of its own, since a name server may take half a minute to fail.
    pub fn resolve(&self, then: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static) {
        let Destination::Udp { host, port } = self.clone() else { return then(Ok(Vec::new())) };
        match host.parse::<IpAddr>() {
            Ok(address) => then(Ok(vec![(address, port).into()])),
            Err(_) => {
                let name = format!("resolve {host}");
                let look_up = move || then((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
                if let Err(error) = thread::Builder::new().name(name).spawn(look_up) {
                    log::warn!("cannot start a thread to look up {self}: {error}");
                }
            }
        }
    }
}

/// A client of one destination.
pub struct Statsd {
    client: StatsdClient,
    packer: Arc<Mutex<Packer>>,
}

/// What became of the datagrams since the last flush.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Handed to the kernel.
    pub sent: u64,
    /// Known to be lost: never sent, or refused at the other end.
    pub lost: u64,
    /// Why, the last time.
    pub error: Option<io::Error>,
}

impl Statsd {
    /// A client that drops what it is given until it is [connected](Self::connect).
    pub fn unconnected() -> Self {
        let packer = Arc::default();
        Self { client: StatsdClient::from_sink("", Sink(Arc::clone(&packer))), packer }
    }

    /// A client that prints its lines.
    pub fn to_stdout() -> Self {
        let statsd = Self::unconnected();
        lock(&statsd.packer).out = Some(Out::Stdout);
        statsd
    }

    /// Sends to the first of `addresses` that this host has a route to.
    pub fn connect(&self, addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for &address in addresses {
            match connected(address) {
                Ok(socket) => {
                    lock(&self.packer).out = Some(Out::Udp(socket));
                    return Ok(address);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Whether there is anywhere to send to.
    pub fn is_connected(&self) -> bool {
        lock(&self.packer).out.is_some()
    }

    /// Sends a gauge, sooner or later; [`flush`](Self::flush) tells what became of it.
    pub fn gauge(&self, path: &str, value: f64) {
        // The only error is the sink's, which keeps account of it.
        let _ = self.client.gauge(path, value);
    }

    /// Sends what is still held back, and reports on everything since the last flush.
    pub fn flush(&self) -> Delivery {
        let mut packer = lock(&self.packer);
        packer.send();
        std::mem::take(&mut packer.delivery)
    }
}

/// A socket that only `address` is on the other end of, so that its refusals are heard.
fn connected(address: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Our end of cadence: takes lines, sends datagrams of whole lines.
struct Sink(Arc<Mutex<Packer>>);

impl MetricSink for Sink {
    fn emit(&self, line: &str) -> io::Result<usize> {
        lock(&self.0).push(line);
        Ok(line.len())
    }
}

#[derive(Default)]
struct Packer {
    buffer: Vec<u8>,
    out: Option<Out>,
    delivery: Delivery,
}

enum Out {
    Udp(UdpSocket),
    Stdout,
}

impl Packer {
    fn push(&mut self, line: &str) {
        if self.buffer.len() + line.len() + 1 > MAX_DATAGRAM {
            self.send();
        }
        self.buffer.extend_from_slice(line.as_bytes());
        self.buffer.push(b'\n');
    }

    /// Sends the buffer, or drops it: what is late is no longer a reading.
    fn send(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let mut result = self.try_send();
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            // It is the datagram before that was refused; this one has not been tried.
            self.delivery.lost += 1;
            self.delivery.error = result.err();
            result = self.try_send();
        }
        match result {
            Ok(()) => self.delivery.sent += 1,
            Err(error) => {
                self.delivery.lost += 1;
                self.delivery.error = Some(error);
            }
        }
        self.buffer.clear();
    }

    fn try_send(&self) -> io::Result<()> {
        match &self.out {
            Some(Out::Udp(socket)) => socket.send(&self.buffer).map(drop),
            Some(Out::Stdout) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&self.buffer).and_then(|()| stdout.flush())
            }
            None => Err(io::Error::new(io::ErrorKind::NotConnected, "the destination is not resolved yet")),
        }
    }
}

fn lock(packer: &Mutex<Packer>) -> MutexGuard<'_, Packer> {
    packer.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        let udp = |host: &str, port| Ok(Destination::Udp { host: host.into(), port });
        for (url, expected) in [
            ("udp://127.0.0.1", udp("127.0.0.1", 8125)),
            ("udp://stats.example.com:9125", udp("stats.example.com", 9125)),
            ("udp://stats.example.com/", udp("stats.example.com", 8125)),
            ("udp://[::1]", udp("::1", 8125)),
            ("udp://[fe80::1]:9", udp("fe80::1", 9)),
            ("stdout:", Ok(Destination::Stdout)),
            ("localhost:8125", Err("this is no URL")),
            ("", Err("this is no URL")),
            ("http://h", Err("'http://' is not a way to statsd")),
            ("udp://", Err("no host is named")),
            ("udp://:8125", Err("no host is named")),
            ("udp://::1", Err("an IPv6 address stands in [brackets]")),
            ("udp://[h]", Err("what stands in brackets is no IPv6 address")),
            ("udp://[::1]8125", Err("the port is no number from 1 to 65535")),
            ("udp://h:", Err("the port is no number from 1 to 65535")),
            ("udp://h:0", Err("the port is no number from 1 to 65535")),
            ("udp://h:65536", Err("the port is no number from 1 to 65535")),
            ("udp://a b", Err("' ' cannot stand in a host name")),
            ("udp://h/path", Err("'/' cannot stand in a host name")),
        ] {
            let expected = expected.map_err(|why| format!("{why}: udp://HOST[:PORT] and stdout: are understood"));
            let parsed = url.parse::<Destination>().map_err(|bad| bad.to_string());
            assert_eq!(parsed, expected, "{url}");
            if let Ok(destination) = parsed {
                assert_eq!(destination.to_string().parse(), Ok(destination), "{url} as printed");
            }
        }
    }

    #[test]
    fn datagrams_hold_whole_lines_and_are_never_too_long() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let statsd = Statsd::unconnected();
        statsd.connect(&[server.local_addr().unwrap()]).unwrap();
        for n in 0..100 {
            statsd.gauge(&format!("xen.host.domain-{n}.cpu_percent"), f64::from(n) + 0.125);
        }
        let delivery = statsd.flush();
        assert_eq!((delivery.sent, delivery.lost), (3, 0));
        let mut received = String::new();
        for _ in 0..delivery.sent {
            let mut datagram = [0; 65536];
            let length = server.recv(&mut datagram).unwrap();
            assert!(length <= MAX_DATAGRAM && datagram[length - 1] == b'\n');
            received += std::str::from_utf8(&datagram[..length]).unwrap();
        }
        let lines: Vec<&str> = received.lines().collect();
        assert_eq!((lines.len(), lines[99]), (100, "xen.host.domain-99.cpu_percent:99.125|g"));
    }

    #[test]
    fn what_cannot_be_sent_is_counted_and_forgotten() {
        let statsd = Statsd::unconnected();
        statsd.gauge("a", 1.0);
        let delivery = statsd.flush();
        assert_eq!((delivery.sent, delivery.lost), (0, 1));
        assert!(delivery.error.is_some());
        assert_eq!(statsd.flush().lost, 0);
    }
}
