//! The addresses of a server by name, and when they are looked up: at intervals, and soon after errors, as the server
//! may have moved. While look-ups fail the old addresses are kept.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

use crate::statsd::destination::Host;
use crate::statsd::socket::Unreachable;

/// The addresses of a destination, and the schedule of look-ups.
#[derive(Debug)]
pub struct Resolver {
    /// Whether there is a name to look up.
    has_name: bool,
    addresses: Vec<SocketAddr>,
    /// The one to be used unless it refuses.
    preferred: Option<SocketAddr>,
    in_flight: bool,
    /// When the last look-up ended, and when the next one is due.
    ended: Option<Instant>,
    due: Instant,
    /// How long a result is used, and the shortest time between two look-ups.
    interval: Duration,
    min_interval: Duration,
}

impl Resolver {
    /// Without addresses yet, if the host is given by name. Without a host there is nothing to resolve.
    pub fn new(host: Option<&Host>, interval: Duration, min_interval: Duration, now: Instant) -> Self {
        let addresses: Vec<SocketAddr> = host.and_then(Host::address).into_iter().collect();
        let has_name = host.is_some() && addresses.is_empty();
        let preferred = addresses.first().copied();
        Self { has_name, addresses, preferred, in_flight: false, ended: None, due: now, interval, min_interval }
    }

    /// The addresses in the order to try them in.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Whether no look-up has succeeded yet.
    pub fn is_unresolved(&self) -> bool {
        self.has_name && self.addresses.is_empty()
    }

    /// Whether a look-up is under way.
    pub fn in_flight(&self) -> bool {
        self.in_flight
    }

    /// When the next look-up is due, unless one is under way.
    pub fn due(&self) -> Option<Instant> {
        (self.has_name && !self.in_flight).then_some(self.due)
    }

    /// Whether a look-up is due now; it is then under way until [`resolved`](Self::resolved).
    pub fn start(&mut self, now: Instant) -> bool {
        let start = self.due().is_some_and(|due| now >= due);
        self.in_flight |= start;
        start
    }

    /// Takes the result of a look-up. Returns whether the addresses have changed; an error only if there are none.
    pub fn resolved(&mut self, result: io::Result<Vec<SocketAddr>>, now: Instant) -> Result<bool, Unreachable> {
        (self.in_flight, self.ended, self.due) = (false, Some(now), now + self.interval);
        let error = match result {
            Ok(addresses) if !addresses.is_empty() => return Ok(self.replace(ipv4_first(addresses))),
            Ok(_) => Unreachable::NoAddress,
            Err(error) => Unreachable::Resolve(error),
        };
        self.expire(now);
        if self.addresses.is_empty() { Err(error) } else { Ok(false) }
    }

    /// Name servers may return the addresses in another order each time. So the preferred address and the one in use
    /// are kept if they are still listed.
    fn replace(&mut self, mut addresses: Vec<SocketAddr>) -> bool {
        let known = addresses.iter().all(|address| self.addresses.contains(address));
        if known && addresses.len() == self.addresses.len() {
            return false;
        }
        let preferred = self.preferred.filter(|preferred| addresses.contains(preferred));
        self.preferred = preferred.or(addresses.first().copied());
        let used = self.addresses.first().filter(|used| addresses.contains(used)).copied();
        if let Some(n) = addresses.iter().position(|&address| Some(address) == used.or(self.preferred)) {
            addresses.rotate_left(n);
        }
        self.addresses = addresses;
        true
    }

    /// Looks the name up again soon: the server has failed, and may have moved.
    pub fn expire(&mut self, now: Instant) {
        let soon = self.ended.map_or(now, |ended| ended + self.min_interval);
        self.due = self.due.min(soon);
    }

    /// Looks the name up again at once.
    pub fn expire_now(&mut self, now: Instant) {
        self.due = now;
    }

    /// Moves the first address, which refuses, to the end.
    pub fn rotate(&mut self) {
        if !self.addresses.is_empty() {
            self.addresses.rotate_left(1);
        }
    }

    /// The preferred address, if another one is used because it refused.
    pub fn refused(&self) -> Option<SocketAddr> {
        self.preferred.filter(|preferred| self.addresses.first() != Some(preferred))
    }

    /// Uses the preferred address again.
    pub fn restore(&mut self) {
        if let Some(n) = self.addresses.iter().position(|&address| Some(address) == self.preferred) {
            self.addresses.rotate_left(n);
        }
    }
}

/// Most statsd servers listen on IPv4 only.
pub fn ipv4_first(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses
}

