//! Schedule, signals, failing polls, name resolution.

use std::time::Instant;

use serde_json::Value;

use crate::support::{
    Daemon, Lines, Listener, Scratch, assert_in_turn, behind, in_network_of, last_values, out_of, run, with_files,
    without_lateness, xenmonitor,
};

const HOST: &str = "[[domain]]\nid = 0\nname = \"Domain-0\"\n";

#[test]
fn signal_ends_the_program_within_an_interval() {
    for signal in ["TERM", "INT"] {
        let scratch = Scratch::new();
        let listener = Listener::new("127.0.0.1:0");
        let mut command = xenmonitor(&scratch.file("s.toml", HOST));
        command.args(["--interval", "1h", "--max-datagram", "1432", "--statsd", &listener.url()]);
        let mut daemon = Daemon::start(&mut command);
        // The first poll is made at once. It has two datagrams.
        listener.datagram();
        listener.datagram();
        daemon.wait_for_log("reading Xen 4.17.0 every");
        daemon.signal(signal);
        let said = daemon.end();
        assert_eq!(said.status, Some(0));
        assert!(
            said.err.contains(&format!("SIG{signal}: exiting after 1 poll (0 failed, 0 skipped); datagrams: 2 sent")),
            "{}",
            said.err
        );
    }
}

#[test]
fn signal_ends_the_program_during_a_hanging_poll() {
    let scratch = Scratch::new();
    let fault = "[[fault]]\nat = 1\nstderr = \"hanging\"\nhang = true\n";
    let mut command = xenmonitor(&scratch.file("s.toml", &format!("{HOST}{fault}")));
    let mut daemon = Daemon::start(command.args(["--interval", "20ms"]));
    daemon.wait_for_logs(&["hanging", "a poll takes longer than the interval of 20ms"]);
    daemon.signal("TERM");
    let said = daemon.end();
    assert_eq!(said.status, Some(0));
    assert!(said.err.contains("SIGTERM: exiting after 2 polls (0 failed, "), "{}", said.err);
    assert!(!said.err.contains("does not answer"), "logged once: {}", said.err);
}

#[test]
fn schedule_skips_and_counts_missed_polls() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", &format!("{HOST}[[fault]]\nat = 1\ndelay = \"450ms\"\n"));
    let mut daemon =
        Daemon::start(xenmonitor(&scenario).args(["--interval", "100ms", "--statsd", "udp://127.0.0.1:9"]));
    let (late, in_time) = ("skipping polls until it ends", "polls take less than the interval again");
    let log = daemon.wait_for_logs(&[late, in_time]);
    daemon.signal("TERM");
    let said = daemon.end();
    // Each is logged once, even if other polls are late, too.
    assert_in_turn(&(log + &said.err), late, in_time);
    let last = said.err.lines().last().unwrap();
    let skipped: u32 = last.split_once("(0 failed, ").unwrap().1.split_once(" skipped)").unwrap().0.parse().unwrap();
    assert!(said.status == Some(0) && skipped >= 4, "{last}");
}

/// Every poll is too slow, and every one fails: both are logged once.
#[test]
fn poll_slow_and_failing_is_logged_once() {
    let scratch = Scratch::new();
    let scenario =
        scratch.file("s.toml", &format!("{HOST}[[fault]]\nat = \"1..\"\ndelay = \"50ms\"\nfail = \"EIO\"\n"));
    let said = run(xenmonitor(&scenario).args(["--interval", "20ms", "--count", "8", "--print", "json"]));
    assert_eq!(said.status, Some(0));
    assert_eq!(said.err.lines().count(), 4, "start, slow, failing, exit: {}", said.err);
}

/// Each poll takes 20 ms: a loop that slept for the interval after each would be late by 600 ms after 30 polls. Skipped
/// intervals, as on a busy machine, are counted and are no drift, and neither is a single late poll.
#[test]
fn schedule_does_not_drift() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", &format!("{HOST}[[fault]]\ndelay = \"20ms\"\n"));
    let mut command = xenmonitor(&scenario);
    command.args(["--interval", "50ms", "--count", "50", "--print", "statsd", "--log", "off"]);
    let mut daemon = Daemon::start(command.args(["--metrics", "xenmonitor.poll_ms,xenmonitor.skipped_polls"]));
    let (start, mut is_answered, mut late) = (Instant::now(), false, Vec::new());
    while late.len() < 50 {
        let line = daemon.wait_for_line();
        is_answered |= line.contains("poll_ms");
        if let Some((_, skipped)) = line.split_once("skipped_polls:").filter(|_| std::mem::take(&mut is_answered)) {
            let skipped: u32 = skipped.trim_end().trim_end_matches("|g").parse().unwrap();
            late.push(start.elapsed().as_secs_f64() - 0.05 * (late.len() as f64 + f64::from(skipped)));
        }
    }
    let least = |polls: &[f64]| polls.iter().copied().fold(f64::INFINITY, f64::min);
    let drift = least(&late[40..]) - least(&late[..10]);
    assert!(drift.abs() < 0.3, "{drift} s after 30 polls: {late:?}");
}

