//! What systemd is told where it has started this and listens (`Type=notify`), and by what it notices that nothing
//! goes on any more.

use std::env;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use log::debug;
use sd_notify::NotifyState::{self, Ready, Reloading, Status, Stopping, Watchdog};

/// No more often is it told how things are, however short the interval.
const OFTEN: Duration = Duration::from_secs(1);

/// Whoever has started this.
#[derive(Default)]
pub struct Supervisor {
    /// Where it listens, if it does.
    address: Option<SocketAddr>,
    /// Whether it knows that this has begun to work.
    ready: bool,
    /// How often it has to hear of this, if it wants to.
    every: Option<Duration>,
    heard: Option<Instant>,
}

impl Supervisor {
    /// From the environment.
    pub fn new() -> Self {
        let path = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let address = path.and_then(|path| match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            path => SocketAddr::from_pathname(OsStr::from_bytes(path)).ok(),
        });
        // Half of the time it waits, as sd_watchdog_enabled(3) has it.
        let every = address.as_ref().and_then(|_| sd_notify::watchdog_enabled()).map(|patience| patience / 2);
        Self { address, every, ..Self::default() }
    }

    /// When it has to hear of this again.
    pub fn due(&self) -> Option<Instant> {
        Some(self.heard? + self.every.filter(|_| self.ready)?)
    }

    /// The loop is at work: a poll was answered. The first time this has started well.
    pub fn working(&mut self, now: Instant, status: impl FnOnce() -> String) {
        let often = self.every.map_or(OFTEN, |every| every.min(OFTEN));
        let lately = self.ready && self.heard.is_some_and(|heard| now < heard + often);
        if self.address.is_none() || lately {
            return;
        }
        let status = status().replace(char::is_control, " ");
        let first = (!self.ready).then_some(Ready);
        self.ready = self.tell(&[first.as_slice(), &[Status(&status), Watchdog]].concat()) || self.ready;
        self.heard = Some(now);
    }

    /// Nothing new, but the loop is alive.
    pub fn alive(&mut self, now: Instant) {
        self.tell(&[Watchdog]);
        self.heard = Some(now);
    }

    /// A poll is late; the watchdog is not fed until it is over.
    pub fn stuck(&self, status: impl FnOnce() -> String) {
        if self.address.is_some() {
            self.tell(&[Status(&status())]);
        }
    }

    /// It was asked to begin anew, and will.
    pub fn reloading(&mut self) {
        // Before it is ready for the first time it is not ready now, either.
        if let (true, Ok(now)) = (self.ready, NotifyState::monotonic_usec_now()) {
            // If it does not hear the second it hears that with the next poll.
            self.ready = !self.tell(&[Reloading, now]) || self.tell(&[Ready]);
        }
    }

    /// The end has begun.
    pub fn ending(&self, reason: &str) {
        self.tell(&[Stopping, Status(reason)]);
    }

    /// Whether it was told: it is not waited for.
    fn tell(&self, states: &[NotifyState]) -> bool {
        let Some(address) = &self.address else { return false };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        let told = UnixDatagram::unbound().and_then(|socket| {
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message.as_bytes(), address)
        });
        if let Err(error) = &told {
            debug!("the service manager cannot be told: {error}");
        }
        told.is_ok()
    }
}
