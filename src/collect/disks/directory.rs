//! Lists a directory with few system calls, as this is done at every poll.

use std::mem::MaybeUninit;

use rustix::fs::{Mode, OFlags, RawDir, RawDirEntry};
use rustix::path::Arg;

/// Whether a directory has an entry that matches, with its name. Allocates nothing. `.` and `..` are looked at, too.
pub fn has(path: impl Arg, mut matches: impl FnMut(&str, &RawDirEntry) -> bool) -> rustix::io::Result<bool> {
    let directory = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [MaybeUninit::uninit(); 8 << 10];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if entry.file_name().to_str().is_ok_and(|name| matches(name, &entry)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The entries whose name `parse` takes: what it makes of it, the name, and the inode.
pub fn list<T>(path: impl Arg, parse: impl Fn(&str) -> Option<T>) -> rustix::io::Result<Vec<(T, String, u64)>> {
    let mut list = Vec::new();
    has(path, |name, entry| {
        list.extend(parse(name).map(|parsed| (parsed, name.to_owned(), entry.ino())));
        false
    })?;
    Ok(list)
}
