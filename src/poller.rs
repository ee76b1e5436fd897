//! The thread that owns libxenstat's handle and does nothing but poll, so that a call that never returns
//! stops nothing else.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::snapshot::Snapshot;
use crate::xenstat::{Error, Xenstat};

/// libxenstat puts arrays of half a megabyte on the stack.
const STACK: usize = 8 << 20;

/// What the thread is asked to do.
#[derive(Debug)]
pub enum Request {
    /// Read a snapshot, opening the library first where it is not open.
    Poll,
    /// Close handle and library; the next poll opens both.
    Close,
}

/// What the thread answers to [`Request::Poll`].
#[derive(Debug)]
pub struct Polled {
    /// When `xenstat_get_node` was called. It reads the domains first, so this is their CPU time's moment.
    pub at: Instant,
    /// How long opening and reading took.
    pub took: Duration,
    /// The reading.
    pub result: Result<Snapshot, Error>,
    /// File and reason, when the library was opened for this poll.
    pub opened: Option<(PathBuf, &'static str)>,
}

/// Starts the thread; it ends, closing the handle, when the sender is dropped. `answer` gets every
/// [`Polled`], and `None` when the thread ends, in whatever way.
pub fn start<F>(libxenstat: Option<PathBuf>, answer: F) -> io::Result<Sender<Request>>
where
    F: Fn(Option<Polled>) + Send + 'static,
{
    let (requests, inbox) = mpsc::channel();
    thread::Builder::new().name("poller".into()).stack_size(STACK).spawn(move || {
        let answer = LastWord(answer);
        serve(libxenstat, &inbox, &answer.0);
    })?;
    Ok(requests)
}

/// Says `None` even when the thread panics.
struct LastWord<F: Fn(Option<Polled>)>(F);

impl<F: Fn(Option<Polled>)> Drop for LastWord<F> {
    fn drop(&mut self) {
        (self.0)(None);
    }
}

fn serve(libxenstat: Option<PathBuf>, requests: &Receiver<Request>, answer: &impl Fn(Option<Polled>)) {
    let mut open: Option<Xenstat> = None;
    for request in requests {
        match request {
            Request::Close => open = None,
            Request::Poll => {
                let start = Instant::now();
                let mut opened = None;
                let xenstat = match open.take() {
                    Some(xenstat) => Ok(xenstat),
                    None => Xenstat::open(libxenstat.as_deref())
                        .inspect(|xenstat| opened = Some((xenstat.library().to_owned(), xenstat.why()))),
                };
                let at = Instant::now();
                let result = xenstat.and_then(|mut xenstat| {
                    let snapshot = xenstat.poll()?;
                    // Only a handle that has answered is used again (fact 10).
                    open = Some(xenstat);
                    Ok(snapshot)
                });
                answer(Some(Polled { at, took: start.elapsed(), result, opened }));
            }
        }
    }
}
