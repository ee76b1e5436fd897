//! The thread that sends to one destination, in its own time: looks it up, connects, and paces what it is handed, so
//! that none that is slow or down holds up the others or the loop.
//!
//! What is not out when the next tick comes is dropped and counted: never are there more than two.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::backoff::Backoff;
use crate::on_drop::OnDrop;
use crate::statsd::batch::Batch;
use crate::statsd::destination::Destination;
use crate::statsd::mailbox::{End, Inbox, News};
use crate::statsd::pacing::{Pace, Timing};
use crate::statsd::resolver::Addresses;
use crate::statsd::socket::{Fate, Socket, Unsent};

/// Time between a failed attempt to connect, or to look up, and the next: at first, and at the most.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How long the peer of a connection may acknowledge nothing, or read nothing: an interval, but so long at least and at
/// the most.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);
const MOST_PATIENCE: Duration = Duration::from_secs(30);

/// How long a reader of a unix socket may keep the sender waiting, whatever is left of the interval.
const SHORTEST_STALL: Duration = Duration::from_millis(100);
const LONGEST_STALL: Duration = Duration::from_secs(10);

/// How long a server that was sent the last of a connection has to close it.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a sender has to tell.
#[derive(Debug)]
pub enum Report {
    /// The destination cannot be looked up, or connected to.
    Unreachable(io::Error),
    /// It can, at this address if it has one.
    Reached(Option<SocketAddr>),
    /// What became of a tick.
    Delivered(Delivery),
    /// The thread is at its end.
    Ended,
}

/// What became of the datagrams of a tick.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Handed to the kernel.
    pub sent: u64,
    /// Known to be lost: never sent, or refused at the other end.
    pub lost: u64,
    /// Ticks of which something is lost.
    pub errors: u64,
    /// Why, the first time. [`ErrorKind::NotConnected`] where there was nowhere to send to.
    pub error: Option<io::Error>,
}

impl Delivery {
    fn lose(&mut self, datagrams: usize, error: io::Error) {
        self.lost += datagrams as u64;
        self.errors = self.errors.max(1);
        self.error.get_or_insert(error);
    }
}

/// The loop's end of the thread.
pub struct Sender(Arc<Inbox>);

impl Sender {
    /// Starts the thread, which tells `report` what happens.
    pub fn start<R>(destination: Destination, timing: Timing, report: R) -> io::Result<Self>
    where
        R: Fn(Report) + Send + 'static,
    {
        let sender = Self(Arc::default());
        let inbox = Arc::clone(&sender.0);
        let work = move || {
            let _ended = OnDrop(|| report(Report::Ended));
            let longest_wait = timing.interval.clamp(RETRY, LONGEST_RETRY);
            let worker = Worker {
                addresses: Addresses::new(&destination, timing.resolve_every, longest_wait),
                destination,
                timing,
                inbox,
                report: &report,
                socket: None,
                open_at: Instant::now(),
                backoff: Backoff::new(RETRY, longest_wait),
                tick: None,
                end: None,
            };
            worker.run();
        };
        thread::Builder::new().name("sender".into()).spawn(work)?;
        Ok(sender)
    }

    /// Has a tick sent, in place of any that is not out yet.
    pub fn send(&self, batch: &Arc<Batch>) {
        self.0.put(|news| {
            if let Some(late) = news.tick.replace(Arc::clone(batch)) {
                news.replaced += late.datagrams();
                news.replaced_ticks += 1;
            }
        });
    }

    /// Has the destination looked up and connected to anew.
    pub fn reopen(&self) {
        self.0.put(|news| news.reopen = true);
    }

    /// Has the thread end.
    pub fn end(&self, end: End) {
        self.0.put(|news| news.end = Some(end));
    }
}

/// The thread.
struct Worker<R: Fn(Report)> {
    destination: Destination,
    timing: Timing,
    inbox: Arc<Inbox>,
    report: R,
    addresses: Addresses,
    socket: Option<Socket>,
    /// Not before this is a connection tried again.
    open_at: Instant,
    backoff: Backoff<Duration>,
    tick: Option<Tick>,
    end: Option<End>,
}

