//! The loop: keeps time, listens to signals, and hands what the poller reads to the output.
//!
//! Deadlines are multiples of the interval on the monotonic clock; one that comes while a poll is still
//! under way is skipped and counted, never piled up. Whatever libxenstat does, signals are answered at once.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::check;
use crate::cli::Options;
use crate::disks::Silent;
use crate::host::Health;
use crate::metrics::{Before, Span};
use crate::output::Output;
use crate::poller::{self, Moments, Polled, Request, Sources};
use crate::release;
use crate::snapshot::{Collectors, Snapshot};
use crate::trouble::{Trouble, Troubles};
use crate::xenstat::Error;

/// The first poll waits no longer than this for the destination's name to be looked up.
const FIRST_LOOK_UP: Duration = Duration::from_secs(1);

/// The same where only so many polls are asked for, and all could be over and lost before.
const ONLY_LOOK_UP: Duration = Duration::from_secs(10);

/// How long the end waits for libxenstat to close its handle.
const CLOSING: Duration = Duration::from_millis(200);

/// How long a signal to end waits for the loop, which may be stuck in a write that nobody reads.
const ENDING: Duration = Duration::from_millis(500);

/// Everything the loop can be woken by, besides a deadline.
enum Event {
    /// `None`: the poller is gone.
    Polled(Option<Box<Polled>>),
    LookedUp(io::Result<Vec<SocketAddr>>),
    Signal(i32),
}

/// Why the program ends otherwise than it was asked to.
#[derive(Debug)]
pub enum Failure {
    /// libxenstat cannot be opened at start, or gave nothing at any of the polls asked for.
    Xenstat(Error),
    /// What was to be printed cannot be.
    Stdout(io::Error),
    /// The polls asked for are made, and not a gauge of them could be sent.
    NothingSent(String),
    /// `--check` has found something wrong, and told it.
    Check,
    /// A thread or the signals could not be set up.
    Start(io::Error),
    /// The poller thread has panicked.
    PollerGone,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Xenstat(error) => error.fmt(f),
            Failure::Stdout(error) => write!(f, "cannot write to standard output: {error}"),
            Failure::NothingSent(destination) => write!(f, "nothing could be sent to {destination}"),
            Failure::Check => f.write_str("the daemon would not do its whole job here, see BAD above"),
            Failure::Start(error) => write!(f, "cannot set up threads and signals: {error}"),
            Failure::PollerGone => f.write_str("the thread that polls libxenstat is gone"),
        }
    }
}

impl std::error::Error for Failure {}

/// The program, ready to run.
pub struct Monitor {
    interval: Duration,
    count: Option<u64>,
    sources: Sources,
    output: Output,
    /// The latest good poll, to measure the next one against.
    previous: Option<(Snapshot, Moments)>,
    /// The one before, to be read over.
    spare: Snapshot,
    /// Polls asked for, and those of them that failed; polls not asked for as one was still under way.
    polls: u64,
    failed: u64,
    skipped: u64,
    polling: bool,
    /// How long the latest tick took on our side.
    send: Option<Duration>,
    looking_up: bool,
    /// Whether the log has said what is read and where it goes.
    introduced: bool,
    failing: Trouble,
    slow: Trouble,
    partial: Trouble,
    no_vifs: Trouble,
    no_disks: Trouble,
    silent: Troubles,
}

impl Monitor {
    /// Checks everything that can be wrong with the options; the error is one line. `variable` reads the
    /// environment.
    pub fn new(options: &Options, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let destination = options.destination(&variable)?;
        let prefix = options.prefix(&variable)?;
        let host = match &options.host {
            Some(host) => host.clone(),
            None => fs::read_to_string("/proc/sys/kernel/hostname")
                .map_err(|error| format!("cannot read this host's name ({error}): give it with --host"))?
                .trim()
                .to_owned(),
        };
        Ok(Self {
            interval: options.interval,
            count: options.count(),
            sources: options.into(),
            output: Output::new(options, prefix.as_ref(), destination, host)?,
            previous: None,
            spare: Snapshot::default(),
            polls: 0,
            failed: 0,
            skipped: 0,
            polling: false,
            send: None,
            looking_up: false,
            introduced: false,
            failing: Trouble::default(),
            slow: Trouble::default(),
            partial: Trouble::default(),
            no_vifs: Trouble::default(),
            no_disks: Trouble::default(),
            silent: Troubles::default(),
        })
    }

