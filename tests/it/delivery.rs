//! Delivery: pacing, servers that fail or do not read, TCP and unix sockets, name resolution, the schedule.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::servers::{Npm, Server, free_port};
use crate::support::{
    Daemon, Lines, Listener, PATIENCE, Scratch, behind, clean, in_network_of, last_values, out_of, run, scenario,
    with_files, without_lateness, xenmonitor,
};

const HOST: &str = "[[domain]]\nid = 0\nname = \"Domain-0\"\n";

/// What the last line of the log says was sent and dropped.
fn sent_and_lost(log: &str) -> (usize, usize) {
    let said = log.lines().last().unwrap().split_once("; datagrams: ").unwrap_or_else(|| panic!("{log}")).1;
    let (sent, lost) = said.split_once(" sent, ").unwrap();
    (sent.parse().unwrap(), lost.split(' ').next().unwrap().parse().unwrap())
}

/// 500 domains are five times what a default receive buffer holds.
#[test]
fn delivery_of_500_domains_is_complete() {
    let scratch = Scratch::new();
    let server = Npm::start();
    let scenario = scratch.file("s.toml", &format!("{HOST}[[domain]]\nid = 1\ncount = 500\nname = \"vm{{i}}\"\n"));
    let mut command = xenmonitor(&scenario);
    // Slow enough for a server on a busy machine.
    let said = run(command.args(["--count", "2", "--interval", "5s", "--print", "statsd", "--statsd", &server.url()]));
    let expected = last_values(&said.out);
    assert!(expected.len() > 500 * 20 && sent_and_lost(&said.err).0 > 150, "{}", said.err);
    let gauges = server.await_gauges(expected.len());
    assert!(gauges == expected, "{} of {}", gauges.len(), expected.len());
    assert_eq!((server.dropped(), sent_and_lost(&said.err).1), (0, 0));
}

/// The program exits after the last of them. strace shows that the sender waits after each burst, and until when, which
/// does not depend on the load of the machine.
#[test]
fn pacing_spreads_many_datagrams_over_time() {
    let (scratch, listener) = (Scratch::new(), Listener::new("127.0.0.1:0"));
    let trace = scratch.join("trace");
    let mut strace = clean("strace");
    strace.args(["-f", "-e", "trace=sendto,futex", "-o"]).arg(&trace);
    let mut command = xenmonitor(&scenario("many"));
    command.args(["--once", "--interval", "4s", "--spread", "0.9", "--print", "statsd", "--max-datagram", "1432"]);
    command.args(["--statsd", &listener.url()]);
    let reader = std::thread::spawn(move || {
        let mut datagrams = vec![listener.datagram()];
        while !datagrams.last().unwrap().contains("collector.vbd") {
            datagrams.push(listener.datagram());
        }
        datagrams
    });
    let said = run(&mut behind(strace, &command));
    let datagrams = reader.join().unwrap();
    assert_eq!(datagrams.concat(), said.out);
    assert_eq!(sent_and_lost(&said.err), (datagrams.len(), 0), "{}", said.err);
    let (bursts, waits) = bursts_and_waits(&std::fs::read_to_string(trace).unwrap());
    assert!(datagrams.len() > 100 && bursts.iter().sum::<usize>() == datagrams.len(), "{bursts:?}");
    assert!(bursts.iter().all(|burst| *burst <= 32), "{bursts:?}");
    // Over most of the interval, less the first and the last gap; a late burst may halve the next gap.
    let spread = waits.last().unwrap() - waits[0];
    assert!(spread > 0.8, "{spread} s: {waits:?}");
}