/// A tick on its way.
struct Tick {
    batch: Arc<Batch>,
    /// The datagram that is next, and when.
    next: usize,
    due: Instant,
    /// `None` before the first.
    pace: Option<Pace>,
    /// From here on it tells of the past.
    over: Instant,
    /// Why the socket had to be replaced.
    broken: Option<io::Error>,
    delivery: Delivery,
}

impl Tick {
    fn lose_the_rest(&mut self, error: io::Error) {
        self.delivery.lose(self.batch.datagrams() - self.next, error);
        self.next = self.batch.datagrams();
    }
}

impl<R: Fn(Report)> Worker<R> {
    fn run(mut self) {
        loop {
            let wake = self.work();
            if self.tick.is_none() && self.end.is_some() {
                if self.end == Some(End::Finish) {
                    self.close();
                }
                return;
            }
            let news = self.inbox.wait(wake);
            self.hear(news);
        }
    }

    fn hear(&mut self, news: News) {
        if news.reopen {
            self.close();
            self.open_at = Instant::now();
            self.addresses.look_up_now(self.open_at);
        }
        let now = Instant::now();
        if let Some(found) = news.found {
            self.found(found, now);
        }
        if news.tick.is_some() {
            self.end_tick();
        }
        if news.replaced > 0 {
            let mut delivery = Delivery::default();
            delivery.lose(news.replaced, self.why_lost());
            delivery.errors = news.replaced_ticks;
            self.tell(Report::Delivered(delivery));
        }
        if let Some(batch) = news.tick {
            let (over, delivery) = (now + self.timing.interval, Delivery::default());
            self.tick = Some(Tick { batch, next: 0, due: now, pace: None, over, broken: None, delivery });
            if self.socket.as_mut().is_some_and(Socket::is_stale) {
                self.socket = None;
            }
            // Only a connection is dear to try; others are at every tick.
            if !matches!(self.destination, Destination::Tcp(_)) {
                self.open_at = now;
            }
        }
        if let Some(end) = news.end {
            self.end = Some(end);
            self.open_at = now;
            if self.addresses.are_missing() {
                self.addresses.look_up_now(now);
            }
            if end == End::Now {
                self.end_tick();
            }
        }
    }

