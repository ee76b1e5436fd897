//! That what is sent arrives, whatever becomes of the servers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::servers::{Npm, Server, free_port};
use crate::support::{
    Daemon, Listener, PATIENCE, Scratch, in_network_of, last_values, out_of, run, scenario, with_files, xenmonitor,
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
fn every_gauge_of_500_domains_arrives() {
    let scratch = Scratch::new();
    let server = Npm::start();
    let scenario = scratch.file("s.toml", &format!("{HOST}[[domain]]\nid = 1\ncount = 500\nname = \"vm{{i}}\"\n"));
    let mut command = xenmonitor(&scenario);
    let said = run(command.args(["--count", "2", "--interval", "2s", "--print", "statsd", "--statsd", &server.url()]));
    let expected = last_values(&said.out);
    assert!(expected.len() > 500 * 20 && sent_and_lost(&said.err).0 > 300, "{}", said.err);
    let gauges = server.await_gauges(expected.len());
    assert!(gauges == expected, "{} of {}", gauges.len(), expected.len());
    assert_eq!((server.dropped(), sent_and_lost(&said.err).1), (0, 0));
}

/// And the end waits for the last of them.
#[test]
fn many_datagrams_are_spread_over_time() {
    let listener = Listener::new("127.0.0.1:0");
    let mut command = xenmonitor(&scenario("many"));
    command.args(["--once", "--interval", "2s", "--print", "statsd", "--statsd", &listener.url()]);
    let reader = std::thread::spawn(move || {
        let first = (Instant::now(), listener.datagram());
        let mut datagrams = vec![first];
        while !datagrams.last().unwrap().1.contains("collector.vbd") {
            datagrams.push((Instant::now(), listener.datagram()));
        }
        datagrams
    });
    let said = run(&mut command);
    let datagrams = reader.join().unwrap();
    assert_eq!(datagrams.iter().map(|(_, text)| text.as_str()).collect::<String>(), said.out);
    assert_eq!(sent_and_lost(&said.err), (datagrams.len(), 0), "{}", said.err);
    // Over a second, by what the options say; the last of many bursts goes a little before.
    let spread = datagrams.last().unwrap().0 - datagrams[1].0;
    assert!(datagrams.len() > 100 && spread > Duration::from_millis(500), "{} in {spread:?}", datagrams.len());
}

/// Of large datagrams a receive buffer holds few: 25 of 4095 bytes, 12 of 8932. This server reads only now and then.
#[test]
fn large_datagrams_are_not_too_many_at_once() {
    // So many domains that there are never more than 32 datagrams.
    for (size, domains) in [("1432", "*0"), ("4095", "*[0-5]"), ("8932", "*")] {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_nonblocking(true).unwrap();
        let mut command = xenmonitor(&scenario("many"));
        command.args(["--host", "h", "--once", "--interval", "1s", "--print", "statsd", "--max-datagram", size]);
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
fn too_many_datagrams_for_the_time_are_told_once() {
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
            "0.1",
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
        command.args(["--count", "5", "--interval", "10ms", "--spread", spread, "--max-datagram", size]);
        let said = run(command.args(["--statsd", server]));
        assert_eq!(said.err.matches(words).count(), times, "{}", said.err);
        assert!(!said.err.contains("collectd"), "{}", said.err);
    }
}

/// Spread over a minute; what is not out yet is counted.
#[test]
fn a_signal_does_not_wait_for_what_is_not_out() {
    let listener = Listener::new("127.0.0.1:0");
    let mut command = xenmonitor(&scenario("many"));
    let mut daemon = Daemon::start(command.args(["--interval", "1h", "--statsd", &listener.url()]));
    daemon.wait_for_log("reading Xen");
    listener.datagram();
    daemon.signal("TERM");
    let said = daemon.end();
    let (sent, lost) = sent_and_lost(&said.err);
    assert!(said.status == Some(0) && sent >= 8 && lost > 50, "{}", said.err);
}

/// Refused, unknown, not there, not reading: the one that is well gets every poll.
#[test]
fn servers_in_trouble_do_not_hold_up_others() {
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
    command.args(["--count", "16", "--interval", "200ms", "--statsd", &urls.join(",")]);
    let daemon = Daemon::start(&mut command);
    // Each poll by its own: what came in place of one that was not out would be missing.
    for poll in 0..16 {
        let text = listener.datagram() + &listener.datagram();
        assert!(text.contains("xenmonitor.up:1|g") && text.contains("skipped_polls:"), "{poll}: {text}");
    }
    let said = daemon.end();
    // A server that could be sent nothing makes it fail.
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
fn a_tcp_server_that_comes_back_is_connected_to() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    let mut daemon = Daemon::start(command.args(["--interval", "100ms", "--statsd", &format!("tcp://{address}")]));
    let lines = |listener: &TcpListener| {
        let text: Vec<String> = accept(listener).lines().take(100).map(Result::unwrap).collect();
        assert_whole_lines(&text.join("\n"));
    };
    // Closed in mid-stream, twice; then gone for a while.
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

/// Its buffers and the kernel's fill up; nothing of ours does.
#[test]
fn a_tcp_server_that_stops_reading_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let mut command = xenmonitor(&scenario("many"));
    command.args(["--interval", "50ms", "--spread", "0", "--detail", "all", "--statsd", &url]);
    let mut daemon = Daemon::start(&mut command);
    let mut first = accept(&listener);
    daemon.wait_for_log("reading Xen");
    let before = resident_k(&daemon);
    daemon.wait_for_log(&format!("metrics for {url} are dropped: "));
    let second = accept(&listener).lines().map(Result::unwrap);
    // It is told a poll later.
    let dropped = |line: &str| line.contains("xenmonitor.dropped_datagrams:").then(|| last_values(line));
    let told = second.inspect(|line| assert_whole_lines(line)).filter_map(|line| dropped(&line));
    assert!(told.flatten().any(|(_, dropped)| dropped > 100.0));
    let growth = resident_k(&daemon) - before;
    assert!(growth < 8192, "{growth} KiB more");
    // What the first still has ends somewhere in a line, but begins none that is not one.
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

/// Replaced by another server's while the first still has its own open; gone; and there again. Every datagram that
/// is said to be sent is in a socket, and no other.
#[test]
fn a_unix_socket_that_is_replaced_is_found() {
    let scratch = Scratch::new();
    let path = scratch.join("statsd");
    let first = unix_socket(&path);
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    let url = format!("unix://{}", path.display());
    let mut daemon = Daemon::start(command.args(["--interval", "50ms", "--print", "json", "--statsd", &url]));
    assert!(receive(&first).starts_with("xen.xen1_example_com.Domain-0."));
    let mut received = 1;
    std::fs::remove_file(&path).unwrap();
    let second = unix_socket(&path);
    assert!(receive(&second).starts_with("xen.xen1_example_com.Domain-0."));
    received += 1 + drain(&first);
    std::fs::remove_file(&path).unwrap();
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
    // What was in the second's queue when it was closed nobody can tell.
    assert!(
        said.status == Some(0) && (received..=received + 10).contains(&sent) && lost > 0,
        "{received}: {}",
        said.err
    );
}

fn drain(socket: &UnixDatagram) -> usize {
    socket.set_nonblocking(true).unwrap();
    let mut count = 0;
    while socket.recv(&mut [0; 65536]).is_ok() {
        count += 1;
    }
    count
}

/// A unix socket has room for few datagrams, and then the sender waits. What does not go in time is dropped and
/// counted, and nothing else is.
#[test]
fn a_unix_server_that_stops_reading_gets_the_latest_later() {
    let scratch = Scratch::new();
    let socket = unix_socket(&scratch.join("statsd"));
    let url = format!("unix://{}/statsd", scratch.display());
    let mut command = xenmonitor(&scenario("many"));
    let mut daemon = Daemon::start(command.args(["--interval", "200ms", "--statsd", &url]));
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

/// A network without an end: whatever is sent into it is gone.
const VOID: &str = "ip link set lo up && ip link add d0 type veth peer name d1 && ip link set d1 up && \
                    ip link set d0 arp off up && ip addr add 10.1.0.1/24 dev d0 && ";

/// The printed value of a gauge of the program's own, at the next poll.
fn next_own(daemon: &mut Daemon, gauge: &str) -> u64 {
    let start = Instant::now();
    loop {
        let line = daemon.wait_for_line();
        if let Some((_, value)) = line.split_once(&format!(".xenmonitor.{gauge}:")) {
            return value.trim_end().trim_end_matches("|g").parse().unwrap();
        }
        assert!(start.elapsed() < PATIENCE, "no {gauge}");
    }
}

/// The server's name is given another address; then none at all, and then the name servers do not answer: the
/// address it has is good enough.
#[test]
fn a_name_that_moves_is_followed() {
    let scratch = Scratch::new();
    let hosts = scratch.file("hosts", "10.1.0.8 statsd\n");
    // A name server in the void, and one that refuses.
    let resolver = scratch.file("resolv.conf", "nameserver 127.0.0.1\noptions timeout:30\n");
    let mut daemon = xenmonitor(&scratch.file("s.toml", HOST));
    daemon.args(["--interval", "50ms", "--resolve-every", "1s", "--print", "statsd", "--statsd", "udp://statsd"]);
    let files = [(&*hosts, "/etc/hosts"), (&*resolver, "/etc/resolv.conf")];
    let mut daemon = Daemon::start(&mut with_files(&daemon, &files, &["--net"], VOID));
    let sent = next_own(&mut daemon, "datagrams");
    let wait_for_more = |daemon: &mut Daemon, than: u64| while next_own(daemon, "datagrams") < than + 60 {};
    wait_for_more(&mut daemon, sent);
    std::fs::write(&hosts, "10.1.0.9 statsd\n").unwrap();
    daemon.wait_for_log("now connected to udp://statsd:8125 at 10.1.0.9:8125");

    std::fs::write(&hosts, "").unwrap();
    let sent = next_own(&mut daemon, "datagrams");
    wait_for_more(&mut daemon, sent);
    std::fs::write(&resolver, "nameserver 10.1.0.53\noptions timeout:30\n").unwrap();
    let start = Instant::now();
    while !threads(&daemon).contains(&"resolver".to_owned()) || start.elapsed() < Duration::from_secs(1) {
        assert!(start.elapsed() < PATIENCE);
        next_own(&mut daemon, "datagrams");
    }
    let sent = next_own(&mut daemon, "datagrams");
    wait_for_more(&mut daemon, sent);
    assert!(threads(&daemon).contains(&"resolver".to_owned()), "it still waits for the answer");
    assert_eq!(next_own(&mut daemon, "dropped_datagrams"), 0);
    daemon.signal("TERM");
    let said = daemon.end();
    assert_eq!((said.status, said.err.lines().count()), (Some(0), 1), "{}", said.err);
}

fn threads(daemon: &Daemon) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    tasks.filter_map(name).map(|name| name.trim().to_owned()).collect()
}

#[test]
fn a_link_that_goes_down_is_survived() {
    let scratch = Scratch::new();
    let mut daemon = xenmonitor(&scratch.file("s.toml", HOST));
    daemon.args(["--interval", "50ms", "--print", "statsd", "--statsd", "udp://10.1.0.9"]);
    let mut daemon = Daemon::start(&mut with_files(&daemon, &[], &["--net"], VOID));
    while next_own(&mut daemon, "datagrams") < 10 {}
    out_of(&mut in_network_of(&daemon, "ip link set d0 down"));
    daemon.wait_for_log("cannot reach udp://10.1.0.9:8125: Network is unreachable");
    let lost = next_own(&mut daemon, "dropped_datagrams");
    // All of every poll, as its own gauges say.
    while next_own(&mut daemon, "dropped_datagrams") < lost + 20 {}
    out_of(&mut in_network_of(&daemon, "ip link set d0 up"));
    daemon.wait_for_log("connected to udp://10.1.0.9:8125 at 10.1.0.9:8125");
    let sent = next_own(&mut daemon, "datagrams");
    while next_own(&mut daemon, "datagrams") < sent + 20 {}
    daemon.signal("TERM");
    let said = daemon.end();
    let (sent, lost) = sent_and_lost(&said.err);
    assert!(said.status == Some(0) && sent >= 30 && lost >= 20, "{}", said.err);
}

/// Where in the second polls are made: by the kernel's clock, whenever the program is started, and by the host's name.
#[test]
fn polls_keep_to_the_wall_clock() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", HOST);
    let started = Instant::now();
    let phase = |host: &str, more: &[&str], delay: u64| {
        std::thread::sleep(Duration::from_millis(delay).saturating_sub(started.elapsed()));
        let mut command = xenmonitor(&scenario);
        command.args(["--align", "--interval", "1s", "--count", "3", "--print", "json", "--host", host]);
        let out = out_of(command.args(more));
        let times = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["time"].as_f64().unwrap());
        // The best of three: on a loaded machine one may be late.
        times.map(f64::fract).fold(f64::INFINITY, f64::min)
    };
    let jitter = &["--jitter", "1s"][..];
    let phases = std::thread::scope(|scope| {
        let runs = [("a", &[][..], 0), ("a", &[], 500), ("c", jitter, 0), ("c", jitter, 500), ("a", jitter, 250)]
            .map(|(host, more, delay)| scope.spawn(move || phase(host, more, delay)));
        runs.map(|run| run.join().unwrap())
    });
    assert!(phases[0] < 0.2 && phases[1] < 0.2, "{phases:?}");
    assert!((phases[2] - phases[3]).abs() < 0.2, "{phases:?}");
    assert!((phases[2] - phases[4]).abs() > 0.2, "{phases:?}");
}

/// What a server says, and nobody reads here, does not cost it the end of what it was sent.
#[test]
fn a_server_that_talks_gets_everything() {
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

/// Nor what was on its way when the connection is made anew.
#[test]
fn a_hangup_loses_nothing_of_a_connection() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", server.local_addr().unwrap());
    let mut command = xenmonitor(&scenario("many"));
    command.args(["--interval", "2s", "--count", "2", "--spread", "0", "--statsd", &url, "--print", "statsd"]);
    // Little enough for a pipe that is read only at the end.
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
