//! The main loop. It carries out what the state machine in `state` decides, with threads, clocks and signals.
//!
//! Polling and sending have threads of their own, so that signals are handled at once even while libxenstat or a server
//! hangs.

pub mod alternate_screen;
mod check;
mod events;
pub mod failure;
mod poll_log;
pub mod privileges;
mod schedule;
mod state;
mod systemd;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use log::{Level, debug, info, log};

pub use self::events::CaughtSignals;
use self::events::{Events, Message, catch_signals, end_at_signals};
use self::failure::Failure;
use self::poll_log::PollLog;
use self::schedule::{Now, delay_of};
use self::state::{Action, Event, Exit, State};
use self::systemd::Systemd;
use crate::cli::config::{Config, Polls};
use crate::collect::poller::{self, Moments, Polled, Request, Sources};
use crate::logging::stderr;
use crate::metrics::delta::{Previous, Span};
use crate::metrics::self_metrics::Health;
use crate::model::snapshot::{Collectors, Snapshot};
use crate::report::{Poll, Reporter};
use crate::statsd::Count;
use crate::statsd::delivery::End;
use crate::statsd::delivery::report::Report;

/// The program, ready to run.
pub struct Daemon {
    polls: Polls,
    /// The delay of this host's polls, by `--jitter`.
    delay: Duration,
    sources: Sources,
    /// The time over which the datagrams of a poll are spread.
    window: Duration,
    reporter: Reporter,
}

impl Daemon {
    /// A daemon with these settings.
    pub fn new(config: Config) -> Result<Self, Failure> {
        let Config { polls, sources, report, statsd, .. } = config;
        Ok(Self {
            delay: delay_of(&report.host, polls.jitter),
            polls,
            sources,
            window: statsd.timing.window(),
            reporter: Reporter::new(report, statsd).map_err(Failure::Stdout)?,
        })
    }

