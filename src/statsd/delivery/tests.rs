//! Tables of events with their times, and of the actions that follow. `a` is the address 10.1.0.8:9, `b` is 10.1.0.9:9.

use std::io::ErrorKind;

use super::*;
use crate::statsd::batch::BatchWriter;

const A: &str = "10.1.0.8:9";
const B: &str = "10.1.0.9:9";

/// What happens at some time; at least, that time passes.
enum Step {
    Time,
    /// A batch of so many datagrams.
    Batch(usize),
    /// The results of the next attempts to connect; later ones succeed.
    Opens(&'static [Option<ErrorKind>]),
    /// The results of sending the next datagrams; later ones are sent.
    Sends(Vec<Result<(), SendError>>),
    /// The peer is found so when it is checked next.
    Peer(PeerState),
    /// The last datagram is refused.
    Refused(SendError),
    /// The empty datagram to the refused address was refused too.
    ProbeRefused,
    /// The server has not read everything at the end.
    Unread(ErrorKind),
    /// The path takes datagrams of so many bytes.
    Path(usize),
    /// The name has these addresses.
    Resolved(&'static [&'static str]),
    Unresolved,
    Event(Event),
}

/// The delivery to a server that does as the steps say.
struct Simulation {
    delivery: Delivery,
    start: Instant,
    opens: VecDeque<Option<ErrorKind>>,
    sends: VecDeque<Result<(), SendError>>,
    peer: Option<PeerState>,
    refusal: Option<SendError>,
    probe_refused: bool,
    unread: Option<ErrorKind>,
    max_datagram: Option<usize>,
}

impl Simulation {
    /// With a poll every four seconds, which are spread over half of it, and a look-up each minute.
    fn new(url: &str) -> Self {
        let timing = Timing { interval: Duration::from_secs(4), spread: 0.5, resolve_every: Duration::from_secs(60) };
        let start = Instant::now();
        let delivery = Delivery::new(&url.parse().unwrap(), timing, start);
        let (opens, sends) = (VecDeque::new(), VecDeque::new());
        let (peer, refusal, probe_refused, unread, max_datagram) = (None, None, false, None, None);
        Self { delivery, start, opens, sends, peer, refusal, probe_refused, unread, max_datagram }
    }

    /// What is done at this time, in milliseconds, until there is something to wait for.
    fn step(&mut self, time: u64, step: Step) -> String {
        let now = self.start + Duration::from_millis(time);
        let event = match step {
            Step::Time => None,
            Step::Batch(datagrams) => Some(Event::Batch(batch(datagrams))),
            Step::Opens(results) => {
                self.opens.extend(results);
                None
            }
            Step::Sends(results) => {
                self.sends.extend(results);
                None
            }
            Step::Peer(state) => {
                self.peer = Some(state);
                None
            }
            Step::Refused(error) => {
                self.refusal = Some(error);
                None
            }
            Step::ProbeRefused => {
                self.probe_refused = true;
                None
            }
            Step::Unread(error) => {
                self.unread = Some(error);
                None
            }
            Step::Path(bytes) => {
                self.max_datagram = Some(bytes);
                None
            }
            Step::Resolved(addresses) => {
                Some(Event::Resolved(Ok(addresses.iter().map(|address| address.parse().unwrap()).collect())))
            }
            Step::Unresolved => Some(Event::Resolved(Err(ErrorKind::TimedOut.into()))),
            Step::Event(event) => Some(event),
        };
        event.into_iter().for_each(|event| self.delivery.on(event, now));
        let mut done: Vec<String> = Vec::new();
        loop {
            let action = self.delivery.next(now);
            done.push(self.describe(&action, now));
            let answer = match action {
                Action::Wait(_) | Action::Exit => break,
                Action::Open => Event::Opened(match self.opens.pop_front().flatten() {
                    Some(error) => Err(Unreachable::Connect(error.into())),
                    None => {
                        let peer = self.delivery.addresses().first().copied();
                        Ok(Opened { peer, max_datagram: self.max_datagram })
                    }
                }),
                Action::CheckPeer => Event::Checked(self.peer.take().unwrap_or(PeerState::Present)),
                Action::CheckProbe => Event::Probed(!std::mem::take(&mut self.probe_refused)),
                Action::Close(Close::Finish) => Event::Finished(self.unread.take().map(Into::into)),
                Action::Send(..) => Event::Sent(self.sends.pop_front().unwrap_or(Ok(()))),
                Action::CheckRefusal => Event::Refusal(self.refusal.take()),
                Action::Resolve | Action::Probe(_) | Action::Close(_) | Action::Report(_) => continue,
            };
            self.delivery.on(answer, now);
        }
        joined(&done)
    }