#[test]
fn signal_sighup_reopens_the_library() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", HOST);
    let mut daemon = Daemon::start(xenmonitor(&scenario).args(["--interval", "50ms", "--print", "json"]));
    assert!(!daemon.wait_for_line().contains("newborn"));
    // The shim reads its scenario when a handle is opened.
    scratch.file("s.toml", &format!("{HOST}[[domain]]\nid = 5\nname = \"newborn\"\n"));
    daemon.signal("HUP");
    let start = Instant::now();
    while !daemon.wait_for_line().contains("newborn") {
        assert!(start.elapsed() < crate::support::PATIENCE);
    }
    daemon.signal("TERM");
    let said = daemon.end();
    assert_eq!(said.err.matches("reading Xen 4.17.0 every").count(), 2, "{}", said.err);
}

#[test]
fn poll_failure_is_logged_once_and_polling_continues() {
    let scratch = Scratch::new();
    // These count calls of libxenstat. The two failing polls make 3 and 2 of them.
    let faults = "[[fault]]\nat = \"1..6\"\nfail = \"EIO\"\n[[fault]]\nat = 8\nempty = true\n";
    let scenario = scratch.file("s.toml", &format!("{HOST}{faults}"));
    let said = run(xenmonitor(&scenario).args(["--interval", "20ms", "--count", "12", "--print", "json"]));
    assert_eq!((said.status, said.out.lines().count()), (Some(0), 9), "{}", said.err);
    assert_eq!(said.err.matches("xenstat_get_node failed: Input/output error").count(), 1, "{}", said.err);
    assert_eq!(said.err.matches("shows no domains, not even Domain-0").count(), 1, "{}", said.err);
    // After three good polls in a row.
    assert_eq!(said.err.matches("libxenstat answers again").count(), 1, "{}", said.err);
    assert!(said.err.contains("exiting after 12 polls (3 failed, "), "{}", said.err);
}

/// If libxenstat fails to collect a part, as without /sys/bus/xen-backend (fact 7), that part is unknown, not 0, and
/// the others are reported, in each combination.
#[test]
fn collect_omits_only_the_failing_collectors() {
    let scratch = Scratch::new();
    let host = "[[domain]]\nid = 1\nname = \"web\"\n[[domain.network]]\ntbytes = 4096\n[[domain.vbd]]\nrd_reqs = 7\n";
    for (faults, hint) in [(&["VBD"][..], "(they need /sys/bus/xen-backend"), (&["NETWORK"], ""), (&["VCPU"], "")]
        .into_iter()
        .chain([(&["VBD", "NETWORK"][..], ""), (&["NETWORK", "VCPU"], ""), (&["VBD", "NETWORK", "VCPU"], "")])
    {
        let faults_text = format!("[[fault]]\nif_asked = {faults:?}\nfail = \"ENOENT\"\n");
        let scenario = scratch.file("s.toml", &format!("{host}{faults_text}"));
        let said = run(xenmonitor(&scenario).args(["--interval", "10ms", "--count", "5", "--print", "json"]));
        assert_eq!((said.status, said.out.lines().count()), (Some(0), 5), "{}", said.err);
        for poll in said.out.lines() {
            let web = &serde_json::from_str::<Value>(poll).unwrap()["domains"][0];
            let or_null = |part: &str, value: u64| if faults.contains(&part) { Value::Null } else { value.into() };
            assert_eq!((&web["nettx_k"], &web["vbd_rd"]), (&or_null("NETWORK", 4), &or_null("VBD", 7)), "{faults:?}");
            for (list, part) in [("vif", "NETWORK"), ("vbd", "VBD"), ("vcpu", "VCPU")] {
                assert_eq!(web[list].is_null(), faults.contains(&part), "{list} with {faults:?}");
            }
            assert_eq!(web["vcpus"], 1);
        }
        assert_eq!(without_lateness(&said.err).len(), 3, "start, what is omitted, exit: {}", said.err);
        let cause = "xenstat_get_node failed: No such file or directory (os error 2) when asked for ";
        assert!(said.err.contains(cause) && said.err.contains(hint), "{}", said.err);
    }
}