/// The numbers of datagrams that the sender sent between two waits, and the times until which it waited, in seconds.
fn bursts_and_waits(trace: &str) -> (Vec<usize>, Vec<f64>) {
    let line = |line: &'static str| move |text: &&str| text.contains(line);
    let sender = trace.lines().find(line(" sendto(")).expect("a datagram").split(' ').next().unwrap();
    let (mut bursts, mut waits) = (vec![0], Vec::new());
    for line in trace.lines().filter(|line| line.split(' ').next() == Some(sender)) {
        if line.contains(" sendto(") {
            *bursts.last_mut().unwrap() += 1;
        } else if let Some((_, moment)) = line.split_once("{tv_sec=") {
            let (seconds, rest) = moment.split_once(", tv_nsec=").unwrap();
            let nanoseconds = rest.split('}').next().unwrap();
            waits.push(seconds.parse::<f64>().unwrap() + nanoseconds.parse::<f64>().unwrap() / 1e9);
            bursts.push(0);
        }
    }
    (bursts, waits)
}

/// A receive buffer holds few large datagrams: 25 of 4095 bytes, 12 of 8932. This server reads only from time to time.
#[test]
fn pacing_limits_bursts_of_large_datagrams() {
    // Few enough domains for at most 32 datagrams.
    for (size, domains) in [("1432", "*0"), ("4095", "*[0-5]"), ("8932", "*")] {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let mut command = xenmonitor(&scenario("many"));
        command.args(["--host", "h", "--once", "--interval", "4s", "--print", "statsd", "--max-datagram", size]);
        command.args(["--include", domains, "--statsd", &format!("udp://{}", server.local_addr().unwrap())]);
        let sent = std::thread::spawn(move || run(&mut command));
        let mut text = String::new();
        loop {
            let over = sent.is_finished();
            std::thread::sleep(Duration::from_millis(40));
            let mut datagram = [0; 9000];
            while let Ok(length) = server.recv(&mut datagram) {
                text.push_str(std::str::from_utf8(&datagram[..length]).unwrap());
            }
            if over {
                break;
            }
        }
        let lines = |text: &str| text.lines().count();
        let sent = sent.join().unwrap().out;
        assert!(text == sent, "of {} lines in datagrams of {size} bytes {} arrived", lines(&sent), lines(&text));
    }
}

#[test]
fn pacing_logs_once_that_the_window_is_too_short() {
    let listener = Listener::new("127.0.0.1:0");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp_url = format!("tcp://{}", tcp.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in tcp.incoming() {
            let _ = std::io::copy(&mut stream.unwrap(), &mut std::io::sink());
        }
    });
    // Over TCP the sender waits for the reader, and nothing is logged.
    for (server, size, spread, words, times) in [
        (
            &*listener.url(),
            "512",
            "0.001",
            "too many datagrams for 1ms in bursts of 32: the server may drop some; lengthen --interval",
            1,
        ),
        (
            &*listener.url(),
            "512",
            "0",
            "more than 32 datagrams and --spread 0 sends them all at once: the server may drop",
            1,
        ),
        (&tcp_url, "512", "0.1", "may drop", 0),
        (&tcp_url, "8932", "0", "may drop", 0),
    ] {
        let mut command = xenmonitor(&scenario("many"));
        command.args(["--count", "3", "--interval", "1s", "--spread", spread, "--max-datagram", size]);
        let said = run(command.args(["--statsd", server]));
        assert_eq!(said.err.matches(words).count(), times, "{}", said.err);
        assert!(!said.err.contains("collectd"), "{}", said.err);
    }
}

/// They are spread over a minute; those that are not sent yet are counted as lost.
#[test]
fn pacing_does_not_delay_the_exit_by_a_signal() {
    let listener = Listener::new("127.0.0.1:0");
    let mut command = xenmonitor(&scenario("many"));
    let mut daemon =
        Daemon::start(command.args(["--interval", "1h", "--max-datagram", "512", "--statsd", &listener.url()]));
    daemon.wait_for_log("reading Xen");
    (0..8).for_each(|_| drop(listener.datagram()));
    daemon.signal("TERM");
    let said = daemon.end();
    let (sent, lost) = sent_and_lost(&said.err);
    assert!(said.status == Some(0) && sent >= 8 && lost > 50, "{}", said.err);
}