    fn describe(&self, action: &Action, now: Instant) -> String {
        let name = |address: &SocketAddr| if *address == A.parse().unwrap() { "a" } else { "b" };
        let millis = |time: &Instant| time.duration_since(self.start).as_millis();
        match action {
            Action::Resolve => "resolve".into(),
            Action::Open => match self.delivery.addresses().first() {
                Some(address) => format!("open {}", name(address)),
                None => "open".into(),
            },
            Action::CheckPeer => "check peer".into(),
            Action::Probe(address) => format!("probe {}", name(address)),
            Action::CheckProbe => "check probe".into(),
            Action::Send(n, deadline) => {
                assert!(*deadline > now && !self.delivery.datagram(*n).is_empty());
                format!("send {n}")
            }
            Action::CheckRefusal => "check refusal".into(),
            Action::Close(how) => format!("close {how:?}").to_lowercase(),
            Action::Report(Report::Connected(_)) => "connected".into(),
            Action::Report(Report::Unreachable(_)) => "unreachable".into(),
            Action::Report(Report::Delivered(Outcome { sent, dropped, errors, reason, .. })) => {
                assert_eq!(reason.is_some(), *dropped > 0 && *errors > 0);
                let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
                format!("{sent} sent, {dropped} dropped{reason}")
            }
            Action::Report(Report::Ended) => unreachable!("the thread reports it"),
            Action::Wait(until) => until.as_ref().map_or("wait".into(), |until| format!("wait {}", millis(until))),
            Action::Exit => "exit".into(),
        }
    }
}

/// So many datagrams of one line each.
fn batch(datagrams: usize) -> Arc<Batch> {
    let mut writer = BatchWriter::new(8);
    (0..datagrams).for_each(|_| writer.gauge("a", 1.0));
    writer.take()
}

/// `send 0; send 1; send 2` is `send 0..3`.
fn joined(done: &[String]) -> String {
    let mut lines: Vec<String> = Vec::new();
    for action in done {
        let number = |text: &str| text.strip_prefix("send ")?.parse::<usize>().ok();
        let range = |text: &str| {
            let (start, end) = text.strip_prefix("send ")?.split_once("..")?;
            Some((start.parse::<usize>().ok()?, end.parse::<usize>().ok()?))
        };
        match (number(action), lines.last().and_then(|last| range(last))) {
            (Some(n), Some((start, end))) if n == end => {
                lines.pop();
                lines.push(format!("send {start}..{}", n + 1));
            }
            (Some(n), _) => lines.push(format!("send {n}..{}", n + 1)),
            (None, _) => lines.push(action.clone()),
        }
    }
    lines.join("; ")
}

fn run<const N: usize>(url: &str, table: [(u64, Step, &str); N]) {
    let mut simulation = Simulation::new(url);
    for (row, (time, step, expected)) in table.into_iter().enumerate() {
        assert_eq!(simulation.step(time, step), expected, "row {row}, {time} ms, {url}");
    }
}

fn refusal() -> SendError {
    SendError::Refused(ErrorKind::ConnectionRefused.into())
}

fn broken() -> Result<(), SendError> {
    Err(SendError::Broken(ErrorKind::BrokenPipe.into()))
}

#[test]
fn delivery_sends_a_small_batch_at_once() {
    let sent = "send 0..3; check refusal; 3 sent, 0 dropped; wait";
    run(
        "udp://10.1.0.8:9",
        [
            (0, Step::Time, "wait"),
            (0, Step::Batch(3), &format!("open a; connected; {sent}")),
            (4000, Step::Batch(3), &format!("check peer; {sent}")),
        ],
    );
}

#[test]
fn delivery_paces_a_large_batch() {
    run(
        "udp://10.1.0.8:9",
        [
            (0, Step::Batch(160), "open a; connected; send 0..32; wait 400"),
            (399, Step::Time, "wait 400"),
            (400, Step::Time, "send 32..64; wait 800"),
            (800, Step::Time, "send 64..96; wait 1200"),
            (1200, Step::Time, "send 96..128; wait 1600"),
            (1600, Step::Time, "send 128..160; check refusal; 160 sent, 0 dropped; wait"),
        ],
    );
}

