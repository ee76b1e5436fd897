//! Failure modes: the daemon keeps reporting. docs/reliability.md describes what a user sees of each.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::{
    Daemon, Lines, Listener, PATIENCE, Scratch, answered_polls, behind, clean, last_values, out_of, run, shim,
    without_lateness, xenmonitor,
};

const HOST: &str = "[[domain]]\nid = 0\nname = \"Domain-0\"\n";

/// A service manager in place of systemd: a socket that receives notifications.
struct Systemd(mpsc::Receiver<String>);

impl Systemd {
    fn listen(scratch: &Scratch, command: &mut Command, watchdog: Duration) -> Self {
        let path = scratch.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        let (messages, inbox) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
                if messages.send(message).is_err() {
                    break;
                }
            }
        });
        Self(inbox)
    }

    /// The next message.
    fn hears(&self) -> String {
        self.0.recv_timeout(PATIENCE).expect("a message")
    }

    /// Waits for a message with `text`.
    fn wait_for(&self, text: &str) -> String {
        std::iter::repeat_with(|| self.hears()).find(|heard| heard.contains(text)).unwrap()
    }
}

fn gauge(datagram: &str, name: &str) -> Option<f64> {
    last_values(datagram).into_iter().find_map(|(gauge, value)| gauge.ends_with(name).then_some(value))
}

/// READY after the first poll, WATCHDOG while polls are answered, RELOADING, STOPPING.
#[test]
fn systemd_notifications_from_start_to_end() {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    let systemd = Systemd::listen(&scratch, &mut command, Duration::from_millis(200));
    // The watchdog's timeout is shorter than the interval.
    let daemon = Daemon::start(command.args(["--interval", "1h", "--statsd", "udp://127.0.0.1:9"]));
    let asking = systemd.hears();
    assert!(
        asking.starts_with("STATUS=asking ") && asking.ends_with(" for domains, network interfaces, disks\n"),
        "{asking}"
    );
    let first = systemd.hears();
    assert!(first.starts_with("READY=1\nSTATUS=1 domains read in ") && first.ends_with("\nWATCHDOG=1\n"), "{first}");
    for _ in 0..3 {
        assert_eq!(systemd.hears(), "WATCHDOG=1\n");
    }
    daemon.signal("HUP");
    let reloading = systemd.wait_for("RELOADING=1\nMONOTONIC_USEC=");
    assert_eq!(systemd.hears(), "READY=1\n", "after {reloading}");
    daemon.signal("TERM");
    systemd.wait_for("STOPPING=1\nSTATUS=SIGTERM");
    assert_eq!(daemon.end().status, Some(0));
}

/// READY is sent although the first poll is delayed by more than a service may take to start.
#[test]
fn systemd_ready_is_sent_before_a_delayed_first_poll() {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    let systemd = Systemd::listen(&scratch, &mut command, Duration::from_millis(200));
    let daemon = Daemon::start(command.args(["--interval", "1d", "--jitter", "1d", "--statsd", "udp://127.0.0.1:9"]));
    let first = systemd.hears();
    assert!(first.starts_with("READY=1\nSTATUS=the first poll is in ") && first.ends_with("\nWATCHDOG=1\n"), "{first}");
    assert!(first.contains(", by --jitter\n"), "{first}");
    assert_eq!(systemd.hears(), "WATCHDOG=1\n");
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

/// Without a notification socket no message is attempted.
#[test]
fn systemd_watchdog_needs_a_socket() {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    command.env("WATCHDOG_USEC", "1").env("NOTIFY_SOCKET", "");
    let said = run(command.args(["--interval", "50ms", "--count", "3", "--print", "json", "--log", "debug"]));
    assert_eq!((said.status, said.out.lines().count()), (Some(0), 3), "{}", said.err);
    assert!(!said.err.contains("service manager"), "{}", said.err);
}

/// The socket's queue is full after a few messages.
#[test]
fn systemd_socket_that_is_full_delays_nothing() {
    let scratch = Scratch::new();
    let listener = Listener::new("127.0.0.1:0");
    let path = scratch.join("notify");
    let deaf = UnixDatagram::bind(&path).unwrap();
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "2000");
    let mut daemon = Daemon::start(command.args(["--interval", "10ms", "--log", "debug", "--statsd", &listener.url()]));
    daemon.wait_for_log("cannot notify the service manager: Resource temporarily unavailable");
    (0..5).for_each(|_| drop(listener.latest()));
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
    drop(deaf);
}

