//! The loop: keeps time, listens to signals, and hands what the poller reads to the output.
//!
//! Deadlines are multiples of the interval on the monotonic clock; one that comes while a poll is still
//! under way is skipped and counted, never piled up. Whatever libxenstat does, signals are answered at once.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, info};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::cli::Options;
use crate::output::{Output, Trouble};
use crate::poller::{self, Polled, Request};
use crate::snapshot::Snapshot;
use crate::xenstat::Error;

/// The first poll waits no longer than this for the destination's name to be looked up.
const FIRST_LOOK_UP: Duration = Duration::from_secs(1);

/// How long the end waits for libxenstat to close its handle.
const CLOSING: Duration = Duration::from_millis(200);

/// Everything the loop can be woken by, besides a deadline.
enum Event {
    /// `None`: the poller is gone.
    Polled(Option<Polled>),
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
    libxenstat: Option<PathBuf>,
    output: Output,
    /// The latest good poll, to measure the next one against.
    previous: Option<(Snapshot, Instant)>,
    /// The library opened, until the first good poll tells the Xen release to name with it.
    opened: Option<(PathBuf, &'static str)>,
    polling: Trouble,
    good: u64,
    skipped: u64,
}

impl Monitor {
    /// Checks everything that can be wrong with the options; the error is one line. `variable` reads the
    /// environment.
    pub fn new(options: &Options, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let destination = options.destination(&variable)?;
        let prefix = options.prefix(&variable);
        let host = match &options.host {
            Some(host) if host.is_empty() => return Err("--host is empty".into()),
            Some(host) => host.clone(),
            None => fs::read_to_string("/proc/sys/kernel/hostname")
                .map_err(|error| format!("cannot read this host's name ({error}): give it with --host"))?
                .trim()
                .to_owned(),
        };
        let output = Output::new(options, prefix.as_deref(), destination, host).map_err(|bad| bad.to_string())?;
        Ok(Self {
            interval: options.interval,
            count: options.count(),
            libxenstat: options.libxenstat.clone(),
            output,
            previous: None,
            opened: None,
            polling: Trouble::default(),
            good: 0,
            skipped: 0,
        })
    }

    /// Polls, sends and prints until a signal or the count ends it.
    pub fn run(mut self) -> Result<(), Failure> {
        let (events, inbox) = mpsc::channel();
        forward_signals(events.clone()).map_err(Failure::Start)?;
        let to_loop = events.clone();
        let answer = move |polled| drop(to_loop.send(Event::Polled(polled)));
        let requests = poller::start(self.libxenstat.clone(), answer).map_err(Failure::Start)?;

        let mut looking_up = self.look_up(&events);
        let first = Instant::now() + if looking_up { FIRST_LOOK_UP } else { Duration::ZERO };
        let mut schedule = Schedule { next: first, interval: self.interval };
        let mut requested = 0;
        let mut waiting_since: Option<Instant> = None;
        let reason = loop {
            let all_requested = self.count == Some(requested);
            match next_event(&inbox, (!all_requested).then_some(schedule.next)) {
                // The deadline.
                None => {
                    let now = Instant::now();
                    self.skipped += schedule.advance(now);
                    if let Some(since) = waiting_since {
                        self.skipped += 1;
                        self.polling.is(format!(
                            "libxenstat has not answered within the interval of {:?}: polls are skipped until it does",
                            self.interval
                        ));
                        debug!("waiting for libxenstat for {:?}", since.elapsed());
                    } else {
                        if !looking_up && self.output.to_look_up().is_some() {
                            looking_up = self.look_up(&events);
                        }
                        if requests.send(Request::Poll).is_err() {
                            return Err(Failure::PollerGone);
                        }
                        waiting_since = Some(now);
                        requested += 1;
                    }
                }
                Some(Event::Polled(None)) => return Err(Failure::PollerGone),
                Some(Event::Polled(Some(polled))) => {
                    waiting_since = None;
                    let last = self.count == Some(requested);
                    match self.tick(polled, requested == 1, last) {
                        Err(Failure::Stdout(error)) if error.kind() == ErrorKind::BrokenPipe => break "nobody reads on",
                        result => result?,
                    }
                    if last {
                        break "done";
                    }
                }
                Some(Event::LookedUp(result)) => {
                    looking_up = false;
                    self.output.looked_up(result);
                    if requested == 0 {
                        schedule.next = Instant::now();
                    }
                }
                Some(Event::Signal(SIGHUP)) => {
                    info!("SIGHUP: opening libxenstat and the destination anew");
                    let _ = requests.send(Request::Close);
                    looking_up = looking_up || self.look_up(&events);
                }
                Some(Event::Signal(SIGINT)) => break "SIGINT",
                Some(Event::Signal(_)) => break "SIGTERM",
            }
        };
        drop(requests);
        if waiting_since.is_none() {
            await_close(&inbox);
        }
        let (sent, lost) = self.output.totals;
        info!(
            "{reason}: goodbye after {} polls; {} polls skipped, {sent} datagrams sent, {lost} known to be lost",
            self.good, self.skipped
        );
        Ok(())
    }

    /// Starts a look-up of the destination, if it has a name to look up.
    fn look_up(&self, events: &Sender<Event>) -> bool {
        let Some(destination) = self.output.can_look_up() else { return false };
        let events = events.clone();
        destination.resolve(move |result| drop(events.send(Event::LookedUp(result))));
        true
    }

    /// What one poll brought. A failure ends the program; trouble that may pass is logged.
    fn tick(&mut self, polled: Polled, first: bool, last: bool) -> Result<(), Failure> {
        let Polled { at, took, result, opened } = polled;
        self.opened = opened.or(self.opened.take());
        let snapshot = match result {
            Ok(snapshot) => snapshot,
            Err(error) if (first && !error.may_pass()) || (last && self.good == 0) => {
                return Err(Failure::Xenstat(error));
            }
            Err(error) => {
                self.polling.is(format!("{error}; trying again at every poll"));
                return Ok(());
            }
        };
        self.good += 1;
        if let Some((library, why)) = self.opened.take() {
            info!(
                "reading Xen {} through {} ({why}), sending {} every {:?} as host {}",
                snapshot.xen_version,
                library.display(),
                self.output.destination(),
                self.interval,
                self.output.host(),
            );
        }
        self.polling.is_over(|| format!("libxenstat answers again, after {took:?}"));
        let previous = self.previous.as_ref().map(|(before, then)| (before, at.duration_since(*then)));
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        self.output.tick(previous, &snapshot, time).map_err(Failure::Stdout)?;
        debug!("{} domains read in {took:?}, told in {:?}", snapshot.domains.len(), at.elapsed().saturating_sub(took));
        self.previous = Some((snapshot, at));
        Ok(())
    }
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
fn next_event(inbox: &Receiver<Event>, deadline: Option<Instant>) -> Option<Event> {
    let result = match deadline {
        None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        Some(deadline) => inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())),
    };
    match result {
        Ok(event) => Some(event),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => unreachable!("the loop holds a sender itself"),
    }
}

/// Gives libxenstat a moment to close its handle.
fn await_close(inbox: &Receiver<Event>) {
    let give_up = Instant::now() + CLOSING;
    while !matches!(next_event(inbox, Some(give_up)), None | Some(Event::Polled(None))) {}
}

fn forward_signals(events: Sender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let forward = move || signals.forever().for_each(|signal| drop(events.send(Event::Signal(signal))));
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
