//! `--statsd`: the URLs of statsd servers, and how each scheme is delivered to.

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::unix::net::SocketAddr as UnixAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The port that statsd servers listen on.
pub const DEFAULT_PORT: u16 = 8125;

const SUPPORTED: &str = "use udp://, tcp:// or unix://";

/// A statsd server, as `--statsd` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `udp://HOST[:PORT]`, with an IPv6 address in brackets.
    Udp(Host),
    /// `tcp://HOST[:PORT]`.
    Tcp(Host),
    /// `unix:///PATH` or `unixgram:///PATH`: a datagram socket, as Datadog's agent has.
    Unix(PathBuf),
}

/// A network host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Name or address.
    name: String,
    port: u16,
}

impl Destination {
    /// A UDP server by name or address, and port.
    pub fn udp(host: &str, port: &str) -> Result<Self, DestinationError> {
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        Host::new(host, port).map(Destination::Udp)
    }

    /// The host to resolve, if there is one.
    pub fn host(&self) -> Option<&Host> {
        match self {
            Destination::Udp(host) | Destination::Tcp(host) => Some(host),
            Destination::Unix(_) => None,
        }
    }

    /// Whether datagrams that arrive too fast, or are too long for the server, are dropped silently. Otherwise the
    /// sender waits for the reader.
    pub fn is_lossy(&self) -> bool {
        matches!(self, Destination::Udp(_))
    }

    /// Whether it is a stream: expensive to open, and closed with a reset if a line may have been cut.
    pub fn is_stream(&self) -> bool {
        matches!(self, Destination::Tcp(_))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Udp(host) => write!(f, "udp://{host}"),
            Destination::Tcp(host) => write!(f, "tcp://{host}"),
            Destination::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for Destination {
    type Err = DestinationError;

    fn from_str(url: &str) -> Result<Self, DestinationError> {
        // It may come from a comma-separated list.
        let url = url.trim();
        let (scheme, rest) = url.split_once("://").ok_or_else(|| DestinationError::NotAUrl(url.to_owned()))?;
        match scheme.to_ascii_lowercase().as_str() {
            "udp" => Host::parse(rest, "udp").map(Destination::Udp),
            "tcp" => Host::parse(rest, "tcp").map(Destination::Tcp),
            "unix" | "unixgram" => socket_path(rest, scheme).map(Destination::Unix),
            _ => Err(DestinationError::UnsupportedScheme(scheme.to_owned())),
        }
    }
}

fn socket_path(path: &str, scheme: &str) -> Result<PathBuf, DestinationError> {
    if !path.starts_with('/') {
        return Err(DestinationError::RelativePath(format!("{scheme}:///{path}")));
    }
    UnixAddr::from_pathname(path).map_err(DestinationError::InvalidPath)?;
    Ok(path.into())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.contains(':') {
            true => write!(f, "[{}]:{}", self.name, self.port),
            false => write!(f, "{}:{}", self.name, self.port),
        }
    }
}

impl Host {
    /// From `HOST[:PORT]`, where an IPv6 address is in brackets.
    fn parse(text: &str, scheme: &'static str) -> Result<Self, DestinationError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let (name, port) = match text.strip_prefix('[').map(|bracketed| bracketed.split_once(']')) {
            Some(Some((name, port))) if is_ipv6(name) => (name, port),
            Some(_) => return Err(DestinationError::InvalidIpv6),
            None if is_ipv6(text) => return Err(DestinationError::MissingBrackets(scheme)),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        match port.strip_prefix(':') {
            None if port.is_empty() => Self::new(name, &DEFAULT_PORT.to_string()),
            Some(port) => Self::new(name, port),
            None => Err(DestinationError::AfterBrackets(port.to_owned())),
        }
    }

    fn new(name: &str, port: &str) -> Result<Self, DestinationError> {
        if name.is_empty() {
            return Err(DestinationError::NoHost);
        }
        let invalid = name.chars().find(|&c| !(c.is_ascii_alphanumeric() || ".-_".contains(c)));
        if let Some(c) = invalid.filter(|_| !is_ipv6(name)) {
            return Err(DestinationError::InvalidHost(c));
        }
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits && port > 0 => Ok(Self { name: name.to_owned(), port }),
            _ => Err(DestinationError::InvalidPort(port.to_owned())),
        }
    }

    /// The address, if the host is given by address.
    pub fn address(&self) -> Option<SocketAddr> {
        Some((self.name.parse::<IpAddr>().ok()?, self.port).into())
    }