/// A message that could not be sent is repeated soon, not only at the next poll.
#[test]
fn systemd_message_that_failed_is_repeated() {
    let scratch = Scratch::new();
    let path = scratch.join("notify");
    let busy = UnixDatagram::bind(&path).unwrap();
    // The number of unread messages per sender is limited; the socket is full when a new sender can send none.
    let fill = || {
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        std::iter::repeat_with(|| filler.send_to(b"FULL=1\n", &path)).take_while(Result::is_ok).count()
    };
    while fill() > 0 {}
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    command.env("NOTIFY_SOCKET", &path);
    let mut daemon =
        Daemon::start(command.args(["--interval", "1h", "--log", "debug", "--statsd", "udp://127.0.0.1:9"]));
    daemon.wait_for_log("cannot notify the service manager");
    busy.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 4096];
    while !buffer.starts_with(b"READY=1") {
        busy.recv(&mut buffer).expect("READY=1");
    }
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

/// A call that never returns: watchdog messages stop, the log has one line, only the program's own gauges are sent, and
/// SIGTERM ends the daemon.
#[test]
fn systemd_watchdog_gets_nothing_while_a_poll_hangs() {
    let scratch = Scratch::new();
    let listener = Listener::new("127.0.0.1:0");
    let fault = "[[fault]]\nat = 3\nstderr = \"hanging\"\nhang = true\n";
    let mut command = xenmonitor(&scratch.file("s.toml", &format!("{HOST}{fault}")));
    let systemd = Systemd::listen(&scratch, &mut command, Duration::from_millis(200));
    let mut daemon =
        Daemon::start(command.args(["--interval", "400ms", "--max-datagram", "8932", "--statsd", &listener.url()]));
    let log = daemon.wait_for_logs(&["hanging", "a poll takes longer than the interval of 400ms"]);

    // Up to an interval and a half the poll is slow, then stuck. Only the program's own gauges are sent, at each
    // interval.
    let (mut good, mut late) = (0, Vec::new());
    while good == 0 || late.len() < 4 {
        let datagram = listener.datagram();
        if datagram.contains("Domain-0.") {
            good += 1;
            late.clear();
        } else {
            late.push(datagram);
        }
    }
    let stuck = late.iter().map(|datagram| gauge(datagram, "xenmonitor.poll_running_sec").unwrap()).collect::<Vec<_>>();
    for (datagram, stuck) in late.iter().zip(&stuck) {
        assert!(gauge(datagram, "xenmonitor.poll_ms").is_none(), "{datagram}");
        let up = if *stuck < 0.6 { 1.0 } else { 0.0 };
        assert_eq!(gauge(datagram, "xenmonitor.up"), Some(up), "{datagram}");
        assert_eq!(gauge(datagram, "collector.vif"), (up == 0.0).then_some(0.0), "{datagram}");
    }
    assert!(stuck.is_sorted() && stuck[3] > stuck[0], "{stuck:?}");

    // The watchdog, which got ten messages a second, gets none any more; STATUS goes on. (Earlier polls may be late,
    // too.)
    let is_status = |message: &String| message.starts_with("STATUS=no answer from libxenstat for ");
    let mut heard = Vec::new();
    while heard.len() < 4 || !heard[heard.len() - 4..].iter().all(is_status) {
        heard.push(systemd.hears());
        assert!(heard.len() < 200, "{heard:?}");
    }

    daemon.signal("TERM");
    let said = daemon.end();
    assert_eq!(said.status, Some(0));
    assert_eq!(format!("{log}{}", said.err).matches("takes longer than").count(), 1, "{log}{}", said.err);
}

/// It does not wait for the 200 ms either in which an idle poller may close its handle: even on a busy machine at least
/// one of many exits is faster.
#[test]
fn signal_exit_does_not_wait_for_a_hanging_poll() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", &format!("{HOST}[[fault]]\nat = 1\nstderr = \"hanging\"\nhang = true\n"));
    let mut ends = (0..50).map(|_| {
        let mut command = xenmonitor(&scenario);
        let mut daemon = Daemon::start(command.args(["--interval", "20ms", "--statsd", "udp://127.0.0.1:9"]));
        daemon.wait_for_logs(&["hanging", "a poll takes longer than the interval"]);
        let start = Instant::now();
        daemon.signal("TERM");
        assert_eq!(daemon.wait_for_end(), Some(0));
        start.elapsed()
    });
    assert!(ends.any(|end| end < Duration::from_millis(100)));
}