    /// Does what is due; returns when there will be more to do, or `None` if it is nothing by itself.
    fn work(&mut self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let inbox = &self.inbox;
            let then = || {
                let inbox = Arc::clone(inbox);
                move |found| inbox.put(|news| news.found = Some(found))
            };
            let look_up = self.addresses.look_up(now, then);
            let Some(tick) = &self.tick else { return look_up };
            let (due, over) = (tick.due, tick.over);
            if now >= over && self.end.is_none() {
                self.end_tick();
                continue;
            }
            if self.socket.is_none() && now >= self.open_at {
                self.open();
            }
            match (&self.socket, self.end) {
                (Some(_), _) if due > now => return Some(earlier(look_up, due)),
                (Some(_), _) => self.send_burst(),
                (None, Some(_)) if !self.addresses.are_looked_up() => self.end_tick(),
                (None, Some(_)) => return None,
                (None, None) => {
                    let next = if self.addresses.are_missing() { over } else { self.open_at.min(over) };
                    return Some(earlier(look_up, next));
                }
            }
        }
    }

    /// Sends as many datagrams as go back to back.
    fn send_burst(&mut self) {
        let patience = self.patience();
        let (Some(tick), Some(socket)) = (&mut self.tick, &mut self.socket) else { return };
        let start = Instant::now();
        let left = tick.over.saturating_duration_since(start);
        let window = self.timing.window().min(left);
        let Pace { burst, gap, .. } = *tick.pace.get_or_insert_with(|| Pace::of(&tick.batch, window));
        let deadline = match socket {
            // To give up a connection is dear.
            Socket::Tcp(_) => start + patience,
            _ => start + left.clamp(SHORTEST_STALL, LONGEST_STALL),
        };
        let end = tick.batch.datagrams().min(tick.next + burst);
        let mut look_up_soon = false;
        while tick.next < end {
            let Err(Unsent { fate, error }) = socket.send(tick.batch.datagram(tick.next), deadline) else {
                tick.delivery.sent += 1;
                tick.next += 1;
                continue;
            };
            match fate {
                Fate::Lost => {
                    tick.delivery.lose(1, error);
                    tick.next += 1;
                    continue;
                }
                Fate::Refused => {
                    tick.delivery.lose(1, error);
                    look_up_soon = true;
                    // It was the one before that was refused; this one goes again, and to another address if there is
                    // one: it may listen on that of the other family only.
                    if !self.addresses.rotate() {
                        continue;
                    }
                    self.socket = None;
                }
                Fate::Stalled => {
                    tick.lose_the_rest(error);
                    if matches!(socket, Socket::Tcp(_)) {
                        self.socket.take().into_iter().for_each(Socket::give_up);
                        self.open_at = Instant::now() + RETRY;
                    }
                }
                Fate::Broken => {
                    if tick.broken.is_some() {
                        tick.lose_the_rest(error);
                    } else {
                        tick.broken = Some(error);
                    }
                    self.socket = None;
                    look_up_soon = true;
                }
            }
            break;
        }
        // A burst that was late, as the machine was busy, is not made up for by all that are due at once.
        tick.due = (tick.due + gap).max(Instant::now() + gap / 2);
        if tick.next == tick.batch.datagrams() {
            if let Some(refusal) = self.socket.as_ref().and_then(Socket::refusal) {
                tick.delivery.lose(1, refusal);
                look_up_soon = true;
            }
            self.end_tick();
        }
        if look_up_soon {
            self.addresses.look_up_soon();
        }
    }

    /// Tells what became of the tick. What of it is not out is lost.
    fn end_tick(&mut self) {
        let Some(mut tick) = self.tick.take() else { return };
        if tick.next < tick.batch.datagrams() {
            let broken = tick.broken.take();
            tick.lose_the_rest(broken.unwrap_or_else(|| self.why_lost()));
        }
        self.tell(Report::Delivered(tick.delivery));
    }

    /// The next tick is there already; or there is nowhere to send it to, which is told where that is found out.
    fn why_lost(&self) -> io::Error {
        match self.socket {
            Some(_) => io::Error::new(ErrorKind::TimedOut, "not out before the next poll"),
            None => ErrorKind::NotConnected.into(),
        }
    }

    /// Opens a socket, if there is an address to open it to.
    fn open(&mut self) {
        if self.addresses.are_missing() {
            // That it is not found is told where it is looked up.
            return;
        }
        match Socket::open(&self.destination, self.addresses.list(), self.patience()) {
            Ok(socket) => {
                let address = socket.peer();
                self.socket = Some(socket);
                self.backoff.reset();
                self.tell(Report::Reached(address));
            }
            Err(error) => {
                self.open_at = Instant::now() + self.backoff.wait();
                self.addresses.look_up_soon();
                // Of the two reasons this report names the one that can be mended.
                self.tick.as_mut().and_then(|tick| tick.broken.take());
                self.tell(Report::Unreachable(error));
            }
        }
    }

    /// Closes the socket, but for a moment waits for its peer to have read all.
    fn close(&mut self) {
        if let Some(mut socket) = self.socket.take() {
            socket.finish(Instant::now() + LAST_WORDS);
        }
    }

    /// What a look-up came to.
    fn found(&mut self, found: io::Result<Vec<SocketAddr>>, now: Instant) {
        let found = self.addresses.found(found, now);
        // The server may have moved: away from where we are connected to, or to where we can connect to.
        let peer = self.socket.as_ref().and_then(Socket::peer);
        match found {
            Ok(true) if peer.is_none_or(|peer| !self.addresses.list().contains(&peer)) => {
                self.close();
                self.open_at = now;
            }
            Ok(_) => {}
            Err(error) => self.tell(Report::Unreachable(error)),
        }
    }

    /// After which the peer of a connection is given up.
    fn patience(&self) -> Duration {
        self.timing.interval.clamp(LEAST_PATIENCE, MOST_PATIENCE)
    }

    fn tell(&self, report: Report) {
        (self.report)(report);
    }
}

fn earlier(one: Option<Instant>, other: Instant) -> Instant {
    one.map_or(other, |one| one.min(other))
}