/// Ports that refuse, unknown names, missing sockets, servers that do not read: the working server gets every poll.
#[test]
fn delivery_to_one_server_is_not_delayed_by_others() {
    let scratch = Scratch::new();
    let listener = Listener::new("127.0.0.1:0");
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let deaf_socket = scratch.join("deaf");
    let _deaf_socket = UnixDatagram::bind(&deaf_socket).unwrap();
    let refused = free_port();
    let mut urls = vec![
        "udp://127.0.0.1:9".to_owned(),
        "udp://statsd.xenmonitor.invalid".into(),
        format!("tcp://127.0.0.1:{refused}"),
        format!("unix://{}/none", scratch.display()),
        format!("unix://{}", deaf_socket.display()),
        format!("tcp://{}", deaf.local_addr().unwrap()),
    ];
    let sick = urls.len();
    urls.push(listener.url());
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    command.args(["--count", "10", "--interval", "500ms", "--max-datagram", "8932", "--statsd", &urls.join(",")]);
    let daemon = Daemon::start(&mut command);
    // Every poll: one that was replaced by the next would be missing.
    for poll in 0..10 {
        let answered = std::iter::repeat_with(|| listener.datagram()).find(|text| text.contains("xenmonitor.poll_ms:"));
        let text = answered.unwrap();
        assert!(text.contains("Domain-0.mem_k:") && text.contains("xenmonitor.up:1|g"), "{poll}: {text}");
    }
    let said = daemon.end();
    // A server that received nothing makes it fail.
    assert_eq!(said.status, Some(1), "{}", said.err);
    for (url, words) in urls[..sick - 2].iter().zip(["metrics for ", "cannot reach ", "cannot reach ", "cannot reach "])
    {
        assert_eq!(said.err.matches(&format!("{words}{url}")).count(), 1, "{words}{url} in {}", said.err);
    }
    assert!(!said.err.contains(&format!("metrics for {}", listener.url())), "{}", said.err);
}

fn assert_whole_lines(text: &str) {
    for line in text.lines() {
        assert!(line.starts_with("xen.xen1_example_com.") && line.ends_with("|g"), "{line:?}");
    }
}

fn accept(listener: &TcpListener) -> BufReader<TcpStream> {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    BufReader::new(stream)
}

#[test]
fn tcp_server_that_returns_is_reconnected() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    let mut daemon = Daemon::start(command.args(["--interval", "100ms", "--statsd", &format!("tcp://{address}")]));
    let lines = |listener: &TcpListener| {
        let text: Vec<String> = accept(listener).lines().take(100).map(Result::unwrap).collect();
        assert_whole_lines(&text.join("\n"));
    };
    // The connection is closed twice, then the server is away for some time.
    lines(&listener);
    lines(&listener);
    drop(listener);
    daemon.wait_for_log(&format!("cannot reach tcp://{address}: Connection refused"));
    let listener = TcpListener::bind(address).unwrap();
    daemon.wait_for_log(&format!("connected to tcp://{address} at {address}"));
    let mut stream = accept(&listener);
    let mut text = String::new();
    stream.read_line(&mut text).unwrap();
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("|g\n"));
    assert_whole_lines(&text);
}

/// The buffers of server and kernel fill up; the daemon's memory does not grow.
#[test]
fn tcp_server_that_stops_reading_is_disconnected() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let mut command = xenmonitor(&scenario("many"));
    command.args(["--interval", "50ms", "--spread", "0", "--detail", "all", "--statsd", &url]);
    let mut daemon = Daemon::start(&mut command);
    let mut first = accept(&listener);
    daemon.wait_for_log("reading Xen");
    let before = resident_k(&daemon);
    daemon.wait_for_log(&format!("metrics for {url} are dropped: "));
    // Those after it too, if this reader is too slow for a while. What comes before such an end are whole lines.
    let later = std::iter::repeat_with(|| accept(&listener).lines().map_while(Result::ok)).flatten();
    // The metric has it at the next poll.
    let dropped = |line: &str| line.contains("xenmonitor.dropped_datagrams:").then(|| last_values(line));
    let mut counts = later.inspect(|line| assert_whole_lines(line)).filter_map(|line| dropped(&line));
    assert!(counts.any(|values| values.values().any(|dropped| *dropped > 100.0)));
    let growth = resident_k(&daemon) - before;
    assert!(growth < 8192, "{growth} KiB more");
    // The data of the first connection ends within a line, but all lines before are whole.
    let mut rest = Vec::new();
    let _ = first.read_to_end(&mut rest);
    let rest = String::from_utf8(rest).unwrap();
    assert_whole_lines(rest.rsplit_once('\n').map_or("", |(lines, _)| lines));
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