/// As on a busy machine: the bursts that are due by then would overrun the server's receive buffer.
#[test]
fn delivery_does_not_make_up_for_late_bursts_at_once() {
    run(
        "udp://10.1.0.8:9",
        [
            (0, Step::Batch(160), "open a; connected; send 0..32; wait 400"),
            (1500, Step::Time, "send 32..64; wait 1700"),
            (1700, Step::Time, "send 64..96; wait 2100"),
            (2450, Step::Time, "send 96..128; wait 2650"),
            (2650, Step::Time, "send 128..160; check refusal; 160 sent, 0 dropped; wait"),
        ],
    );
}

#[test]
fn delivery_drops_what_is_unsent_at_the_next_poll() {
    run(
        "udp://10.1.0.8:9",
        [
            (0, Step::Batch(160), "open a; connected; send 0..32; wait 400"),
            (
                3000,
                Step::Batch(2),
                "32 sent, 128 dropped: not sent before the next poll; check peer; send 0..2; check refusal; \
                 2 sent, 0 dropped; wait",
            ),
            (6000, Step::Batch(160), "check peer; send 0..32; wait 6400"),
            // The next poll is late.
            (10_000, Step::Time, "32 sent, 128 dropped: not sent before the next poll; wait"),
            (11_000, Step::Event(Event::Replaced(7, 2)), "0 sent, 7 dropped: not sent before the next poll; wait"),
        ],
    );
}

#[test]
fn delivery_backs_off_when_a_stream_cannot_be_opened() {
    const REFUSED: Option<ErrorKind> = Some(ErrorKind::ConnectionRefused);
    run(
        "tcp://10.1.0.8:9",
        [
            (0, Step::Opens(&[REFUSED; 5]), "wait"),
            (0, Step::Batch(1), "open a; unreachable; wait 1000"),
            (1000, Step::Time, "open a; unreachable; wait 3000"),
            (3000, Step::Time, "open a; unreachable; wait 4000"),
            (4000, Step::Batch(1), "0 sent, 1 dropped: not connected; wait 7000"),
            // The limit is the interval.
            (7000, Step::Time, "open a; unreachable; wait 8000"),
            (8000, Step::Batch(1), "0 sent, 1 dropped: not connected; wait 11000"),
            (11_000, Step::Time, "open a; unreachable; wait 12000"),
            (12_000, Step::Batch(1), "0 sent, 1 dropped: not connected; wait 15000"),
            (15_000, Step::Time, "open a; connected; send 0..1; check refusal; 1 sent, 0 dropped; wait"),
            // After a success it begins again.
            (16_000, Step::Peer(PeerState::Gone), "wait"),
            (16_000, Step::Opens(&[REFUSED]), "wait"),
            (16_000, Step::Batch(1), "check peer; close now; open a; unreachable; wait 17000"),
            (17_000, Step::Time, "open a; connected; send 0..1; check refusal; 1 sent, 0 dropped; wait"),
        ],
    );
}

#[test]
fn delivery_opens_a_datagram_socket_for_each_batch() {
    const UNREACHABLE: Option<ErrorKind> = Some(ErrorKind::NetworkUnreachable);
    run(
        "udp://10.1.0.8:9",
        [
            (0, Step::Opens(&[UNREACHABLE; 3]), "wait"),
            (0, Step::Batch(1), "open a; unreachable; wait 1000"),
            (1000, Step::Time, "open a; unreachable; wait 3000"),
            (2000, Step::Batch(1), "0 sent, 1 dropped: not connected; open a; unreachable; wait 6000"),
            (
                2500,
                Step::Batch(1),
                "0 sent, 1 dropped: not connected; open a; connected; send 0..1; check refusal; 1 sent, 0 dropped; \
                 wait",
            ),
        ],
    );
}