/// A slow call is not a stuck one: `up` is 1, and each answer sends a watchdog message.
#[test]
fn poll_slow_is_not_stuck() {
    let scratch = Scratch::new();
    let released = scratch.join("released");
    let fault = format!("[[fault]]\nwait_for = \"{}\"\n", released.display());
    let mut command = xenmonitor(&scratch.file("s.toml", &format!("{HOST}{fault}")));
    let systemd = Systemd::listen(&scratch, &mut command, Duration::from_secs(2));
    command.args(["--interval", "1s", "--print", "statsd", "--poll-timeout", "1h", "--log", "off"]);
    let mut daemon = Daemon::start(command.args(["--metrics", "xenmonitor.up,xenmonitor.poll_running_sec"]));
    let lines = Lines::of(&mut daemon);
    let next = || -> (f64, f64) {
        let value = || *last_values(&lines.next()).values().next().unwrap();
        (value(), value())
    };
    // Before the first answer `up` is 0.
    let (up, stuck) = next();
    assert!(up == 0.0 && stuck > 0.0, "{up} {stuck}");
    let mut slow = 0;
    while slow < 2 {
        // The call returns as soon as it is late.
        std::fs::write(&released, "").unwrap();
        while next() != (1.0, 0.0) {}
        std::fs::remove_file(&released).unwrap();
        let (up, stuck) = next();
        // Late once is slow, twice is stuck.
        assert_eq!(up, if stuck < 1.5 { 1.0 } else { 0.0 }, "{stuck}");
        slow += usize::from(up == 1.0 && stuck > 0.0);
    }
    systemd.wait_for("WATCHDOG=1");
}

#[test]
fn poll_timeout_ends_the_program() {
    let scratch = Scratch::new();
    for fault in ["[[fault]]\nat = 2\nhang = true\n", "[[init_fault]]\nhang = true\n"] {
        let scenario = scratch.file("s.toml", &format!("{HOST}{fault}"));
        // A distant deadline does not delay it.
        let interval = if fault.starts_with("[[init") { "1h" } else { "50ms" };
        let start = Instant::now();
        let said = run(xenmonitor(&scenario).args(["--interval", interval, "--print", "json", "--poll-timeout", "1s"]));
        assert_eq!(said.status, Some(3), "{}", said.err);
        assert_eq!(
            said.err.lines().last(),
            Some(
                "xenmonitor: a poll takes longer than the --poll-timeout of 1s: dom0 is overloaded, or what libxenstat \
                 reads hangs (xenstored?)"
            )
        );
        assert!(start.elapsed() >= Duration::from_secs(1));
    }
}