fn resident_k(daemon: &Daemon) -> i64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn unix_socket(path: &Path) -> UnixDatagram {
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 65536];
    let length = socket.recv(&mut buffer).expect("a datagram");
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// A socket is replaced while the first server still has its own open; it is removed, and created again. Exactly the
/// datagrams that are counted as sent are in the sockets.
#[test]
fn unix_socket_that_is_replaced_is_reopened() {
    let scratch = Scratch::new();
    let path = scratch.join("statsd");
    let first = unix_socket(&path);
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    let url = format!("unix://{}", path.display());
    let mut daemon = Daemon::start(command.args(["--interval", "200ms", "--statsd", &url]));
    let mut received = 0;
    let mut wait_for_poll = |socket: &UnixDatagram| loop {
        received += 1;
        if receive(socket).starts_with("xen.xen1_example_com.Domain-0.") {
            break;
        }
    };
    wait_for_poll(&first);
    std::fs::remove_file(&path).unwrap();
    let second = unix_socket(&path);
    wait_for_poll(&second);
    received += drain(&first);
    std::fs::remove_file(&path).unwrap();
    // It receives no more, so that its queue can be counted.
    second.shutdown(Shutdown::Read).unwrap();
    received += drain(&second);
    drop(second);
    daemon.wait_for_log(&format!("cannot reach {url}: No such file or directory"));
    let third = unix_socket(&path);
    daemon.wait_for_log(&format!("connected to {url}"));
    receive(&third);
    daemon.signal("TERM");
    let said = daemon.end();
    received += 1 + drain(&third);
    let (sent, lost) = sent_and_lost(&said.err);
    assert!(said.status == Some(0) && received == sent && lost > 0, "{received}: {}", said.err);
}

fn drain(socket: &UnixDatagram) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut count = 0;
    while socket.recv(&mut [0; 65536]).is_ok_and(|length| length > 0) {
        count += 1;
    }
    count
}

/// A unix socket queues few datagrams, then the sender waits. Datagrams that cannot be sent in time are dropped and
/// counted, and no others.
#[test]
fn unix_server_that_stops_reading_gets_the_latest_poll_later() {
    let scratch = Scratch::new();
    let socket = unix_socket(&scratch.join("statsd"));
    let url = format!("unix://{}/statsd", scratch.display());
    let mut command = xenmonitor(&scenario("many"));
    let mut daemon = Daemon::start(command.args(["--interval", "200ms", "--max-datagram", "1432", "--statsd", &url]));
    daemon.wait_for_log(&format!("metrics for {url} are dropped: the server does not read"));
    let reader = {
        let socket = socket.try_clone().unwrap();
        std::thread::spawn(move || {
            let datagrams = std::iter::from_fn(|| Some(receive(&socket)).filter(|datagram| !datagram.is_empty()));
            datagrams.collect::<Vec<_>>()
        })
    };
    daemon.wait_for_log(&format!("metrics for {url} are no longer dropped"));
    daemon.signal("TERM");
    let said = daemon.end();
    UnixDatagram::unbound().unwrap().send_to(&[], scratch.join("statsd")).unwrap();
    let datagrams = reader.join().unwrap();
    assert_whole_lines(&datagrams.concat());
    let (sent, lost) = sent_and_lost(&said.err);
    assert!(said.status == Some(0) && lost > 50 && sent == datagrams.len(), "{}: {}", datagrams.len(), said.err);
    let dropped = last_values(&datagrams.concat())["xen.xen1_example_com.xenmonitor.dropped_datagrams"];
    assert!(dropped > 50.0 && dropped <= lost as f64, "{dropped}: {}", said.err);
}

