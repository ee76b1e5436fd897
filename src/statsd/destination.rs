//! Where gauges can go: the URLs of `--statsd`, and looking their hosts up.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;

/// The port statsd listens on.
pub const DEFAULT_PORT: u16 = 8125;

const UNDERSTOOD: &str = "udp://HOST[:PORT], tcp://HOST[:PORT], unix:///PATH and stdout: are understood";

/// A statsd server, as `--statsd` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `udp://HOST[:PORT]`; an IPv6 address stands in brackets.
    Udp(Host),
    /// `tcp://HOST[:PORT]`.
    Tcp(Host),
    /// `unix:///PATH` or `unixgram:///PATH`: a datagram socket, as Datadog's agent listens on.
    Unix(PathBuf),
    /// `stdout:`, one line a gauge.
    Stdout,
}

/// The other end of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name or address.
    name: String,
    /// `8125` unless named.
    port: u16,
}

impl Destination {
    /// Whether what comes too fast, or is too long, may be lost there without a word.
    pub fn may_lose(&self) -> bool {
        matches!(self, Destination::Udp(_))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Udp(host) => write!(f, "udp://{host}"),
            Destination::Tcp(host) => write!(f, "tcp://{host}"),
            Destination::Unix(path) => write!(f, "unix://{}", path.display()),
            Destination::Stdout => f.write_str("stdout:"),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

impl FromStr for Destination {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        // From a comma list, perhaps.
        let url = url.trim();
        if url == "stdout:" {
            return Ok(Destination::Stdout);
        }
        let (scheme, rest) = url.split_once("://").ok_or_else(|| match url {
            "" => format!("not a URL: {UNDERSTOOD}"),
            path if path.starts_with('/') => format!("not a URL: did you mean unix://{path}?"),
            _ => format!("not a URL: did you mean udp://{url}?"),
        })?;
        match scheme.to_ascii_lowercase().as_str() {
            "udp" => host(rest, "udp").map(Destination::Udp),
            "tcp" => host(rest, "tcp").map(Destination::Tcp),
            "unix" | "unixgram" if !rest.starts_with('/') => {
                Err(format!("the path of a socket begins with '/': {scheme}:///{rest}"))
            }
            "unix" | "unixgram" => match UnixAddr::from_pathname(rest) {
                Ok(_) => Ok(Destination::Unix(rest.into())),
                Err(error) => Err(format!("no path for a socket: {error}")),
            },
            _ => Err(format!("'{scheme}://' is no way to statsd: {UNDERSTOOD}")),
        }
    }
}

/// `HOST[:PORT]`.
fn host(text: &str, scheme: &str) -> Result<Host, String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    let (name, port) = match text.strip_prefix('[').map(|bracketed| bracketed.split_once(']')) {
        Some(Some((name, port))) if is_ipv6(name) => (name, port),
        Some(_) => return Err("what stands in brackets is not an IPv6 address".into()),
        None if is_ipv6(text) => return Err(format!("an IPv6 address stands in brackets: {scheme}://[ADDRESS]:PORT")),
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Host::new(name, &DEFAULT_PORT.to_string()),
        Some(port) => Host::new(name, port),
        None => Err(format!("'{port}' after the brackets is not a port")),
    }
}

/// An IPv6 address, perhaps with the interface it is valid on: `fe80::1%eth0`.
fn is_ipv6(host: &str) -> bool {
    let (address, interface) = host.split_once('%').unwrap_or((host, "none"));
    let named = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
    !interface.is_empty() && interface.chars().all(named) && address.parse::<Ipv6Addr>().is_ok()
}

impl Destination {
    /// A UDP server by name or address, and port.
    pub fn udp(host: &str, port: &str) -> Result<Self, String> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Host::new(host, port).map(Destination::Udp)
    }

    /// What has to be looked up, if it is to be.
    pub fn host(&self) -> Option<&Host> {
        match self {
            Destination::Udp(host) | Destination::Tcp(host) => Some(host),
            Destination::Unix(_) | Destination::Stdout => None,
        }
    }
}

