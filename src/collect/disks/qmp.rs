//! Decides which guests' QEMUs are asked for their disks over QMP, and when: a state machine without sockets and clock,
//! which `qmp_client` runs.
//!
//! A QEMU serves one client at a time on this socket, and was seen to crash where several programs use it; its guest
//! then loses its disks (docs/reliability.md). To be a careful client:
//!
//! - Each QEMU has at most one connection. One question is asked at a time, the first after QEMU's greeting.
//! - A connection is closed only while no answer is owed. If an answer comes too late for its poll, a later poll takes
//!   it and asks the next question. Only a QEMU that breaks the protocol or sends too much is disconnected at once.
//! - A connection is closed as soon as all questions are answered. If it were kept until the next poll, xentop and this
//!   program's own `--check` could not connect, and xentop waits without a limit.
//!
//! libxenstat waits ten milliseconds for an answer, and mistakes one that comes later for the answer to its next
//! question (fact 20 in docs/libxenstat.md). If a guest has taken over its QEMU, the answers affect only that guest's
//! metrics, and their size is limited.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::backoff::Backoff;
use crate::collect::disks::qmp_error::{Answer, Error, MAX_BYTES, MAX_TOTAL_BYTES};
use crate::collect::disks::qmp_replies::{Progress, Question, Replies};
use crate::model::snapshot::Moment;

/// Bytes read from one connection before the next gets its turn: a QEMU that sends much does not delay the others.
pub const READ_SIZE: usize = 32 << 10;

/// Maximum number of guests that are asked at the same time, as the number of open files is limited.
const MAX_ASKED: usize = 256;

/// Maximum number of connections, including those that wait for an answer to an earlier poll.
const MAX_CONNECTIONS: usize = 2 * MAX_ASKED;

/// A question is waited for at least the poll's limit divided by this, even if it is asked just before the deadline.
/// The four questions together prolong a poll by at most a quarter of its limit.
const MIN_TIME_DIVISOR: u32 = 16;

/// Waits between attempts to connect while QEMU's queue is full or all file descriptors are in use.
const RETRY: Backoff<Duration> = Backoff::new(Duration::from_millis(2), Duration::from_millis(32));

/// A guest whose QEMU has a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its domid.
    pub domid: u32,
    /// The socket's path.
    pub socket: PathBuf,
    /// The socket's inode, which tells apart two QEMUs with the same path.
    pub inode: u64,
}

/// Whether connecting may succeed later, once QEMU's queue has room or file descriptors are free.
fn may_succeed_later(error: &io::Error) -> bool {
    let full = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    full.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Identifies a connection.
pub type Id = u64;

/// What has happened.
#[derive(Debug)]
pub enum Event<'a> {
    /// [`Action::Connect`] failed.
    NotConnected(Id, io::Error),
    /// QEMU has sent something.
    Received(Id, &'a [u8]),
    /// QEMU has closed the connection, or it has failed.
    Closed(Id, Option<io::Error>),
    /// Time has passed.
    Time,
    /// SIGHUP: close the connections on which no answer is owed.
    Reopen,
    /// The program ends: ask nothing more.
    Stop,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect to this socket without waiting. If that fails, [`Event::NotConnected`] is the answer.
    Connect(Id, PathBuf),
    /// Send the question.
    Ask(Id, Question),
    /// Close the connection.
    Close(Id),
}

/// A connection to one QEMU, with its questions and answers.
struct Session {
    guest: Guest,
    /// Whether the latest poll lists the guest, with the same socket.
    is_current: bool,
    replies: Replies,
    /// When the latest question was asked.
    asked_at: Instant,
    /// The start of a line whose end has not been received yet.
    line: Vec<u8>,
    /// Number of bytes received.
    received: usize,
}

impl Session {
    fn new(guest: Guest, now: Instant) -> Self {
        let replies = Replies::default();
        Self { guest, is_current: true, replies, asked_at: now, line: Vec::new(), received: 0 }
    }

    /// Whether QEMU owes an answer to a question.
    fn owes(&self) -> bool {
        self.replies.asked().is_some()
    }

    /// Handles bytes from QEMU; returns the result if the session ends with them. `ask` gets the next question and
    /// returns whether it is asked. If it is not, the session ends, as no answer is owed at this moment.
    fn push(&mut self, bytes: &[u8], now: Instant, mut ask: impl FnMut(Question) -> bool) -> Option<Answer> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.line.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            match self.replies.push_line(&std::mem::take(&mut self.line)) {
                Ok(Progress::Wait) => {}
                Ok(Progress::Ask(question)) if ask(question) => self.asked_at = now,
                Ok(Progress::Ask(_)) => return Some(Err(Error::NotAsked(None))),
                Ok(Progress::Done(disks)) => {
                    let moment = Moment { at: self.asked_at, took: now.saturating_duration_since(self.asked_at) };
                    return Some(Ok((disks, moment)));
                }
                Err(error) => return Some(Err(Error::Reply(error))),
            }
        }
        self.line.extend_from_slice(rest);
        None
    }
}

