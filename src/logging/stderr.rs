//! Standard error, for lines that hold nobody up: where its reader does not read they are lost, not waited for.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

/// So many lines wait for the reader.
const LINES: usize = 1024;

/// So many are written again at the end, where they are kept.
const KEPT: usize = 20;

/// How long the end waits for the reader.
const PATIENCE: Duration = Duration::from_millis(200);

enum Message {
    Line(Vec<u8>),
    Keep,
    /// Answered once all before it is written.
    Flush(SyncSender<()>),
}

fn write(line: &[u8]) {
    // A disk that is full, or nobody at the other end: there is nowhere to tell it.
    let _ = io::stderr().write_all(line);
}

/// One end of it; each [`write`](Write::write) is a line.
#[derive(Clone)]
pub struct Stderr {
    lines: SyncSender<Message>,
    lost: u64,
}

impl Stderr {
    /// Starts the thread that writes.
    pub fn start() -> io::Result<Self> {
        let (lines, inbox) = mpsc::sync_channel(LINES);
        thread::Builder::new().name("log".into()).spawn(move || {
            let mut kept: Option<VecDeque<Vec<u8>>> = None;
            for message in inbox {
                match message {
                    Message::Line(line) => {
                        write(&line);
                        if let Some(kept) = &mut kept {
                            kept.push_back(line);
                            kept.drain(..kept.len().saturating_sub(KEPT));
                        }
                    }
                    Message::Keep => kept = Some(VecDeque::new()),
                    Message::Flush(done) => {
                        kept.take().iter().flatten().for_each(|line| write(line));
                        let _ = done.send(());
                    }
                }
            }
        })?;
        Ok(Self { lines, lost: 0 })
    }

    /// Has what is written from now on written again at the end, as it is written to a page that goes away.
    pub fn keep(&self) {
        let _ = self.lines.try_send(Message::Keep);
    }

    /// Waits until all is written, but not long.
    pub fn finish(&self) {
        let (done, is_done) = mpsc::sync_channel(1);
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            let _: Result<(), RecvTimeoutError> = is_done.recv_timeout(PATIENCE);
        }
    }
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lost > 0 {
            let told = format!("{} lines of the log were lost: nobody read them\n", self.lost);
            if self.lines.try_send(Message::Line(told.into_bytes())).is_ok() {
                self.lost = 0;
            }
        }
        self.lost += u64::from(self.lines.try_send(Message::Line(line.to_vec())).is_err());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