impl Host {
    fn new(name: &str, port: &str) -> Result<Self, String> {
        if name.is_empty() {
            return Err("no host is named".into());
        }
        let odd = name.chars().find(|&c| !(c.is_ascii_alphanumeric() || ".-_".contains(c)));
        if let Some(c) = odd.filter(|_| !is_ipv6(name)) {
            return Err(format!("{c:?} cannot stand in a host name"));
        }
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits && port > 0 => Ok(Self { name: name.to_owned(), port }),
            _ => Err(format!("'{port}' is not a port from 1 to 65535")),
        }
    }

    /// Its address, where it is named by that.
    pub fn address(&self) -> Option<SocketAddr> {
        Some((self.name.parse::<IpAddr>().ok()?, self.port).into())
    }

    /// Looks the addresses up and hands them to `then`, IPv4 first as statsd servers mostly listen. From a thread
    /// of its own, since a name server may take half a minute to fail.
    pub fn look_up(&self, then: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static) -> io::Result<()> {
        let Self { name, port } = self.clone();
        let look_up = move || {
            then((name.as_str(), port).to_socket_addrs().map(|addresses| {
                let mut addresses: Vec<SocketAddr> = addresses.collect();
                addresses.sort_by_key(SocketAddr::is_ipv6);
                addresses
            }));
        };
        thread::Builder::new().name("resolver".into()).spawn(look_up).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations() {
        let host = |name: &str, port| Host { name: name.into(), port };
        let udp = |name: &str, port| Ok(Destination::Udp(host(name, port)));
        let understood = "udp://HOST[:PORT], tcp://HOST[:PORT], unix:///PATH and stdout: are understood";
        let not_understood = format!("'http://' is no way to statsd: {understood}");
        let nothing = format!("not a URL: {understood}");
        let too_long = format!("unix:///{}", "p".repeat(107));
        for (url, expected) in [
            ("udp://127.0.0.1", udp("127.0.0.1", 8125)),
            ("udp://stats.example.com:9125", udp("stats.example.com", 9125)),
            ("UDP://stats.example.com/", udp("stats.example.com", 8125)),
            ("udp://[::1]", udp("::1", 8125)),
            ("udp://[fe80::1%eth0]:9", udp("fe80::1%eth0", 9)),
            ("tcp://stats:9", Ok(Destination::Tcp(host("stats", 9)))),
            ("tcp://[::1]", Ok(Destination::Tcp(host("::1", 8125)))),
            ("unix:///run/dogstatsd.sock", Ok(Destination::Unix("/run/dogstatsd.sock".into()))),
            ("unixgram:///run/a b", Ok(Destination::Unix("/run/a b".into()))),
            ("stdout:", Ok(Destination::Stdout)),
            ("localhost:8125", Err("not a URL: did you mean udp://localhost:8125?")),
            ("/run/statsd", Err("not a URL: did you mean unix:///run/statsd?")),
            ("", Err(nothing.as_str())),
            ("http://h", Err(not_understood.as_str())),
            ("unix://run/statsd", Err("the path of a socket begins with '/': unix:///run/statsd")),
            (&too_long, Err("no path for a socket: path must be shorter than SUN_LEN")),
            ("udp://", Err("no host is named")),
            ("tcp://:8125", Err("no host is named")),
            ("udp://::1", Err("an IPv6 address stands in brackets: udp://[ADDRESS]:PORT")),
            ("tcp://::1", Err("an IPv6 address stands in brackets: tcp://[ADDRESS]:PORT")),
            ("udp://[fe80::1%]", Err("what stands in brackets is not an IPv6 address")),
            ("udp://[fe80::1%e\nth0]", Err("what stands in brackets is not an IPv6 address")),
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
}