/// The failing part is tried again at increasing distances, and logged when it works.
#[test]
fn collect_tries_failed_collectors_again() {
    let scratch = Scratch::new();
    let host = "[[domain]]\nid = 1\n[[domain.vbd]]\nrd_reqs = 7\n[[fault]]\nif_asked = [\"VBD\"]\nfail = \"ENOENT\"\n\
                stderr = \"asked\"\n";
    let polls = |at: &str, count: &str| {
        let scenario = scratch.file("s.toml", &format!("{host}at = {at}\n"));
        run(xenmonitor(&scenario).args(["--interval", "10ms", "--count", count, "--print", "json"]))
    };
    // At poll 0, and then after 1, 2, 4, 8, 16 polls, with several calls each time.
    let asked = polls("true", "40").err.matches("asked").count() - 1;
    assert!((12..=30).contains(&asked), "{asked} times");

    let said = polls("\"0..8\"", "14");
    let disks: Vec<Value> = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect();
    assert!(disks[0]["domains"][0]["vbd_rd"].is_null() && disks[13]["domains"][0]["vbd_rd"] == 7, "{}", said.err);
    assert_eq!(said.err.matches("their metrics are omitted").count(), 1, "{}", said.err);
    assert_eq!(said.err.matches("everything can be read again").count(), 1, "{}", said.err);
}

/// A failure that passes during a poll is not taken for that of a part.
#[test]
fn collect_passing_failure_omits_nothing() {
    let scratch = Scratch::new();
    let host = "[[domain]]\nid = 1\n[[domain.vbd]]\nrd_reqs = 7\n[[fault]]\nat = \"2..4\"\nfail = \"EIO\"\n";
    let said =
        run(xenmonitor(&scratch.file("s.toml", host)).args(["--interval", "10ms", "--count", "5", "--print", "json"]));
    for poll in said.out.lines() {
        assert_eq!(serde_json::from_str::<Value>(poll).unwrap()["domains"][0]["vbd_rd"], 7, "{}", said.err);
    }
    assert_eq!((said.out.lines().count(), without_lateness(&said.err).len()), (5, 2), "{}", said.err);
}

#[test]
fn exit_code_is_1_if_nothing_was_read() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", &format!("{HOST}[[fault]]\nfail = \"EIO\"\n"));
    let said = run(xenmonitor(&scenario).args(["--once", "--print", "json"]));
    assert_eq!((said.status, said.out.as_str()), (Some(1), ""));
    assert_eq!(said.err, "xenmonitor: xenstat_get_node failed: Input/output error (os error 5)\n");
}

/// Polls go on while the server's name cannot be resolved, and it is used once it can be: the daemon has its own
/// /etc/hosts, in which the name appears later.
#[test]
fn resolver_retries_until_the_name_is_found() {
    let scratch = Scratch::new();
    let listener = Listener::new("127.0.0.1:0");
    let port = listener.url().rsplit_once(':').unwrap().1.to_owned();
    let hosts = scratch.file("hosts", "127.0.0.1 localhost\n");
    let daemon = xenmonitor(&scratch.file("s.toml", HOST));
    let mut command = with_files(&daemon, &[(&hosts, "/etc/hosts")], &[], "");
    let url = format!("udp://statsd.xenmonitor.invalid:{port}");
    let mut daemon = Daemon::start(command.args(["--interval", "50ms", "--print", "json", "--statsd", &url]));
    let lines = Lines::of(&mut daemon);
    daemon.wait_for_log(&format!("cannot reach {url}: failed to lookup address"));
    lines.skip_old();
    lines.next();
    std::fs::write(&hosts, "127.0.0.1 statsd.xenmonitor.invalid\n").unwrap();
    let log = daemon.wait_for_log(&format!("sending to {url} at 127.0.0.1:{port}"));
    assert!(!log.contains("cannot reach"), "logged once: {log}");
    listener.datagram_with("Domain-0.mem_k:");
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

/// If both addresses of a name refuse, they are tried in turn, and that is logged once.
#[test]
fn resolver_tries_both_addresses_and_logs_once() {
    let scratch = Scratch::new();
    let hosts = scratch.file("hosts", "127.0.0.1 statsd.xenmonitor.invalid\n::1 statsd.xenmonitor.invalid\n");
    let daemon = xenmonitor(&scratch.file("s.toml", HOST));
    let mut command = with_files(&daemon, &[(&hosts, "/etc/hosts")], &[], "");
    let url = "udp://statsd.xenmonitor.invalid:9";
    let said = run(command.args(["--interval", "20ms", "--count", "20", "--statsd", url]));
    assert_eq!(said.err.matches("are dropped: Connection refused").count(), 1, "{}", said.err);
    assert!(!said.err.contains("now sending to"), "{}", said.err);
}

/// The log has a line for a late poll even if it is the last.
#[test]
fn poll_hanging_is_logged_even_if_it_is_the_last() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", &format!("{HOST}[[fault]]\nhang = true\n"));
    let mut command = xenmonitor(&scenario);
    let arguments = ["--once", "--interval", "1s", "--print", "json", "--statsd", "udp://127.0.0.1:9"];
    let mut daemon = Daemon::start(command.args(arguments));
    daemon.wait_for_log("a poll takes longer than the interval of 1s");
    daemon.signal("INT");
    let said = daemon.end();
    assert!(said.err.contains("SIGINT: exiting after 1 poll (0 failed, 0 skipped)"), "{}", said.err);
    assert_eq!(said.status, Some(0), "it is no fault of the server's: {}", said.err);
}

