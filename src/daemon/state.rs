//! What to do at each event, and when to wake up next: a state machine without clocks, threads and I/O.
//!
//! A deadline that comes while a poll is running is skipped and counted. Polls never queue up.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::cli::config::Polls;
use crate::daemon::schedule::{Now, Schedule};

/// Time from a failed poll to the retry: at first, and at most. The next deadline may come before.
const RETRY: Backoff<Duration> = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));

/// How long to wait at exit for libxenstat to close its handle.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// How long to wait at exit for servers to be resolved, connected to and sent the last poll, in addition to the time
/// that its datagrams are spread over.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(10);

/// What the loop reacts to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The time of [`State::next_wake`] has come.
    Wake,
    /// The running poll gave a snapshot.
    PollSucceeded,
    /// The running poll gave none. `may_recover`: a later one may, without anyone's help.
    PollFailed { may_recover: bool },
    /// SIGHUP to a service.
    Reload,
    /// A signal to stop, by its name.
    Stop(&'static str),
}

/// What the loop has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Request a poll, with libxenstat reopened or not.
    Poll { reopen: bool },
    /// Report the snapshot, or that there is none.
    Report,
    /// Report that the poll is late. A `stuck` one has taken so long that nothing can be said of the host any more.
    ReportLate { running: Duration, stuck: bool, up: bool },
    /// Ping the watchdog.
    PingWatchdog,
    /// Reopen the destinations.
    Reopen,
    /// Fail with the error of the poll that has just failed.
    GiveUp,
    /// Fail since a poll has taken longer than `--poll-timeout`, which is this.
    TimeOut(Duration),
    /// Exit.
    Exit(Exit),
}

/// Why to exit without a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As many polls as `--count` asks for were made.
    Done,
    /// A signal, by its name.
    Signal(&'static str),
    /// The reader of standard output has closed it.
    StdoutClosed,
}

/// The actions for one event, in order.
pub type Actions = [Option<Action>; 2];

/// Polls since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Requested.
    pub requested: u64,
    /// Finished without a snapshot.
    pub failed: u64,
    /// Not requested because another one was running.
    pub skipped: u64,
}

/// The state between two events.
pub struct State {
    schedule: Schedule,
    count: Option<u64>,
    timeout: Option<Duration>,
    wait_for_xen: bool,
    /// When the running poll was requested.
    running: Option<Instant>,
    /// When to retry after a failed poll, and how long to wait after the next one.
    retry: Option<Instant>,
    backoff: Backoff<Duration>,
    /// Whether the latest finished poll gave a snapshot.
    succeeded: bool,
    /// The next poll is to reopen libxenstat.
    reopen: bool,
    counts: Counts,
    /// When the watchdog has to be pinged next. Set by the loop.
    pub watchdog: Option<Instant>,
}

impl State {
    /// Polls as the settings say. `delay` is this host's part of the jitter.
    pub fn new(polls: &Polls, delay: Duration, now: Now) -> Self {
        Self {
            schedule: Schedule::new(polls.interval, delay, polls.align, now),
            count: polls.count,
            timeout: polls.timeout,
            wait_for_xen: polls.wait_for_xen,
            running: None,
            retry: None,
            backoff: RETRY,
            succeeded: false,
            reopen: false,
            counts: Counts::default(),
            watchdog: None,
        }
    }

    /// Time between two polls.
    pub fn interval(&self) -> Duration {
        self.schedule.interval()
    }

    /// Polls so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When there is something to do if no other event comes before.
    pub fn next_wake(&self) -> Instant {
        let times = [self.retry, self.stuck_deadline().map(|(at, _)| at), self.watchdog_due()];
        times.into_iter().flatten().fold(self.schedule.next(), Instant::min)
    }

    /// What to do at an event.
    pub fn on(&mut self, event: Event, now: Now) -> Actions {
        match event {
            Event::Wake => [self.on_wake(now), None],
            Event::PollSucceeded => {
                (self.running, self.succeeded) = (None, true);
                self.backoff.reset();
                [Some(Action::Report), self.is_complete().then_some(Action::Exit(Exit::Done))]
            }
            Event::PollFailed { may_recover } => self.on_failed_poll(may_recover, now.instant),
            Event::Reload => {
                self.reopen = true;
                [Some(Action::Reopen), None]
            }
            Event::Stop(signal) => [Some(Action::Exit(Exit::Signal(signal))), None],
        }
    }