/// What has been read of a stream may end in the middle of a line.
#[test]
fn delivery_resets_a_stream_that_is_not_read() {
    run(
        "tcp://10.1.0.8:9",
        [
            (0, Step::Sends(vec![Ok(()), Err(SendError::Stalled)]), "wait"),
            (
                0,
                Step::Batch(9),
                "open a; connected; send 0..2; close reset; 1 sent, 9 dropped: the server does not read; wait",
            ),
            (900, Step::Batch(1), "wait 1000"),
            (1000, Step::Time, "open a; connected; send 0..1; check refusal; 1 sent, 0 dropped; wait"),
        ],
    );
    run(
        "unix:///run/statsd",
        [
            (0, Step::Sends(vec![Ok(()), Err(SendError::Stalled)]), "wait"),
            (
                0,
                Step::Batch(9),
                "open; connected; send 0..2; check refusal; 1 sent, 8 dropped: the server does not read; wait",
            ),
            (900, Step::Batch(1), "check peer; send 0..1; check refusal; 1 sent, 0 dropped; wait"),
        ],
    );
}

#[test]
fn delivery_replaces_a_broken_socket_once_a_batch() {
    run(
        "tcp://10.1.0.8:9",
        [
            (0, Step::Sends(vec![Ok(()), broken()]), "wait"),
            (
                0,
                Step::Batch(4),
                "open a; connected; send 0..2; close now; open a; connected; send 1..4; check refusal; \
                 4 sent, 1 dropped: broken pipe; wait",
            ),
            (4000, Step::Sends(vec![broken(), Ok(()), broken()]), "wait"),
            (
                4000,
                Step::Batch(4),
                "check peer; send 0..1; close now; open a; connected; send 0..2; close now; \
                 1 sent, 4 dropped: broken pipe; wait",
            ),
            // Why it cannot be opened again is reported.
            (8000, Step::Sends(vec![broken()]), "wait"),
            (8000, Step::Opens(&[None, Some(ErrorKind::ConnectionRefused)]), "wait"),
            (8000, Step::Batch(4), "open a; connected; send 0..1; close now; open a; unreachable; wait 9000"),
            (8500, Step::Batch(1), "0 sent, 4 dropped: not connected; wait 9000"),
        ],
    );
}

#[test]
fn delivery_replaces_a_socket_whose_server_is_gone() {
    run(
        "unix:///run/statsd",
        [
            (0, Step::Batch(1), "open; connected; send 0..1; check refusal; 1 sent, 0 dropped; wait"),
            (4000, Step::Peer(PeerState::Gone), "wait"),
            (
                4000,
                Step::Batch(1),
                "check peer; close now; open; connected; send 0..1; check refusal; 1 sent, 0 dropped; wait",
            ),
        ],
    );
}

/// A socket keeps its port, which NAT may send elsewhere, and its address.
#[test]
fn delivery_counts_refusals_and_replaces_the_socket() {
    const REFUSED: &str = "connection refused";
    run(
        "udp://10.1.0.8:9",
        [
            (0, Step::Refused(refusal()), "wait"),
            (
                0,
                Step::Batch(1),
                &format!("open a; connected; send 0..1; check refusal; 1 sent, 1 dropped: {REFUSED}; close now; wait"),
            ),
            (4000, Step::Sends(vec![Ok(()), Err(refusal())]), "wait"),
            // The first is refused, the second sent.
            (
                4000,
                Step::Batch(2),
                &format!(
                    "open a; connected; send 0..2; send 1..2; check refusal; 2 sent, 1 dropped: {REFUSED}; \
                     close now; wait"
                ),
            ),
            (8000, Step::Sends(vec![Err(SendError::Dropped(ErrorKind::OutOfMemory.into()))]), "wait"),
            (
                8000,
                Step::Batch(2),
                "open a; connected; send 0..2; check refusal; 1 sent, 1 dropped: out of memory; wait",
            ),
            // It comes late.
            (12_000, Step::Peer(PeerState::Failed(refusal())), "wait"),
            (
                12_000,
                Step::Batch(2),
                &format!(
                    "check peer; close now; open a; connected; send 0..2; check refusal; 2 sent, 1 dropped: {REFUSED}; \
                     wait"
                ),
            ),
        ],
    );
}

#[test]
fn delivery_replaces_a_udp_socket_at_intervals() {
    let sent = "send 0..1; check refusal; 1 sent, 0 dropped; wait";
    for (url, refreshed) in
        [("udp://10.1.0.8:9", "check peer; close now; open a; connected; "), ("tcp://10.1.0.8:9", "check peer; ")]
    {
        run(
            url,
            [
                (0, Step::Batch(1), &format!("open a; connected; {sent}")),
                (59_999, Step::Batch(1), &format!("check peer; {sent}")),
                (63_999, Step::Batch(1), &format!("{refreshed}{sent}")),
                (67_999, Step::Batch(1), &format!("check peer; {sent}")),
            ],
        );
    }
}

