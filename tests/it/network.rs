//! Networks as they are: routers that fragment or drop, names with several addresses, peers that close connections.

use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{
    Daemon, PATIENCE, Said, Scratch, in_namespaces_of, out_of, run, scenario, with_files, xenmonitor,
};

const HOST: &str = "[[domain]]\nid = 0\nname = \"Domain-0\"\n";

/// The port that the next datagram comes from.
fn next_source(server: &UdpSocket) -> u16 {
    server.recv_from(&mut [0; 65536]).expect("a datagram").1.port()
}

fn bind(address: &str) -> UdpSocket {
    let server = UdpSocket::bind(address).unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    server
}

/// NAT treats all datagrams from one port alike: after a server has moved behind it, only another port finds it.
#[test]
fn udp_sends_from_a_new_port_after_a_refusal_and_at_each_look_up() {
    let scratch = Scratch::new();
    let server = bind("127.0.0.1:0");
    let address = server.local_addr().unwrap().to_string();
    let start = |resolve_every| {
        let mut command = xenmonitor(&scratch.file("s.toml", HOST));
        command.args(["--interval", "50ms", "--resolve-every", resolve_every, "--statsd"]);
        Daemon::start(command.arg(format!("udp://{address}")))
    };
    let mut daemon = start("1h");
    let first = next_source(&server);
    assert_eq!(next_source(&server), first);
    drop(server);
    daemon.wait_for_log("are dropped: Connection refused");
    let server = bind(&address);
    assert_ne!(next_source(&server), first);
    drop(daemon);

    // Though nothing is refused.
    let _daemon = start("1s");
    let mut sources = vec![next_source(&server)];
    let start = Instant::now();
    while sources.len() < 4 {
        assert!(start.elapsed() < PATIENCE, "{sources:?}");
        let source = next_source(&server);
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
}

/// A name with an address that nothing is read at, and a server that is away for a while.
#[test]
fn udp_goes_back_to_an_address_that_refused() {
    let scratch = Scratch::new();
    let hosts = scratch.file("hosts", "127.0.0.1 statsd.xenmonitor.invalid\n::1 statsd.xenmonitor.invalid\n");
    let (server, hole) = two_sockets();
    let port = server.local_addr().unwrap().port();
    let mut daemon = xenmonitor(&scratch.file("s.toml", HOST));
    let url = format!("udp://statsd.xenmonitor.invalid:{port}");
    daemon.args(["--interval", "50ms", "--resolve-every", "1s", "--statsd", &url]);
    let daemon = Daemon::start(&mut with_files(&daemon, &[(&hosts, "/etc/hosts")], &[], ""));
    next_source(&server);
    drop(server);
    next_source(&hole);
    let server = bind(&format!("127.0.0.1:{port}"));
    for _ in 0..20 {
        next_source(&server);
    }
    daemon.signal("TERM");
    let said = daemon.end();
    assert!(!said.err.contains("no longer dropped"), "nobody knows that: {}", said.err);
}

/// At one port of both loopback addresses.
fn two_sockets() -> (UdpSocket, UdpSocket) {
    let start = Instant::now();
    loop {
        let server = bind("127.0.0.1:0");
        let other = UdpSocket::bind(("::1", server.local_addr().unwrap().port()));
        if let Ok(other) = other {
            other.set_read_timeout(Some(PATIENCE)).unwrap();
            return (server, other);
        }
        assert!(start.elapsed() < PATIENCE);
    }
}

#[test]
fn check_tries_every_address() {
    let scratch = Scratch::new();
    let hosts = scratch.file("hosts", "127.0.0.1 statsd.xenmonitor.invalid\n::1 statsd.xenmonitor.invalid\n");
    let check = |port: u16| {
        let mut check = xenmonitor(&scenario("demo"));
        check.args(["--check", "--statsd", &format!("udp://statsd.xenmonitor.invalid:{port}")]);
        run(&mut with_files(&check, &[(&hosts, "/etc/hosts")], &[], ""))
    };
    let (server, other) = two_sockets();
    let port = server.local_addr().unwrap().port();
    drop(server);
    let said = check(port);
    assert_eq!(said.status, Some(0), "{}", said.out);
    for line in [
        format!(
            "destination       udp://statsd.xenmonitor.invalid:{port} at 127.0.0.1:{port}: Connection refused (os error \
             111); another address is used\n"
        ),
        format!("destination  ok   udp://statsd.xenmonitor.invalid:{port} at [::1]:{port}: no datagram was refused"),
    ] {
        assert!(said.out.contains(&line), "{line} is not in {}", said.out);
    }
    drop(other);
    let said = check(port);
    assert_eq!((said.status, said.out.matches("destination  BAD").count()), (Some(1), 2), "{}", said.out);
}

/// Serves connections one after another, in a thread.
fn serve(server: TcpListener, then: impl Fn(TcpStream) + Send + 'static) -> String {
    let url = format!("tcp://{}", server.local_addr().unwrap());
    std::thread::spawn(move || server.incoming().for_each(|stream| then(stream.unwrap())));
    url
}

/// As a proxy with nothing behind it: the kernel takes everything, and nobody reads it.
#[test]
fn tcp_counts_what_is_lost_with_the_connection() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", HOST);
    let send = |url: &str| {
        let mut command = xenmonitor(&scenario);
        run(command.args(["--interval", "300ms", "--count", "6", "--statsd", url]))
    };
    let server = || TcpListener::bind("127.0.0.1:0").unwrap();
    let late = Duration::from_millis(50);
    for url in [
        serve(server(), drop),
        serve(server(), move |stream| {
            std::thread::sleep(late);
            drop(stream);
        }),
    ] {
        let said = send(&url);
        let lines = said.err.matches(&format!("the connection to {url} broke, so metrics may be lost: ")).count();
        assert!((1..=3).contains(&lines), "once for each error: {}", said.err);
        let (sent, dropped) = counts(&said);
        // The server may close the last connection only after the exit.
        assert!(sent >= 6 && dropped + 1 >= sent, "{}", said.err);
        let nothing_reached = said.err.ends_with(&format!("nothing reached {url}\n"));
        assert_eq!((said.status, nothing_reached), (Some((dropped >= sent).into()), dropped >= sent), "{}", said.err);
    }
    // Everything was read: nothing is lost, and nothing is logged.
    let url = serve(server(), move |mut stream| {
        let _ = stream.read(&mut [0; 1]);
        stream.set_read_timeout(Some(late)).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let said = send(&url);
    let (_, dropped) = counts(&said);
    assert!(said.status == Some(0) && dropped == 0 && !said.err.contains("may be lost"), "{}", said.err);
}

/// What the line before the exit says was sent and dropped.
fn counts(said: &Said) -> (u64, u64) {
    let (_, counts) = said.err.split_once("; datagrams: ").unwrap_or_else(|| panic!("{}", said.err));
    let (sent, dropped) = counts.split_once(" sent, ").unwrap();
    (sent.parse().unwrap(), dropped.split(' ').next().unwrap().parse().unwrap())
}

/// Most of the polls are dropped, but the server got some of them.
#[test]
fn a_server_that_got_something_was_reached() {
    let scratch = Scratch::new();
    let path = scratch.join("statsd");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    let url = format!("unix://{}", path.display());
    let daemon = Daemon::start(command.args(["--interval", "100ms", "--count", "30", "--statsd", &url]));
    socket.recv(&mut [0; 9000]).unwrap();
    drop(socket);
    let said = daemon.end();
    let (sent, dropped) = counts(&said);
    assert!(sent > 0 && dropped > sent, "{}", said.err);
    assert_eq!(said.status, Some(0), "{}", said.err);

    // Whether the time is too short to send in depends on the machine; some arrives in any case.
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut command = xenmonitor(&scenario("many"));
    command.args(["--count", "20", "--interval", "10ms", "--max-datagram", "512", "--statsd"]);
    let said = run(command.arg(format!("udp://{}", server.local_addr().unwrap())));
    assert!(counts(&said).0 > 0, "{}", said.err);
    assert_eq!(said.status, Some(0), "{}", said.err);
}

/// A router on the way to the server, behind which packets may have 1420 bytes. A filter may drop what it says of that.
fn behind_a_narrow_router(command: &Command, scratch: &Path, is_filtered: bool) -> Command {
    // Writes the text that arrives to one file and the length of each datagram to another, until no more comes.
    const RECEIVE: &str = "use Socket; $| = 1; $SIG{ALRM} = sub { exit }; alarm 20; \
        socket(S, AF_INET6, SOCK_DGRAM, 0) && bind(S, pack_sockaddr_in6(8125, Socket::IN6ADDR_ANY)) or die; \
        open(T, q(>>), $ARGV[0]); select((select(T), $| = 1)[0]); \
        while (defined(recv(S, $b, 9000, 0))) { alarm 5; print T $b; print length($b), qq(\\n) }";
    let filter =
        "ip rule add pref 1 iif lo to 10.1.0.1 blackhole && ip -6 rule add pref 1 iif lo to fd77:1::1 blackhole";
    let script = format!(
        "mount -t tmpfs none /run && ip netns add r && ip netns add s && at() {{ n=$1; shift; \
         nsenter --net=/run/netns/$n \"$@\"; }} && ip link set lo up && \
         ip link add c0 type veth peer name r0 netns r && ip link add r1 netns r mtu 1420 type veth peer name s0 netns s && \
         at s ip link set s0 mtu 1420 && for n in r s; do at $n ip link set lo up; done && \
         ip addr add 10.1.0.1/24 dev c0 && ip -6 addr add fd77:1::1/64 dev c0 nodad && ip link set c0 up && \
         at r ip addr add 10.1.0.2/24 dev r0 && at r ip -6 addr add fd77:1::2/64 dev r0 nodad && at r ip link set r0 up && \
         at r ip addr add 10.2.0.2/24 dev r1 && at r ip -6 addr add fd77:2::2/64 dev r1 nodad && at r ip link set r1 up && \
         at s ip addr add 10.2.0.3/24 dev s0 && at s ip -6 addr add fd77:2::3/64 dev s0 nodad && at s ip link set s0 up && \
         at r sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding' && \
         ip route add default via 10.1.0.2 && ip -6 route add default via fd77:1::2 && \
         at s ip route add default via 10.2.0.2 && at s ip -6 route add default via fd77:2::2 && \
         at r sh -c '{filter}' && \
         {{ at s perl -e '{RECEIVE}' '{text}' >'{lengths}' 2>&1 & }} && \
         until at s grep -q :1FBD /proc/net/udp6; do sleep 0.05; done && ",
        filter = if is_filtered { filter } else { ":" },
        text = scratch.join("text").display(),
        lengths = scratch.join("lengths").display(),
    );
    with_files(command, &[], &["--net"], &script)
}

/// With some 60 datagrams, the last of which is short.
#[test]
fn udp_passes_a_path_with_a_small_mtu() {
    for (address, is_filtered, longest) in
        [("10.2.0.3", false, 1432), ("10.2.0.3", true, 1432), ("[fd77:2::3]", false, 1232), ("[fd77:2::3]", true, 1232)]
    {
        let scratch = Scratch::new();
        let mut command = xenmonitor(&scenario("many"));
        command.args(["--count", "2", "--interval", "1s", "--metrics", "cpu_sec,xenmonitor.*", "--print", "statsd"]);
        command.args(["--statsd", &format!("udp://{address}")]);
        let said = run(&mut behind_a_narrow_router(&command, &scratch, is_filtered));
        let case = format!("{address}, filtered: {is_filtered}");
        assert_eq!((said.status, counts(&said).1), (Some(0), 0), "{case}: {}", said.err);
        assert!(!said.err.contains("dropped:"), "{case}: {}", said.err);
        let read = |name| std::fs::read_to_string(scratch.join(name)).unwrap();
        let start = Instant::now();
        while read("text").len() < said.out.len() && start.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let (sent, arrived) = (said.out.lines().count(), read("text").lines().count());
        assert!(read("text") == said.out, "{case}: {arrived} of {sent} lines");
        let lengths: Vec<usize> = read("lengths").lines().map(|line| line.parse().unwrap()).collect();
        let most = lengths.iter().copied().max().unwrap();
        assert!(lengths.len() > 10 && most <= longest && most > longest - 80, "{case}: {lengths:?}");
    }
}

/// Some are lost before the router says so. It is logged once, and the next are shorter.
#[test]
fn udp_learns_what_a_path_takes() {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scenario("demo"));
    command.args(["--count", "6", "--interval", "1s", "--resolve-every", "1s", "--max-datagram", "1450"]);
    command.args(["--print", "statsd", "--statsd", "udp://[fd77:2::3]"]);
    let said = run(&mut behind_a_narrow_router(&command, &scratch, false));
    let words = "metrics for udp://[fd77:2::3]:8125 are dropped: too long for the path, which takes 1372 bytes\n";
    assert!(said.err.matches(words).count() == 1 && counts(&said).1 > 0, "{}", said.err);
    let lengths = std::fs::read_to_string(scratch.join("lengths")).unwrap();
    let most = lengths.lines().map(|line| line.parse().unwrap()).max().unwrap();
    assert!((1300..=1372).contains(&most), "{lengths}");
    let text = std::fs::read_to_string(scratch.join("text")).unwrap();
    let polls = |text: &str| text.matches("xenmonitor.up:1|g").count();
    assert!(polls(&text) >= 3 && said.out.ends_with(&text[text.len() - 2000..]), "{}: {}", polls(&text), said.err);
}

/// As when a firewall has forgotten the connection: nothing is acknowledged any more.
#[test]
fn tcp_counts_what_is_not_acknowledged() {
    const LISTEN: &str = "use Socket; alarm 40; socket(S, AF_INET, SOCK_STREAM, 0) && \
        bind(S, pack_sockaddr_in(8125, INADDR_ANY)) && listen(S, 9) or die; sleep 40";
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", HOST));
    command.args(["--interval", "1s", "--print", "json", "--statsd", "tcp://10.1.0.2"]);
    let script = format!(
        "mount -t tmpfs none /run && ip netns add s && ip link add c0 type veth peer name s0 netns s && \
         ip addr add 10.1.0.1/24 dev c0 && ip link set c0 up && ip netns exec s ip addr add 10.1.0.2/24 dev s0 && \
         ip netns exec s ip link set s0 up && {{ ip netns exec s perl -e '{LISTEN}' >'{log}' 2>&1 & }} && \
         until ip netns exec s grep -q :1FBD /proc/net/tcp; do sleep 0.05; done && ",
        log = scratch.join("log").display(),
    );
    let mut daemon = Daemon::start(&mut with_files(&command, &[], &["--net"], &script));
    daemon.wait_for_line();
    daemon.wait_for_line();
    let block = "ip netns exec s ip rule add pref 1 iif lo blackhole";
    out_of(&mut in_namespaces_of(&daemon, &["--net", "--mount"], block));
    daemon.wait_for_log("the connection to tcp://10.1.0.2:8125 broke, so metrics may be lost: Connection timed out");
    daemon.signal("TERM");
    let said = daemon.end();
    let (sent, dropped) = counts(&said);
    assert!(dropped >= 4 && dropped <= sent + 10, "{}", said.err);
}

#[test]
fn check_finds_a_path_with_a_small_mtu() {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scenario("demo"));
    command.args(["--check", "--statsd", "udp://10.2.0.3"]);
    let said = run(&mut behind_a_narrow_router(&command, &scratch, false));
    let advice = "; the path takes 1392 bytes in one piece, not 1432: --max-datagram 1392 avoids fragments\n";
    assert!(said.status == Some(0) && said.out.contains(advice), "{}{}", said.out, said.err);
}
