//! A thread for each server, so that a slow one delays neither the others nor the daemon: it does what the state
//! machine in `delivery` asks for.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::on_drop::OnDrop;
use crate::statsd::batch::Batch;
use crate::statsd::datagrams::MaxDatagram;
use crate::statsd::delivery::End;
use crate::statsd::delivery::report::{Outcome, Report};
use crate::statsd::delivery::{Action, Close, Delivery, Event, Opened};
use crate::statsd::destination::Destination;
use crate::statsd::mailbox::Mailbox;
use crate::statsd::pacing::Timing;
use crate::statsd::resolver;
use crate::statsd::socket::{self, Limits, Socket};

/// After so many batches without a problem, the daemon is not woken up to hear of the next: it asks at its next poll.
const WELL: u32 = 5;

/// How long a server may take to read the last of a connection.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// The daemon's end of the thread.
pub struct Sender(Arc<Mailbox>);

impl Sender {
    /// Starts the thread, which calls `report`.
    pub fn start<R>(destination: Destination, timing: Timing, max_datagram: MaxDatagram, report: R) -> io::Result<Self>
    where
        R: Fn(Report) + Send + 'static,
    {
        let mailbox = Arc::<Mailbox>::default();
        let sender = Self(Arc::clone(&mailbox));
        let run = move || {
            let _ended = OnDrop(|| report(Report::Ended));
            let limits = Limits { ack_timeout: timing.ack_timeout(), max_datagram };
            run(&destination, timing, limits, &mailbox, &report);
            mailbox.delivered().into_iter().for_each(|outcome| report(Report::Delivered(outcome)));
        };
        thread::Builder::new().name("sender".into()).spawn(run)?;
        Ok(sender)
    }

    /// Has a batch sent, in place of any that is unsent.
    pub fn send(&self, batch: &Arc<Batch>) {
        self.0.send(batch);
    }

    /// What became of the latest batches, if that was not reported.
    pub fn delivered(&self) -> Option<Outcome> {
        self.0.delivered()
    }

    /// Makes the thread resolve and connect to the destination again.
    pub fn reopen(&self) {
        self.0.reopen();
    }

    /// Makes the thread end.
    pub fn end(&self, end: End) {
        self.0.end(end);
    }
}

fn run(destination: &Destination, timing: Timing, limits: Limits, mailbox: &Arc<Mailbox>, report: &impl Fn(Report)) {
    const IS_OPEN: &str = "it asks this of an open socket only";
    let mut socket: Option<Box<dyn Socket>> = None;
    let mut probe: Option<Box<dyn Socket>> = None;
    let mut now = Instant::now();
    let mut delivery = Delivery::new(destination, timing, now);
    let mut well = 0;
    loop {
        let answer = match delivery.next(now) {
            Action::Resolve => resolve(destination, mailbox),
            Action::Open => {
                let opened = socket::open(destination, delivery.addresses(), limits);
                let opened = opened.map(|opened| {
                    let socket = socket.insert(opened);
                    Opened { peer: socket.peer(), max_datagram: socket.max_datagram() }
                });
                Some(Event::Opened(opened))
            }
            // Actions that take no time do not need another look at the clock.
            Action::CheckPeer => {
                delivery.on(Event::Checked(socket.as_mut().expect(IS_OPEN).peer_state()), now);
                continue;
            }
            Action::Probe(address) => {
                probe = socket::open(destination, &[address], limits).ok();
                let sent = probe.as_mut().map(|probe| probe.send(b"", Instant::now()));
                probe = probe.filter(|_| matches!(sent, Some(Ok(()))));
                None
            }
            Action::CheckProbe => Some(Event::Probed(probe.take().is_some_and(|probe| probe.refusal().is_none()))),
            Action::Send(n, deadline) => {
                Some(Event::Sent(socket.as_mut().expect(IS_OPEN).send(delivery.datagram(n), deadline)))
            }
            Action::CheckRefusal => {
                delivery.on(Event::Refusal(socket.as_ref().expect(IS_OPEN).refusal()), now);
                continue;
            }
            Action::Close(how) => {
                let mut socket = socket.take().expect(IS_OPEN);
                match how {
                    Close::Now => None,
                    Close::Reset => {
                        socket.reset();
                        None
                    }
                    Close::Finish => Some(Event::Finished(socket.finish(Instant::now() + FINISH_TIMEOUT))),
                }
            }
            Action::Report(what) => {
                let is_well = matches!(&what, Report::Delivered(outcome) if outcome.reason.is_none());
                well = if is_well { well + 1 } else { 0 };
                match what {
                    Report::Delivered(outcome) if well > WELL => mailbox.keep(outcome),
                    what => report(what),
                }
                continue;
            }
            Action::Wait(until) => {
                let pending = mailbox.wait(until);
                now = Instant::now();
                pending.events().for_each(|event| delivery.on(event, now));
                continue;
            }
            Action::Exit => return,
        };
        now = Instant::now();
        if let Some(event) = answer {
            delivery.on(event, now);
        }
    }
}

/// Begins a look-up. Its result comes by mail, or at once if it cannot begin.
fn resolve(destination: &Destination, mailbox: &Arc<Mailbox>) -> Option<Event> {
    let host = destination.host()?;
    let mailbox = Arc::clone(mailbox);
    let begun = resolver::resolve(host, move |result| mailbox.resolved(result));
    begun.err().map(|error| Event::Resolved(Err(error)))
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::mpsc;

    use super::*;
    use crate::statsd::batch::BatchWriter;

    #[test]
    fn sender_reports_the_first_good_batches_and_keeps_the_rest() {
        const HOUR: Duration = Duration::from_secs(3600);
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let destination = format!("udp://{}", server.local_addr().unwrap()).parse().unwrap();
        let (reports, reported) = mpsc::channel();
        let timing = Timing { interval: HOUR, spread: 0.5, resolve_every: HOUR };
        let report = move |what| drop(reports.send(what));
        let sender = Sender::start(destination, timing, MaxDatagram::Auto, report).unwrap();
        let mut writer = BatchWriter::new(600);
        for n in 0..WELL + 10 {
            writer.gauge("a", n.into());
            sender.send(&writer.take());
            server.recv(&mut [0; 600]).unwrap();
        }
        sender.end(End::Finish);
        let delivered = |what| if let Report::Delivered(outcome) = what { Some(outcome.sent) } else { None };
        let delivered: Vec<u64> = reported.iter().filter_map(delivered).collect();
        assert_eq!(delivered, [vec![1; WELL as usize], vec![10]].concat());
    }
}