/// Looks the addresses up and hands them to `then`. In a thread of its own: a name server may take half a minute to
/// fail.
pub fn resolve(host: &Host, then: impl FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static) -> io::Result<()> {
    let (name, port) = (host.name().to_owned(), host.port());
    let look_up = move || then((name.as_str(), port).to_socket_addrs().map(Iterator::collect));
    thread::Builder::new().name("resolver".into()).spawn(look_up).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statsd::destination::Destination;

    const INTERVAL: Duration = Duration::from_secs(60);
    const MIN_INTERVAL: Duration = Duration::from_secs(10);

    fn resolver(url: &str, now: Instant) -> Resolver {
        Resolver::new(url.parse::<Destination>().unwrap().host(), INTERVAL, MIN_INTERVAL, now)
    }

    fn addresses(texts: &[&str]) -> io::Result<Vec<SocketAddr>> {
        Ok(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn resolver_looks_up_names_alone() {
        let now = Instant::now();
        for (url, is_name) in [("udp://statsd", true), ("tcp://10.1.0.8", false), ("unix:///run/statsd", false)] {
            let mut resolver = resolver(url, now);
            assert_eq!((resolver.is_unresolved(), resolver.start(now)), (is_name, is_name), "{url}");
        }
        assert_eq!(resolver("tcp://10.1.0.8:9", now).addresses(), addresses(&["10.1.0.8:9"]).unwrap());
    }

    #[test]
    fn resolver_puts_ipv4_first() {
        let now = Instant::now();
        let mut resolver = resolver("udp://statsd", now);
        let found = addresses(&["[::1]:9", "10.1.0.9:9", "[::2]:9", "10.1.0.8:9"]);
        assert!(resolver.resolved(found, now).unwrap());
        let expected = addresses(&["10.1.0.9:9", "10.1.0.8:9", "[::1]:9", "[::2]:9"]).unwrap();
        assert_eq!(resolver.addresses(), expected);
    }

    #[test]
    fn resolver_keeps_the_preferred_address() {
        let now = Instant::now();
        let mut resolver = resolver("udp://statsd", now);
        let [a, b, c] = ["10.1.0.8:9", "10.1.0.9:9", "[::1]:9"];
        let parsed = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(resolver.resolved(addresses(&[a, b]), now).unwrap());
        assert!(!resolver.resolved(addresses(&[b, a]), now).unwrap(), "the order means nothing");
        assert_eq!((resolver.addresses()[0], resolver.refused()), (parsed(a), None));
        resolver.rotate();
        assert_eq!((resolver.addresses()[0], resolver.refused()), (parsed(b), Some(parsed(a))));
        assert!(resolver.resolved(addresses(&[c, a, b]), now).unwrap());
        assert_eq!((resolver.addresses()[0], resolver.refused()), (parsed(b), Some(parsed(a))), "still in use");
        resolver.restore();
        assert_eq!((resolver.addresses()[0], resolver.refused()), (parsed(a), None));
        resolver.rotate();
        assert!(resolver.resolved(addresses(&[c]), now).unwrap());
        assert_eq!((resolver.addresses(), resolver.refused()), (&[parsed(c)][..], None));
        resolver.rotate();
        assert_eq!(resolver.refused(), None, "there is no other");
    }

    #[test]
    fn resolver_schedule() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut resolver = resolver("udp://statsd", start);
        assert!(resolver.start(start) && !resolver.start(start), "one at a time");
        assert!(resolver.resolved(Err(io::ErrorKind::NotFound.into()), at(1)).is_err() && resolver.is_unresolved());
        assert_eq!(resolver.due(), Some(at(11)), "after an error");
        assert!(!resolver.start(at(10)) && resolver.start(at(11)));
        assert!(resolver.resolved(addresses(&["10.1.0.8:9"]), at(12)).unwrap() && !resolver.is_unresolved());
        assert_eq!(resolver.due(), Some(at(72)), "after a success");
        resolver.expire(at(30));
        assert_eq!(resolver.due(), Some(at(22)), "after an error of the server");
        assert!(resolver.start(at(30)));
        assert!(!resolver.resolved(addresses(&["10.1.0.8:9"]), at(31)).unwrap(), "as before");
        resolver.expire_now(at(32));
        assert!(resolver.start(at(32)));
        assert!(!resolver.resolved(addresses(&[]), at(33)).unwrap(), "old addresses are kept");
        assert_eq!(resolver.addresses(), addresses(&["10.1.0.8:9"]).unwrap());
    }
}
