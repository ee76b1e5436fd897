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
    /// When it last heard that this is alive; when, how it goes; and whether that was well.
    heard: Option<Instant>,
    told: Option<Instant>,
    well: bool,
}

impl Supervisor {
    /// From the environment: NOTIFY_SOCKET, WATCHDOG_USEC.
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

    /// The loop is at work: a poll was answered, well or not. The first time this has started well.
    pub fn working(&mut self, now: Instant, well: bool, status: impl FnOnce() -> String) {
        if self.address.is_none() {
            return;
        }
        let status = self.news(now, well).then(|| status().replace(char::is_control, " "));
        let is_due = self.due().is_none_or(|due| now >= due);
        if status.is_none() && self.ready && !(is_due && self.every.is_some()) {
            return;
        }
        let mut states = Vec::from_iter((!self.ready).then_some(Ready));
        states.extend(status.as_deref().map(Status));
        states.push(Watchdog);
        self.ready = self.tell(&states) || self.ready;
        self.heard = Some(now);
    }

    /// Nothing new, but the loop is alive.
    pub fn alive(&mut self, now: Instant) {
        self.tell(&[Watchdog]);
        self.heard = Some(now);
    }

    /// A poll is late; the watchdog is not fed until it is over.
    pub fn stuck(&mut self, now: Instant, status: impl FnOnce() -> String) {
        if self.address.is_some() && self.news(now, false) {
            self.tell(&[Status(&status())]);
        }
    }

    /// Whether how it goes is worth telling: not too often, but at once where that has changed.
    fn news(&mut self, now: Instant, well: bool) -> bool {
        let changed = self.well != well;
        let lately = self.told.is_some_and(|told| now < told + OFTEN);
        if lately && !changed {
            return false;
        }
        (self.told, self.well) = (Some(now), well);
        true
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
