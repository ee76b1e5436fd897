//! Disks that a guest's QEMU serves, asked from QEMU itself over QMP, all guests at once.
//!
//! libxenstat asks too, one guest after the other, and gives each answer ten milliseconds: a later one it takes for the
//! next, and shows no disks at all (fact 20 in docs/libxenstat.md). Here an answer is over at its newline and
//! belongs to what was asked by its id; what is in it `drives` reads. The guest may have taken over its QEMU: what comes from there is believed
//! for that guest alone, and up to a certain size.

use std::collections::{BTreeMap, VecDeque};
use std::error;
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::collect::disks::qmp_replies::{Disk, Drives, MOST_DISKS};
use crate::model::snapshot::Moment;

/// What a QEMU told, and how long that took: where in that time it counted nobody knows.
pub type Answer = Result<(Vec<Disk>, Moment), Error>;

/// Why a guest's disks cannot be told; ends a sentence that begins with its QEMU.
#[derive(Debug)]
pub enum Error {
    /// It did not even greet in time.
    Silent(Duration),
    /// It did not say all in time.
    Late(Duration),
    /// Its turn did not come, for the others or for want of files to open.
    NotAsked(Option<io::Error>),
    /// It closed the connection before.
    Closed,
    /// What it said is no QMP.
    Garbage,
    /// More than [`MOST`] and its likes.
    TooMuch,
    /// It refused; in its own words.
    Refused(String),
    /// The socket.
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

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::NotAsked(Some(source)) | Error::Io(source) => Some(source),
            _ => None,
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
            Error::Garbage => f.write_str("answers with what is no QMP"),
            Error::TooMuch => write!(f, "answers with more than {MOST} bytes or {MOST_DISKS} disks"),
            Error::Refused(words) => write!(f, "refuses: {words:?}"),
            Error::Io(error) => write!(f, "cannot be asked: {error}"),
        }
    }
}

/// Asked in one breath: QEMU takes one after the other, so that a guest costs one round trip. Its greeting comes
/// first, whatever was sent before.
const QUESTIONS: &[u8] = b"{\"execute\":\"qmp_capabilities\",\"id\":\"qmp_capabilities\"}\n\
    {\"execute\":\"query-block\",\"id\":\"query-block\"}\n\
    {\"execute\":\"qom-list\",\"arguments\":{\"path\":\"/machine/unattached\"},\"id\":\"qom-list\"}\n\
    {\"execute\":\"query-blockstats\",\"id\":\"query-blockstats\"}\n";

/// Bytes from one QEMU in one poll: a disk takes about three thousand, and a backing file of it as many.
const MOST: usize = 1 << 20;

/// Bytes that are kept of all QEMUs who have not said everything. Who has said the most has to go first.
const MOST_IN_ALL: usize = 32 << 20;

/// Bytes that are read at a time, so that who says much does not hold up who says little.
const SHARE: usize = 32 << 10;

/// Guests that are asked at the same time, for the sake of the limit of open files.
const AT_ONCE: usize = 256;

/// A QEMU whose queue of connections is full is tried again after so long, and then after longer and longer.
const AGAIN: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(32)];

