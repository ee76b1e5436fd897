//! Why the program ends otherwise than it was asked to, in one line.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::collect::xenstat::Error;

/// What the program ends with.
#[derive(Debug)]
pub enum Failure {
    /// libxenstat cannot be opened at start, or gave nothing at any of the polls asked for.
    Xenstat(Error),
    /// A poll took longer than `--poll-timeout`.
    Stuck(Duration),
    /// What was to be printed cannot be.
    Stdout(io::Error),
    /// The polls asked for are made, and not a gauge of them could be sent.
    NothingSent(String),
    /// `--check` has found something wrong, and told it.
    Check,
    /// A thread or the signals could not be set up.
    Start(io::Error),
    /// A thread has panicked: what it did.
    Gone(&'static str),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Xenstat(error) => error.fmt(f),
            Failure::Stuck(limit) => {
                write!(f, "a poll takes longer than the --poll-timeout of {limit:?}: is xenstored running?")
            }
            Failure::Stdout(error) => write!(f, "cannot write to standard output: {error}"),
            Failure::NothingSent(destination) => write!(f, "nothing reached {destination}"),
            Failure::Check => f.write_str("the daemon would not do its whole job here, see BAD above"),
            Failure::Start(error) => write!(f, "cannot set up threads and signals: {error}"),
            Failure::Gone(what) => write!(f, "the thread that {what} is gone"),
        }
    }
}

impl Failure {
    /// The exit status; 2 is a bad command line's.
    pub fn status(&self) -> u8 {
        match self {
            Failure::Stuck(_) => 3,
            _ => 1,
        }
    }
}
