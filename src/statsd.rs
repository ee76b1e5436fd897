//! Where the gauges go: a destination, and a sink of cadence's kind that packs lines into datagrams.
//!
//! The lines are written here and not by cadence's client, which has no dialect of tags but one, and no name that
//! is kept from gauge to gauge.

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use cadence::MetricSink;

use crate::tags::Name;

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
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if url == "stdout:" {
            return Ok(Destination::Stdout);
        }
        let understood = "udp://HOST[:PORT] and stdout: are understood";
        let (scheme, rest) = url.split_once("://").ok_or_else(|| match url.is_empty() {
            true => format!("not a URL: {understood}"),
            false => format!("not a URL: did you mean udp://{url}?"),
        })?;
        if !scheme.eq_ignore_ascii_case("udp") {
            return Err(format!("'{scheme}://' is no way to statsd: {understood}"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').map(|bracketed| bracketed.split_once(']')) {
            Some(Some((host, port))) if is_ipv6(host) => (host, port),
            Some(_) => return Err("what stands in brackets is not an IPv6 address".into()),
            None if is_ipv6(rest) => return Err(format!("an IPv6 address stands in brackets: udp://[{rest}]")),
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        match port.strip_prefix(':') {
            None if port.is_empty() => Self::udp(host, &DEFAULT_PORT.to_string()),
            Some(port) => Self::udp(host, port),
            None => Err(format!("'{port}' after the brackets is not a port")),
        }
    }
}

/// An IPv6 address, perhaps with the interface it is valid on: `fe80::1%eth0`.
fn is_ipv6(host: &str) -> bool {
    host.split_once('%').map_or(host, |(address, _)| address).parse::<Ipv6Addr>().is_ok()
}

impl Destination {
    /// A server by name or address, and port.
    pub fn udp(host: &str, port: &str) -> Result<Self, String> {
        if host.is_empty() {
            return Err("no host is named".into());
        }
        let odd = host.chars().find(|&c| !(c.is_ascii_alphanumeric() || ".-_".contains(c)));
        if let Some(c) = odd.filter(|_| !is_ipv6(host)) {
            return Err(format!("{c:?} cannot stand in a host name"));
        }
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits && port > 0 => Ok(Destination::Udp { host: host.to_owned(), port }),
            _ => Err(format!("'{port}' is not a port from 1 to 65535")),
        }
    }

    /// Looks the host up and hands its addresses to `then`, IPv4 first as statsd servers mostly listen: at
    /// once where there is nothing to look up, else from a thread of its own, since a name server may take
    /// half a minute to fail.
    pub fn resolve<F>(&self, then: F)
    where
        F: Fn(io::Result<Vec<SocketAddr>>) + Clone + Send + 'static,
    {
        let Destination::Udp { host, port } = self.clone() else { return };
        if let Ok(address) = host.parse::<IpAddr>() {
            return then(Ok(vec![(address, port).into()]));
        }
        let answer = then.clone();
        let look_up = move || {
            answer((host.as_str(), port).to_socket_addrs().map(|addresses| {
                let mut addresses: Vec<SocketAddr> = addresses.collect();
                addresses.sort_by_key(SocketAddr::is_ipv6);
                addresses
            }));
        };
        if let Err(error) = thread::Builder::new().name("resolver".into()).spawn(look_up) {
            then(Err(error));
        }
    }
}

/// A client of one destination.
pub struct Statsd {
    /// The line being written.
    line: RefCell<String>,
    sink: Sink,
}

/// What became of the datagrams since the last flush.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Handed to the kernel.
    pub sent: u64,
    /// Known to be lost: never sent, or refused at the other end.
    pub lost: u64,
    /// Why, the first time.
    pub error: Option<io::Error>,
}

impl Statsd {
    /// A client that drops what it is given until it is [connected](Self::connect).
    pub fn unconnected() -> Self {
        Self { line: RefCell::default(), sink: Sink::default() }
    }

    /// A client that prints its lines.
    pub fn to_stdout() -> Self {
        let statsd = Self::unconnected();
        statsd.sink.lock().out = Some(Out::Stdout);
        statsd
    }