    fn on_wake(&mut self, now: Now) -> Option<Action> {
        let is_over = |time: Option<Instant>| time.is_some_and(|time| now.instant >= time);
        if let Some((_, timeout)) = self.stuck_deadline().filter(|(at, _)| now.instant >= *at) {
            return Some(Action::TimeOut(timeout));
        }
        if is_over(Some(self.schedule.next())) {
            return self.on_deadline(now);
        }
        if is_over(self.retry) {
            return Some(self.poll(now.instant));
        }
        is_over(self.watchdog_due()).then_some(Action::PingWatchdog)
    }

    fn on_deadline(&mut self, now: Now) -> Option<Action> {
        let missed = self.schedule.advance(now);
        if !self.is_complete() {
            self.counts.skipped += missed;
        }
        match self.running.map(|since| now.instant - since) {
            None => Some(self.poll(now.instant)),
            // It was requested between two deadlines, as retries are, and is not late yet.
            Some(running) if running < self.interval() / 2 => {
                self.counts.skipped += u64::from(!self.is_complete());
                None
            }
            Some(running) => Some(self.on_late_poll(running)),
        }
    }

    fn poll(&mut self, now: Instant) -> Action {
        self.counts.requested += 1;
        (self.running, self.retry) = (Some(now), None);
        Action::Poll { reopen: std::mem::take(&mut self.reopen) }
    }

    /// A deadline has come while a poll is running.
    fn on_late_poll(&mut self, running: Duration) -> Action {
        self.counts.skipped += u64::from(!self.is_complete());
        // Late at one deadline is slow, at two is stuck. Deadlines are not kept to the microsecond.
        let stuck = running >= self.interval() * 3 / 2;
        Action::ReportLate { running, stuck, up: self.succeeded && !stuck }
    }

    fn on_failed_poll(&mut self, may_recover: bool, now: Instant) -> Actions {
        (self.running, self.succeeded) = (None, false);
        self.counts.failed += 1;
        let all_failed = self.is_complete() && self.counts.failed == self.counts.requested;
        // After the first poll everything may recover: libxenstat is being upgraded, for example.
        let is_hopeless = self.counts.requested == 1 && !may_recover && !self.wait_for_xen;
        if all_failed || is_hopeless {
            return [Some(Action::GiveUp), None];
        }
        // With a count there is one poll per interval.
        if self.count.is_none() {
            self.retry = Some(now + self.backoff.wait());
        }
        [Some(Action::Report), self.is_complete().then_some(Action::Exit(Exit::Done))]
    }

    /// Whether no more polls are wanted.
    fn is_complete(&self) -> bool {
        self.count == Some(self.counts.requested)
    }

    /// When the running poll will have taken too long, and how long that is.
    fn stuck_deadline(&self) -> Option<(Instant, Duration)> {
        self.running.zip(self.timeout).map(|(since, timeout)| (since + timeout, timeout))
    }

    /// When to ping the watchdog. Not while a poll is late, so that the watchdog fires.
    fn watchdog_due(&self) -> Option<Instant> {
        self.watchdog.filter(|due| self.running.is_none_or(|since| *due < since + self.interval()))
    }

    /// The end begins. `window`: what the datagrams of a poll are spread over.
    pub fn shut_down(&self, exit: Exit, window: Duration, now: Instant) -> Shutdown {
        Shutdown {
            senders: now + if exit == Exit::Done { window + DELIVERY_TIMEOUT } else { CLOSE_TIMEOUT },
            // A poll that is running may never end.
            poller: self.running.is_none().then_some(now + CLOSE_TIMEOUT),
        }
    }
}

/// What is waited for at exit: senders to deliver the last poll if the exit is regular, and libxenstat to be closed.
#[derive(Debug, PartialEq, Eq)]
pub struct Shutdown {
    senders: Instant,
    poller: Option<Instant>,
}

impl Shutdown {
    /// Until when to wait for another event; `None` if there is nothing left to wait for.
    pub fn deadline(&self, senders_have_ended: bool) -> Option<Instant> {
        if senders_have_ended { self.poller } else { Some(self.senders) }
    }