/// A network that drops all packets.
const VOID: &str = "ip link set lo up && ip link add d0 type veth peer name d1 && ip link set d1 up && \
                    ip link set d0 arp off up && ip addr add 10.1.0.1/24 dev d0 && ";

/// The value of one of the program's own gauges at the next poll.
fn next_own(lines: &Lines, gauge: &str) -> u64 {
    lines.skip_old();
    loop {
        if let Some((_, value)) = lines.next().split_once(&format!(".xenmonitor.{gauge}:")) {
            return value.trim_end_matches("|g").parse().unwrap();
        }
    }
}

/// Waits until one of the program's own gauges has grown by `more`.
fn wait_for_more(lines: &Lines, gauge: &str, more: u64) {
    let before = next_own(lines, gauge);
    while next_own(lines, gauge) < before + more {}
}

/// The server's name resolves to another address; then to none, and then the name servers do not answer: the last known
/// address remains in use.
#[test]
fn resolver_follows_a_name_to_its_new_address() {
    let scratch = Scratch::new();
    let hosts = scratch.file("hosts", "10.1.0.8 statsd\n");
    // A name server whose port refuses.
    let resolver = scratch.file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n");
    let mut daemon = xenmonitor(&scratch.file("s.toml", HOST));
    daemon.args(["--interval", "100ms", "--resolve-every", "1s", "--print", "statsd", "--statsd", "udp://statsd"]);
    let files = [(&*hosts, "/etc/hosts"), (&*resolver, "/etc/resolv.conf")];
    let mut daemon = Daemon::start(&mut with_files(&daemon, &files, &["--net"], VOID));
    let lines = Lines::of(&mut daemon);
    wait_for_more(&lines, "datagrams", 60);
    // Those of polls before the name was resolved.
    let dropped = next_own(&lines, "dropped_datagrams");
    std::fs::write(&hosts, "10.1.0.9 statsd\n").unwrap();
    let log = daemon.wait_for_log("now sending to udp://statsd:8125 at 10.1.0.9:8125");

    std::fs::write(&hosts, "").unwrap();
    wait_for_more(&lines, "datagrams", 60);
    std::fs::write(&resolver, "nameserver 10.1.0.53\noptions timeout:30\n").unwrap();
    let start = Instant::now();
    while !daemon.threads().contains(&"resolver".to_owned()) || start.elapsed() < Duration::from_secs(1) {
        assert!(start.elapsed() < PATIENCE);
        next_own(&lines, "datagrams");
    }
    wait_for_more(&lines, "datagrams", 60);
    assert!(daemon.threads().contains(&"resolver".to_owned()), "it still waits for the answer");
    let dropped = next_own(&lines, "dropped_datagrams") - dropped;
    daemon.signal("TERM");
    let said = daemon.end();
    assert_eq!((said.status, without_lateness(&said.err).len()), (Some(0), 1), "{}", said.err);
    // Nothing is lost, but on a machine so busy that the sender has no turn within an interval.
    let is_late = (log + &said.err).contains("are dropped: not sent before the next poll");
    assert!(dropped == 0 || is_late, "{dropped} lost: {}", said.err);
}

#[test]
fn delivery_resumes_after_a_link_was_down() {
    let scratch = Scratch::new();
    let mut daemon = xenmonitor(&scratch.file("s.toml", HOST));
    daemon.args(["--interval", "50ms", "--print", "statsd", "--statsd", "udp://10.1.0.9"]);
    let mut daemon = Daemon::start(&mut with_files(&daemon, &[], &["--net"], VOID));
    let lines = Lines::of(&mut daemon);
    while next_own(&lines, "datagrams") < 10 {}
    out_of(&mut in_network_of(&daemon, "ip link set d0 down"));
    daemon.wait_for_log("cannot reach udp://10.1.0.9:8125: Network is unreachable");
    // All datagrams are counted as dropped.
    wait_for_more(&lines, "dropped_datagrams", 20);
    out_of(&mut in_network_of(&daemon, "ip link set d0 up"));
    daemon.wait_for_log("sending to udp://10.1.0.9:8125 at 10.1.0.9:8125");
    wait_for_more(&lines, "datagrams", 20);
    daemon.signal("TERM");
    let said = daemon.end();
    let (sent, lost) = sent_and_lost(&said.err);
    assert!(said.status == Some(0) && sent >= 30 && lost >= 20, "{}", said.err);
}

