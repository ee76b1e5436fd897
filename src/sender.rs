//! The thread that sends to one destination, in its own time: looks it up, connects, and paces what it is handed, so
//! that none that is slow or down holds up the others or the loop.
//!
//! What is not out when the next tick comes is dropped and counted: never are there more than two.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::destination::Destination;
use crate::inbox::{End, Inbox, News};
use crate::pace::{Pace, Timing};
use crate::socket::{Fate, Socket, Unsent};
use crate::statsd::Batch;

/// Time between a failed attempt to connect, or to look up, and the next.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// How long a reader of a unix socket may keep the sender waiting, whatever is left of the interval.
const SHORTEST_STALL: Duration = Duration::from_millis(100);
const LONGEST_STALL: Duration = Duration::from_secs(10);

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
    /// Why, the first time. [`ErrorKind::NotConnected`] where there was nowhere to send to.
    pub error: Option<io::Error>,
}

impl Delivery {
    fn lose(&mut self, datagrams: usize, error: io::Error) {
        self.lost += datagrams as u64;
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
        let inbox = Arc::new(Inbox::default());
        let now = Instant::now();
        let addresses = destination.host().and_then(|host| host.address()).into_iter().collect();
        let worker = Worker {
            destination,
            timing,
            inbox: Arc::clone(&inbox),
            report: LastWord(report),
            socket: None,
            connected: None,
            addresses,
            looking_up: false,
            looked_up: None,
            look_up_at: now,
            open_at: now,
            wait: RETRY,
            tick: None,
            end: None,
        };
        thread::Builder::new().name("sender".into()).spawn(move || worker.run())?;
        Ok(Self(inbox))
    }