    /// libxenstat is closed.
    pub fn poller_closed(&mut self) {
        self.poller = None;
    }

    /// Another signal to stop: deliver no more.
    pub fn hurry(&mut self, now: Instant) {
        self.senders = self.senders.min(now + CLOSE_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::Event::{PollFailed, PollSucceeded, Reload, Stop, Wake};
    use super::*;

    const POLL: Action = Action::Poll { reopen: false };
    const FAILED: Event = PollFailed { may_recover: true };
    const DONE: Action = Action::Exit(Exit::Done);

    /// A clock that starts with the program.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, ms: u64) -> Now {
            let time = Duration::from_millis(ms);
            Now { instant: self.0 + time, wall: UNIX_EPOCH + time }
        }
    }

    fn every(milliseconds: u64) -> Polls {
        Polls {
            interval: Duration::from_millis(milliseconds),
            align: false,
            jitter: Duration::ZERO,
            count: None,
            timeout: None,
            wait_for_xen: false,
        }
    }

    fn state(polls: &Polls) -> (State, Clock) {
        let clock = Clock(Instant::now());
        (State::new(polls, Duration::ZERO, clock.at(0)), clock)
    }

    /// Each row: what happens at how many milliseconds, and what to do then.
    fn run(polls: &Polls, rows: &[(u64, Event, &[Action])]) -> State {
        let (mut state, clock) = state(polls);
        for (ms, event, expected) in rows {
            if *event == Wake {
                assert!(state.next_wake() <= clock.at(*ms).instant, "nothing is due at {ms} ms");
            }
            let actions: Vec<Action> = state.on(*event, clock.at(*ms)).into_iter().flatten().collect();
            assert_eq!(actions, *expected, "{event:?} at {ms} ms");
        }
        state
    }

    fn late(running: u64, stuck: bool, up: bool) -> Action {
        Action::ReportLate { running: Duration::from_millis(running), stuck, up }
    }

    #[test]
    fn polls_are_requested_at_each_deadline() {
        let state = run(
            &every(100),
            &[
                (0, Wake, &[POLL]),
                (20, PollSucceeded, &[Action::Report]),
                // It was late, which the next deadline does not follow.
                (130, Wake, &[POLL]),
                (140, PollSucceeded, &[Action::Report]),
                (200, Wake, &[POLL]),
                (210, PollSucceeded, &[Action::Report]),
                // The program was stopped: three deadlines were missed.
                (620, Wake, &[POLL]),
            ],
        );
        assert_eq!(state.counts(), Counts { requested: 4, failed: 0, skipped: 3 });
    }

    /// After the last one of `--count` none is wanted.
    #[test]
    fn polls_after_the_last_are_not_skipped() {
        let polls = Polls { count: Some(2), ..every(100) };
        let rows: &[(u64, Event, &[Action])] = &[
            (0, Wake, &[POLL]),
            (20, PollSucceeded, &[Action::Report]),
            (250, Wake, &[POLL]),
            // The program is stopped.
            (720, Wake, &[late(470, true, false)]),
            (730, PollSucceeded, &[Action::Report, DONE]),
        ];
        assert_eq!(run(&polls, rows).counts(), Counts { requested: 2, failed: 0, skipped: 1 });

        // It was requested late, and is not late at the next deadline.
        let rows: &[(u64, Event, &[Action])] =
            &[(0, Wake, &[POLL]), (20, PollSucceeded, &[Action::Report]), (170, Wake, &[POLL]), (200, Wake, &[])];
        assert_eq!(run(&polls, rows).counts(), Counts { requested: 2, failed: 0, skipped: 0 });
    }

    #[test]
    fn late_polls_are_slow_and_then_stuck() {
        let rows: &[(u64, Event, &[Action])] = &[
            (0, Wake, &[POLL]),
            (100, Wake, &[late(100, false, false)]),
            (130, PollSucceeded, &[Action::Report]),
            (200, Wake, &[POLL]),
            (301, Wake, &[late(101, false, true)]),
            (400, Wake, &[late(200, true, false)]),
            (500, Wake, &[late(300, true, false)]),
            (510, PollSucceeded, &[Action::Report]),
            (600, Wake, &[POLL]),
            // Once a poll has failed, the next one is not expected to succeed either.
            (610, FAILED, &[Action::Report]),
            (700, Wake, &[POLL]),
            (800, Wake, &[late(100, false, false)]),
        ];
        assert_eq!(run(&every(100), rows).counts(), Counts { requested: 4, failed: 1, skipped: 5 });
    }

