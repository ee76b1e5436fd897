//! How the daemon treats QEMUs: a QEMU may crash, and its guest lose its disks, when a client leaves before its
//! question is answered.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;
use serde_json::{Value, json};

use crate::disks::{Dom0, GREETING, PV, serve};
use crate::support::{Daemon, PATIENCE, run};

/// What a QEMU has seen of its clients.
#[derive(Default)]
struct Seen {
    /// Clients that were greeted.
    connections: AtomicUsize,
    /// Connections that are being served.
    open: AtomicUsize,
    answers: AtomicUsize,
    /// Clients that sent something before they were greeted.
    asked_early: AtomicUsize,
    /// Answers whose client had left.
    left_owing: AtomicUsize,
}

impl Seen {
    /// What it has seen that it should not, once all of its clients have left.
    fn rudeness(&self) -> [usize; 2] {
        let start = Instant::now();
        while self.open.load(SeqCst) > 0 {
            assert!(start.elapsed() < PATIENCE, "a client does not leave");
            thread::sleep(Duration::from_millis(5));
        }
        [self.asked_early.load(SeqCst), self.left_owing.load(SeqCst)]
    }
}

/// A QEMU that answers everything: one client and one question at a time. Before its greeting, which is message 0, and
/// each answer it calls `hold` with the numbers of connection and message; it writes in so many `pieces`, and events in
/// between.
fn qemu(listener: UnixListener, pieces: usize, hold: impl Fn(usize, usize) + Send + 'static) -> Arc<Seen> {
    let answers: Value = serde_json::from_str(PV).unwrap();
    let seen = Arc::<Seen>::default();
    let counts = seen.clone();
    serve(listener, move |stream, connection| {
        counts.open.fetch_add(1, SeqCst);
        let say = |bytes: &[u8]| {
            let event: &[u8] = b"{\"timestamp\": {\"seconds\": 1}, \"event\": \"RTC_CHANGE\", \"data\": {}}\r\n";
            let text = [bytes, event].concat();
            text.chunks(text.len().div_ceil(pieces)).try_for_each(|piece| (&stream).write_all(piece))
        };
        hold(connection, 0);
        let peeked = rustix::net::recv(&stream, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        counts.asked_early.fetch_add(usize::from(peeked.is_ok_and(|(length, _)| length > 0)), SeqCst);
        counts.connections.fetch_add(1, SeqCst);
        // To a client that has left already nothing is owed.
        let _ = say(GREETING);
        for (n, line) in BufReader::new(&stream).lines().map_while(Result::ok).enumerate() {
            let asked: Value = serde_json::from_str(&line).unwrap();
            hold(connection, n + 1);
            let result = answers.get(asked["execute"].as_str().unwrap()).cloned().unwrap_or(json!({}));
            match say(format!("{}\r\n", json!({"return": result, "id": asked["id"]})).as_bytes()) {
                Ok(()) => counts.answers.fetch_add(1, SeqCst),
                Err(_) => counts.left_owing.fetch_add(1, SeqCst),
            };
        }
        counts.open.fetch_sub(1, SeqCst);
    });
    seen
}

/// One that holds this message of its first connection back until the test releases it, and has no time for another
/// connection until the test is over.
fn held(listener: UnixListener, held: usize) -> (Arc<Seen>, mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (reached, is_reached) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    let is_released = Mutex::new(is_released);
    let seen = qemu(listener, 1, move |connection, message| {
        let is_held = (connection, message) == (0, held);
        if is_held {
            reached.send(()).unwrap();
        }
        if is_held || connection > 0 {
            let _ = is_released.lock().unwrap().recv();
        }
    });
    (seen, is_reached, release)
}

impl Dom0 {
    fn listener(&self, guest: u32) -> UnixListener {
        UnixListener::bind(self.socket(guest)).unwrap()
    }

    /// A daemon that has a fifth of a second for QEMUs.
    fn impatient(&self, more: &[&str]) -> Command {
        let arguments = ["--print", "json", "--interval", "1s", "--qmp-timeout", "200ms"];
        self.daemon(true, &[&arguments, more].concat())
    }
}

fn disks(line: &str, guest: usize) -> Option<u64> {
    serde_json::from_str::<Value>(line).unwrap()["domains"][guest]["vbds"].as_u64()
}

#[test]
fn qmp_leaves_no_question_unanswered() {
    type Hold = fn(usize, usize) -> u64;
    let moods: [(&str, usize, Hold); 8] = [
        ("at once", 1, |_, _| 0),
        ("in pieces", 9, |_, _| 0),
        ("each message takes its time", 1, |_, _| 60),
        ("the greeting is late", 1, |_, message| 500 * u64::from(message == 0)),
        ("the first answer is late", 1, |_, message| 500 * u64::from(message == 1)),
        ("the last answer is late", 1, |_, message| 500 * u64::from(message == 4)),
        ("every message is late", 3, |_, _| 300),
        (
            "every other client waits long",
            1,
            |connection, message| {
                if (connection % 2, message) == (1, 2) { 1500 } else { 0 }
            },
        ),
    ];
    for arguments in [&["--count", "5"][..], &["--once"], &["--check"]] {
        let dom0 = Dom0::new(moods.len() as u32);
        let qemus = moods.map(|(mood, pieces, hold)| {
            let guest = 1 + moods.iter().position(|(other, ..)| *other == mood).unwrap() as u32;
            let wait = move |connection, message| thread::sleep(Duration::from_millis(hold(connection, message)));
            (mood, qemu(dom0.listener(guest), pieces, wait))
        });
        let said = run(&mut dom0.impatient(arguments));
        for (mood, seen) in qemus {
            assert_eq!(seen.rudeness(), [0, 0], "{mood} {arguments:?}: {}", said.err);
            assert!(seen.connections.load(SeqCst) > 0, "{mood} {arguments:?}: {}", said.err);
        }
    }
}

/// On the connection it was late on. Nothing is asked again that was answered.
#[test]
fn qmp_late_message_is_taken_at_a_later_poll() {
    for late in 0..=4 {
        let dom0 = Dom0::new(1);
        let (seen, is_reached, release) = held(dom0.listener(1), late);
        let mut daemon = Daemon::start(&mut dom0.impatient(&[]));
        is_reached.recv_timeout(PATIENCE).unwrap();
        // Two polls without it, of which one may have begun before.
        let mut line = String::new();
        for _ in 0..2 {
            line = daemon.wait_for_line();
            assert_eq!(disks(&line, 1), None, "{late}");
        }
        release.send(()).unwrap();
        while disks(&line, 1).is_none() {
            line = daemon.wait_for_line();
        }
        assert_eq!(disks(&line, 1), Some(2), "{late}");
        daemon.signal("TERM");
        drop(release);
        let said = daemon.end();
        assert_eq!(said.err.matches("WARN  QEMU of g1 ").count(), 1, "{late}: {}", said.err);
        assert_eq!((said.status, seen.rudeness()), (Some(0), [0, 0]), "{late}");
        // One answer to the greeting, and three for each poll that was complete.
        assert_eq!((seen.connections.load(SeqCst), seen.answers.load(SeqCst) % 3), (1, 1), "{late}");
    }
}

/// However the program ends: with the answer a second late, which is more than a stop takes otherwise.
#[test]
fn qmp_answer_is_waited_for_at_the_end() {
    for (what, [interval, timeout], arguments, polls, end) in [
        ("SIGTERM in a poll", ["20s", "10s"], &[][..], 0, "TERM"),
        ("SIGTERM between polls", ["20s", "200ms"], &[], 1, "TERM"),
        ("SIGINT", ["20s", "200ms"], &[], 1, "INT"),
        ("the last poll", ["1s", "2s"], &["--once"], 0, ""),
        ("--check", ["1s", "2s"], &["--check"], 0, ""),
        ("SIGTERM in --check", ["1s", "10s"], &["--check"], 0, "TERM"),
        ("SIGINT in --check", ["1s", "10s"], &["--check"], 0, "INT"),
        ("a closed standard output", ["1s", "200ms"], &[], 1, "close"),
    ] {
        let dom0 = Dom0::new(1);
        let (seen, is_reached, release) = held(dom0.listener(1), 2);
        let times = ["--print", "json", "--interval", interval, "--qmp-timeout", timeout];
        let mut daemon = Daemon::start(&mut dom0.daemon(true, &[&times, arguments].concat()));
        is_reached.recv_timeout(PATIENCE).unwrap();
        for _ in 0..polls {
            assert_eq!(disks(&daemon.wait_for_line(), 1), None, "{what}");
        }
        match end {
            "" => {}
            "close" => drop(daemon.stdout.take()),
            signal => daemon.signal(signal),
        }
        thread::sleep(Duration::from_secs(1));
        drop(release);
        daemon.wait_for_end();
        assert_eq!(seen.rudeness(), [0, 0], "{what}");
        assert!(seen.answers.load(SeqCst) >= 2, "{what}");
    }
}

/// Nobody reads what it prints, so that the loop cannot hear the signal.
#[test]
fn qmp_answer_is_waited_for_where_the_loop_is_blocked() {
    let dom0 = Dom0::new(1);
    let (seen, is_reached, release) = held(dom0.listener(1), 3);
    // More than a pipe holds.
    let scenario = "[[domain]]\nid = 0\n[[domain]]\nid = 1\n[[domain]]\nid = 1000\ncount = 300\nname = \"vm{i}\"\n";
    let arguments = ["--print", "json", "--interval", "3s", "--qmp-timeout", "3s"];
    let mut daemon = Daemon::start(&mut dom0.on(scenario, &arguments));
    is_reached.recv_timeout(PATIENCE).unwrap();
    // The poll is over, and cannot be printed.
    thread::sleep(Duration::from_millis(3500));
    daemon.signal("TERM");
    thread::sleep(Duration::from_secs(1));
    drop(release);
    assert_eq!(daemon.wait_for_end(), Some(0));
    assert_eq!(seen.rudeness(), [0, 0]);
    assert!(seen.answers.load(SeqCst) >= 3);
}

/// And SIGHUP makes no connection again on which an answer is owed.
#[test]
fn qmp_answer_is_waited_for_after_sighup() {
    let dom0 = Dom0::new(1);
    let (seen, is_reached, release) = held(dom0.listener(1), 2);
    let mut daemon = Daemon::start(&mut dom0.impatient(&[]));
    is_reached.recv_timeout(PATIENCE).unwrap();
    assert_eq!(disks(&daemon.wait_for_line(), 1), None);
    daemon.signal("HUP");
    assert_eq!([(); 2].map(|()| disks(&daemon.wait_for_line(), 1)), [None; 2]);
    release.send(()).unwrap();
    while disks(&daemon.wait_for_line(), 1).is_none() {}
    assert_eq!(seen.connections.load(SeqCst), 1);
    daemon.signal("TERM");
    drop(release);
    daemon.wait_for_end();
    assert_eq!(seen.rudeness(), [0, 0]);
}

/// The guest is gone, its QEMU not yet; the socket of the last guest that has one may be gone, too.
#[test]
fn qmp_answer_is_waited_for_after_the_guest_has_gone() {
    for is_removed in [false, true] {
        let dom0 = Dom0::new(0);
        let (seen, is_reached, release) = held(dom0.listener(1), 2);
        let scenario = "[[domain]]\nid = 0\n[[domain]]\nid = 1\nuntil_poll = 1\n";
        let arguments = ["--print", "json", "--interval", "1s", "--qmp-timeout", "200ms"];
        let mut daemon = Daemon::start(&mut dom0.on(scenario, &arguments));
        is_reached.recv_timeout(PATIENCE).unwrap();
        let domains = |line: String| serde_json::from_str::<Value>(&line).unwrap()["domains"].as_array().unwrap().len();
        assert_eq!(domains(daemon.wait_for_line()), 2);
        if is_removed {
            std::fs::remove_file(dom0.socket(1)).unwrap();
        }
        assert_eq!([(); 2].map(|()| domains(daemon.wait_for_line())), [1, 1]);
        release.send(()).unwrap();
        // Still running, the daemon closes the connection.
        assert_eq!((seen.rudeness(), seen.answers.load(SeqCst)), ([0, 0], 2), "{is_removed}");
        assert!(daemon.try_wait().unwrap().is_none());
    }
}

/// The guest's QEMU is another one now, which has another socket of the same name.
#[test]
fn qmp_socket_that_is_replaced_is_connected_to() {
    let dom0 = Dom0::new(1);
    let (old, is_reached, release) = held(dom0.listener(1), 2);
    let mut daemon = Daemon::start(&mut dom0.impatient(&[]));
    is_reached.recv_timeout(PATIENCE).unwrap();
    assert_eq!(disks(&daemon.wait_for_line(), 1), None);
    std::fs::remove_file(dom0.socket(1)).unwrap();
    let new = qemu(dom0.listener(1), 1, |_, _| {});
    while disks(&daemon.wait_for_line(), 1).is_none() {}
    assert!(new.connections.load(SeqCst) > 0);
    release.send(()).unwrap();
    assert_eq!((old.rudeness(), old.answers.load(SeqCst), old.connections.load(SeqCst)), ([0, 0], 2, 1));
    daemon.signal("TERM");
    daemon.wait_for_end();
    assert_eq!(new.rudeness(), [0, 0]);
}