    /// Sends to the first of `addresses` that this host has a route to.
    pub fn connect(&self, addresses: &[SocketAddr]) -> io::Result<SocketAddr> {
        let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for &address in addresses {
            match connected(address) {
                Ok(socket) => {
                    self.sink.lock().out = Some(Out::Udp(socket));
                    return Ok(address);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Whether there is anywhere to send to.
    pub fn is_connected(&self) -> bool {
        self.sink.lock().out.is_some()
    }

    /// Sends a gauge, sooner or later; [`flush`](Self::flush) tells what became of it.
    pub fn gauge(&self, name: &Name, value: f64) {
        let mut line = self.line.borrow_mut();
        name.write_line(&mut line, value);
        // The only error is the sink's, which keeps account of it.
        let _ = self.sink.emit(&line);
    }

    /// Sends what is still held back, and reports on everything since the last flush.
    pub fn flush(&self) -> Delivery {
        let mut packer = self.sink.lock();
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

/// Our end of cadence: packs lines into datagrams, whole.
#[derive(Default)]
struct Sink(Mutex<Packer>);

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Packer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetricSink for Sink {
    fn emit(&self, line: &str) -> io::Result<usize> {
        self.lock().push(line);
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
            self.lost(result);
            result = self.try_send();
        }
        match result {
            Ok(()) => self.delivery.sent += 1,
            Err(error) => {
                // A socket keeps its source address, and after a change of ours may never work again.
                if !matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock) {
                    self.out = None;
                }
                self.lost(Err(error));
            }
        }
        self.buffer.clear();
    }

    /// Counts one datagram; the first reason is the one to tell.
    fn lost(&mut self, result: io::Result<()>) {
        self.delivery.lost += 1;
        self.delivery.error = self.delivery.error.take().or(result.err());
    }

    fn try_send(&self) -> io::Result<()> {
        match &self.out {
            Some(Out::Udp(socket)) => socket.send(&self.buffer).map(drop),
            Some(Out::Stdout) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&self.buffer).and_then(|()| stdout.flush())
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }
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
            ("UDP://stats.example.com/", udp("stats.example.com", 8125)),
            ("udp://[::1]", udp("::1", 8125)),
            ("udp://[fe80::1%eth0]:9", udp("fe80::1%eth0", 9)),
            ("stdout:", Ok(Destination::Stdout)),
            ("localhost:8125", Err("not a URL: did you mean udp://localhost:8125?")),
            ("", Err("not a URL: udp://HOST[:PORT] and stdout: are understood")),
            ("http://h", Err("'http://' is no way to statsd: udp://HOST[:PORT] and stdout: are understood")),
            ("udp://", Err("no host is named")),
            ("udp://:8125", Err("no host is named")),
            ("udp://::1", Err("an IPv6 address stands in brackets: udp://[::1]")),
            ("udp://[h]", Err("what stands in brackets is not an IPv6 address")),
            ("udp://[::1]8125", Err("'8125' after the brackets is not a port")),
            ("udp://h:", Err("'' is not a port from 1 to 65535")),
            ("udp://h:0", Err("'0' is not a port from 1 to 65535")),
            ("udp://h:+5", Err("'+5' is not a port from 1 to 65535")),
            ("udp://h:65536", Err("'65536' is not a port from 1 to 65535")),
            ("udp://a b", Err("' ' cannot stand in a host name")),
            ("udp://h/path", Err("'/' cannot stand in a host name")),
        ] {
            let parsed = url.parse::<Destination>();
            assert_eq!(parsed, expected.map_err(str::to_owned), "{url}");
            if let Ok(destination) = parsed {
                assert_eq!(destination.to_string().parse(), Ok(destination), "{url} as printed");
            }
        }
    }

    fn named(path: String) -> Name {
        Name { path, ..Name::default() }
    }

    #[test]
    fn datagrams_hold_whole_lines_and_are_never_too_long() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let statsd = Statsd::unconnected();
        statsd.connect(&[server.local_addr().unwrap()]).unwrap();
        for n in 0..100 {
            statsd.gauge(&named(format!("xen.host.domain-{n}.cpu_percent")), f64::from(n) + 0.125);
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
        statsd.gauge(&named("a".into()), 1.0);
        let delivery = statsd.flush();
        assert_eq!((delivery.sent, delivery.lost), (0, 1));
        assert!(delivery.error.is_some());
        assert_eq!(statsd.flush().lost, 0);
    }
}
