//! The loop: keeps time, listens to signals, and hands what the poller reads to the output.
//!
//! A deadline that comes while a poll is still under way is skipped and counted, never piled up. Whatever
//! libxenstat and the servers do, signals are answered at once.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use log::{debug, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::check;
use crate::cli::Options;
use crate::host::Health;
use crate::inbox::End;
use crate::metrics::{Before, Span};
use crate::output::Output;
use crate::poller::{self, Moments, Polled, Request, Sources};
use crate::release;
use crate::schedule::{self, Schedule};
use crate::sender::Report;
use crate::servers::Count;
use crate::snapshot::{Collectors, Snapshot};
use crate::trouble::{Trouble, Withheld};
use crate::xenstat::Error;

/// How long the end waits for servers to be looked up, connected to and to take the last poll, besides the time
/// that its datagrams are spread over.
const LAST_POLL: Duration = Duration::from_secs(10);

/// What of a datagram collectd reads.
const COLLECTDS_DATAGRAM: usize = 4095;

/// So many events may wait for the loop; a thread that has one more waits, too.
const EVENTS: usize = 64;

/// How long the end waits for libxenstat to close its handle.
const CLOSING: Duration = Duration::from_millis(200);

/// How long a signal to end waits for the loop, which may be stuck in a write that nobody reads.
const ENDING: Duration = Duration::from_millis(500);

/// Everything the loop can be woken by, besides a deadline.
#[allow(clippy::large_enum_variant, reason = "one a poll, in no new memory")]
enum Event {
    /// `None`: the poller is gone.
    Polled(Option<Polled>),
    /// From the sender of this number.
    Server(usize, Report),
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
    /// A thread has panicked: what it did.
    Gone(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Xenstat(error) => error.fmt(f),
            Failure::Stdout(error) => write!(f, "cannot write to standard output: {error}"),
            Failure::NothingSent(destination) => write!(f, "nothing could be sent to {destination}"),
            Failure::Check => f.write_str("the daemon would not do its whole job here, see BAD above"),
            Failure::Start(error) => write!(f, "cannot set up threads and signals: {error}"),
            Failure::Gone(what) => write!(f, "the thread that {what} is gone"),
        }
    }
}

impl std::error::Error for Failure {}

/// The program, ready to run.
pub struct Monitor {
    interval: Duration,
    /// How much later than others this host polls.
    delay: Duration,
    align: bool,
    /// What the datagrams of a poll are spread over.
    window: Duration,
    count: Option<u64>,
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
    polling: bool,
    /// How long the latest tick took on our side.
    send: Option<Duration>,
    /// Whether the log has said what is read and where it goes.
    introduced: bool,
    failing: Trouble,
    slow: Trouble,
    partial: Trouble,
    no_vifs: Trouble,
    no_disks: Trouble,
    withheld: Withheld,
}

