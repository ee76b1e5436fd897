//! Standard error, for lines that hold nobody up: where its reader does not read they are lost, not waited for.

use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

/// So many lines wait for the reader.
const LINES: usize = 1024;

/// How long the end waits for the reader.
const PATIENCE: Duration = Duration::from_millis(200);

enum Message {
    Line(Vec<u8>),
    /// Answered once all before it is written.
    Flush(SyncSender<()>),
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
            for message in inbox {
                match message {
                    // A disk that is full, or nobody at the other end: there is nowhere to tell it.
                    Message::Line(line) => drop(io::stderr().write_all(&line)),
                    Message::Flush(done) => drop(done.send(())),
                }
            }
        })?;
        Ok(Self { lines, lost: 0 })
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
