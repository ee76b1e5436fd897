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

/// How soon it is told again what it did not take, and the most often that it is fed.
const AGAIN: Duration = Duration::from_millis(200);
const LEAST: Duration = Duration::from_millis(10);

/// Whoever has started this.
#[derive(Default)]
pub struct Supervisor {
    /// Where it listens, if it does.
    address: Option<SocketAddr>,
    /// Whether it is still to hear that this has begun to work.
    owes_ready: bool,
    /// Whether it did not take the latest message.
    failed: bool,
    /// How often it has to hear of this, if it wants to.
    every: Option<Duration>,
    /// When it was last told that this is alive; when, how it goes; and whether that was well.
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
        let patience = address.as_ref().and_then(|_| sd_notify::watchdog_enabled()).filter(|time| !time.is_zero());
        let every = patience.map(|patience| (patience / 2).max(LEAST));
        Self { address, every, ..Self::default() }
    }

    /// When it has to hear of this again.
    pub fn due(&self) -> Option<Instant> {
        let wait = match self.every {
            _ if self.owes_ready => AGAIN,
            Some(every) if self.failed => every.min(AGAIN),
            every => every?,
        };
        Some(self.heard? + wait)
    }

    /// The loop is at work: a poll was answered, well or not. The first time this has started well.
    pub fn working(&mut self, now: Instant, well: bool, status: impl FnOnce() -> String) {
        if self.address.is_none() {
            return;
        }
        let status = self.news(now, well).then(|| status().replace(char::is_control, " "));
        let is_due = self.due().is_none_or(|due| now >= due);
        self.owes_ready |= self.heard.is_none();
        if status.is_some() || self.owes_ready || (is_due && self.every.is_some()) {
            self.say(now, status.as_deref());
        }
    }

    /// Nothing new, but the loop is alive.
    pub fn alive(&mut self, now: Instant) {
        self.say(now, None);
    }

    fn say(&mut self, now: Instant, status: Option<&str>) {
        let mut states = Vec::from_iter(self.owes_ready.then_some(Ready));
        states.extend(status.map(Status));
        states.push(Watchdog);
        self.failed = !self.tell(&states);
        self.owes_ready &= self.failed;
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
        if let (true, Ok(now)) = (self.heard.is_some() && !self.owes_ready, NotifyState::monotonic_usec_now()) {
            self.owes_ready = self.tell(&[Reloading, now]) && !self.tell(&[Ready]);
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