    /// A retry that is requested shortly before a deadline is not late at it.
    #[test]
    fn late_polls_have_had_half_an_interval() {
        for (interval, actions) in [(1100, &[][..]), (2019, &[]), (2020, &[late(1010, false, false)])] {
            let state = run(
                &every(interval),
                &[
                    (0, Wake, &[POLL]),
                    (10, FAILED, &[Action::Report]),
                    (1010, Wake, &[POLL]),
                    (interval, Wake, actions),
                ],
            );
            assert_eq!(state.counts(), Counts { requested: 2, failed: 1, skipped: 1 }, "every {interval} ms");
        }
    }

    #[test]
    fn poll_timeout_does_not_wait_for_a_deadline() {
        let polls = Polls { timeout: Some(Duration::from_secs(1)), ..every(3_600_000) };
        let (mut state, clock) = state(&polls);
        assert_eq!(state.on(Wake, clock.at(0)), [Some(POLL), None]);
        assert_eq!(state.next_wake(), clock.at(1000).instant);
        assert_eq!(state.on(Wake, clock.at(999)), [None, None]);
        assert_eq!(state.on(Wake, clock.at(1000)), [Some(Action::TimeOut(Duration::from_secs(1))), None]);
        // It is for the running poll only.
        let rows: &[(u64, Event, &[Action])] = &[(0, Wake, &[POLL]), (900, PollSucceeded, &[Action::Report])];
        assert!(run(&polls, rows).next_wake() > clock.at(3_000_000).instant);
    }