/// The poll under way, or the latest one.
#[derive(Default)]
struct Poll {
    limit: Duration,
    deadline: Option<Instant>,
    /// Guests that are not connected to yet.
    waiting: VecDeque<Guest>,
    /// Guests that are connected to, and have not answered everything.
    asked: BTreeSet<u32>,
    /// Guests that could not be connected to and will be tried again, and why.
    to_retry: Vec<(Guest, io::Error)>,
    retry: Option<(Instant, Backoff<Duration>)>,
    answers: BTreeMap<u32, Answer>,
}

impl Poll {
    /// Whether the deadline is still to come, so that more guests may be asked.
    fn has_time(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| now < deadline)
    }
}

/// The state of all sessions.
#[derive(Default)]
pub struct Scheduler {
    sessions: BTreeMap<Id, Session>,
    latest: Id,
    poll: Poll,
    /// The domid to begin with: the first one for which the last poll had no time.
    first: u32,
    is_stopping: bool,
}

impl Scheduler {
    /// Begins a poll of these guests, which are sorted by domid. It ends after `limit`.
    pub fn begin(&mut self, mut guests: Vec<Guest>, limit: Duration, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        for session in self.sessions.values_mut() {
            session.is_current = guests.contains(&session.guest);
        }
        self.close_where(|session| !session.is_current && !session.owes(), &mut actions);
        let first = guests.partition_point(|guest| guest.domid < self.first);
        guests.rotate_left(first);
        let mut retry = RETRY;
        let retry = Some((now + retry.wait(), retry));
        self.poll = Poll { limit, deadline: Some(now + limit), waiting: guests.into(), retry, ..Poll::default() };
        self.ask_more(now, &mut actions);
        // If a guest's turn comes later, its connection from the last poll, not greeted yet, makes room for another.
        let waiting: BTreeSet<u32> = self.poll.waiting.iter().map(|guest| guest.domid).collect();
        self.close_where(|session| !session.owes() && waiting.contains(&session.guest.domid), &mut actions);
        actions
    }

