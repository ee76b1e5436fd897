//! sd_notify: READY, STATUS, RELOADING and STOPPING, and pings of the watchdog, if systemd has started this program
//! (`Type=notify`).
//!
//! The crate sd-notify formats the messages and reads WATCHDOG_USEC. It does not send them: its `notify` blocks, and
//! cannot reach an abstract socket.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use sd_notify::NotifyState::{self, Ready, Reloading, Status, Stopping, Watchdog};

/// Minimum time between two statuses while nothing changes.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

/// Time from a message that could not be sent to the next attempt.
const RETRY: Duration = Duration::from_millis(200);

/// Minimum time between two pings of the watchdog.
const MIN_PING_INTERVAL: Duration = Duration::from_millis(10);

/// Sends one message.
type SendMessage = Arc<dyn Fn(&str) -> io::Result<()> + Send + Sync>;

/// The service manager that has started this program, if it listens.
#[derive(Default)]
pub struct Systemd {
    send: Option<SendMessage>,
    /// Time between two pings, if there is a watchdog.
    ping_interval: Option<Duration>,
    /// READY is to be sent.
    owes_ready: bool,
    /// The latest ping could not be sent.
    failed: bool,
    /// When the latest ping was sent, or tried; and the latest status.
    pinged: Option<Instant>,
    reported: Option<Instant>,
    /// What the latest status said: polls succeed, and in time.
    is_well: bool,
}

impl Systemd {
    /// As the environment says: NOTIFY_SOCKET, WATCHDOG_USEC.
    pub fn from_env() -> Self {
        let path = env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty());
        let address = path.and_then(|path| match path.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
            path => SocketAddr::from_pathname(OsStr::from_bytes(path)).ok(),
        });
        let Some(address) = address else { return Self::default() };
        let send = move |message: &str| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.send_to_addr(message.as_bytes(), &address).map(drop)
        };
        Self::new(Arc::new(send), sd_notify::watchdog_enabled().filter(|timeout| !timeout.is_zero()))
    }

    fn new(send: SendMessage, watchdog: Option<Duration>) -> Self {
        // Half of the timeout, as sd_watchdog_enabled(3) recommends.
        let ping_interval = watchdog.map(|timeout| (timeout / 2).max(MIN_PING_INTERVAL));
        Self { send: Some(send), ping_interval, ..Self::default() }
    }

    /// For a thread that has a status of its own.
    pub fn status(&self) -> StatusSender {
        StatusSender(self.send.clone())
    }

    /// When a ping is due.
    pub fn due(&self) -> Option<Instant> {
        let wait = match self.ping_interval {
            _ if self.owes_ready => RETRY,
            Some(interval) if self.failed => interval.min(RETRY),
            interval => interval?,
        };
        Some(self.pinged? + wait)
    }

    /// The loop works: a poll has finished, well or not. Announces READY the first time.
    pub fn on_poll(&mut self, now: Instant, is_well: bool, status: impl FnOnce() -> String) {
        if self.send.is_none() {
            return;
        }
        let status = self.reports(now, is_well).then(status);
        let is_due = self.due().is_none_or(|due| now >= due);
        self.owes_ready |= self.pinged.is_none();
        if status.is_some() || self.owes_ready || (is_due && self.ping_interval.is_some()) {
            self.send_ping(now, status.as_deref());
        }
    }

    /// The loop works, and there is nothing else to report.
    pub fn ping(&mut self, now: Instant) {
        self.send_ping(now, None);
    }

    fn send_ping(&mut self, now: Instant, status: Option<&str>) {
        let mut states = Vec::from_iter(self.owes_ready.then_some(Ready));
        let status = status.map(one_line);
        states.extend(status.as_deref().map(Status));
        states.push(Watchdog);
        self.failed = !self.notify(&states);
        self.owes_ready &= self.failed;
        self.pinged = Some(now);
    }

    /// A poll is late. No ping, so that the watchdog fires if this goes on.
    pub fn on_late_poll(&mut self, now: Instant, status: impl FnOnce() -> String) {
        if self.send.is_some() && self.reports(now, false) {
            self.notify(&[Status(&status())]);
        }
    }

    /// Whether to send a status: not too often, but always when things get better or worse.
    fn reports(&mut self, now: Instant, is_well: bool) -> bool {
        let is_recent = self.reported.is_some_and(|reported| now < reported + STATUS_INTERVAL);
        if is_recent && self.is_well == is_well {
            return false;
        }
        (self.reported, self.is_well) = (Some(now), is_well);
        true
    }

    /// SIGHUP was received.
    pub fn reloading(&mut self) {
        // Before READY was sent for the first time the service is not ready anyway.
        if let (true, Ok(now)) = (self.pinged.is_some() && !self.owes_ready, NotifyState::monotonic_usec_now()) {
            self.owes_ready = self.notify(&[Reloading, now]) && !self.notify(&[Ready]);
        }
    }

    /// The program stops.
    pub fn stopping(&mut self, reason: &str) {
        self.notify(&[Stopping, Status(reason)]);
    }

    /// Whether the message could be sent. It is not waited for.
    fn notify(&mut self, states: &[NotifyState]) -> bool {
        self.send.as_ref().is_some_and(|send| notify(send, states))
    }
}

/// Sends a status at once, from any thread.
pub struct StatusSender(Option<SendMessage>);