    /// Has a tick sent, in place of any that is not out yet.
    pub fn send(&self, batch: &Arc<Batch>) {
        self.0.put(|news| {
            if let Some(late) = news.tick.replace(Arc::clone(batch)) {
                news.replaced += late.datagrams();
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

/// Says that it has ended even when the thread panics.
struct LastWord<R: Fn(Report)>(R);

impl<R: Fn(Report)> Drop for LastWord<R> {
    fn drop(&mut self) {
        (self.0)(Report::Ended);
    }
}

/// The thread.
struct Worker<R: Fn(Report)> {
    destination: Destination,
    timing: Timing,
    inbox: Arc<Inbox>,
    report: LastWord<R>,
    socket: Option<Socket>,
    /// The address it is connected to.
    connected: Option<SocketAddr>,
    /// What the look-up found last, in the order to try them in.
    addresses: Vec<SocketAddr>,
    looking_up: bool,
    /// When the latest look-up ended, and when the next is due.
    looked_up: Option<Instant>,
    look_up_at: Instant,
    /// Not before this is a connection tried again; how long to wait after that.
    open_at: Instant,
    wait: Duration,
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
                return;
            }
            let news = self.inbox.wait(wake);
            self.hear(news);
        }
    }

    fn hear(&mut self, news: News) {
        let now = Instant::now();
        if news.reopen {
            (self.socket, self.open_at, self.look_up_at) = (None, now, now);
        }
        if let Some(found) = news.found {
            self.found(found, now);
        }
        if news.tick.is_some() {
            self.drop_tick(late);
        }
        if news.replaced > 0 {
            let mut delivery = Delivery::default();
            delivery.lose(news.replaced, if self.socket.is_some() { late() } else { nowhere() });
            self.tell(Report::Delivered(delivery));
        }
        if let Some(batch) = news.tick {
            let (over, delivery) = (now + self.timing.interval, Delivery::default());
            self.tick = Some(Tick { batch, next: 0, due: now, pace: None, over, broken: None, delivery });
            if self.socket.as_mut().is_some_and(Socket::is_stale) {
                self.socket = None;
            }
            // All but a connection costs nothing to try.
            if !matches!(self.destination, Destination::Tcp(_)) {
                self.open_at = now;
            }
        }
        if let Some(end) = news.end {
            self.end = Some(end);
            self.open_at = now;
            if self.addresses.is_empty() {
                self.look_up_at = now;
            }
            if end == End::Now {
                self.drop_tick(late);
            }
        }
    }

    /// Does what is due; returns when there will be more to do, or `None` if it is nothing by itself.
    fn work(&mut self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            let look_up = self.look_up(now);
            let Some(tick) = &self.tick else { return look_up };
            let (due, over) = (tick.due, tick.over);
            if now >= over && self.end.is_none() {
                self.drop_tick(late);
                continue;
            }
            if self.socket.is_none() && now >= self.open_at {
                self.open();
            }
            match (&self.socket, self.end) {
                (Some(_), _) if due > now => return Some(earlier(look_up, due)),
                (Some(_), _) => self.send_burst(),
                (None, Some(_)) if !self.looking_up => self.drop_tick(nowhere),
                (None, Some(_)) => return None,
                (None, None) if self.open_at > now && !self.addresses_are_missing() => {
                    return Some(earlier(look_up, self.open_at.min(over)));
                }
                (None, None) => return Some(earlier(look_up, over)),
            }
        }
    }

    /// Sends as many datagrams as go back to back.
    fn send_burst(&mut self) {
        let patience = self.patience();
        let (Some(tick), Some(socket)) = (&mut self.tick, &mut self.socket) else { return };
        let start = Instant::now();
        let left = tick.over.saturating_duration_since(start);
        let window = match socket {
            Socket::Stdout => Duration::ZERO,
            _ => self.timing.window().min(left),
        };
        let Pace { burst, gap } = *tick.pace.get_or_insert_with(|| Pace::new(tick.batch.datagrams(), window));
        let deadline = match socket {
            // To give up on a connection is dear.
            Socket::Tcp(_) => start + patience,
            _ => start + left.clamp(SHORTEST_STALL, LONGEST_STALL),
        };
        let end = tick.batch.datagrams().min(tick.next + burst);
        let mut refused = false;
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
                    refused = true;
                    if self.addresses.len() == 1 {
                        continue;
                    }
                    // It may listen at the other family's address only.
                    self.socket = None;
                    self.addresses.rotate_left(1);
                }
                Fate::Stalled => {
                    tick.lose_the_rest(error);
                    // A line may be cut.
                    if matches!(socket, Socket::Tcp(_)) {
                        self.socket = None;
                        self.open_at = Instant::now() + RETRY;
                    }
                }
                Fate::Broken => {
                    if tick.broken.is_some() || matches!(socket, Socket::Stdout) {
                        tick.lose_the_rest(error);
                    } else {
                        tick.broken = Some(error);
                    }
                    self.socket = None;
                    refused = true;
                }
            }
            break;
        }
        // A burst that was late, as the machine was busy, is not made up for by all that are due at once.
        tick.due = (tick.due + gap).max(Instant::now() + gap / 2);
        if tick.next == tick.batch.datagrams() {
            self.drop_tick(late);
        }
        if refused {
            self.look_up_soon();
        }
    }

    /// Tells what became of the tick. What of it is not out is lost.
    fn drop_tick(&mut self, why: fn() -> io::Error) {
        let Some(mut tick) = self.tick.take() else { return };
        if tick.next < tick.batch.datagrams() {
            let error = tick.broken.take();
            tick.lose_the_rest(error.unwrap_or_else(|| if self.socket.is_some() { why() } else { nowhere() }));
        }
        self.tell(Report::Delivered(tick.delivery));
    }

    /// Opens a socket, if there is an address to open it to.
    fn open(&mut self) {
        if self.addresses_are_missing() {
            // That it is not found is told where it is looked up.
            return;
        }
        match Socket::open(&self.destination, &self.addresses, self.patience()) {
            Ok((socket, address)) => {
                (self.socket, self.connected, self.wait) = (Some(socket), address, RETRY);
                self.tell(Report::Reached(address));
            }
            Err(error) => {
                self.open_at = Instant::now() + self.wait;
                self.wait = (self.wait * 2).min(self.retry());
                self.look_up_soon();
                // What is lost by that is told with it.
                self.tick.as_mut().and_then(|tick| tick.broken.take());
                self.tell(Report::Unreachable(error));
            }
        }
    }

    fn addresses_are_missing(&self) -> bool {
        self.destination.host().is_some() && self.addresses.is_empty()
    }

    /// Begins a look-up if one is due; returns when the next will be.
    fn look_up(&mut self, now: Instant) -> Option<Instant> {
        let host = self.destination.host().filter(|host| host.address().is_none())?;
        if self.looking_up {
            return None;
        }
        if now < self.look_up_at {
            return Some(self.look_up_at);
        }
        let inbox = Arc::clone(&self.inbox);
        let begun = host.look_up(move |found| inbox.put(|news| news.found = Some(found)));
        self.looking_up = true;
        if let Err(error) = begun {
            self.found(Err(error), now);
        }
        None
    }

    /// After an error: the server may have moved.
    fn look_up_soon(&mut self) {
        let soon = self.looked_up.map_or_else(Instant::now, |then| then + self.retry());
        self.look_up_at = self.look_up_at.min(soon);
    }

    /// What a look-up came to. While they fail the old addresses are as good as any.
    fn found(&mut self, found: io::Result<Vec<SocketAddr>>, now: Instant) {
        (self.looking_up, self.looked_up) = (false, Some(now));
        self.look_up_at = now + self.timing.resolve_every;
        let nothing = || io::Error::new(ErrorKind::NotFound, "the name has no address");
        match found.and_then(|addresses| if addresses.is_empty() { Err(nothing()) } else { Ok(addresses) }) {
            Ok(addresses) => {
                if self.connected.is_some_and(|address| !addresses.contains(&address)) {
                    (self.socket, self.connected, self.open_at) = (None, None, now);
                }
                self.addresses = addresses;
            }
            Err(error) => {
                self.look_up_soon();
                if self.addresses.is_empty() {
                    self.tell(Report::Unreachable(error));
                }
            }
        }
    }

    /// How long after one attempt the next is made, if every tick needs one.
    fn retry(&self) -> Duration {
        self.timing.interval.clamp(RETRY, LONGEST_RETRY)
    }

    /// How long the peer of a connection may acknowledge nothing, or read nothing, until it is given up.
    fn patience(&self) -> Duration {
        self.timing.interval.clamp(Duration::from_secs(5), LONGEST_RETRY)
    }

    fn tell(&self, report: Report) {
        (self.report.0)(report);
    }
}

fn earlier(one: Option<Instant>, other: Instant) -> Instant {
    one.map_or(other, |one| one.min(other))
}

/// The next tick is there already.
fn late() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "not out before the next poll")
}

fn nowhere() -> io::Error {
    ErrorKind::NotConnected.into()
}
