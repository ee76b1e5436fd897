//! What wakes the loop besides its deadlines: answers of the other threads, and signals.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::collect::poller::Polled;
use crate::daemon::alternate_screen;
use crate::statsd::delivery::report::Report;

/// So many events may wait for the loop; a thread that has one more waits, too.
const EVENTS: usize = 64;

/// How long a signal to end waits for the loop, which may be stuck in a write that nobody reads.
const ENDING: Duration = Duration::from_millis(500);

/// What the loop is woken by.
#[allow(clippy::large_enum_variant, reason = "one a poll, in no new memory")]
pub enum Event {
    /// A poll is over; `None`: the poller is gone.
    Polled(Option<Polled>),
    /// From the sender of this number.
    Server(usize, Report),
    /// SIGTERM, SIGINT or SIGHUP.
    Signal(i32),
}

/// Those that have not been heard yet.
pub struct Events {
    inbox: Receiver<Event>,
    entrance: SyncSender<Event>,
}

impl Events {
    /// Begins with those that are signals.
    pub fn listen() -> io::Result<Self> {
        let (entrance, inbox) = mpsc::sync_channel(EVENTS);
        forward_signals(entrance.clone())?;
        Ok(Self { inbox, entrance })
    }

    /// For who has more of them.
    pub fn entrance(&self) -> SyncSender<Event> {
        self.entrance.clone()
    }

    /// The next, or `None` when the deadline comes first.
    pub fn next(&self, deadline: Instant) -> Option<Event> {
        match self.inbox.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => unreachable!("it has an entrance itself"),
        }
    }
}

/// Hands signals on. One that asks for the end gets it even if the loop cannot hear.
fn forward_signals(events: SyncSender<Event>) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let forward = move || {
        for signal in signals.forever() {
            // Not waiting: where the loop is stuck, the end must not be.
            let _ = events.try_send(Event::Signal(signal));
            if signal != SIGHUP {
                thread::sleep(ENDING);
                alternate_screen::give_back_the_keyboard();
                signal_hook::low_level::exit(0);
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(forward).map(drop)
}
