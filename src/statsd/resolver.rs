//! The addresses of a server by name, and when they are looked up again: from time to time, and after errors, as it
//! may have moved. While look-ups fail the old addresses are as good as any.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::statsd::destination::{Destination, Host};

/// What a look-up found last, and how it stands with the next.
pub struct Addresses {
    /// `None` where there is nothing to look up.
    host: Option<Host>,
    list: Vec<SocketAddr>,
    under_way: bool,
    /// When the latest look-up ended, and when the next is due.
    ended: Option<Instant>,
    due: Instant,
    /// How long an answer holds, and how long after one look-up another may be made.
    holds: Duration,
    at_least: Duration,
}

impl Addresses {
    /// Of a destination: none yet, if it has a name to be looked up.
    pub fn new(destination: &Destination, holds: Duration, at_least: Duration) -> Self {
        let host = destination.host();
        let list: Vec<SocketAddr> = host.and_then(Host::address).into_iter().collect();
        let host = host.filter(|_| list.is_empty()).cloned();
        Self { host, list, under_way: false, ended: None, due: Instant::now(), holds, at_least }
    }

    /// In the order to try them in.
    pub fn list(&self) -> &[SocketAddr] {
        &self.list
    }

    /// Whether there would be some, but for a look-up that has yet to succeed.
    pub fn are_missing(&self) -> bool {
        self.host.is_some() && self.list.is_empty()
    }

    /// Whether a look-up is under way.
    pub fn are_looked_up(&self) -> bool {
        self.under_way
    }

    /// Begins a look-up if one is due, which hands its result to `then`; returns when the next will be.
    pub fn look_up<F>(&mut self, now: Instant, then: impl Fn() -> F) -> Option<Instant>
    where
        F: FnOnce(io::Result<Vec<SocketAddr>>) + Send + 'static,
    {
        let host = self.host.as_ref().filter(|_| !self.under_way)?;
        if now < self.due {
            return Some(self.due);
        }
        self.under_way = true;
        host.look_up(then()).unwrap_or_else(|error| then()(Err(error)));
        None
    }

    /// What a look-up came to: whether there are others now, and an error only where there is no older answer.
    pub fn found(&mut self, found: io::Result<Vec<SocketAddr>>, now: Instant) -> io::Result<bool> {
        (self.under_way, self.ended, self.due) = (false, Some(now), now + self.holds);
        match found.and_then(|list| if list.is_empty() { Err(none()) } else { Ok(list) }) {
            Ok(list) => Ok(std::mem::replace(&mut self.list, list) != self.list),
            Err(error) => {
                self.look_up_soon();
                if self.list.is_empty() { Err(error) } else { Ok(false) }
            }
        }
    }

    /// After an error of the server's.
    pub fn look_up_soon(&mut self) {
        let soon = self.ended.map_or_else(Instant::now, |ended| ended + self.at_least);
        self.due = self.due.min(soon);
    }

    /// At once.
    pub fn look_up_now(&mut self, now: Instant) {
        self.due = now;
    }

    /// Puts the first last: it does not serve us. Whether there is another to try.
    pub fn rotate(&mut self) -> bool {
        if !self.list.is_empty() {
            self.list.rotate_left(1);
        }
        self.list.len() > 1
    }
}

/// A name was looked up, and has none.
pub fn none() -> io::Error {
    io::Error::new(ErrorKind::NotFound, "the name has no address")
}
