//! The loop: keeps time, listens to signals, and hands what the poller reads to the output.
//!
//! A deadline that comes while a poll is still under way is skipped and counted, never piled up. Whatever
//! libxenstat and the servers do, signals are answered at once; and who watches over this process is told that it
//! is well only as long as polls are answered.

pub mod alternate_screen;
mod check;
mod events;
pub mod failure;
mod poll_log;
pub mod privileges;
mod schedule;
mod systemd;

use std::io::ErrorKind;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, info};
use signal_hook::consts::{SIGHUP, SIGINT};

use self::schedule::Schedule;
use crate::backoff::Backoff;
use crate::cli::config::Config;
use crate::collect::poller::{self, Moments, Polled, Request, Sources};
use crate::collect::xenstat::Error;
use crate::daemon::events::{Event, Events};
use crate::daemon::failure::Failure;
use crate::daemon::poll_log::Journal;
use crate::daemon::systemd::Supervisor;
use crate::metrics::delta::{Previous, Span};
use crate::metrics::self_metrics::Health;
use crate::model::snapshot::{Collectors, Snapshot};
use crate::report::Output;
use crate::statsd::Count;
use crate::statsd::delivery::report::Report;
use crate::statsd::mailbox::End;

/// How long the end waits for servers to be looked up, connected to and to take the last poll, besides the time
/// that its datagrams are spread over.
const LAST_POLL: Duration = Duration::from_secs(10);

/// How long the end waits for libxenstat to close its handle.
const CLOSING: Duration = Duration::from_millis(200);

/// Time from a poll that failed to the next, where the interval is longer: at first, and at the most.
const RETRY: Backoff<Duration> = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// The program, ready to run.
pub struct Monitor {
    interval: Duration,
    /// How much later than others this host polls.
    delay: Duration,
    align: bool,
    /// What the datagrams of a poll are spread over.
    window: Duration,
    count: Option<u64>,
    /// No poll may take longer.
    poll_timeout: Option<Duration>,
    wait_for_xen: bool,
    sources: Sources,
    output: Output,
    /// The latest good poll, to measure the next one against.
    previous: Option<(Snapshot, Moments)>,
    /// The one before, to be read over.
    spare: Snapshot,
    /// The next poll is to open the library anew.
    anew: bool,
    /// Polls asked for, and those of them that failed; polls not asked for as one was still under way.
    polls: u64,
    failed: u64,
    skipped: u64,
    /// Whether the latest poll that is over gave something.
    answered: bool,
    /// When the poll under way was asked for.
    asked: Option<Instant>,
    /// When to try again after polls that failed, and how long after the next that does.
    retry: Option<Instant>,
    backoff: Backoff<Duration>,
    /// How long the latest tick took on our side.
    send: Option<Duration>,
    journal: Journal,
    supervisor: Supervisor,
}

impl Monitor {
    /// A monitor with these settings.
    pub fn new(config: Config) -> Self {
        let Config { polls, sources, report, statsd, .. } = config;
        Self {
            interval: polls.interval,
            delay: schedule::delay_of(&report.host, polls.jitter),
            align: polls.align,
            window: statsd.timing.window(),
            count: polls.count,
            poll_timeout: polls.timeout,
            wait_for_xen: polls.wait_for_xen,
            sources,
            output: Output::new(report, statsd),
            previous: None,
            spare: Snapshot::default(),
            anew: false,
            polls: 0,
            failed: 0,
            skipped: 0,
            answered: false,
            asked: None,
            retry: None,
            backoff: RETRY,
            send: None,
            journal: Journal::default(),
            supervisor: Supervisor::new(),
        }
    }

