//! The sockets of the guests' QEMUs, for the state machine in `qmp`.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::collect::disks::qmp::{Action, Event, Guest, Id, READ_SIZE, Scheduler};
use crate::collect::disks::qmp_error::Answer;

/// How long the end of the program waits for answers that QEMUs owe. Less than what a service manager allows for it.
const LAST_ANSWERS: Duration = Duration::from_secs(3);

/// The number of questions that QEMUs have not answered, shared with the threads that end the program.
#[derive(Debug, Default)]
pub struct Owed {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    questions: usize,
    /// Once set, nothing more is asked, and at this time the program ends.
    stop_by: Option<Instant>,
}

impl Owed {
    /// From now on nothing more is asked.
    pub fn stop(&self) {
        self.lock().stop_by.get_or_insert_with(|| Instant::now() + LAST_ANSWERS);
    }

    /// After [`stop`](Self::stop): waits until everything is answered, as long as the end of the program may wait.
    pub fn wait(&self) {
        let mut state = self.lock();
        while let Some(stop_by) = state.stop_by.filter(|stop_by| state.questions > 0 && *stop_by > Instant::now()) {
            let left = stop_by.saturating_duration_since(Instant::now());
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections to all QEMUs. They last from poll to poll where an answer is owed or QEMU has not greeted.
#[derive(Default)]
pub struct Client {
    scheduler: Scheduler,
    sockets: BTreeMap<Id, UnixStream>,
    owed: Arc<Owed>,
}

impl Client {
    /// Without connections yet.
    pub fn new(owed: Arc<Owed>) -> Self {
        Self { owed, ..Self::default() }
    }

    /// Asks the QEMUs of these guests, sorted by domid, for at most about `limit`. Also takes late answers to the
    /// questions of earlier polls.
    pub fn ask(&mut self, guests: Vec<Guest>, limit: Duration) -> BTreeMap<u32, Answer> {
        if guests.is_empty() && self.sockets.is_empty() {
            return BTreeMap::new();
        }
        let mut now = Instant::now();
        let actions = self.scheduler.begin(guests, limit, now);
        self.act(actions, now);
        loop {
            let is_over = self.scheduler.is_over(now);
            // All is answered, and no earlier question is open.
            if is_over && self.sockets.is_empty() {
                return self.scheduler.finish();
            }
            let wake = self.scheduler.wake().filter(|_| !is_over).unwrap_or(now);
            now = self.turn(wake.saturating_duration_since(now));
            // What was read may have been an answer, after which the next question gets a little time.
            if is_over && self.scheduler.is_over(now) {
                return self.scheduler.finish();
            }
        }
    }

    /// Makes connections again, except those on which an answer is owed.
    pub fn reopen(&mut self) {
        self.on(Event::Reopen, Instant::now());
    }

    /// After [`Owed::stop`]: reads the answers that are owed.
    pub fn close(&mut self) {
        while self.scheduler.owed() > 0 {
            let now = Instant::now();
            let stop_by = self.owed.lock().stop_by;
            match stop_by {
                Some(stop_by) if stop_by > now => {
                    self.turn(stop_by - now);
                }
                _ => return,
            }
        }
    }

    /// Waits until QEMUs have sent something, and reads it. Returns the time at which the last read began.
    fn turn(&mut self, patience: Duration) -> Instant {
        let ids = self.scheduler.in_order();
        let ready = wait(ids.iter().filter_map(|id| Some((*id, self.sockets.get(id)?))).collect(), patience);
        // Locked until the questions are sent: the thread that stops the program either sees a question or prevents it.
        let owed = Arc::clone(&self.owed);
        let mut owed_now = owed.lock();
        let mut now = Instant::now();
        if owed_now.stop_by.is_some() {
            self.on(Event::Stop, now);
        }
        for (n, id) in ready.into_iter().enumerate() {
            // Reading from the ones before may have taken long.
            if n > 0 {
                now = Instant::now();
            }
            if self.scheduler.may_read(id, now) {
                self.read(id, now);
            }
        }
        self.on(Event::Time, now);
        owed_now.questions = self.scheduler.owed();
        // Before that nobody waits, and each wake-up is a system call.
        if owed_now.stop_by.is_some() {
            owed.changed.notify_all();
        }
        now
    }

    /// Reads once from a connection.
    fn read(&mut self, id: Id, now: Instant) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let mut chunk = [0; READ_SIZE];
        match socket.read(&mut chunk) {
            Ok(0) => self.on(Event::Closed(id, None), now),
            Ok(length) => self.on(Event::Received(id, &chunk[..length]), now),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => self.on(Event::Closed(id, Some(error)), now),
        }
    }

    fn on(&mut self, event: Event, now: Instant) {
        if let Event::Closed(id, _) = event {
            self.sockets.remove(&id);
        }
        let actions = self.scheduler.on(event, now);
        self.act(actions, now);
    }

    fn act(&mut self, actions: Vec<Action>, now: Instant) {
        for action in actions {
            match action {
                Action::Connect(id, socket) => match connect(&socket) {
                    Ok(socket) => drop(self.sockets.insert(id, socket)),
                    Err(error) => self.on(Event::NotConnected(id, error), now),
                },
                Action::Ask(id, question) => {
                    // A question is short enough to fit into the socket's buffer.
                    let sent = self.sockets.get_mut(&id).map(|socket| socket.write_all(question.line()));
                    if let Some(Err(error)) = sent {
                        self.on(Event::Closed(id, Some(error)), now);
                    }
                }
                Action::Close(id) => drop(self.sockets.remove(&id)),
            }
        }
    }
}

/// Fails where QEMU's queue of connections is full.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
    Ok(fd.into())
}

/// The connections on which something has come.
fn wait(sockets: Vec<(Id, &UnixStream)>, patience: Duration) -> Vec<Id> {
    let mut fds: Vec<PollFd> = sockets.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::IN)).collect();
    let patience = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: patience.subsec_nanos().into() };
    let polled = rustix::event::poll(&mut fds, Some(&patience));
    let is_ready = |fd: &PollFd| match polled {
        Ok(_) => !fd.revents().is_empty(),
        // A signal; or no memory, and then all are tried.
        Err(error) => error != Errno::INTR,
    };
    let ready = sockets.iter().zip(&fds).filter(|(_, fd)| is_ready(fd));
    ready.map(|((id, _), _)| *id).collect()
}