impl Monitor {
    /// Checks everything that can be wrong with the options; the error is one line. `variable` reads the
    /// environment.
    pub fn new(options: &Options, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let destinations = options.destinations(&variable)?;
        let jitter = options.jitter()?;
        if options.max_datagram() > COLLECTDS_DATAGRAM && !destinations.is_empty() {
            warn!("collectd loses what is beyond {COLLECTDS_DATAGRAM} bytes of a datagram: --max-datagram allows more");
        }
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
            // Who asks for a number of polls waits for them.
            delay: match options.count() {
                Some(_) if !options.align => Duration::ZERO,
                _ => schedule::delay_of(&host, jitter),
            },
            align: options.align,
            window: options.timing().window(),
            count: options.count(),
            sources: options.into(),
            output: Output::new(options, prefix.as_ref(), destinations, host)?,
            previous: None,
            spare: Snapshot::default(),
            anew: false,
            polls: 0,
            failed: 0,
            skipped: 0,
            polling: false,
            send: None,
            introduced: false,
            failing: Trouble::default(),
            slow: Trouble::default(),
            partial: Trouble::default(),
            no_vifs: Trouble::default(),
            no_disks: Trouble::default(),
            withheld: Withheld::default(),
        })
    }

    /// Prints whether all that is needed is there.
    pub fn check(&self, options: &Options) -> Result<(), Failure> {
        match check::run(options, &self.output) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Check),
            Err(error) => Err(Failure::Stdout(error)),
        }
    }

    /// Polls, sends and prints until a signal or the count ends it.
    pub fn run(mut self) -> Result<(), Failure> {
        let (events, inbox) = mpsc::sync_channel(EVENTS);
        forward_signals(events.clone()).map_err(Failure::Start)?;
        let answer = {
            let events = events.clone();
            move |polled| drop(events.send(Event::Polled(polled)))
        };
        let requests = poller::start(self.sources.clone(), answer).map_err(Failure::Start)?;

        let report = move |server, told| drop(events.send(Event::Server(server, told)));
        self.output.servers_mut().start(report).map_err(Failure::Start)?;

        let mut schedule = Schedule::new(self.interval, self.delay, self.align, Instant::now(), SystemTime::now());
        let wait = schedule.next().saturating_duration_since(Instant::now());
        if wait > Duration::from_secs(1) {
            info!("the first poll is in {} seconds, by --jitter and --align", wait.as_secs());
        }
        let (reason, end) = loop {
            match next_event(&inbox, schedule.next()) {
                None => {
                    let missed = schedule.advance(Instant::now(), SystemTime::now());
                    self.poll(missed, &requests)?;
                }
                Some(Event::Polled(None)) => return Err(Failure::Gone("polls libxenstat")),
                Some(Event::Polled(Some(polled))) => {
                    self.polling = false;
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
                Some(Event::Server(server, told)) => match self.output.servers_mut().heard(server, told) {
                    Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                        break ("standard output is closed", End::Now);
                    }
                    result => result.map_err(Failure::Stdout)?,
                },
                Some(Event::Signal(SIGHUP)) => {
                    info!("SIGHUP: opening libxenstat and the destination anew");
                    self.anew = true;
                    self.introduced = false;
                    self.output.servers().reopen();
                }
                Some(Event::Signal(SIGINT)) => break ("SIGINT", End::Now),
                Some(Event::Signal(_)) => break ("SIGTERM", End::Now),
            }
        };
        drop(requests);
        self.close(&inbox, end);
        self.end(reason, end)
    }

    /// Gives the servers time for the last poll, where that is wanted, and libxenstat a moment to close its handle.
    fn close(&mut self, inbox: &Receiver<Event>, end: End) {
        self.output.servers().end(end);
        let mut give_up = Instant::now() + if end == End::Finish { self.window + LAST_POLL } else { CLOSING };
        let poller_gives_up = Instant::now() + CLOSING;
        let mut closing = !self.polling;
        while closing || !self.output.servers().have_ended() {
            let deadline = if self.output.servers().have_ended() { poller_gives_up } else { give_up };
            match next_event(inbox, deadline) {
                None => break,
                Some(Event::Polled(_)) => closing = false,
                // Standard output's reader is of no interest any more.
                Some(Event::Server(server, told)) => drop(self.output.servers_mut().heard(server, told)),
                Some(Event::Signal(SIGHUP)) => {}
                Some(Event::Signal(_)) => {
                    self.output.servers().end(End::Now);
                    give_up = give_up.min(Instant::now() + CLOSING);
                }
            }
        }
    }

    /// A deadline has come, and `missed` before it have gone by.
    fn poll(&mut self, missed: u64, requests: &SyncSender<Request>) -> Result<(), Failure> {
        self.skipped += missed;
        if self.polling {
            self.skipped += u64::from(self.count != Some(self.polls));
            self.slow.is(format!(
                "a poll takes longer than the interval of {:?}: others are skipped until it is done",
                self.interval
            ));
            return Ok(());
        }
        let request = Request { over: std::mem::take(&mut self.spare), anew: std::mem::take(&mut self.anew) };
        requests.send(request).map_err(|_| Failure::Gone("polls libxenstat"))?;
        self.polls += 1;
        self.polling = true;
        Ok(())
    }

    /// What one poll brought. A failure ends the program; trouble that may pass is logged.
    fn tick(&mut self, polled: Polled) -> Result<(), Failure> {
        let Polled { moments, took, result, opened, no_vifs, no_disks, untold: withheld, cause, .. } = polled;

        if took < self.interval {
            self.slow.seems_over(|| "polls take less than the interval again".into());
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
        let (begun, ended) = self.withheld.are(withheld, is_there);
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

    fn end(self, reason: &str, end: End) -> Result<(), Failure> {
        let servers = self.output.servers();
        let datagrams = servers
            .count()
            .map(|Count { sent, lost, .. }| format!("; datagrams: {sent} sent, {lost} known to be lost"));
        info!(
            "{reason}: goodbye; polls: {}, failed: {}, skipped: {}{}",
            self.polls,
            self.failed,
            self.skipped,
            datagrams.unwrap_or_default()
        );
        match servers.left_out() {
            Some(server) if end == End::Finish => Err(Failure::NothingSent(server.to_string())),
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

/// The next event, or `None` when the deadline comes first.
fn next_event(inbox: &Receiver<Event>, deadline: Instant) -> Option<Event> {
    match inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(event) => Some(event),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => unreachable!("the loop holds a sender itself"),
    }
}

/// Hands signals to the loop. One that asks for the end gets it even if the loop cannot hear.
fn forward_signals(events: SyncSender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let forward = move || {
        for signal in signals.forever() {
            // Not waiting: where the loop is stuck, the end must not be.
            let _ = events.try_send(Event::Signal(signal));
            if signal != SIGHUP {
                thread::sleep(ENDING);
                signal_hook::low_level::exit(0);
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(forward).map(drop)
}