impl StatusSender {
    /// Sends it, if there is a service manager.
    pub fn send(&self, status: &str) {
        if let Some(send) = &self.0 {
            notify(send, &[Status(&one_line(status))]);
        }
    }
}

fn notify(send: &SendMessage, states: &[NotifyState]) -> bool {
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    let result = send(&message);
    if let Err(error) = &result {
        debug!("cannot notify the service manager: {error}");
    }
    result.is_ok()
}

/// Each line is a variable of its own.
fn one_line(status: &str) -> String {
    status.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;

    /// A service manager with the messages that it was sent.
    struct Manager {
        systemd: Systemd,
        sent: Arc<Mutex<Vec<String>>>,
        is_full: Arc<AtomicBool>,
        start: Instant,
    }

    impl Manager {
        fn new(watchdog: Option<u64>) -> Self {
            let (sent, is_full) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default());
            let (messages, full) = (Arc::clone(&sent), Arc::clone(&is_full));
            let send = move |message: &str| {
                if full.load(Relaxed) {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                messages.lock().unwrap().push(message.to_owned());
                Ok(())
            };
            let systemd = Systemd::new(Arc::new(send), watchdog.map(Duration::from_millis));
            Self { systemd, sent, is_full, start: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn due(&self) -> Option<u64> {
            self.systemd.due().map(|due| (due - self.start).as_millis() as u64)
        }

        /// What was sent since the last time.
        fn sent(&self) -> String {
            std::mem::take(&mut *self.sent.lock().unwrap()).join("+")
        }

        fn poll(&mut self, ms: u64, is_well: bool) -> String {
            self.systemd.on_poll(self.at(ms), is_well, || format!("at\t{ms}"));
            self.sent()
        }

        fn late(&mut self, ms: u64) -> String {
            self.systemd.on_late_poll(self.at(ms), || format!("late at {ms}"));
            self.sent()
        }
    }

    #[test]
    fn systemd_status_is_limited_unless_things_change() {
        let mut manager = Manager::new(None);
        assert_eq!(manager.poll(0, true), "READY=1\nSTATUS=at 0\nWATCHDOG=1\n");
        for (ms, is_well, sent) in [
            (10, true, ""),
            (999, true, ""),
            (1000, true, "STATUS=at 1000\nWATCHDOG=1\n"),
            (1500, false, "STATUS=at 1500\nWATCHDOG=1\n"),
            (1600, false, ""),
            (1700, true, "STATUS=at 1700\nWATCHDOG=1\n"),
        ] {
            assert_eq!(manager.poll(ms, is_well), sent, "at {ms} ms");
        }
        for (ms, sent) in [(1800, "STATUS=late at 1800\n"), (1900, ""), (2800, "STATUS=late at 2800\n")] {
            assert_eq!(manager.late(ms), sent, "at {ms} ms");
        }
        // Without a watchdog no ping is due.
        assert_eq!(manager.due(), None);
    }

    #[test]
    fn systemd_watchdog_is_pinged_twice_per_timeout() {
        for (timeout, first) in [(1000, 500), (15, 10), (60, 30)] {
            let mut manager = Manager::new(Some(timeout));
            assert_eq!(manager.due(), None, "not before it is ready");
            manager.poll(0, true);
            assert_eq!(manager.due(), Some(first));
            manager.systemd.ping(manager.at(first));
            assert_eq!((manager.sent().as_str(), manager.due()), ("WATCHDOG=1\n", Some(2 * first)));
            // Polls are pings, but no more than are due.
            assert_eq!(manager.poll(first + 1, true), "");
            assert_eq!(manager.poll(2 * first, true).matches("WATCHDOG=1").count(), 1);
            assert_eq!(manager.due(), Some(3 * first));
            // A late poll is none.
            manager.late(2 * first + 1);
            assert_eq!(manager.due(), Some(3 * first));
        }
    }

    #[test]
    fn systemd_messages_are_retried() {
        let mut manager = Manager::new(None);
        manager.is_full.store(true, Relaxed);
        manager.poll(0, true);
        assert_eq!((manager.sent().as_str(), manager.due()), ("", Some(200)));
        manager.is_full.store(false, Relaxed);
        manager.systemd.ping(manager.at(200));
        assert_eq!((manager.sent().as_str(), manager.due()), ("READY=1\nWATCHDOG=1\n", None));

        let mut manager = Manager::new(Some(1000));
        manager.poll(0, true);
        manager.is_full.store(true, Relaxed);
        manager.systemd.ping(manager.at(500));
        assert_eq!(manager.due(), Some(700));
    }

    #[test]
    fn systemd_reload_and_stop() {
        let mut manager = Manager::new(None);
        manager.systemd.reloading();
        assert_eq!(manager.sent(), "", "not before it is ready");
        manager.poll(0, true);
        manager.sent();
        manager.systemd.reloading();
        let sent = manager.sent();
        assert!(sent.starts_with("RELOADING=1\nMONOTONIC_USEC=") && sent.ends_with("\n+READY=1\n"), "{sent}");
        manager.systemd.stopping("SIGTERM");
        assert_eq!(manager.sent(), "STOPPING=1\nSTATUS=SIGTERM\n");
    }

    #[test]
    fn systemd_that_does_not_listen_is_sent_nothing() {
        let mut none = Systemd::default();
        none.on_poll(Instant::now(), true, || unreachable!("there is no one to send it to"));
        assert_eq!(none.due(), None);
    }
}
