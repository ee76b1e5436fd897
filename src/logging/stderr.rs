//! Standard error that blocks nobody: lines are dropped while it is not read.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines that wait to be written, at most.
const MAX_WAITING: usize = 1024;

/// Lines that are held until the end, at most.
const MAX_HELD: usize = 20;

/// How long is waited until the log is written.
const WRITE_TIMEOUT: Duration = Duration::from_millis(200);

enum Message {
    Line(Vec<u8>),
    Hold,
    /// Answered when everything before it is written.
    Flush(SyncSender<()>),
    /// The same, after the lines that were held.
    Finish(SyncSender<()>),
}

/// The latest line that was held and not taken yet.
static LATEST: Mutex<Option<String>> = Mutex::new(None);

/// Is called when there is a line to take.
static ON_LINE: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// Calls `on_line` when there is a line to [take](take_latest) and was none before.
pub fn follow(on_line: impl Fn() + Send + Sync + 'static) {
    let _ = ON_LINE.set(Box::new(on_line));
}

/// The latest line that was held, if it is new.
pub fn take_latest() -> Option<String> {
    LATEST.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn write(line: &[u8]) {
    // The disk is full, or nobody reads: there is nowhere to report it.
    let _ = io::stderr().write_all(line);
}

/// The queue of the thread that writes, if there is one.
static MESSAGES: OnceLock<SyncSender<Message>> = OnceLock::new();

/// Waits until every line so far is written, but not long.
pub fn flush() {
    MESSAGES.get().into_iter().for_each(|messages| wait(messages, Message::Flush));
}

/// Waits until everything is written, also what was held, but not long.
pub fn finish() {
    MESSAGES.get().into_iter().for_each(|messages| wait(messages, Message::Finish));
}

fn wait(messages: &SyncSender<Message>, message: fn(SyncSender<()>) -> Message) {
    let (done, is_done) = mpsc::sync_channel(1);
    if messages.try_send(message(done)).is_ok() {
        let _: Result<(), RecvTimeoutError> = is_done.recv_timeout(WRITE_TIMEOUT);
    }
}

/// A handle of it. Each [`write`](Write::write) is a line.
#[derive(Clone)]
pub struct Stderr {
    messages: SyncSender<Message>,
    dropped: u64,
}

impl Stderr {
    /// Starts the thread that writes.
    pub fn start() -> io::Result<Self> {
        let (messages, inbox) = mpsc::sync_channel(MAX_WAITING);
        thread::Builder::new().name("log".into()).spawn(move || {
            let mut held: Option<LastLines> = None;
            for message in inbox {
                match message {
                    Message::Line(line) => match &mut held {
                        Some(held) => held.push(line),
                        None => write(&line),
                    },
                    Message::Hold => held = Some(LastLines::default()),
                    Message::Flush(done) => drop(done.send(())),
                    Message::Finish(done) => {
                        held.take().iter().flat_map(|held| &held.0).for_each(|line| write(line));
                        let _ = done.send(());
                    }
                }
            }
        })?;
        let _ = MESSAGES.set(messages.clone());
        Ok(Self { messages, dropped: 0 })
    }

    /// Holds the last lines from now on until the end, when the alternate screen is closed. See [`take_latest`].
    pub fn hold(&self) {
        let _ = self.messages.try_send(Message::Hold);
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.dropped > 0 {
            let report = format!("{} log lines dropped: standard error was not read\n", self.dropped);
            if self.messages.try_send(Message::Line(report.into_bytes())).is_ok() {
                self.dropped = 0;
            }
        }
        self.dropped += u64::from(self.messages.try_send(Message::Line(line.to_vec())).is_err());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The last [`MAX_HELD`] lines.
#[derive(Default)]
struct LastLines(VecDeque<Vec<u8>>);

impl LastLines {
    fn push(&mut self, line: Vec<u8>) {
        let latest = String::from_utf8_lossy(&line).trim_end().to_owned();
        self.0.push_back(line);
        if self.0.len() > MAX_HELD {
            self.0.pop_front();
        }
        let before = LATEST.lock().unwrap_or_else(PoisonError::into_inner).replace(latest);
        ON_LINE.get().filter(|_| before.is_none()).into_iter().for_each(|on_line| on_line());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stderr_holds_the_last_twenty_lines() {
        let mut last = LastLines::default();
        for n in 0..50 {
            last.push(format!("{n}").into_bytes());
            assert_eq!(last.0.len(), (n + 1).min(20));
        }
        assert_eq!((&last.0[0][..], &last.0[19][..]), (&b"30"[..], &b"49"[..]));
        assert_eq!((take_latest().as_deref(), take_latest()), (Some("49"), None));
    }
}