/// With --align the time of polls depends on the wall clock, not on the start; with --jitter on the host's name, too.
#[test]
fn schedule_with_align_and_jitter_follows_the_wall_clock() {
    const DAY: u64 = 86_400;
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", HOST);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let start = |host: &str, more: &[&str]| {
        let mut command = xenmonitor(&scenario);
        Daemon::start(command.args(["--align", "--host", host, "--print", "json"]).args(more))
    };
    // The earliest and the latest second of the first poll, from the log.
    let first_poll = |host: &str, more: &[&str]| {
        let words = "the first poll is in ";
        let before = now();
        let log = start(host, &[&["--interval", "1d"], more].concat()).wait_for_log(words);
        let after = now();
        let wait = log.split_once(words).unwrap().1.split_once(", by --align").unwrap().0;
        let wait = humantime::parse_duration(wait).unwrap().as_secs();
        (before + wait, after + wait + 2)
    };
    let is_midnight = |(earliest, latest): (u64, u64)| (earliest - 1) / DAY < latest / DAY;
    let have_in_common = |one: (u64, u64), other: (u64, u64)| {
        (one.0..=one.1).any(|one| (other.0..=other.1).any(|other| one % DAY == other % DAY))
    };
    let jitter = &["--jitter", "1d"][..];
    let c = first_poll("c", jitter);
    assert!(is_midnight(first_poll("a", &[])));
    std::thread::sleep(Duration::from_secs(4));
    let again = first_poll("c", jitter);
    assert!(have_in_common(c, again), "{c:?} {again:?}");
    let a = first_poll("a", jitter);
    assert!(!have_in_common(c, a), "{c:?} {a:?}");

    // Polls are made at these times: at least one comes soon after the beginning of a second.
    for _ in 0..2 {
        let mut daemon = start("a", &["--interval", "1s"]);
        let mut poll = || serde_json::from_str::<Value>(&daemon.wait_for_line()).unwrap()["time"].as_f64().unwrap();
        while poll().fract() > 0.2 {}
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What a server says, and nobody reads here, does not cost it the end of what it was sent.
#[test]
fn tcp_server_that_sends_data_receives_everything() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let mut command = xenmonitor(&scenario("many"));
    let arguments = ["--once", "--spread", "0", "--statsd", &format!("tcp://{address}"), "--print", "statsd"];
    let reader = std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        stream.write_all(&[b'!'; 60]).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    let printed = out_of(command.args(arguments));
    assert_eq!(reader.join().unwrap().unwrap(), printed);
}

/// SIGHUP, which reopens the connection, loses nothing that was sent.
#[test]
fn tcp_reopen_on_sighup_loses_nothing() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", server.local_addr().unwrap());
    let mut command = xenmonitor(&scenario("many"));
    command.args(["--interval", "2s", "--count", "2", "--spread", "0", "--statsd", &url, "--print", "statsd"]);
    // Few enough metrics for a pipe that is read only at the end.
    command.args(["--metrics", "mem_k"]);
    let daemon = Daemon::start(&mut command);
    let mut text = String::new();
    for signal in [Some("HUP"), None] {
        let (mut stream, _) = server.accept().unwrap();
        stream.write_all(&[b'!'; 60]).unwrap();
        std::thread::sleep(Duration::from_millis(300));
        signal.into_iter().for_each(|signal| daemon.signal(signal));
        std::thread::sleep(Duration::from_millis(300));
        stream.read_to_string(&mut text).expect("all that was sent");
    }
    let said = daemon.end();
    assert!(text == said.out, "{} of {}: {}", text.len(), said.out.len(), said.err);
}