    #[test]
    fn retries_wait_longer_and_longer() {
        let (mut state, clock) = state(&every(3_600_000));
        let mut now = 0;
        let mut waits = Vec::new();
        for n in 0..8 {
            assert_eq!(state.on(Wake, clock.at(now)), [Some(POLL), None]);
            if n == 6 {
                state.on(PollSucceeded, clock.at(now));
                // No retry: the next poll is at the deadline.
                assert_eq!(state.next_wake(), clock.at(3_600_000).instant);
                now = 3_600_000;
                continue;
            }
            assert_eq!(state.on(FAILED, clock.at(now)), [Some(Action::Report), None]);
            let next = state.next_wake().duration_since(clock.at(now).instant).as_secs();
            waits.push(next);
            now += next * 1000;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 1]);
    }

    #[test]
    fn retries_do_not_put_off_a_deadline() {
        let rows: &[(u64, Event, &[Action])] = &[
            (0, Wake, &[POLL]),
            (10, FAILED, &[Action::Report]),
            (500, Wake, &[POLL]),
            (510, PollSucceeded, &[Action::Report]),
        ];
        // The retry, due at 1010 ms, is dropped.
        assert_eq!(run(&every(500), rows).retry, None);
    }

    #[test]
    fn watchdog_is_not_pinged_while_a_poll_is_late() {
        for (running, watchdog, wake, action) in [
            (false, 50, 50, Some(Action::PingWatchdog)),
            (true, 99, 99, Some(Action::PingWatchdog)),
            (true, 100, 100, Some(late(100, false, false))),
            (true, 120, 100, Some(late(100, false, false))),
        ] {
            let (mut state, clock) = state(&every(100));
            state.on(Wake, clock.at(0));
            if !running {
                state.on(PollSucceeded, clock.at(1));
            }
            state.watchdog = Some(clock.at(watchdog).instant);
            assert_eq!(state.next_wake(), clock.at(wake).instant, "{watchdog}");
            assert_eq!(state.on(Wake, clock.at(wake)), [action, None], "{watchdog}");
            // After the deadline it is still late.
            if watchdog > 99 {
                assert_eq!(state.next_wake(), clock.at(200).instant, "{watchdog}");
                assert_eq!(state.on(Wake, clock.at(150)), [None, None], "{watchdog}");
            }
        }
    }

    #[test]
    fn count_ends_after_the_last_poll() {
        let count = |count| Polls { count: Some(count), ..every(100) };
        let report = &[Action::Report][..];
        run(&count(1), &[(0, Wake, &[POLL]), (1, PollSucceeded, &[Action::Report, DONE])]);
        run(
            &count(2),
            &[
                (0, Wake, &[POLL]),
                (1, FAILED, report),
                (100, Wake, &[POLL]),
                (101, PollSucceeded, &[Action::Report, DONE]),
            ],
        );
        run(
            &count(2),
            &[
                (0, Wake, &[POLL]),
                (1, PollSucceeded, report),
                (100, Wake, &[POLL]),
                (101, FAILED, &[Action::Report, DONE]),
            ],
        );
        run(
            &count(2),
            &[(0, Wake, &[POLL]), (1, FAILED, report), (100, Wake, &[POLL]), (101, FAILED, &[Action::GiveUp])],
        );
        // A retry would come before the deadline.
        let state = run(&Polls { count: Some(2), ..every(9000) }, &[(0, Wake, &[POLL]), (1, FAILED, report)]);
        assert_eq!(state.retry, None);
        // No poll is wanted at a deadline that the last one misses.
        let state = run(&count(1), &[(0, Wake, &[POLL]), (100, Wake, &[late(100, false, false)])]);
        assert_eq!(state.counts(), Counts { requested: 1, failed: 0, skipped: 0 });
    }

    #[test]
    fn failure_of_the_first_poll() {
        let hopeless = PollFailed { may_recover: false };
        for (polls, event, actions) in [
            (every(100), hopeless, [Some(Action::GiveUp), None]),
            (every(100), FAILED, [Some(Action::Report), None]),
            (Polls { wait_for_xen: true, ..every(100) }, hopeless, [Some(Action::Report), None]),
        ] {
            let (mut state, clock) = state(&polls);
            state.on(Wake, clock.at(0));
            assert_eq!(state.on(event, clock.at(1)), actions, "{event:?}");
        }
        // Of a later one.
        run(
            &every(100),
            &[
                (0, Wake, &[POLL]),
                (1, PollSucceeded, &[Action::Report]),
                (100, Wake, &[POLL]),
                (101, hopeless, &[Action::Report]),
            ],
        );
    }

    #[test]
    fn sighup_reopens_at_the_next_poll() {
        run(
            &every(100),
            &[
                (0, Wake, &[POLL]),
                (1, Reload, &[Action::Reopen]),
                (2, PollSucceeded, &[Action::Report]),
                (100, Wake, &[Action::Poll { reopen: true }]),
                (101, PollSucceeded, &[Action::Report]),
                (200, Wake, &[POLL]),
            ],
        );
    }

    #[test]
    fn signals_end_it_whether_a_poll_is_running_or_not() {
        let exit = &[Action::Exit(Exit::Signal("SIGTERM"))][..];
        let idle = [(0, Wake, &[POLL][..]), (1, PollSucceeded, &[Action::Report]), (2, Stop("SIGTERM"), exit)];
        let busy = [(0, Wake, &[POLL][..]), (2, Stop("SIGTERM"), exit)];
        for (rows, exit, senders, poller) in [
            (&idle[..], Exit::Signal("SIGTERM"), 200, Some(200)),
            (&busy, Exit::Signal("SIGTERM"), 200, None),
            (&idle[..2], Exit::StdoutClosed, 200, Some(200)),
            (&idle[..2], Exit::Done, 15_000, Some(200)),
        ] {
            let state = run(&every(100), rows);
            let clock = Clock(Instant::now());
            let mut shutdown = state.shut_down(exit, Duration::from_secs(5), clock.at(0).instant);
            let at = |ms| clock.at(ms).instant;
            assert_eq!(shutdown.deadline(false), Some(at(senders)), "{exit:?}");
            assert_eq!(shutdown.deadline(true), poller.map(at), "{exit:?}");
            // Another signal does not lengthen it.
            shutdown.hurry(at(100));
            assert_eq!(shutdown.deadline(false), Some(at(senders.min(300))), "{exit:?}");
            shutdown.poller_closed();
            assert_eq!(shutdown.deadline(true), None, "{exit:?}");
        }
    }
}