/// Log lines are written while the library is being opened.
#[test]
fn library_hanging_while_opened_is_logged() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", &format!("{HOST}[[init_fault]]\nhang = true\n"));
    let mut daemon = Daemon::start(xenmonitor(&scenario).args(["--interval", "20ms"]));
    daemon.wait_for_log("a poll takes longer than the interval of 20ms");
    daemon.signal("TERM");
    let said = daemon.end();
    assert!(said.status == Some(0) && said.err.contains("SIGTERM: exiting after"), "{}", said.err);
}

/// A signal ends the program although its loop is blocked in a write that is not read.
#[test]
fn signal_ends_the_program_in_a_blocked_write() {
    let mut daemon =
        Daemon::start(xenmonitor(&crate::support::scenario("many")).args(["--interval", "10ms", "--print", "json"]));
    daemon.wait_for_log("reading Xen");
    // The first poll prints more than a pipe holds.
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

/// So that cron notices it.
#[test]
fn exit_code_is_1_if_nothing_was_sent() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", HOST);
    let said = run(xenmonitor(&scenario).args(["--once", "--statsd", "udp://statsd.xenmonitor.invalid"]));
    assert_eq!(said.status, Some(1));
    assert_eq!(
        said.err.lines().last(),
        Some("xenmonitor: nothing reached udp://statsd.xenmonitor.invalid:8125"),
        "{}",
        said.err
    );
    // Unless there was nothing to send: a single poll has no CPU percentages.
    let nothing = ["--once", "--metrics", "cpu_percent", "--statsd", "udp://127.0.0.1:9"];
    let said = run(xenmonitor(&scenario).args(nothing));
    assert!(said.status == Some(0) && said.err.contains("datagrams: 0 sent, 0 dropped"), "{}", said.err);
}

/// A connected socket keeps its source address; when the host's address changes, a new socket is opened.
#[test]
fn delivery_continues_after_a_change_of_the_own_address() {
    let scratch = Scratch::new();
    let mut daemon = xenmonitor(&scratch.file("s.toml", HOST));
    daemon.args(["--interval", "50ms", "--statsd", "udp://10.1.0.9"]);
    daemon.args(["--print", "statsd", "--metrics", "xenmonitor.datagrams"]);
    let mut command = crate::support::clean("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c"]);
    command
        .arg("ip link add d0 type veth peer name d1 && ip link set d0 up && ip addr add 10.1.0.5/24 dev d0 && exec \"$0\" \"$@\"");
    let mut daemon = Daemon::start(&mut behind(command, &daemon));
    let lines = Lines::of(&mut daemon);
    daemon.wait_for_log("reading Xen");
    out_of(&mut in_network_of(&daemon, "ip addr del 10.1.0.5/24 dev d0"));
    daemon.wait_for_log("cannot reach udp://10.1.0.9:8125: Network is unreachable");
    out_of(&mut in_network_of(&daemon, "ip addr add 10.1.0.6/24 dev d0"));
    daemon.wait_for_log("sending to udp://10.1.0.9:8125 at 10.1.0.9:8125");
    let polls_later = || {
        lines.skip_old();
        let sent = || last_values(&lines.next())["xen.xen1_example_com.xenmonitor.datagrams"];
        let before = sent();
        while sent() < before + 5.0 {}
    };
    polls_later();
    // A change without a gap loses nothing.
    out_of(&mut in_network_of(&daemon, "ip addr add 10.1.0.7/16 dev d0 && ip addr del 10.1.0.6/24 dev d0"));
    polls_later();
    daemon.signal("TERM");
    let said = daemon.end();
    assert_eq!((said.status, without_lateness(&said.err).len()), (Some(0), 1), "{}", said.err);
}