    /// Prints whether all that is needed is there.
    pub fn check(&self, options: &Options) -> Result<(), Failure> {
        match check::run(options, &self.output, self.output.server()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Check),
            Err(error) => Err(Failure::Stdout(error)),
        }
    }

    /// Polls, sends and prints until a signal or the count ends it.
    pub fn run(mut self) -> Result<(), Failure> {
        let (events, inbox) = mpsc::channel();
        forward_signals(events.clone()).map_err(Failure::Start)?;
        let answer = {
            let events = events.clone();
            move |polled: Option<Polled>| drop(events.send(Event::Polled(polled.map(Box::new))))
        };
        let requests = poller::start(self.sources.clone(), answer).map_err(Failure::Start)?;

        self.look_up(&events);
        let patience = match self.count {
            _ if !self.looking_up => Duration::ZERO,
            None => FIRST_LOOK_UP,
            Some(_) => ONLY_LOOK_UP,
        };
        let mut schedule = Schedule { next: Instant::now() + patience, interval: self.interval };
        let reason = loop {
            match next_event(&inbox, schedule.next) {
                None => {
                    let missed = schedule.advance(Instant::now());
                    if self.looking_up {
                        self.output.look_up_takes_long();
                    }
                    self.look_up(&events);
                    self.poll(missed, &requests)?;
                }
                Some(Event::Polled(None)) => return Err(Failure::PollerGone),
                Some(Event::Polled(Some(polled))) => {
                    self.polling = false;
                    match self.tick(*polled) {
                        Err(Failure::Stdout(error)) if error.kind() == ErrorKind::BrokenPipe => {
                            break "standard output is closed";
                        }
                        result => result?,
                    }
                    if self.count == Some(self.polls) {
                        break "done";
                    }
                }
                Some(Event::LookedUp(result)) => {
                    self.looking_up = false;
                    self.output.looked_up(result);
                    if self.polls == 0 {
                        schedule.next = Instant::now();
                    }
                }
                Some(Event::Signal(SIGHUP)) => {
                    info!("SIGHUP: opening libxenstat and the destination anew");
                    let _ = requests.send(Request::Close);
                    self.introduced = false;
                    self.output.forget_address();
                    self.look_up(&events);
                }
                Some(Event::Signal(SIGINT)) => break "SIGINT",
                Some(Event::Signal(_)) => break "SIGTERM",
            }
        };
        drop(requests);
        if !self.polling {
            await_close(&inbox);
        }
        self.end(reason)
    }

    /// Has the destination looked up, where that is needed and not under way.
    fn look_up(&mut self, events: &Sender<Event>) {
        if self.looking_up {
            return;
        }
        if let Some(destination) = self.output.to_look_up() {
            let events = events.clone();
            destination.resolve(move |result| drop(events.send(Event::LookedUp(result))));
            self.looking_up = true;
        }
    }

    /// A deadline has come, and `missed` before it have gone by.
    fn poll(&mut self, missed: u64, requests: &Sender<Request>) -> Result<(), Failure> {
        self.skipped += missed;
        if self.polling {
            self.skipped += u64::from(self.count != Some(self.polls));
            self.slow.is(format!(
                "libxenstat does not answer within the interval of {:?}: polls are skipped until it does",
                self.interval
            ));
            return Ok(());
        }
        requests.send(Request::Poll(std::mem::take(&mut self.spare))).map_err(|_| Failure::PollerGone)?;
        self.polls += 1;
        self.polling = true;
        Ok(())
    }

    /// What one poll brought. A failure ends the program; trouble that may pass is logged.
    fn tick(&mut self, polled: Polled) -> Result<(), Failure> {
        let Polled { moments, took, result, opened, no_vifs, no_disks, silent, cause, .. } = polled;

        if took < self.interval {
            self.slow.is_over(|| "libxenstat answers in time again".into());
        }
        let snapshot = match result {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.failed += 1;
                let nothing_read = self.count == Some(self.polls) && self.failed == self.polls;
                if nothing_read || (self.polls == 1 && !error.may_pass()) {
                    return Err(Failure::Xenstat(error));
                }
                self.failing.is(format!("{error}; trying again at every poll"));
                let mut health = self.health(false, took, Collectors::default());
                return self.output.send_host(None, &mut health).map_err(Failure::Stdout);
            }
        };
        if let Some((library, why)) = opened.filter(|_| !std::mem::replace(&mut self.introduced, true)) {
            info!(
                "reading Xen {} every {:?} through {} ({why}), {}",
                snapshot.xen_version,
                self.interval,
                library.display(),
                self.output.describe(),
            );
            if release::miscounts_read_sectors(&snapshot.xen_version) && !snapshot.own_disks {
                warn!("Xen {} miscounts the sectors read from disks: vbd_rsect is withheld", snapshot.xen_version);
            }
        }
        self.failing.seems_over(|| "libxenstat answers again".into());
        match &no_vifs {
            Some(error) => self.no_vifs.is(format!("no VIFs from the kernel: {error}")),
            None => self.no_vifs.seems_over(|| "the kernel tells its VIFs again".into()),
        }
        match &no_disks {
            Some(error) => self.no_disks.is(format!("no disks from the kernel: {error}: their gauges are withheld")),
            None => self.no_disks.seems_over(|| "the kernel tells its disks again".into()),
        }
        let is_there = |id| snapshot.domains.iter().any(|domain| domain.id == id);
        let silent = silent.into_iter().map(|Silent { id, name, why }| (id, name, why));
        let (begun, ended) = self.silent.are(silent, is_there);
        begun.iter().for_each(|line| warn!("{line}"));
        ended.iter().for_each(|line| info!("{line}"));
        match cause.and_then(|cause| untold(snapshot.told, &cause)) {
            Some(what) => self.partial.is(what),
            None => self.partial.seems_over(|| "everything can be told again".into()),
        }
        let start = Instant::now();
        let before = self.previous.as_ref().map(|(snapshot, then)| Before {
            snapshot,
            xenstat: Span::between(then.xenstat, moments.xenstat),
            vifs: Span::between(then.vifs, moments.vifs),
            vbds: Span::between(then.vbds, moments.vbds),
        });
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let all_disks = snapshot.domains.iter().all(|domain| domain.vbds.is_some());
        let mut health = self.health(true, took, Collectors { vbd: all_disks, ..snapshot.told });
        self.output.tick(before.as_ref(), &snapshot, &mut health, time).map_err(Failure::Stdout)?;
        let send = start.elapsed();
        self.send = Some(send);
        debug!("{} domains read in {took:?}, told in {send:?}", snapshot.domains.len());
        let before = self.previous.replace((snapshot, moments));
        self.spare = before.map(|(snapshot, _)| snapshot).unwrap_or_default();
        Ok(())
    }

    /// What this program's own gauges tell, as far as it is known here.
    fn health(&self, up: bool, poll: Duration, told: Collectors) -> Health {
        let (send, skipped, failed) = (self.send, self.skipped, self.failed);
        Health { up, poll, send, skipped, failed, told, ..Health::default() }
    }

    fn end(self, reason: &str) -> Result<(), Failure> {
        let sent = self.output.sent();
        let datagrams =
            sent.as_ref().map(|sent| format!("; datagrams: {} sent, {} known to be lost", sent.datagrams, sent.lost));
        info!(
            "{reason}: goodbye; polls: {}, failed: {}, skipped: {}{}",
            self.polls,
            self.failed,
            self.skipped,
            datagrams.unwrap_or_default()
        );
        match sent {
            Some(sent) if sent.datagrams == 0 && self.count == Some(self.polls) => {
                Err(Failure::NothingSent(sent.destination.to_string()))
            }
            _ => Ok(()),
        }
    }
}