/// The other one may do nothing with what it is sent.
#[test]
fn delivery_goes_back_to_an_address_that_refused() {
    run(
        "udp://statsd:9",
        [
            (0, Step::Time, "resolve; wait"),
            (0, Step::Resolved(&[A, B]), "wait 60000"),
            (0, Step::Sends(vec![Ok(()), Err(refusal())]), "wait 60000"),
            (
                0,
                Step::Batch(3),
                "open a; connected; send 0..2; close now; open b; connected; send 1..3; check refusal; \
                 3 sent, 1 dropped: connection refused; wait 4000",
            ),
            (4000, Step::Time, "resolve; wait"),
            (4000, Step::Resolved(&[B, A]), "wait 64000"),
            (4000, Step::Batch(1), "probe a; check peer; send 0..1; check refusal; 1 sent, 0 dropped; wait 64000"),
            (8000, Step::ProbeRefused, "wait 64000"),
            (
                8000,
                Step::Batch(1),
                "check probe; probe a; check peer; send 0..1; check refusal; 1 sent, 0 dropped; wait 64000",
            ),
            // Its refusal may still come.
            (8999, Step::Batch(1), "check peer; send 0..1; check refusal; 1 sent, 0 dropped; wait 64000"),
            (
                12_000,
                Step::Batch(1),
                "check probe; close now; open a; connected; send 0..1; check refusal; 1 sent, 0 dropped; wait 64000",
            ),
            (16_000, Step::Batch(1), "check peer; send 0..1; check refusal; 1 sent, 0 dropped; wait 64000"),
        ],
    );
}

/// Known at the next poll, when the socket is needed again, or at the end.
#[test]
fn delivery_counts_what_a_lost_connection_may_have_cost() {
    let broken = |error: ErrorKind| Step::Peer(PeerState::Failed(SendError::Broken(error.into())));
    let send = "open a; connected; send 0..3; check refusal; 3 sent";
    run(
        "tcp://10.1.0.8:9",
        [
            (0, Step::Batch(3), &format!("{send}, 0 dropped; wait")),
            (4000, broken(ErrorKind::ConnectionReset), "wait"),
            (4000, Step::Batch(3), &format!("check peer; close now; {send}, 3 dropped: connection reset; wait")),
            (8000, Step::Batch(2), "check peer; send 0..2; check refusal; 2 sent, 0 dropped; wait"),
            // Not acknowledged for a while.
            (12_000, broken(ErrorKind::TimedOut), "wait"),
            (12_000, Step::Batch(3), &format!("check peer; close now; {send}, 5 dropped: timed out; wait")),
            (16_000, Step::Peer(PeerState::Gone), "wait"),
            (16_000, Step::Batch(3), &format!("check peer; close now; {send}, 0 dropped; wait")),
            (17_000, Step::Unread(ErrorKind::ConnectionReset), "wait"),
            (17_000, Step::Event(Event::End(End::Finish)), "close finish; 0 sent, 3 dropped: connection reset; exit"),
        ],
    );
}

#[test]
fn delivery_cuts_datagrams_for_the_path() {
    let mut simulation = Simulation::new("udp://10.1.0.8:9");
    simulation.step(0, Step::Path(18));
    let mut writer = BatchWriter::new(600);
    let mut step = |time, sends, expected: &str| {
        (0..9).for_each(|_| writer.gauge("a", 1.0));
        simulation.step(time, Step::Sends(sends));
        assert_eq!(simulation.step(time, Step::Event(Event::Batch(writer.take()))), expected, "{time}");
    };
    let too_long = |max| Err(SendError::TooLong(Some(max)));
    step(0, vec![], "open a; connected; send 0..3; check refusal; 3 sent, 0 dropped; wait");
    // The first was too long.
    step(
        4000,
        vec![Ok(()), too_long(12)],
        "check peer; send 0..2; send 1..4; check refusal; 4 sent, 1 dropped: too long for the path, which takes 12 \
         bytes; wait",
    );
    step(8000, vec![], "check peer; send 0..5; check refusal; 5 sent, 0 dropped; wait");
    // The system has forgotten it.
    step(60_000, vec![], "check peer; close now; open a; connected; send 0..5; check refusal; 5 sent, 0 dropped; wait");
}

