//! Lists directories with few system calls, as this is done at every poll.

use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::path::Arg;

/// Opens a directory for `Dir` or `RawDir`, which list `.` and `..`, too. `std::fs::read_dir` makes one system call
/// more.
pub fn open(path: impl Arg) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}
