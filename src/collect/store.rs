//! The thread that reads xenstore, so that a xenstored that does not answer costs nothing but what is read here.

use std::ffi::CStr;
use std::fmt::Write;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::collect::xenstat::xenstore::{Functions, Xenstore};

/// How long xenstored may be asked for one poll. What has not been read by then is unknown.
const READ_FOR: Duration = Duration::from_secs(1);

/// How long an answer is waited for. Longer, as the last question may take some time.
const WAIT_FOR: Duration = Duration::from_secs(2);

type Question = Box<dyn FnOnce(&mut Connection) + Send>;

/// xenstore, read by a thread of its own.
#[derive(Default)]
pub struct Store {
    thread: Option<Asker>,
}

struct Asker {
    /// Both are there until it is dropped.
    questions: Option<SyncSender<Question>>,
    thread: Option<JoinHandle<()>>,
    /// Disconnected once the question that was given up on has been answered.
    owed: Option<Receiver<()>>,
}

/// A connection to xenstored, which is opened when it is needed.
pub struct Connection {
    functions: Option<Functions>,
    xenstore: Option<Xenstore>,
    /// Whether it is from an earlier question, and has not failed since.
    is_kept: bool,
    until: Instant,
    /// A path and a value, kept so that their memory is used again.
    buffers: (String, Vec<u8>),
}

impl Connection {
    /// Closes the connection after an error, as it may be broken. One that was kept may have ended with an xenstored
    /// that has been started again since: then xenstored is asked on another.
    fn with<T>(&mut self, mut ask: impl FnMut(&mut Xenstore) -> io::Result<T>) -> io::Result<T> {
        loop {
            let mut xenstore = self.xenstore.take().map_or_else(|| Xenstore::open(self.functions.as_ref()), Ok)?;
            match ask(&mut xenstore) {
                Err(_) if std::mem::take(&mut self.is_kept) => {}
                Err(error) => return Err(error),
                Ok(answer) => {
                    self.xenstore = Some(xenstore);
                    return Ok(answer);
                }
            }
        }
    }

    /// A value in the directory of a domain; `None` if there is none.
    pub fn read(&mut self, domid: u32, key: &str) -> io::Result<Option<&[u8]>> {
        if Instant::now() > self.until {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "xenstored is too slow"));
        }
        let (mut path, mut value) = std::mem::take(&mut self.buffers);
        path.clear();
        let _ = write!(path, "/local/domain/{domid}/{key}\0");
        let read = self.with(|xenstore| {
            let path = CStr::from_bytes_with_nul(path.as_bytes()).map_err(io::Error::other)?;
            match xenstore.read(path, &mut value) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                result => result.map(|()| true),
            }
        });
        self.buffers = (path, value);
        Ok(read?.then_some(&self.buffers.1))
    }

    /// What is read of each of these domains, and why there is not more. It may fail for one alone, where xenstored's data
    /// is corrupt.
    pub fn each<T>(
        &mut self,
        domids: impl Iterator<Item = u32>,
        read: fn(&mut Self, u32) -> io::Result<T>,
    ) -> (Vec<(u32, T)>, Option<io::Error>) {
        let (mut found, mut error) = (Vec::new(), None);
        for domid in domids {
            match read(self, domid) {
                Ok(value) => found.push((domid, value)),
                Err(why) => error = Some(why),
            }
        }
        (found, error)
    }

    /// See [`Xenstore::domains_may_have_changed`].
    pub fn domains_may_have_changed(&mut self) -> io::Result<bool> {
        self.with(Xenstore::domains_may_have_changed)
    }
}

impl Store {
    /// Opens the connection again at the next question. One on which an answer is owed is kept, as its thread would be
    /// left behind.
    pub fn reopen(&mut self) {
        if self.thread.as_mut().is_none_or(|asker| !asker.owes()) {
            self.thread = None;
        }
    }

    /// Has the thread ask xenstored. While it waits for an earlier answer it is not asked again.
    pub fn ask<T: Send + 'static>(
        &mut self,
        functions: Option<Functions>,
        question: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> io::Result<T> {
        let silent = || io::Error::new(io::ErrorKind::TimedOut, "xenstored does not answer");
        let asker = match &mut self.thread {
            Some(asker) => asker,
            none => none.insert(Asker::start(functions)?),
        };
        if asker.owes() {
            return Err(silent());
        }
        let (answer, answers) = mpsc::channel();
        let (done, owed) = mpsc::channel();
        let question = move |connection: &mut Connection| {
            connection.until = Instant::now() + READ_FOR;
            connection.is_kept = connection.xenstore.is_some();
            // Nobody waits any more if it comes too late.
            let _ = answer.send(question(connection));
            drop(done);
        };
        // If it has ended the question is dropped, and so is the end that its answer would come from.
        let _ = asker.questions.as_ref().map(|questions| questions.send(Box::new(question)));
        match answers.recv_timeout(WAIT_FOR) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                asker.owed = Some(owed);
                Err(silent())
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.thread = None;
                Err(io::Error::other("the thread that reads xenstore has ended"))
            }
        }
    }
}

impl Asker {
    fn start(functions: Option<Functions>) -> io::Result<Self> {
        let (questions, inbox) = mpsc::sync_channel::<Question>(1);
        let thread = thread::Builder::new().name("xenstore".into()).spawn(move || {
            let (until, buffers) = (Instant::now(), Default::default());
            let mut connection = Connection { functions, xenstore: None, is_kept: false, until, buffers };
            inbox.iter().for_each(|question| question(&mut connection));
        })?;
        Ok(Self { questions: Some(questions), thread: Some(thread), owed: None })
    }

    /// Whether an answer is still owed.
    fn owes(&mut self) -> bool {
        let owes = self.owed.as_ref().is_some_and(|owed| owed.try_recv() == Err(TryRecvError::Empty));
        if !owes {
            self.owed = None;
        }
        owes
    }
}

impl Drop for Asker {
    /// Waits until the connection is closed, unless xenstored does not answer.
    fn drop(&mut self) {
        self.questions = None;
        if let Some(thread) = self.thread.take().filter(|_| !self.owes()) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So that libxenstat is closed when the program ends.
    #[test]
    fn store_is_dropped_while_xenstored_does_not_answer() {
        let mut store = Store::default();
        let (_answer, xenstored) = mpsc::channel::<()>();
        let asked = store.ask(None, move |_| xenstored.recv());
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (done, dropped) = mpsc::channel();
        thread::spawn(move || {
            drop(store);
            done.send(())
        });
        assert_eq!(dropped.recv_timeout(Duration::from_secs(180)), Ok(()));
    }
}