/// What a snapshot does not tell, why, and what becomes of it.
fn untold(told: Collectors, cause: &str) -> Option<String> {
    let parts = [(told.vbd, "disks"), (told.network, "network interfaces"), (told.vcpu, "vcpus")];
    let missing: Vec<&str> = parts.iter().filter(|(told, _)| !told).map(|(_, part)| *part).collect();
    let hint = match missing[..] {
        ["disks"] => " (they need /sys/bus/xen-backend, which the module xen-blkback brings)",
        [] => return None,
        _ => "",
    };
    let missing = missing.join(" and ");
    Some(format!("{cause} when asked for {missing}{hint}: their gauges are withheld"))
}

/// When to poll: at multiples of the interval, however late a poll was asked for.
struct Schedule {
    next: Instant,
    interval: Duration,
}

impl Schedule {
    /// Moves on to the first deadline after `now`; returns how many went by beyond the one that is due.
    fn advance(&mut self, now: Instant) -> u64 {
        let late = now.saturating_duration_since(self.next).as_nanos() / self.interval.as_nanos();
        let late = u32::try_from(late).unwrap_or(u32::MAX);
        self.next += self.interval * late + self.interval;
        late.into()
    }
}

/// The next event, or `None` when the deadline comes first.
fn next_event(inbox: &Receiver<Event>, deadline: Instant) -> Option<Event> {
    match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(event) => Some(event),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => unreachable!("the loop holds a sender itself"),
    }
}

/// Gives libxenstat a moment to close its handle.
fn await_close(inbox: &Receiver<Event>) {
    let give_up = Instant::now() + CLOSING;
    while !matches!(next_event(inbox, give_up), None | Some(Event::Polled(None))) {}
}

/// Hands signals to the loop. One that asks for the end gets it even if the loop cannot hear.
fn forward_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let forward = move || {
        for signal in signals.forever() {
            let _ = events.send(Event::Signal(signal));
            if signal != SIGHUP {
                thread::sleep(ENDING);
                signal_hook::low_level::exit(0);
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(forward).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_do_not_drift_and_do_not_pile_up() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut schedule = Schedule { next: start, interval: Duration::from_millis(100) };
        for (now, missed, next) in
            [(0, 0, 100), (101, 0, 200), (299, 0, 300), (300, 0, 400), (999, 5, 1000), (1100, 1, 1200)]
        {
            assert_eq!((schedule.advance(ms(now)), schedule.next), (missed, ms(next)), "at {now} ms");
        }
    }
}