    /// Handles an event; returns what is to be done.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::NotConnected(id, error) => self.not_connected(id, error),
            Event::Received(id, bytes) => self.received(id, bytes, now, &mut actions),
            Event::Closed(id, error) => {
                self.end(id, Err(error.map_or(Error::Closed, Error::from)));
            }
            Event::Time => {
                let has_time = self.poll.has_time(now);
                if let Some((at, backoff)) = self.poll.retry.as_mut().filter(|(at, _)| has_time && *at <= now) {
                    *at = now + backoff.wait();
                    self.poll.waiting.extend(self.poll.to_retry.drain(..).map(|(guest, _)| guest));
                }
            }
            Event::Reopen => self.close_where(|session| !session.owes(), &mut actions),
            Event::Stop => {
                self.is_stopping = true;
                self.close_where(|session| !session.owes(), &mut actions);
            }
        }
        self.ask_more(now, &mut actions);
        actions
    }

    /// Number of questions that are not answered yet.
    pub fn owed(&self) -> usize {
        self.sessions.values().filter(|session| session.owes()).count()
    }

    /// Whether the poll is over: all guests have answered, or the time is up.
    pub fn is_over(&self, now: Instant) -> bool {
        let poll = &self.poll;
        let all_answered = poll.waiting.is_empty() && poll.to_retry.is_empty() && poll.asked.is_empty();
        all_answered || self.is_stopping || self.end_of_poll().is_none_or(|end| now >= end)
    }

    /// When the poll ends: at its deadline, or a little later for a question that was asked shortly before.
    fn end_of_poll(&self) -> Option<Instant> {
        let awaited = self.sessions.values().filter(|session| self.poll.asked.contains(&session.guest.domid));
        let least = self.poll.limit / MIN_TIME_DIVISOR;
        awaited
            .map(|session| session.asked_at + least)
            .chain(self.poll.deadline)
            .max()
            .filter(|_| self.poll.deadline.is_some())
    }

    /// When there is something to do even if no QEMU sends anything.
    pub fn wake(&self) -> Option<Instant> {
        let retry = self.poll.retry.as_ref().filter(|_| !self.poll.to_retry.is_empty()).map(|(at, _)| *at);
        self.end_of_poll().into_iter().chain(retry).min()
    }

    /// The connections in the order in which to read them: the ones that have sent least come first.
    pub fn in_order(&self) -> Vec<Id> {
        let mut ids: Vec<(usize, Id)> = self.sessions.iter().map(|(id, session)| (session.received, *id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether to read a connection. After the deadline, a QEMU that has sent much is read at the next poll.
    pub fn may_read(&self, id: Id, now: Instant) -> bool {
        let is_free = self.poll.deadline.is_none() || self.poll.has_time(now);
        self.sessions.get(&id).is_some_and(|session| is_free || session.received < READ_SIZE)
    }

    /// Ends the poll; returns what became of each guest.
    pub fn finish(&mut self) -> BTreeMap<u32, Answer> {
        let Poll { limit, waiting, asked, to_retry, mut answers, .. } = std::mem::take(&mut self.poll);
        for domid in asked {
            let has_greeted = self
                .sessions
                .values()
                .any(|session| session.guest.domid == domid && session.is_current && session.owes());
            answers.insert(domid, Err(if has_greeted { Error::Late(limit) } else { Error::Silent(limit) }));
        }
        for (guest, error) in to_retry {
            let queue_is_full = error.kind() == ErrorKind::WouldBlock;
            let error = if queue_is_full { Error::Silent(limit) } else { Error::NotAsked(Some(error)) };
            answers.insert(guest.domid, Err(error));
        }
        answers.extend(waiting.into_iter().map(|guest| (guest.domid, Err(Error::NotAsked(None)))));
        let not_asked = answers.iter().filter(|(_, answer)| matches!(answer, Err(Error::NotAsked(_))));
        // Guests are asked in the order of their domids, beginning with `first`.
        let order = not_asked.map(|(domid, _)| (*domid < self.first, *domid)).min();
        self.first = order.map_or(0, |(_, domid)| domid);
        answers
    }

    /// Asks the next waiting guests, within the limits.
    fn ask_more(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while self.poll.has_time(now) && !self.is_stopping && self.poll.asked.len() < MAX_ASKED {
            let Some(guest) = self.poll.waiting.pop_front() else { break };
            if !self.sessions.values().any(|session| session.guest == guest) {
                if self.sessions.len() >= MAX_CONNECTIONS {
                    self.poll.waiting.push_front(guest);
                    break;
                }
                self.latest += 1;
                actions.push(Action::Connect(self.latest, guest.socket.clone()));
                self.sessions.insert(self.latest, Session::new(guest.clone(), now));
            }
            self.poll.asked.insert(guest.domid);
        }
    }

    fn not_connected(&mut self, id: Id, error: io::Error) {
        let Some(session) = self.sessions.get(&id) else { return };
        if may_succeed_later(&error) {
            self.poll.asked.remove(&session.guest.domid);
            self.poll.to_retry.extend(self.sessions.remove(&id).map(|session| (session.guest, error)));
        } else {
            self.end(id, Err(error.into()));
        }
    }

    fn received(&mut self, id: Id, bytes: &[u8], now: Instant, actions: &mut Vec<Action>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.received += bytes.len();
        let end = if session.received > MAX_BYTES {
            Some(Err(Error::TooMuch))
        } else {
            let is_wanted = session.is_current && !self.is_stopping;
            session.push(bytes, now, |question| {
                actions.extend(is_wanted.then_some(Action::Ask(id, question)));
                is_wanted
            })
        };
        if let Some(answer) = end {
            self.end(id, answer);
            actions.push(Action::Close(id));
        }
        while self.sessions.values().map(|session| session.received).sum::<usize>() > MAX_TOTAL_BYTES {
            let Some((&most, _)) = self.sessions.iter().max_by_key(|(_, session)| session.received) else {
                break;
            };
            self.end(most, Err(Error::TooMuch));
            actions.push(Action::Close(most));
        }
    }

    /// Removes a session. If its guest is part of this poll, this is its answer.
    fn end(&mut self, id: Id, answer: Answer) {
        let Some(Session { guest, is_current, .. }) = self.sessions.remove(&id) else { return };
        let was_waiting = self.poll.waiting.contains(&guest);
        if is_current && (self.poll.asked.remove(&guest.domid) || was_waiting) {
            self.poll.waiting.retain(|waiting| *waiting != guest);
            self.poll.answers.insert(guest.domid, answer);
        }
    }

    fn close_where(&mut self, condition: impl Fn(&Session) -> bool, actions: &mut Vec<Action>) {
        self.sessions.retain(|id, session| {
            let is_closed = condition(session);
            actions.extend(is_closed.then_some(Action::Close(*id)));
            !is_closed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LIMIT: Duration = Duration::from_secs(1);
    const GREETING: &[u8] = b"{\"QMP\": {}}\r\n";

    fn guest(domid: u32) -> Guest {
        Guest { domid, socket: format!("/run/xen/{domid}").into(), inode: domid.into() }
    }

    fn connect(id: Id, domid: u32) -> Action {
        Action::Connect(id, guest(domid).socket)
    }

    fn reply(question: Question) -> Vec<u8> {
        format!("{}\r\n", json!({"id": question.id(), "return": []})).into_bytes()
    }

    /// A scheduler and its clock.
    struct Run {
        scheduler: Scheduler,
        start: Instant,
        now: Instant,
    }

    impl Run {
        fn new() -> Self {
            let start = Instant::now();
            Self { scheduler: Scheduler::default(), start, now: start }
        }

        fn at(&mut self, ms: u64) -> &mut Self {
            self.now = self.start + Duration::from_millis(ms);
            self
        }

        fn begin(&mut self, guests: impl IntoIterator<Item = u32>) -> Vec<Action> {
            self.scheduler.begin(guests.into_iter().map(guest).collect(), LIMIT, self.now)
        }

        fn on(&mut self, event: Event) -> Vec<Action> {
            self.scheduler.on(event, self.now)
        }

        /// The greeting, and the replies to all questions before this one.
        fn up_to(&mut self, id: Id, question: Question) {
            let mut actions = self.on(Event::Received(id, GREETING));
            while let [Action::Ask(_, asked)] = actions[..] {
                if asked == question {
                    return;
                }
                actions = self.on(Event::Received(id, &reply(asked)));
            }
            panic!("{actions:?}");
        }

        /// All of a session.
        fn answer(&mut self, id: Id) -> Vec<Action> {
            self.up_to(id, Question::Counters);
            self.on(Event::Received(id, &reply(Question::Counters)))
        }

        fn is_over_at(&mut self, ms: u64) -> bool {
            self.at(ms);
            self.scheduler.is_over(self.now)
        }

        /// What became of each guest.
        fn finish(&mut self) -> Vec<(u32, String)> {
            let read = |Moment { at, took }| format!("read from {:?}, in {took:?}", at.duration_since(self.start));
            let words = |answer: Answer| answer.map_or_else(|error| error.to_string(), |(_, moment)| read(moment));
            self.scheduler.finish().into_iter().map(|(domid, answer)| (domid, words(answer))).collect()
        }
    }

    fn became(domid: u32, words: &str) -> (u32, String) {
        (domid, words.to_owned())
    }

    const LATE: &str = "does not answer within 1s";
    const SILENT: &str = "says nothing within 1s: it hangs, or is talking to another";
    const NOT_ASKED: &str = "was not asked: others' QEMUs took all the time";

    #[test]
    fn qmp_asks_after_the_greeting_and_closes_after_the_last_answer() {
        let mut run = Run::new();
        assert_eq!(run.begin([5]), [connect(1, 5)]);
        for (bytes, owed, expected) in [
            (&b"{\"event\": \"STOP\"}\r\n"[..], 0, vec![]),
            (&GREETING[..5], 0, vec![]),
            (&GREETING[5..], 1, vec![Action::Ask(1, Question::Capabilities)]),
            (&reply(Question::Capabilities), 1, vec![Action::Ask(1, Question::Drives)]),
            (&reply(Question::Drives), 1, vec![Action::Ask(1, Question::Devices)]),
            (&reply(Question::Devices), 1, vec![Action::Ask(1, Question::Counters)]),
            (&reply(Question::Counters), 0, vec![Action::Close(1)]),
        ] {
            assert!(!run.scheduler.is_over(run.now));
            assert_eq!(run.on(Event::Received(1, bytes)), expected);
            assert_eq!(run.scheduler.owed(), owed, "{expected:?}");
        }
        assert!(run.scheduler.is_over(run.now));
        assert_eq!(run.finish(), [became(5, "read from 0ns, in 0ns")]);
        // The next poll connects again.
        assert_eq!(run.at(10_000).begin([5]), [connect(2, 5)]);
    }

    #[test]
    fn qmp_late_answer_is_taken_at_a_later_poll_with_its_moment() {
        for (late, moment) in
            [(Question::Drives, "read from 20.5s, in 100ms"), (Question::Counters, "read from 200ms, in 20.3s")]
        {
            let mut run = Run::new();
            run.begin([5]);
            run.at(200).up_to(1, late);
            assert!(!run.is_over_at(999) && run.is_over_at(1000), "{late:?}");
            assert_eq!(run.finish(), [became(5, LATE)]);
            // Late at the next poll, too: nothing is closed, nothing asked.
            assert_eq!(run.at(10_000).begin([5]), []);
            run.at(11_000);
            assert_eq!(run.finish(), [became(5, LATE)]);
            assert_eq!(run.at(20_000).begin([5]), []);
            let mut actions = run.at(20_500).on(Event::Received(1, &reply(late)));
            while let [Action::Ask(1, question)] = actions[..] {
                run.now += Duration::from_millis(if question == Question::Counters { 100 } else { 0 });
                actions = run.on(Event::Received(1, &reply(question)));
            }
            assert_eq!(actions, [Action::Close(1)]);
            assert_eq!(run.finish(), [became(5, moment)]);
        }
    }

    /// This program had no turn until the time was over: what has come is read, and the rest is still asked for. But
    /// nobody can draw that out.
    #[test]
    fn qmp_questions_have_a_little_time_each() {
        let mut run = Run::new();
        run.begin([5, 6]);
        assert!(!run.is_over_at(999) && run.is_over_at(1000));
        let mut actions = run.at(1200).on(Event::Received(1, GREETING));
        let mut now = 1200;
        while let [Action::Ask(1, question)] = actions[..] {
            assert!(run.scheduler.wake() == Some(run.now + LIMIT / 16) && !run.is_over_at(now + 62));
            now += 62;
            actions = run.on(Event::Received(1, &reply(question)));
        }
        assert_eq!(actions, [Action::Close(1)]);
        assert!(run.is_over_at(now));
        assert_eq!(run.finish(), [became(5, "read from 1.386s, in 62ms"), became(6, SILENT)]);
    }

    #[test]
    fn qmp_leaves_at_once_what_breaks_the_protocol() {
        let long = vec![b' '; MAX_BYTES + 1];
        let refusal = b"{\"id\": \"query-block\", \"error\": {\"desc\": \"no\"}}\n";
        for (bytes, words) in [
            (&b"HTTP/1.1 400\r\n"[..], "answers with what is no QMP"),
            (&long, "answers with more than 1048576 bytes"),
            (refusal, "refuses: \"no\""),
        ] {
            let mut run = Run::new();
            run.begin([5]);
            run.up_to(1, Question::Drives);
            assert_eq!(run.on(Event::Received(1, bytes)), [Action::Close(1)]);
            assert_eq!((run.scheduler.owed(), run.finish()), (0, vec![became(5, words)]));
        }
        for (error, words) in [
            (None, "closes the connection"),
            (Some(Errno::PIPE), "closes the connection"),
            (Some(Errno::IO), "cannot be asked: Input/output error (os error 5)"),
        ] {
            let mut run = Run::new();
            run.begin([5]);
            run.up_to(1, Question::Drives);
            assert_eq!(run.on(Event::Closed(1, error.map(io::Error::from))), []);
            assert_eq!((run.scheduler.owed(), run.finish()), (0, vec![became(5, words)]));
        }
    }

    /// Each in a state of its own: 5 owes an answer, 6 has not greeted.
    fn two() -> Run {
        let mut run = Run::new();
        run.begin([5, 6]);
        run.up_to(1, Question::Drives);
        run.at(1000).finish();
        run.at(10_000);
        run
    }

    #[test]
    fn qmp_closes_only_what_owes_nothing() {
        let drives = reply(Question::Drives);
        let mut run = two();
        assert_eq!(run.begin([7]), [Action::Close(2), connect(3, 7)], "5 and 6 are gone");
        assert_eq!(run.on(Event::Received(1, &drives)), [Action::Close(1)]);
        assert_eq!(run.at(11_000).finish(), [became(7, SILENT)]);

        let mut run = two();
        assert_eq!(run.begin([6]), [], "5 is not listed");
        run.at(11_000).finish();
        assert_eq!(run.at(20_000).begin([5, 6]), [], "and is listed again");
        assert_eq!(run.on(Event::Received(1, &drives)), [Action::Ask(1, Question::Devices)]);

        let mut run = two();
        let replaced = [5, 6].map(|domid| Guest { inode: 99, ..guest(domid) });
        let actions = run.scheduler.begin(replaced.into(), LIMIT, run.now);
        assert_eq!(actions, [Action::Close(2), connect(3, 5), connect(4, 6)], "other sockets");
        assert_eq!(run.on(Event::Received(1, &drives)), [Action::Close(1)]);
        assert_eq!(run.answer(3), [Action::Close(3)]);
        assert_eq!(run.at(11_000).finish(), [became(5, "read from 10s, in 0ns"), became(6, SILENT)]);

        let mut run = two();
        assert_eq!(run.on(Event::Reopen), [Action::Close(2)]);
        assert_eq!(run.begin([5, 6]), [connect(3, 6)]);
        assert_eq!(run.on(Event::Received(1, &drives)), [Action::Ask(1, Question::Devices)]);

        let mut run = two();
        run.begin([5, 6]);
        assert_eq!(run.on(Event::Stop), [Action::Close(2)]);
        assert_eq!((run.scheduler.is_over(run.now), run.scheduler.owed()), (true, 1));
        assert_eq!(run.on(Event::Received(1, &drives)), [Action::Close(1)]);
        assert_eq!(run.scheduler.owed(), 0);
        assert_eq!(run.begin([5, 6]), []);
    }

    #[test]
    fn qmp_guests_have_their_turns() {
        let mut run = Run::new();
        // As many as are asked at once, and four more.
        let most = MAX_ASKED as u32;
        let all = 1..=most + 4;
        let connections: Vec<_> = (1..=most).map(|n| connect(n.into(), n)).collect();
        assert_eq!(run.begin(all.clone()), connections);
        assert_eq!(run.answer(7), [Action::Close(7), connect(u64::from(most) + 1, most + 1)]);
        let answers = run.at(1000).finish();
        for (domid, words) in &answers {
            let expected = match *domid {
                7 => "read from 0ns, in 0ns",
                domid if domid > most + 1 => NOT_ASKED,
                _ => SILENT,
            };
            assert_eq!(words, expected, "{domid}");
        }
        // These come first now; the connections of the last ones are closed to make room.
        let id = u64::from(most) + 2;
        let expected =
            [connect(id, most + 2), connect(id + 1, most + 3), connect(id + 2, most + 4), connect(id + 3, 7)];
        let closed = [most - 2, most - 1, most, most + 1].map(|domid| Action::Close(domid.into()));
        let actions = run.at(10_000).begin(all.clone());
        assert_eq!(actions[..3], expected[..3]);
        assert_eq!(actions[3..], [&expected[3..], &closed[..]].concat());
        for id in [id, id + 1, id + 2] {
            assert!(run.answer(id).starts_with(&[Action::Close(id)]));
        }
        let answers = run.at(11_000).finish();
        let good: Vec<u32> = answers.iter().filter(|(_, words)| words.starts_with("read")).map(|(id, _)| *id).collect();
        assert_eq!(good, [most + 2, most + 3, most + 4]);
    }

    #[test]
    fn qmp_late_guests_do_not_take_the_turns_of_others() {
        let mut run = Run::new();
        let most = MAX_ASKED as u32;
        // All of the first owe an answer from now on.
        run.begin(1..=most);
        (1..=most).for_each(|id| run.up_to(id.into(), Question::Drives));
        run.at(1000).finish();
        run.scheduler.first = most + 1;
        assert_eq!(run.at(10_000).begin(1..=2 * most).len(), MAX_ASKED);
        // No more connections than that, so as not to use up all files.
        (1..=most).for_each(|n| run.up_to((most + n).into(), Question::Drives));
        run.at(11_000).finish();
        run.scheduler.first = 2 * most + 1;
        assert_eq!(run.at(20_000).begin(1..=2 * most + 1), []);
        // Until one has answered.
        assert_eq!(run.on(Event::Closed(1, None)), [connect(u64::from(2 * most) + 1, 2 * most + 1)]);
    }

    #[test]
    fn qmp_full_queues_are_tried_again() {
        let full = |run: &mut Run, id, errno: Errno| run.on(Event::NotConnected(id, errno.into()));
        let mut run = Run::new();
        assert_eq!(run.begin([5, 6, 7]), [connect(1, 5), connect(2, 6), connect(3, 7)]);
        assert_eq!(full(&mut run, 1, Errno::AGAIN), []);
        assert_eq!(full(&mut run, 2, Errno::CONNREFUSED), []);
        assert_eq!(full(&mut run, 3, Errno::MFILE), []);
        let mut id = 4;
        for (at, next) in [(2, 6), (6, 14), (14, 30), (30, 62), (62, 94), (94, 126)] {
            assert_eq!(run.scheduler.wake(), Some(run.start + Duration::from_millis(at)));
            assert_eq!(run.at(at - 1).on(Event::Time), []);
            assert_eq!(run.at(at).on(Event::Time), [connect(id, 5), connect(id + 1, 7)]);
            assert_eq!(run.scheduler.wake(), Some(run.start + LIMIT));
            full(&mut run, id, Errno::AGAIN);
            full(&mut run, id + 1, Errno::MFILE);
            assert_eq!(run.scheduler.wake(), Some(run.start + Duration::from_millis(next)));
            id += 2;
        }
        assert_eq!(run.at(1000).on(Event::Time), []);
        let expected = [
            became(5, SILENT),
            became(6, "cannot be asked: Connection refused (os error 111)"),
            became(7, "was not asked: Too many open files (os error 24)"),
        ];
        assert_eq!(run.finish(), expected);
        assert_eq!(run.at(10_000).begin([5, 6, 7])[0], connect(id, 7));
    }

    #[test]
    fn qmp_memory_of_all_is_limited() {
        let mut run = Run::new();
        run.begin(1..=40);
        let much = vec![b' '; MAX_BYTES - 1000];
        let mut closed = Vec::new();
        run.on(Event::Received(40, b"{"));
        for id in 1..40 {
            closed.extend(run.on(Event::Received(id, &much[..MAX_BYTES - 1000 - id as usize])));
            let kept = || run.scheduler.sessions.values().map(|session| session.line.len());
            assert!(kept().sum::<usize>() <= MAX_TOTAL_BYTES && run.scheduler.sessions[&40].line.len() == 1);
        }
        // Of all so far, each time the one with the most.
        assert_eq!(closed, (1..=7).map(Action::Close).collect::<Vec<_>>());
        let answers = run.at(1000).finish();
        assert_eq!(answers.iter().filter(|(_, words)| words == "answers with more than 1048576 bytes").count(), 7);
    }

    #[test]
    fn qmp_reads_first_what_says_little() {
        let mut run = Run::new();
        run.begin([1, 2, 3]);
        run.on(Event::Received(1, &[b' '; READ_SIZE]));
        run.on(Event::Received(2, b" "));
        assert_eq!(run.scheduler.in_order(), [3, 2, 1]);
        let readable = |run: &Run| [1, 2, 3].map(|id| run.scheduler.may_read(id, run.now));
        assert_eq!(readable(run.at(999)), [true; 3]);
        assert_eq!(readable(run.at(1000)), [false, true, true]);
        // With no poll to end, as when the program ends, all may be read.
        run.finish();
        assert_eq!(readable(&run), [true; 3]);
    }
}