    /// Prints whether everything needed is available.
    pub fn check(&self) -> Result<(), Failure> {
        let poller = Arc::default();
        let caught = catch_signals().and_then(|signals| end_at_signals(signals, Arc::clone(&poller)));
        caught.map_err(Failure::Start)?;
        match check::run(&self.sources, &self.reporter, &poller) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::Check),
            Err(error) => Err(Failure::Stdout(error)),
        }
    }

    /// Polls, sends and prints until one of these signals or `--count` stops it.
    pub fn run(mut self, signals: CaughtSignals) -> Result<(), Failure> {
        let events = Events::new();
        let sender = events.sender();
        let answer = move |polled| sender.send(Message::Polled(polled));
        let vcpus = self.sources.vcpus;
        let systemd = Systemd::from_env();
        let status = systemd.status();
        // Who prints only is there to see the end.
        let level = if self.reporter.servers().destinations().next().is_some() { Level::Info } else { Level::Debug };
        // Written before the call, which may end the process.
        let announce = move |call: &str| {
            log!(level, "{call}");
            status.send(call);
            stderr::flush();
        };
        let poller = poller::start(self.sources, announce, answer).map_err(Failure::Start)?;
        events.forward(signals, poller.stopper()).map_err(Failure::Start)?;

        let sender = events.sender();
        let report = move |server, report| sender.send(Message::Server(server, report));
        self.reporter.servers_mut().start(report).map_err(Failure::Start)?;

        let mut running = Running {
            state: State::new(&self.polls, self.delay, Now::read()),
            poller,
            vcpus,
            reporter: self.reporter,
            previous: None,
            spare: Snapshot::default(),
            report_time: None,
            log: PollLog::new(vcpus),
            systemd,
        };
        running.announce_delay(self.polls.align, self.delay);
        let exit = match running.until_exit(&events) {
            Err(Failure::Stdout(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::StdoutClosed,
            result => result?,
        };
        running.close(exit, self.window, &events)
    }
}

/// The daemon while it runs.
struct Running {
    state: State,
    /// The poller's thread. It handles one request at a time.
    poller: poller::Handle,
    /// Whether vcpus are collected.
    vcpus: bool,
    reporter: Reporter,
    /// The latest snapshot, to compare the next one with.
    previous: Option<(Snapshot, Moments)>,
    /// The snapshot before that. Its memory is reused for the next one.
    spare: Snapshot,
    /// How long it took to report the latest snapshot.
    report_time: Option<Duration>,
    log: PollLog,
    systemd: Systemd,
}

impl Running {
    /// Logs that the first poll is delayed, and reports READY at once: a service manager may not wait that long.
    fn announce_delay(&mut self, align: bool, delay: Duration) {
        let wait = self.state.next_wake().saturating_duration_since(Instant::now());
        if wait > Duration::from_secs(1) {
            let wait = humantime::format_duration(Duration::from_secs(wait.as_secs()));
            let cause = match (align, delay.is_zero()) {
                (true, true) => "--align",
                (true, false) => "--align and --jitter",
                (false, _) => "--jitter",
            };
            let message = format!("the first poll is in {wait}, by {cause}");
            info!("{message}");
            self.systemd.on_poll(Instant::now(), true, || message);
        }
    }

    /// Handles events until there is a reason to exit.
    fn until_exit(&mut self, events: &Events) -> Result<Exit, Failure> {
        loop {
            self.state.watchdog = self.systemd.due();
            let wake = self.state.next_wake();
            let message = match events.pending() {
                // Keys may come faster than a large table is drawn.
                None if self.reporter.has_changed() && Instant::now() < wake => {
                    self.reporter.draw().map_err(Failure::Stdout)?;
                    events.next(wake)
                }
                None => events.next(wake),
                Some(message) => Ok(message),
            };
            let (event, mut polled, now) = match message {
                Err(now) => (Event::Wake, None, Now::at(now)),
                Ok(Message::Polled(None)) => return Err(Failure::ThreadDied("poller")),
                Ok(Message::Polled(Some(polled))) => {
                    self.log.messages(&polled.notes.messages);
                    let event = match &polled.result {
                        Ok(_) => Event::PollSucceeded,
                        Err(error) => Event::PollFailed { may_recover: error.may_pass() },
                    };
                    (event, Some(polled), Now::read())
                }
                Ok(Message::Server(_, Report::Ended)) => return Err(Failure::ThreadDied("sender")),
                Ok(Message::Server(server, report)) => {
                    self.reporter.servers_mut().on_report(server, report);
                    continue;
                }
                Ok(Message::Reload) => (Event::Reload, None, Now::read()),
                Ok(Message::Stop(signal)) => (Event::Stop(signal), None, Now::read()),
                Ok(Message::Redraw) => {
                    self.reporter.redraw();
                    continue;
                }
                Ok(Message::Key(key)) => {
                    self.reporter.on_key(key);
                    continue;
                }
                Ok(Message::Logged) => {
                    self.reporter.on_log();
                    continue;
                }
            };
            for action in self.state.on(event, now).into_iter().flatten() {
                if let Some(exit) = self.perform(action, &mut polled, now)? {
                    return Ok(exit);
                }
            }
        }
    }

    /// Does what the state machine decided. `polled` is the poll that has just finished, if one has.
    fn perform(&mut self, action: Action, polled: &mut Option<Polled>, now: Now) -> Result<Option<Exit>, Failure> {
        match action {
            Action::Poll { reopen } => {
                let request = Request { recycled: std::mem::take(&mut self.spare), reopen };
                self.poller.request(request).map_err(|_| Failure::ThreadDied("poller"))?;
            }
            Action::Report => polled.take().map_or(Ok(()), |polled| self.report(polled, now))?,
            Action::ReportLate { running, stuck, up } => self.report_late(running, stuck, up)?,
            Action::PingWatchdog => self.systemd.ping(now.instant),
            Action::Reopen => {
                info!("SIGHUP: reopening libxenstat and the destinations");
                self.log.introduce_again();
                self.reporter.servers().reopen();
                self.systemd.reloading();
            }
            Action::GiveUp => match polled.take().map(|polled| polled.result) {
                Some(Err(error)) => return Err(Failure::Poll(error)),
                _ => unreachable!("no poll has just failed"),
            },
            Action::TimeOut(timeout) => return Err(Failure::PollTimedOut(timeout)),
            Action::Exit(exit) => return Ok(Some(exit)),
        }
        Ok(None)
    }

    /// Reports a finished poll.
    fn report(&mut self, polled: Polled, now: Now) -> Result<(), Failure> {
        let Polled { result, moments, took, notes } = polled;
        if took < self.state.interval() {
            self.log.in_time();
        }
        match result {
            Ok(snapshot) => {
                self.log.succeeded(notes, &snapshot, self.state.interval(), || self.reporter.describe());
                self.report_snapshot(snapshot, moments, took, now)
            }
            Err(error) => {
                self.log.failed(&error);
                self.systemd.on_poll(now.instant, false, || format!("{error}; retrying"));
                let health = self.health(PollHealth {
                    poll: Some(took),
                    domains: Some(0),
                    collected: Some(Collectors::NONE),
                    ..PollHealth::default()
                });
                self.reporter.report_health(&health).map_err(Failure::Stdout)
            }
        }
    }

    fn report_snapshot(
        &mut self,
        snapshot: Snapshot,
        moments: Moments,
        took: Duration,
        start: Now,
    ) -> Result<(), Failure> {
        let domains = self.reporter.update(&snapshot);
        let all_disks = snapshot.domains.iter().all(|domain| domain.vbds.is_some());
        let health = self.health(PollHealth {
            up: true,
            poll: Some(took),
            domains: Some(domains),
            collected: Some(Collectors { vbd: all_disks, ..snapshot.collected }),
            ..PollHealth::default()
        });
        let previous = self.previous.as_ref().map(|(snapshot, then)| Previous {
            snapshot,
            xenstat: Span::between(then.xenstat, moments.xenstat),
            vifs: Span::between(then.vifs, moments.vifs),
        });
        let poll = Poll {
            snapshot: &snapshot,
            previous: previous.as_ref(),
            time: start.wall.duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64()),
            interval: self.state.interval(),
        };
        self.reporter.report(&poll, &health).map_err(Failure::Stdout)?;
        let report_time = start.instant.elapsed();
        self.report_time = Some(report_time);
        let (domains, library) = (snapshot.domains.len(), moments.xenstat.took);
        debug!("{domains} domains read in {took:?}, of which libxenstat {library:?}; reported in {report_time:?}");
        self.systemd.on_poll(start.instant, true, || {
            let dropped = self.reporter.servers().count().map_or(0, |count| count.dropped);
            format!("{domains} domains read in {took:.0?}; {dropped} datagrams dropped")
        });
        let before = self.previous.replace((snapshot, moments));
        self.spare = before.map(|(snapshot, _)| snapshot).unwrap_or_default();
        Ok(())
    }

    /// Reports that a poll is late, without metrics of domains, which may have changed since the previous poll.
    fn report_late(&mut self, running: Duration, stuck: bool, up: bool) -> Result<(), Failure> {
        self.log.late(self.state.interval());
        let status = || format!("no answer from libxenstat for {} seconds", running.as_secs());
        self.systemd.on_late_poll(Instant::now(), status);
        let collected = stuck.then_some(Collectors::NONE);
        let health = self.health(PollHealth { up, running, collected, domains: collected.map(|_| 0), poll: None });
        self.reporter.report_health(&health).map_err(Failure::Stdout)
    }

    /// This program's own metrics: the given state of one poll, and the counts of all polls and datagrams.
    fn health(&mut self, poll: PollHealth) -> Health {
        self.reporter.servers_mut().catch_up();
        let PollHealth { up, poll, running, domains, collected } = poll;
        let polls = self.state.counts();
        let Count { sent, dropped, errors, .. } = self.reporter.servers().count().unwrap_or_default();
        Health {
            up,
            poll,
            running,
            send: self.report_time,
            domains,
            skipped: polls.skipped,
            failed: polls.failed,
            send_errors: errors,
            datagrams: sent,
            dropped,
            collected,
            vcpus: self.vcpus,
        }
    }

    /// Shuts down: waits, for a limited time, until libxenstat is closed and, after `--count` polls, until the last one
    /// is delivered.
    fn close(mut self, exit: Exit, window: Duration, events: &Events) -> Result<(), Failure> {
        let reason = match exit {
            Exit::Done => None,
            Exit::Signal(signal) => Some(signal),
            Exit::StdoutClosed => Some("standard output is closed"),
        };
        self.systemd.stopping(reason.unwrap_or("done"));
        // The poller's thread ends once it is idle.
        self.poller.stop();
        let servers = self.reporter.servers_mut();
        servers.end(if exit == Exit::Done { End::Finish } else { End::Now });
        let mut shutdown = self.state.shut_down(exit, window, Instant::now());
        while let Some(deadline) = shutdown.deadline(servers.have_ended()) {
            match events.next(deadline) {
                Err(_) => break,
                Ok(Message::Polled(_)) => shutdown.poller_closed(),
                Ok(Message::Server(server, report)) => servers.on_report(server, report),
                Ok(Message::Reload | Message::Redraw | Message::Key(_) | Message::Logged) => {}
                Ok(Message::Stop(_)) => {
                    servers.end(End::Now);
                    shutdown.hurry(Instant::now());
                }
            }
        }
        let polls = self.state.counts();
        let reason = reason.map(|reason| format!("{reason}: ")).unwrap_or_default();
        let datagrams =
            servers.count().map(|Count { sent, dropped, .. }| format!("; datagrams: {sent} sent, {dropped} dropped"));
        info!(
            "{reason}exiting after {} poll{} ({} failed, {} skipped){}",
            polls.requested,
            if polls.requested == 1 { "" } else { "s" },
            polls.failed,
            polls.skipped,
            datagrams.unwrap_or_default()
        );
        match servers.first_unreached() {
            Some(server) if exit == Exit::Done => Err(Failure::NothingSent(server.to_string())),
            _ => Ok(()),
        }
    }
}

/// The part of [`Health`] that is about one poll.
#[derive(Default)]
struct PollHealth {
    up: bool,
    poll: Option<Duration>,
    running: Duration,
    domains: Option<usize>,
    collected: Option<Collectors>,
}