#[test]
fn delivery_waits_for_the_first_look_up() {
    let sent = "open a; connected; send 0..1; check refusal; 1 sent, 0 dropped";
    run(
        "tcp://statsd:9",
        [
            (0, Step::Batch(1), "resolve; wait 4000"),
            (3000, Step::Unresolved, "unreachable; wait 4000"),
            (4000, Step::Batch(1), "0 sent, 1 dropped: not connected; wait 7000"),
            (7000, Step::Time, "resolve; wait 8000"),
            (7500, Step::Resolved(&[]), "unreachable; wait 8000"),
            (8000, Step::Time, "0 sent, 1 dropped: not connected; wait 11500"),
            (11_500, Step::Time, "resolve; wait"),
            (12_000, Step::Batch(1), "wait 16000"),
            (12_100, Step::Resolved(&[A]), &format!("{sent}; wait 72100")),
            (72_100, Step::Time, "resolve; wait"),
            // The address is kept.
            (72_200, Step::Unresolved, "wait 76200"),
        ],
    );
}

#[test]
fn delivery_follows_a_server_that_moves() {
    let sent = "connected; send 0..1; check refusal; 1 sent, 0 dropped; wait";
    run(
        "tcp://statsd:9",
        [
            (0, Step::Time, "resolve; wait"),
            (0, Step::Resolved(&[A]), "wait 60000"),
            (0, Step::Batch(1), &format!("open a; {sent} 60000")),
            (60_000, Step::Time, "resolve; wait"),
            // It is still one of its addresses.
            (60_000, Step::Resolved(&[B, A]), "wait 120000"),
            (120_000, Step::Time, "resolve; wait"),
            (120_000, Step::Resolved(&[B]), "close finish; wait 180000"),
            (120_000, Step::Batch(1), &format!("open b; {sent} 180000")),
        ],
    );
}

#[test]
fn delivery_reopens_when_it_is_asked_to() {
    run(
        "tcp://statsd:9",
        [
            (0, Step::Time, "resolve; wait"),
            (0, Step::Resolved(&[A]), "wait 60000"),
            (0, Step::Batch(1), "open a; connected; send 0..1; check refusal; 1 sent, 0 dropped; wait 60000"),
            (1000, Step::Event(Event::Reopen), "close finish; resolve; wait"),
            (4000, Step::Batch(1), "open a; connected; send 0..1; check refusal; 1 sent, 0 dropped; wait"),
        ],
    );
}

#[test]
fn delivery_ends_after_the_batch_or_at_once() {
    run(
        "tcp://10.1.0.8:9",
        [
            (0, Step::Batch(160), "open a; connected; send 0..32; wait 400"),
            (100, Step::Event(Event::End(End::Finish)), "wait 400"),
            (400, Step::Time, "send 32..64; wait 800"),
            // There is no next poll that it would have to be over for.
            (9000, Step::Time, "send 64..96; wait 9200"),
            (9200, Step::Time, "send 96..128; wait 9600"),
            (9600, Step::Time, "send 128..160; check refusal; 160 sent, 0 dropped; close finish; exit"),
        ],
    );
    run(
        "tcp://10.1.0.8:9",
        [
            (0, Step::Batch(160), "open a; connected; send 0..32; wait 400"),
            (100, Step::Event(Event::End(End::Now)), "32 sent, 128 dropped: not sent before the next poll; exit"),
        ],
    );
    run("udp://10.1.0.8:9", [(0, Step::Event(Event::End(End::Finish)), "exit")]);
}

#[test]
fn delivery_ends_without_a_connection() {
    const REFUSED: Option<ErrorKind> = Some(ErrorKind::ConnectionRefused);
    run(
        "tcp://10.1.0.8:9",
        [
            (0, Step::Opens(&[REFUSED; 2]), "wait"),
            (0, Step::Batch(1), "open a; unreachable; wait 1000"),
            // It is tried a last time.
            (100, Step::Event(Event::End(End::Finish)), "open a; unreachable; 0 sent, 1 dropped: not connected; exit"),
        ],
    );
    run(
        "tcp://statsd:9",
        [
            (0, Step::Batch(1), "resolve; wait 4000"),
            (1, Step::Unresolved, "unreachable; wait 4000"),
            (100, Step::Event(Event::End(End::Finish)), "resolve; wait"),
            (9000, Step::Unresolved, "unreachable; 0 sent, 1 dropped: not connected; exit"),
        ],
    );
}
