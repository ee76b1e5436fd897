//! What wakes the loop besides its deadlines: messages of the other threads, and signals.

use std::fs;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::termios::tcgetpgrp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use termion::event::Key;

use crate::collect::poller::{Polled, Stopper};
use crate::daemon::alternate_screen;
use crate::logging::stderr;
use crate::statsd::delivery::report::Report;

/// Capacity of the queue. A thread that has one more message waits.
const CAPACITY: usize = 64;

/// How long the loop may take to exit after a signal. It may be blocked in a write that nobody reads.
const EXIT_TIMEOUT: Duration = Duration::from_millis(500);

/// From another thread.
#[allow(clippy::large_enum_variant, reason = "one per poll, without an allocation")]
pub enum Message {
    /// A poll has finished; `None`: the poller's thread has ended.
    Polled(Option<Polled>),
    /// From the sender of the n-th server.
    Server(usize, Report),
    /// SIGHUP to a service.
    Reload,
    /// This signal is to end the program.
    Stop(&'static str),
    /// The terminal may not show the table any longer, or has another size.
    Redraw,
    /// A key was pressed while the table is watched.
    Key(Key),
    /// A line was logged while the table is watched.
    Logged,
}

/// The queue of messages. Only the thread that created it may read it: a message wakes that thread.
pub struct Events {
    receiver: Receiver<Message>,
    sender: Sender,
}

/// Puts messages into the queue, and wakes the thread that reads it.
#[derive(Clone)]
pub struct Sender {
    queue: SyncSender<Message>,
    reader: Thread,
}

impl Sender {
    /// Waits while the queue is full. If the queue no longer exists, the message is dropped.
    pub fn send(&self, message: Message) {
        let _ = self.queue.send(message);
        self.reader.unpark();
    }

    /// Drops the message if the queue is full.
    fn try_send(&self, message: Message) {
        let _ = self.queue.try_send(message);
        self.reader.unpark();
    }
}

impl Events {
    /// An empty queue, to be read by this thread.
    pub fn new() -> Self {
        let (queue, receiver) = mpsc::sync_channel(CAPACITY);
        Self { receiver, sender: Sender { queue, reader: thread::current() } }
    }

    /// Forwards signals. After a signal to stop the process exits even if the loop is blocked, once QEMUs have answered
    /// the poller.
    pub fn forward(&self, caught: CaughtSignals, poller: Stopper) -> io::Result<()> {
        let (sender, CaughtSignals { mut signals, is_service }) = (self.sender(), caught);
        let forward = move || {
            for signal in signals.forever() {
                let message = match signal {
                    SIGHUP if is_service => Message::Reload,
                    // The terminal has been closed.
                    SIGHUP => Message::Stop("SIGHUP"),
                    SIGINT => Message::Stop("SIGINT"),
                    _ => Message::Stop("SIGTERM"),
                };
                let stops = matches!(message, Message::Stop(_));
                // Not waiting for room in the queue: if the loop is blocked there may never be any.
                sender.try_send(message);
                if stops {
                    thread::sleep(EXIT_TIMEOUT);
                    poller.stop_and_wait();
                    alternate_screen::close();
                    signal_hook::low_level::exit(0);
                }
            }
        };
        thread::Builder::new().name("signals".into()).spawn(forward)?;
        let (redraws, keys, logged) = (self.sender(), self.sender(), self.sender());
        stderr::follow(move || logged.try_send(Message::Logged));
        alternate_screen::follow_job_control(move || redraws.try_send(Message::Redraw))?;
        alternate_screen::follow_keyboard(move |key| keys.try_send(Message::Key(key)))
    }

    /// For another thread.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }

    /// A message that has come.
    pub fn pending(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// The next message, or the present time if the deadline comes first.
    pub fn next(&self, deadline: Instant) -> Result<Message, Instant> {
        // Not `recv_timeout`: it reads the clock more often, and in some dom0s each reading is a system call.
        loop {
            if let Some(message) = self.pending() {
                return Ok(message);
            }
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            if left.is_zero() {
                return Err(now);
            }
            thread::park_timeout(left);
        }
    }
}

/// From now on these signals do not end the process. They are kept until they are forwarded.
pub fn catch_signals() -> io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP])
}

/// Has signals end the process, after QEMUs have answered the poller that is the current one.
pub fn end_at_signals(mut signals: Signals, poller: Arc<Mutex<Option<Stopper>>>) -> io::Result<()> {
    let end = move || {
        for signal in signals.forever() {
            let stopper = poller.lock().unwrap_or_else(PoisonError::into_inner).clone();
            stopper.iter().for_each(Stopper::stop_and_wait);
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    };
    thread::Builder::new().name("signals".into()).spawn(end).map(drop)
}

/// Signals that no longer end the process at once. They are kept until they are forwarded.
pub struct CaughtSignals {
    signals: Signals,
    /// SIGHUP does not mean that its terminal has been closed.
    is_service: bool,
}

impl CaughtSignals {
    /// Catches them from now on: before the terminal is changed, which somebody has to change back.
    pub fn catch() -> io::Result<Self> {
        // Who has it ignored, as nohup does, wants the program to outlive its terminal.
        let is_service = is_ignored(SIGHUP) || !has_terminal();
        Ok(Self { signals: catch_signals()?, is_service })
    }
}

/// Whether this process was started with a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// Whether its terminal is on stdin or stderr, which may be closed. At the start: after that nothing says so.
fn has_terminal() -> bool {
    // ENOTTY: not the terminal of this session. EOPNOTSUPP: the terminal's processes are in another PID namespace.
    [tcgetpgrp(io::stdin()), tcgetpgrp(io::stderr())].iter().any(|group| matches!(group, Ok(_) | Err(Errno::OPNOTSUPP)))
}