/// Asks the QEMUs of these guests, all of which have until `limit` is over; those first that are first here.
pub fn ask(guests: &[(u32, &Path)], limit: Duration) -> BTreeMap<u32, Answer> {
    let deadline = Instant::now() + limit;
    let mut answers = BTreeMap::new();
    let mut waiting: VecDeque<(u32, &Path)> = guests.iter().copied().collect();
    let mut turned_away = Vec::new();
    let (mut pause, mut again) = (AGAIN[0], Instant::now() + AGAIN[0]);
    let mut talks: Vec<Talk> = Vec::new();
    loop {
        let now = Instant::now();
        let left = deadline.saturating_duration_since(now);
        if now >= again && !left.is_zero() {
            waiting.extend(turned_away.drain(..).map(|(domid, socket, _)| (domid, socket)));
            pause = (pause * 2).min(AGAIN[1]);
            again = now + pause;
        }
        while talks.len() < AT_ONCE && !left.is_zero() {
            let Some((domid, socket)) = waiting.pop_front() else { break };
            match Talk::begin(domid, socket) {
                Ok(talk) => talks.push(talk),
                Err(error) if may_come_later(&error) => turned_away.push((domid, socket, error)),
                Err(error) => drop(answers.insert(domid, Err(error.into()))),
            }
        }
        if talks.is_empty() && turned_away.is_empty() {
            break;
        }
        // Who says little is heard first; and at the end once more, as far as it has come.
        talks.sort_by_key(|talk| talk.heard);
        let patience = if turned_away.is_empty() { left } else { left.min(again.saturating_duration_since(now)) };
        let ready = wait(&talks, patience);
        for (talk, is_ready) in talks.iter_mut().zip(ready) {
            if is_ready && (talk.heard < SHARE || Instant::now() < deadline) {
                answers.extend(talk.listen().map(|answer| (talk.domid, answer)));
            }
        }
        talks.retain(|talk| !answers.contains_key(&talk.domid));
        while talks.iter().map(|talk| talk.heard).sum::<usize>() > MOST_IN_ALL {
            answers.extend(talks.pop().map(|talk| (talk.domid, Err(Error::TooMuch))));
        }
        if left.is_zero() {
            break;
        }
    }
    let late = |talk: &Talk| if talk.heard > 0 { Error::Late(limit) } else { Error::Silent(limit) };
    let unheard = talks.iter().map(|talk| (talk.domid, Err(late(talk))));
    let away = turned_away.into_iter().map(|(domid, _, error)| match error.kind() {
        ErrorKind::WouldBlock => (domid, Err(Error::Silent(limit))),
        _ => (domid, Err(Error::NotAsked(Some(error)))),
    });
    let not_asked = waiting.into_iter().map(|(domid, _)| (domid, Err(Error::NotAsked(None))));
    answers.extend(unheard.chain(away).chain(not_asked));
    answers
}

/// Its queue is full, or there are too many open files for now.
fn may_come_later(error: &io::Error) -> bool {
    let full = [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    full.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Which of them have said something.
fn wait(talks: &[Talk], patience: Duration) -> Vec<bool> {
    let mut fds: Vec<PollFd> = talks.iter().map(|talk| PollFd::new(&talk.stream, PollFlags::IN)).collect();
    let patience = Timespec { tv_sec: patience.as_secs() as _, tv_nsec: patience.subsec_nanos().into() };
    match rustix::event::poll(&mut fds, Some(&patience)) {
        Ok(_) => fds.iter().map(|fd| !fd.revents().is_empty()).collect(),
        // A signal; or no memory, and then all are tried.
        Err(error) => vec![error != Errno::INTR; talks.len()],
    }
}

/// A conversation with one QEMU.
struct Talk {
    domid: u32,
    stream: UnixStream,
    begun: Instant,
    /// What has come and is not a whole line yet.
    inbox: Vec<u8>,
    /// How much has come in all.
    heard: usize,
    drives: Drives,
}

impl Talk {
    /// The error may be one that passes, see [`may_come_later`].
    fn begin(domid: u32, socket: &Path) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
        let (begun, mut stream) = (Instant::now(), UnixStream::from(fd));
        // So little always fits.
        stream.write_all(QUESTIONS)?;
        Ok(Self { domid, stream, begun, inbox: Vec::new(), heard: 0, drives: Drives::default() })
    }

    /// Reads a share of what is there; `None` while more has to come.
    fn listen(&mut self) -> Option<Answer> {
        let mut chunk = [0; SHARE];
        let read = match self.stream.read(&mut chunk) {
            Ok(0) => return Some(Err(Error::Closed)),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return None,
            Err(error) => return Some(Err(error.into())),
        };
        self.heard += read;
        if self.heard > MOST {
            return Some(Err(Error::TooMuch));
        }
        let mut rest = &chunk[..read];
        while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
            self.inbox.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.inbox);
            match self.drives.hear(&line) {
                Ok(None) => {}
                Ok(Some(disks)) => return Some(Ok((disks, Moment { at: self.begun, took: self.begun.elapsed() }))),
                Err(error) => return Some(Err(error)),
            }
        }
        self.inbox.extend_from_slice(rest);
        None
    }
}
