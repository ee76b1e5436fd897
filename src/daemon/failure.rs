//! Why the program exits with a code other than 0.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use crate::collect::xenstat_error;

/// A failure at run time. Its text is one line.
#[derive(Debug)]
pub enum Failure {
    /// The first poll failed and retrying is of no use, or all polls of `--count` failed.
    Poll(xenstat_error::Error),
    /// A poll took longer than `--poll-timeout`.
    PollTimedOut(Duration),
    /// Standard output cannot be written to.
    Stdout(io::Error),
    /// All polls of `--count` were made, and this server received no datagram of them.
    NothingSent(String),
    /// `--check` found problems, and has printed them.
    Check,
    /// A thread or the signal handlers could not be set up.
    Start(io::Error),
    /// This thread has panicked.
    ThreadDied(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Poll(error) => error.fmt(f),
            Failure::PollTimedOut(timeout) => {
                let cause = "dom0 is overloaded, or what libxenstat reads hangs (xenstored?)";
                write!(f, "a poll takes longer than the --poll-timeout of {timeout:?}: {cause}")
            }
            Failure::Stdout(error) => write!(f, "cannot write to standard output: {error}"),
            Failure::NothingSent(destination) => write!(f, "nothing reached {destination}"),
            Failure::Check => f.write_str("check failed: see the lines marked BAD"),
            Failure::Start(error) => write!(f, "cannot set up threads and signals: {error}"),
            Failure::ThreadDied(thread) => write!(f, "the {thread} thread has died"),
        }
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Failure::Poll(error) => Some(error),
            Failure::Stdout(error) | Failure::Start(error) => Some(error),
            Failure::PollTimedOut(_) | Failure::NothingSent(_) | Failure::Check | Failure::ThreadDied(_) => None,
        }
    }
}

impl Failure {
    /// The exit code. 2 is for usage errors.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::PollTimedOut(_) => 3,
            _ => 1,
        }
    }
}