    /// Prints whether all that is needed is there.
    pub fn check(&self) -> Result<(), Failure> {
        match check::run(&self.sources, &self.output) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Check),
            Err(error) => Err(Failure::Stdout(error)),
        }
    }

    /// Polls, sends and prints until a signal or the count ends it.
    pub fn run(mut self) -> Result<(), Failure> {
        let events = Events::listen().map_err(Failure::Start)?;
        let entrance = events.entrance();
        let answer = move |polled| drop(entrance.send(Event::Polled(polled)));
        let requests = poller::start(self.sources.clone(), answer).map_err(Failure::Start)?;

        let entrance = events.entrance();
        let report = move |server, told| drop(entrance.send(Event::Server(server, told)));
        self.output.servers_mut().start(report).map_err(Failure::Start)?;

        let mut schedule = Schedule::new(self.interval, self.delay, self.align, Instant::now(), SystemTime::now());
        let wait = schedule.next().saturating_duration_since(Instant::now());
        if wait > Duration::from_secs(1) {
            let wait = humantime::format_duration(Duration::from_secs(wait.as_secs()));
            let cause = match (self.align, self.delay.is_zero()) {
                (true, true) => "--align",
                (true, false) => "--align and --jitter",
                (false, _) => "--jitter",
            };
            let words = format!("the first poll is in {wait}, by {cause}");
            info!("{words}");
            // Whoever waits for a start may not wait as long.
            self.supervisor.working(Instant::now(), true, || words);
        }
        let (reason, end) = loop {
            match events.next(self.wake(schedule.next())) {
                None => self.time_has_come(&mut schedule, &requests)?,
                Some(Event::Polled(None)) => return Err(Failure::Gone("polls libxenstat")),
                Some(Event::Polled(Some(polled))) => {
                    self.asked = None;
                    match self.tick(polled) {
                        Err(Failure::Stdout(error)) if error.kind() == ErrorKind::BrokenPipe => {
                            break ("standard output is closed", End::Now);
                        }
                        result => result?,
                    }
                    if self.count == Some(self.polls) {
                        break ("done", End::Finish);
                    }
                }
                Some(Event::Server(_, Report::Ended)) => return Err(Failure::Gone("sends gauges")),
                Some(Event::Server(server, report)) => self.output.servers_mut().on_report(server, report),
                Some(Event::Signal(SIGHUP)) => {
                    info!("SIGHUP: opening libxenstat and the destination anew");
                    self.anew = true;
                    self.journal.introduce_anew();
                    self.output.servers().reopen();
                    self.supervisor.reloading();
                }
                Some(Event::Signal(SIGINT)) => break ("SIGINT", End::Now),
                Some(Event::Signal(_)) => break ("SIGTERM", End::Now),
            }
        };
        self.supervisor.ending(reason);
        drop(requests);
        self.close(&events, end);
        self.end(reason, end)
    }

    /// Gives the servers time for the last poll, where that is wanted, and libxenstat a moment to close its handle.
    fn close(&mut self, events: &Events, end: End) {
        self.output.servers().end(end);
        let mut give_up = Instant::now() + if end == End::Finish { self.window + LAST_POLL } else { CLOSING };
        let poller_gives_up = Instant::now() + CLOSING;
        let mut closing = self.asked.is_none();
        while closing || !self.output.servers().have_ended() {
            let deadline = if self.output.servers().have_ended() { poller_gives_up } else { give_up };
            match events.next(deadline) {
                None => break,
                Some(Event::Polled(_)) => closing = false,
                Some(Event::Server(server, report)) => self.output.servers_mut().on_report(server, report),
                Some(Event::Signal(SIGHUP)) => {}
                Some(Event::Signal(_)) => {
                    self.output.servers().end(End::Now);
                    give_up = give_up.min(Instant::now() + CLOSING);
                }
            }
        }
    }

    /// When there is something to do, if nothing happens before.
    fn wake(&self, next_poll: Instant) -> Instant {
        [self.retry, self.gives_up().map(|(at, _)| at), self.feed()].into_iter().flatten().fold(next_poll, Instant::min)
    }

    /// When the poll under way has taken too long, and how long that is.
    fn gives_up(&self) -> Option<(Instant, Duration)> {
        self.asked.zip(self.poll_timeout).map(|(asked, most)| (asked + most, most))
    }

    /// When the watchdog is to be fed. Not while a poll is late: who is not told that all is well sees that it is not.
    fn feed(&self) -> Option<Instant> {
        self.supervisor.due().filter(|feed| self.asked.is_none_or(|asked| *feed < asked + self.interval))
    }

    fn time_has_come(&mut self, schedule: &mut Schedule, requests: &SyncSender<Request>) -> Result<(), Failure> {
        let now = Instant::now();
        if let Some((_, limit)) = self.gives_up().filter(|(at, _)| now >= *at) {
            return Err(Failure::Stuck(limit));
        }
        if now >= schedule.next() {
            let missed = schedule.advance(now, SystemTime::now());
            self.skipped += missed;
            match self.asked {
                None => self.poll(requests, now),
                // It was asked for between two deadlines, as after one that failed, and is not late yet.
                Some(asked) if now - asked < self.interval / 2 => {
                    self.skipped += 1;
                    Ok(())
                }
                Some(asked) => self.miss(now - asked),
            }
        } else if self.retry.is_some_and(|retry| now >= retry) {
            self.poll(requests, now)
        } else {
            if self.feed().is_some_and(|feed| now >= feed) {
                self.supervisor.alive(now);
            }
            Ok(())
        }
    }

    fn poll(&mut self, requests: &SyncSender<Request>, now: Instant) -> Result<(), Failure> {
        let request = Request { recycled: std::mem::take(&mut self.spare), reopen: std::mem::take(&mut self.anew) };
        requests.send(request).map_err(|_| Failure::Gone("polls libxenstat"))?;
        self.polls += 1;
        (self.asked, self.retry) = (Some(now), None);
        Ok(())
    }

    /// A deadline has come, and the poll before it has not been answered for so long. Only of that is told then: what
    /// domains did at the poll before they may do no more.
    fn miss(&mut self, stuck: Duration) -> Result<(), Failure> {
        self.skipped += u64::from(self.count != Some(self.polls));
        self.journal.late(self.interval);
        self.supervisor.stuck(Instant::now(), || format!("no answer from libxenstat for {} seconds", stuck.as_secs()));
        // Once late is slow, twice is stuck; deadlines are not kept to the microsecond.
        let is_slow = stuck < self.interval * 3 / 2;
        let told = (!is_slow).then_some(Collectors::NONE);
        let up = is_slow && self.answered;
        let mut health = Health { up, running: stuck, collected: told, domains: told.map(|_| 0), ..self.health() };
        self.output.tick_without_snapshot(&mut health).map_err(Failure::Stdout)
    }

    /// What one poll brought. A failure ends the program; trouble that may pass is logged.
    fn tick(&mut self, polled: Polled) -> Result<(), Failure> {
        let Polled { result, moments, took, notes } = polled;
        if took < self.interval {
            self.journal.in_time();
        }
        let snapshot = match result {
            Ok(snapshot) => snapshot,
            Err(error) => return self.failed(error, took),
        };
        self.answered = true;
        self.backoff.reset();
        self.journal.read(notes, &snapshot, self.interval, || self.output.describe());
        let start = Instant::now();
        let before = self.previous.as_ref().map(|(snapshot, then)| Previous {
            snapshot,
            xenstat: Span::between(then.xenstat, moments.xenstat),
            vifs: Span::between(then.vifs, moments.vifs),
        });
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
        let all_disks = snapshot.domains.iter().all(|domain| domain.vbds.is_some());
        let told = Collectors { vbd: all_disks, ..snapshot.collected };
        let mut health = Health { up: true, poll: Some(took), collected: Some(told), ..self.health() };
        self.output.tick(before.as_ref(), &snapshot, &mut health, time).map_err(Failure::Stdout)?;
        let send = start.elapsed();
        self.send = Some(send);
        let (domains, library) = (snapshot.domains.len(), moments.xenstat.took);
        debug!("{domains} domains read in {took:?}, of which libxenstat {library:?}; told in {send:?}");
        self.supervisor.working(start, true, || {
            let lost = self.output.servers().count().map_or(0, |count| count.dropped);
            format!("{domains} domains read in {took:.0?}; datagrams known to be lost: {lost}")
        });
        let before = self.previous.replace((snapshot, moments));
        self.spare = before.map(|(snapshot, _)| snapshot).unwrap_or_default();
        Ok(())
    }

    fn failed(&mut self, error: Error, took: Duration) -> Result<(), Failure> {
        (self.answered, self.failed) = (false, self.failed + 1);
        let nothing_read = self.count == Some(self.polls) && self.failed == self.polls;
        // Later all may come back: libxenstat is being upgraded, say.
        let hopeless = self.polls == 1 && !error.may_pass() && !self.wait_for_xen;
        if nothing_read || hopeless {
            return Err(Failure::Xenstat(error));
        }
        self.journal.failed(&error);
        let now = Instant::now();
        // Who asks for a number of polls asks for one an interval.
        if self.count.is_none() {
            self.retry = Some(now + self.backoff.wait());
        }
        self.supervisor.working(now, false, || format!("{error}; trying again"));
        let told = Some(Collectors::NONE);
        let mut health = Health { up: false, poll: Some(took), collected: told, domains: Some(0), ..self.health() };
        self.output.tick_without_snapshot(&mut health).map_err(Failure::Stdout)
    }

    /// What this program's own gauges tell of all polls together.
    fn health(&self) -> Health {
        Health { send: self.send, skipped: self.skipped, failed: self.failed, ..Health::default() }
    }

    fn end(self, reason: &str, end: End) -> Result<(), Failure> {
        let servers = self.output.servers();
        let datagrams = servers
            .count()
            .map(|Count { sent, dropped, .. }| format!("; datagrams: {sent} sent, {dropped} known to be lost"));
        info!(
            "{reason}: goodbye; polls: {}, failed: {}, skipped: {}{}",
            self.polls,
            self.failed,
            self.skipped,
            datagrams.unwrap_or_default()
        );
        match servers.without_gauges() {
            Some(server) if end == End::Finish => Err(Failure::NothingSent(server.to_string())),
            _ => Ok(()),
        }
    }
}
