//! Why a guest's disks are unavailable where its QEMU serves them.

use std::error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::time::Duration;

use crate::collect::disks::qmp_replies::{Disk, ReplyError};
use crate::model::snapshot::Moment;

/// Maximum bytes of one conversation. A disk takes about three thousand, and each of its backing files as many.
pub const MAX_BYTES: usize = 1 << 20;

/// Maximum bytes of all open conversations together. Beyond that, the longest is closed.
pub const MAX_TOTAL_BYTES: usize = 32 << 20;

/// A guest's disks, and the time in which QEMU read their counters: between question and answer.
pub type Answer = Result<(Vec<Disk>, Moment), Error>;

/// Why a guest's disks are unavailable; ends a sentence that begins with its QEMU.
#[derive(Debug)]
pub enum Error {
    /// It did not even greet in time.
    Silent(Duration),
    /// It did not answer everything in time.
    Late(Duration),
    /// There was no time for it beside the others, or too few file descriptors.
    NotAsked(Option<io::Error>),
    /// It closed the connection.
    Closed,
    /// It sent more than [`MAX_BYTES`], or it sent most when all together exceeded [`MAX_TOTAL_BYTES`].
    TooMuch,
    /// Its reply cannot be used.
    Reply(ReplyError),
    /// The socket cannot be used.
    Io(io::Error),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Error::Closed,
            _ => Error::Io(error),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Silent(limit) => write!(f, "says nothing within {limit:?}: it hangs, or is talking to another"),
            Error::Late(limit) => write!(f, "does not answer within {limit:?}"),
            Error::NotAsked(None) => f.write_str("was not asked: others' QEMUs took all the time"),
            Error::NotAsked(Some(error)) => write!(f, "was not asked: {error}"),
            Error::Closed => f.write_str("closes the connection"),
            Error::TooMuch => write!(f, "answers with more than {MAX_BYTES} bytes"),
            Error::Reply(error) => error.fmt(f),
            Error::Io(error) => write!(f, "cannot be asked: {error}"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::NotAsked(Some(source)) | Error::Io(source) => Some(source),
            Error::Reply(source) => Some(source),
            _ => None,
        }
    }
}