/// Without the flag a missing Xen ends the daemon at start-up; with it Xen is tried again, before the interval is over.
#[test]
fn start_waits_for_xen() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", &format!("{HOST}[[init_fault]]\nat = \"0..2\"\nfail = \"EACCES\"\n"));
    let said = run(xenmonitor(&scenario).args(["--interval", "1h", "--statsd", "udp://127.0.0.1:9"]));
    assert_eq!(said.status, Some(1));
    let line = "xenmonitor: xenstat_init failed: Permission denied (os error 13): is xenstored running, and may this user \
                reach it?\n";
    assert!(said.err.ends_with(line), "{}", said.err);

    let listener = Listener::new("127.0.0.1:0");
    let mut command = xenmonitor(&scenario);
    let systemd = Systemd::listen(&scratch, &mut command, Duration::from_secs(60));
    let start = Instant::now();
    let mut daemon = Daemon::start(command.args([
        "--interval",
        "1h",
        "--max-datagram",
        "8932",
        "--statsd",
        &listener.url(),
        "--wait-for-xen",
    ]));
    let ready = systemd.hears();
    assert!(ready.starts_with("READY=1\nSTATUS=xenstat_init failed: Permission denied"), "{ready}");
    for _ in 0..2 {
        assert_eq!(gauge(&listener.datagram(), "xenmonitor.up"), Some(0.0));
    }
    assert_eq!(gauge(&listener.datagram(), "xenmonitor.up"), Some(1.0));
    // Before the interval of an hour, but not at once.
    let waited = start.elapsed();
    assert!(waited >= Duration::from_secs(3), "after 1 and 2 seconds: {waited:?}");
    let log = daemon.wait_for_log("reading Xen 4.17.0 every 3600s");
    assert_eq!(log.matches("xenstat_init failed").count(), 1, "{log}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

#[test]
fn start_waits_for_the_library() {
    let scratch = Scratch::new();
    let library = scratch.join("libxenstat.so.4.17");
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    command.env("XENMONITOR_LIBXENSTAT", &library).env("XENMONITOR_WAIT_FOR_XEN", "1");
    let mut daemon = Daemon::start(command.args(["--interval", "50ms", "--statsd", "udp://127.0.0.1:9"]));
    daemon.wait_for_log("libxenstat cannot be loaded");
    symlink(shim(), &library).unwrap();
    daemon.wait_for_log("reading Xen 4.17.0");
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

/// libxenstat returns NULL many times, and then no domains: no gauges of domains are sent meanwhile, and no zeros.
#[test]
fn poll_failures_send_no_zeros() {
    let scratch = Scratch::new();
    let faults = "[[fault]]\nat = \"6..60\"\nfail = \"EIO\"\n[[fault]]\nat = \"60..70\"\nempty = true\n";
    let scenario = scratch.file("s.toml", &format!("{HOST}[[domain]]\nid = 3\nname = \"web\"\n{faults}"));
    let said = run(xenmonitor(&scenario).args(["--interval", "10ms", "--count", "50", "--print", "statsd"]));
    assert_eq!(said.status, Some(0), "{}", said.err);
    let all = |name: &str| said.out.lines().filter_map(|line| line.split_once(name).map(|line| line.1)).collect();
    let ups: Vec<bool> =
        answered_polls(&said.out).iter().map(|lines| lines.iter().any(|line| line.ends_with(".up:1|g"))).collect();
    assert!(ups.contains(&false) && ups.first() == Some(&true) && ups.last() == Some(&true), "{ups:?}");
    let (answered, errors): (Vec<&str>, Vec<&str>) = (all(".xenmonitor.poll_ms:"), all(".xenmonitor.poll_errors:"));
    let failed: usize = errors.last().unwrap().trim_end_matches("|g").parse().unwrap();
    let memory: Vec<&str> = all(".web.mem_k:");
    assert!(failed > 10 && memory.len() == answered.len() - failed, "{failed} of {}", answered.len());
    assert!(memory.iter().all(|line| *line == "524288|g"), "{memory:?}");
}

/// A log that cannot be written, and a standard output that cannot be written.
#[test]
fn stdout_and_log_on_a_full_disk() {
    let scratch = Scratch::new();
    let listener = Listener::new("127.0.0.1:0");
    let daemon = xenmonitor(&scratch.file("s.toml", HOST));
    // Option, redirection, exit code.
    for (more, redirected, status) in [
        ("", "2>/dev/full", 0),
        ("", "2>&-", 0),
        ("", ">&- 2>&- <&-", 0),
        ("--print json", ">/dev/full", 1),
        ("--print statsd", ">/dev/full", 1),
    ] {
        let mut shell = clean("sh");
        shell.args(["-c", &format!("\"$0\" \"$@\" {more} {redirected}")]);
        let mut command = behind(shell, &daemon);
        let said = run(command.args([
            "--interval",
            "1s",
            "--count",
            "3",
            "--max-datagram",
            "8932",
            "--statsd",
            &listener.url(),
        ]));
        assert_eq!(said.status, Some(status), "{more} {redirected}: {}", said.err);
        if status == 0 {
            assert_eq!(listener.pending().join("\n").matches("Domain-0.mem_k").count(), 3, "{redirected}");
        } else {
            let why = "xenmonitor: cannot write to standard output: No space left on device (os error 28)";
            assert_eq!(said.err.lines().last(), Some(why), "{more}");
            listener.pending();
        }
    }
}

/// A log that is not read delays nothing, not even the last line.
#[test]
fn log_that_is_not_read_delays_nothing() {
    let scratch = Scratch::new();
    let listener = Listener::new("127.0.0.1:0");
    for (fault, signal, status) in [("", true, 0), ("[[fault]]\nat = 30\nhang = true\n", false, 3)] {
        let (mut log, unread) = UnixStream::pair().unwrap();
        log.set_nonblocking(true).unwrap();
        while log.write(&[b'.'; 4096]).is_ok() {}
        log.set_nonblocking(false).unwrap();
        let mut command = xenmonitor(&scratch.file("s.toml", &format!("{HOST}{fault}")));
        command.args(["--interval", "10ms", "--log", "debug", "--poll-timeout", "1s", "--statsd", &listener.url()]);
        let mut daemon = Daemon::start_as_is(command.stderr(OwnedFd::from(log)));
        if signal {
            (0..20).for_each(|_| drop(listener.latest()));
            daemon.signal("TERM");
        }
        assert_eq!(daemon.wait_for_end(), Some(status));
        drop(unread);
    }
}

/// The wall clock is set forward by an hour and back by a day: polls and rates follow the monotonic clock.
#[test]
fn clock_changes_do_not_affect_polls_and_rates() {
    let scratch = Scratch::new();
    let host = format!("{HOST}cpu_ns = {{ start = \"1h\", per_second = \"250ms\" }}\n");
    let clock = scratch.file("clock", "+0\n");
    let library = out_of(clean("faketime").args(["-m", "-f", "+0", "printenv", "LD_PRELOAD"]));
    let mut command = xenmonitor(&scratch.file("s.toml", &host));
    command.env("LD_PRELOAD", library.trim()).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    command.env("FAKETIME_TIMESTAMP_FILE", &clock).env("FAKETIME_NO_CACHE", "1");
    let started = Instant::now();
    let mut daemon = Daemon::start(command.args(["--interval", "200ms", "--print", "json", "--log", "warn"]));
    let mut rates = Rates::since(started, Duration::from_millis(200));
    let mut hours = 0.0;
    for (set, ahead) in [("+0", 0.0), ("+1h", 1.0), ("-1d", -24.0), ("+0", 0.0)] {
        std::fs::rename(scratch.file("set", &format!("{set}\n")), &clock).unwrap();
        // Until a poll has the new time, and a percentage after that.
        let mut is_measured = false;
        while hours != ahead || !is_measured {
            let poll: Value = serde_json::from_str(&daemon.wait_for_line()).unwrap();
            is_measured = rates.check(&poll) && hours == ahead;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
            hours = ((poll["time"].as_f64().unwrap() - now) / 3600.0).round();
        }
    }
    daemon.signal("TERM");
    let said = daemon.end();
    assert_eq!((said.status, without_lateness(&said.err)), (Some(0), vec![]));
}

/// Checks that the CPU percentage of each poll is the CPU time since the previous one, divided by the elapsed time.
struct Rates {
    started: Instant,
    interval: Duration,
    polls: u32,
    /// The sum of the polls' elapsed times.
    passed: f64,
    cpu_sec: f64,
}

impl Rates {
    fn since(started: Instant, interval: Duration) -> Self {
        Self { started, interval, polls: 0, passed: 0.0, cpu_sec: 0.0 }
    }

    /// Returns whether there is a percentage. There is none if the durations of two calls differ too much.
    fn check(&mut self, poll: &Value) -> bool {
        let domain = &poll["domains"][0];
        let cpu_sec = domain["cpu_sec"].as_f64().unwrap();
        let used = cpu_sec - std::mem::replace(&mut self.cpu_sec, cpu_sec);
        self.polls += 1;
        let Some(elapsed) = poll["elapsed_sec"].as_f64() else { return false };
        self.passed += elapsed;
        // The first poll may have been late, but each one after it comes at a later deadline.
        let least = (self.interval * (self.polls - 2)).as_secs_f64() - 0.001;
        assert!(self.passed > least && self.passed < self.started.elapsed().as_secs_f64(), "{poll}");
        let Some(percent) = domain["cpu_percent"].as_f64() else { return false };
        assert!((percent / 100.0 * elapsed - used).abs() < 0.002, "{used} s in {elapsed}: {poll}");
        true
    }
}

/// A daemon that was stopped, as by a debugger or a suspended dom0: missed polls are counted, and the next rates are
/// over the whole time.
#[test]
fn rates_are_right_after_a_pause() {
    let scratch = Scratch::new();
    let host = format!("{HOST}cpu_ns = {{ start = \"1h\", per_second = \"250ms\" }}\n");
    let mut command = xenmonitor(&scratch.file("s.toml", &host));
    let mut rates = Rates::since(Instant::now(), Duration::from_millis(100));
    let mut daemon = Daemon::start(command.args(["--interval", "100ms", "--print", "json"]));
    let lines = Lines::of(&mut daemon);
    let next = || serde_json::from_str::<Value>(&lines.next()).unwrap();
    while !rates.check(&next()) {}
    daemon.signal("STOP");
    std::thread::sleep(Duration::from_millis(1500));
    daemon.signal("CONT");
    // The poll after the pause, and then one with a percentage.
    let mut paused = next();
    while paused["elapsed_sec"].as_f64().unwrap() < 1.4 {
        rates.check(&paused);
        paused = next();
    }
    rates.check(&paused);
    while !rates.check(&next()) {}
    daemon.signal("TERM");
    let said = daemon.end();
    let skipped: u32 = said.err.split_once(" skipped)").unwrap().0.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(skipped >= 13, "{}", said.err);
}

#[test]
fn signal_many_sighups_leak_nothing() {
    let scratch = Scratch::new();
    let listener = Listener::new("127.0.0.1:0");
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    let mut daemon =
        Daemon::start(command.args(["--interval", "10ms", "--max-datagram", "8932", "--statsd", &listener.url()]));
    daemon.wait_for_log("reading Xen");
    listener.datagram();
    let log = daemon.stderr.take().unwrap();
    let read = std::thread::spawn(move || std::io::read_to_string(log).unwrap());
    let descriptors = |daemon: &Daemon| std::fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count();
    let before = descriptors(&daemon);
    // The kernel merges pending signals, so that each storm is few signals: hence twenty of them.
    let storm = format!("for i in $(seq 500); do kill -HUP {}; done", daemon.id());
    for _ in 0..20 {
        out_of(clean("sh").args(["-c", &storm]));
        listener.latest();
    }
    assert!(descriptors(&daemon) <= before + 2, "{} then, {before} before", descriptors(&daemon));
    daemon.signal("TERM");
    let status = daemon.wait_for_end();
    let log = read.join().unwrap();
    assert_eq!(status, Some(0), "{log}");
    assert!(log.contains("reopening libxenstat and the destinations") && log.contains("exiting after "), "{log}");
}

/// No file descriptor is left for a library or a socket; once there are some, the daemon continues.
#[test]
fn descriptors_exhausted_are_waited_for() {
    let scratch = Scratch::new();
    let listener = Listener::new("127.0.0.1:0");
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    let mut daemon =
        Daemon::start(command.args(["--interval", "50ms", "--max-datagram", "8932", "--statsd", &listener.url()]));
    daemon.wait_for_log("reading Xen");
    listener.datagram();
    let pid = daemon.id().to_string();
    let limit = |most: &str| {
        out_of(clean("prlimit").args(["--pid", &pid, &format!("--nofile={most}:1024")]));
    };
    limit("3");
    daemon.signal("HUP");
    let mut log = String::new();
    while !(log.contains("xenstat_init failed") && log.contains("cannot reach")) {
        log += &daemon.wait_for_log("");
    }
    assert!(log.contains("Too many open files"), "{log}");
    limit("1024");
    daemon.wait_for_log("reading Xen");
    listener.skip_old();
    listener.datagram_with("Domain-0.");
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

/// A killed daemon leaves no files behind, and the next one starts.
#[test]
fn process_killed_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let listener = Listener::new("127.0.0.1:0");
    let scenario = scratch.file("s.toml", HOST);
    let home = scratch.join("home");
    std::fs::create_dir(&home).unwrap();
    for _ in 0..3 {
        let mut command = xenmonitor(&scenario);
        command.current_dir(&home).env("HOME", &home).env("TMPDIR", &home);
        let mut daemon =
            Daemon::start(command.args(["--interval", "50ms", "--max-datagram", "8932", "--statsd", &listener.url()]));
        listener.skip_old();
        listener.datagram_with("Domain-0.mem_k:");
        daemon.kill().unwrap();
        daemon.wait().unwrap();
    }
    assert_eq!(std::fs::read_dir(&home).unwrap().count(), 0);
}