    /// Name or address.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// An IPv6 address, perhaps with a zone: `fe80::1%eth0`.
fn is_ipv6(host: &str) -> bool {
    let (address, interface) = host.split_once('%').unwrap_or((host, "none"));
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
    !interface.is_empty() && interface.chars().all(allowed) && address.parse::<Ipv6Addr>().is_ok()
}

/// Why a URL is no destination.
#[derive(Debug)]
pub enum DestinationError {
    /// This has no scheme.
    NotAUrl(String),
    /// Nothing is known of this scheme.
    UnsupportedScheme(String),
    /// The path of a socket is not absolute; the URL that is probably meant.
    RelativePath(String),
    /// No socket can have this path.
    InvalidPath(io::Error),
    /// The host is empty.
    NoHost,
    /// No host name has this character.
    InvalidHost(char),
    /// An IPv6 address has no brackets, in a URL of this scheme.
    MissingBrackets(&'static str),
    /// The text in brackets is no IPv6 address.
    InvalidIpv6,
    /// This follows the brackets, and is no port.
    AfterBrackets(String),
    /// This is no port.
    InvalidPort(String),
}

impl fmt::Display for DestinationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAUrl(text) if text.is_empty() => write!(f, "not a URL: {SUPPORTED}"),
            Self::NotAUrl(path) if path.starts_with('/') => write!(f, "not a URL: did you mean unix://{path}?"),
            Self::NotAUrl(text) => write!(f, "not a URL: did you mean {}?", likely_url(text)),
            Self::UnsupportedScheme(scheme) => write!(f, "unsupported scheme '{scheme}://': {SUPPORTED}"),
            Self::RelativePath(url) => write!(f, "the path of a socket must be absolute: {url}"),
            Self::InvalidPath(error) => write!(f, "invalid socket path: {error}"),
            Self::NoHost => f.write_str("no host given"),
            Self::InvalidHost(c) => write!(f, "invalid character {c:?} in the host name"),
            Self::MissingBrackets(scheme) => write!(f, "an IPv6 address needs brackets: {scheme}://[ADDRESS]:PORT"),
            Self::InvalidIpv6 => f.write_str("not an IPv6 address in the brackets"),
            Self::AfterBrackets(text) => write!(f, "expected ':PORT' after the brackets, not '{text}'"),
            Self::InvalidPort(port) => write!(f, "invalid port '{port}': must be from 1 to 65535"),
        }
    }
}

/// What is probably meant by a text without `://`: a host, or a URL without its slashes.
fn likely_url(text: &str) -> String {
    match text.split_once(':') {
        Some((scheme @ ("udp" | "tcp"), rest)) if rest.contains(|c: char| !c.is_ascii_digit()) => {
            format!("{scheme}://{}", rest.trim_start_matches('/'))
        }
        Some((scheme @ ("unix" | "unixgram"), path)) => format!("{scheme}:///{}", path.trim_start_matches('/')),
        _ => format!("udp://{text}"),
    }
}

impl Error for DestinationError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::InvalidPath(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destination_urls() {
        let host = |name: &str, port| Host { name: name.into(), port };
        let udp = |name: &str, port| Ok(Destination::Udp(host(name, port)));
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
            ("localhost:8125", Err("not a URL: did you mean udp://localhost:8125?")),
            ("/run/statsd", Err("not a URL: did you mean unix:///run/statsd?")),
            ("udp:h:8125", Err("not a URL: did you mean udp://h:8125?")),
            ("tcp:/stats", Err("not a URL: did you mean tcp://stats?")),
            ("udp:8125", Err("not a URL: did you mean udp://udp:8125?")),
            ("unix:/run/statsd", Err("not a URL: did you mean unix:///run/statsd?")),
            ("", Err("not a URL: use udp://, tcp:// or unix://")),
            ("http://h", Err("unsupported scheme 'http://': use udp://, tcp:// or unix://")),
            ("unix://run/statsd", Err("the path of a socket must be absolute: unix:///run/statsd")),
            (&too_long, Err("invalid socket path: path must be shorter than SUN_LEN")),
            ("udp://", Err("no host given")),
            ("tcp://:8125", Err("no host given")),
            ("udp://::1", Err("an IPv6 address needs brackets: udp://[ADDRESS]:PORT")),
            ("tcp://::1", Err("an IPv6 address needs brackets: tcp://[ADDRESS]:PORT")),
            ("udp://[fe80::1%]", Err("not an IPv6 address in the brackets")),
            ("udp://[fe80::1%e\nth0]", Err("not an IPv6 address in the brackets")),
            ("udp://[h]", Err("not an IPv6 address in the brackets")),
            ("udp://[::1]8125", Err("expected ':PORT' after the brackets, not '8125'")),
            ("udp://h:", Err("invalid port '': must be from 1 to 65535")),
            ("udp://h:0", Err("invalid port '0': must be from 1 to 65535")),
            ("udp://h:+5", Err("invalid port '+5': must be from 1 to 65535")),
            ("udp://h:65536", Err("invalid port '65536': must be from 1 to 65535")),
            ("udp://a b", Err("invalid character ' ' in the host name")),
            ("udp://h/path", Err("invalid character '/' in the host name")),
        ] {
            let parsed = url.parse::<Destination>().map_err(|error| error.to_string());
            assert_eq!(parsed, expected.map_err(str::to_owned), "{url}");
            if let Ok(destination) = parsed {
                assert_eq!(destination.to_string().parse::<Destination>().ok(), Some(destination), "{url} as printed");
            }
        }
    }
}
