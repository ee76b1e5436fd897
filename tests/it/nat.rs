//! UDP servers that move behind a real NAT, and a route that changes. Both keep to what they did with datagrams from
//! one port, or from one address: beside the daemon a sender that keeps its socket shows that.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{Daemon, PATIENCE, Scratch, in_namespaces_of, out_of, with_files, xenmonitor};

const HOST: &str = "[[domain]]\nid = 0\nname = \"Domain-0\"\n";

/// Sends `old` to the router from one socket, as long as the first file exists; each time adds a byte to the second.
const OLD_SENDER: &str = "use Socket; socket(S, AF_INET, SOCK_DGRAM, 0) && \
    connect(S, pack_sockaddr_in(8125, inet_aton($ARGV[2]))) or die; open(F, q(>), $ARGV[1]); \
    while (-e $ARGV[0]) { send(S, qq(old\\n), 0); syswrite(F, q(.)); select(undef, undef, undef, 0.05) }";

/// Writes where each datagram comes from and what it is to the second file, as long as the first exists.
const SERVER: &str = "use Socket; socket(S, AF_INET, SOCK_DGRAM, 0) && bind(S, pack_sockaddr_in(8125, INADDR_ANY)) or die; \
    open(T, q(>), $ARGV[1]); while (-e $ARGV[0]) { $r = q(); vec($r, fileno(S), 1) = 1; \
    next unless select($r, undef, undef, 0.05); defined($f = recv(S, $b, 9000, 0)) or next; \
    ($p, $i) = sockaddr_in($f); $k = $b =~ /^old/ ? q(old) : q(metrics); syswrite(T, inet_ntoa($i) . qq( $k\\n)) }";

/// With a rule about connections, so that the kernel keeps track of them before a port is published.
const NAT: &str = "add table ip nat; add chain ip nat pre { type nat hook prerouting priority dstnat; }; \
    add chain ip nat track { type filter hook forward priority filter; }; add rule ip nat track ct state established accept";

/// The daemon's host, a router at 10.1.0.2 and 10.5.0.2, and behind it two containers: `a` at 10.3.0.2, `b` at 10.4.0.2.
struct Net {
    scratch: Scratch,
    daemon: Daemon,
}

impl Net {
    /// With a server in container `a` or none, and the router's port 8125 published there or not. `to`: where the
    /// daemon sends.
    fn start(server: Option<&str>, is_published: bool, to: &str, resolve_every: &str) -> Self {
        let scratch = Scratch::new();
        scratch.file("test", "");
        let mut command = xenmonitor(&scratch.file("s.toml", HOST));
        command.args(["--interval", "50ms", "--resolve-every", resolve_every, "--statsd"]);
        command.arg(format!("udp://{to}"));
        let serve = server.map(|container| serve(container, &scratch)).unwrap_or_default();
        let publish = if is_published { format!("{} && ", publish("10.3.0.2")) } else { String::new() };
        let script = format!(
            "{AT}mount -t tmpfs none /run && for n in r a b; do ip netns add $n && at $n ip link set lo up; done && \
             link() {{ ip link add $2 netns $1 type veth peer name $5 netns $4 && at $1 ip addr add $3/24 dev $2 && \
             at $4 ip addr add $6/24 dev $5 && at $1 ip link set $2 up && at $4 ip link set $5 up; }} && \
             ip link set lo up && ip netns attach h $$ && link h c0 10.1.0.1 r r0 10.1.0.2 && \
             link h c1 10.5.0.1 r r1 10.5.0.2 && link a a0 10.3.0.2 r ra 10.3.0.1 && link b b0 10.4.0.2 r rb 10.4.0.1 && \
             at r sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; \
             for c in all r0 r1; do echo 1 >/proc/sys/net/ipv4/conf/$c/rp_filter; done' && \
             ip route add default via 10.1.0.2 && at a ip route add default via 10.3.0.1 && \
             at b ip route add default via 10.4.0.1 && at r /usr/sbin/nft '{NAT}' && {publish}{serve}\
             {{ perl -e '{OLD_SENDER}' '{test}' '{old}' {to} >/dev/null 2>&1 & }} && \
             until [ -s '{old}' ]; do sleep 0.05; done && ",
            test = scratch.join("test").display(),
            old = scratch.join("old").display(),
        );
        let daemon = Daemon::start(&mut with_files(&command, &[], &["--net"], &script));
        Self { scratch, daemon }
    }

    fn run(&self, script: &str) {
        out_of(&mut in_namespaces_of(&self.daemon, &["--net", "--mount"], &format!("{AT}{script}")));
    }

    /// Ends the server in container `a`, and starts one in `b`, which the router's port is then published at.
    fn replace(&self) {
        self.end_server();
        self.run(&format!("{}{}", serve("b", &self.scratch), publish("10.4.0.2")));
    }

    fn end_server(&self) {
        let _ = std::fs::remove_file(self.scratch.join("a.run"));
        self.run("while at a grep -q :1FBD /proc/net/udp; do sleep 0.05; done");
    }

    /// What has come to a container: where each datagram came from, and whether it is the daemon's.
    fn arrived(&self, container: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.scratch.join(container)).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }

    /// Waits until `is_there` is true of what has come to a container.
    fn wait(&mut self, container: &str, is_there: impl Fn(&[String]) -> bool) -> Vec<String> {
        let start = Instant::now();
        loop {
            let arrived = self.arrived(container);
            if is_there(&arrived) {
                return arrived;
            }
            if self.daemon.try_wait().unwrap().is_some() {
                panic!("the daemon has ended: {}", self.daemon.wait_for_log("\n"));
            }
            let last = arrived.last();
            assert!(start.elapsed() < PATIENCE, "{} datagrams at {container}, {last:?} the last", arrived.len());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until metrics, and datagrams of the other sender, have come to container `a`.
    fn wait_for_both(&mut self) {
        self.wait("a", |lines| lines.iter().any(|line| is_old(line)) && lines.iter().any(|line| !is_old(line)));
    }

    /// Waits until many metrics have come to container `b`, and as many datagrams were sent by the other sender. None
    /// of those has arrived: NAT keeps to where the port went before.
    fn wait_for_metrics_alone(&mut self) {
        let file = self.scratch.join("old");
        let sent = || std::fs::metadata(&file).unwrap().len();
        let before = sent();
        let arrived = self.wait("b", |lines| lines.len() >= 20 && sent() > before + 20);
        assert!(!arrived.iter().any(|line| is_old(line)), "the NAT forgets: {arrived:?}");
    }
}

/// Runs a command in one of the namespaces.
const AT: &str = "at() { n=$1; shift; nsenter --net=/run/netns/$n \"$@\"; }; ";

fn publish(address: &str) -> String {
    format!(
        "at r /usr/sbin/nft \
         'flush chain ip nat pre; add rule ip nat pre iifname r0 udp dport 8125 dnat to {address}'"
    )
}

fn serve(container: &str, scratch: &Path) -> String {
    let run = scratch.join(format!("{container}.run"));
    std::fs::write(&run, "").unwrap();
    format!(
        "{{ {{ at {container} perl -e '{SERVER}' '{}' '{}'; }} >/dev/null 2>&1 & }} && \
         until at {container} grep -q :1FBD /proc/net/udp; do sleep 0.05; done && ",
        run.display(),
        scratch.join(container).display(),
    )
}

fn is_old(line: &str) -> bool {
    line.ends_with(" old")
}

#[test]
fn udp_finds_a_server_whose_port_is_published_later() {
    let mut net = Net::start(None, false, "10.1.0.2", "1h");
    net.daemon.wait_for_log("are dropped: Connection refused");
    net.run(&format!("{}{}", serve("b", &net.scratch), publish("10.4.0.2")));
    net.wait_for_metrics_alone();
}

/// The old one's address refuses.
#[test]
fn udp_finds_a_server_whose_container_is_replaced() {
    let mut net = Net::start(Some("a"), true, "10.1.0.2", "1h");
    net.wait_for_both();
    net.end_server();
    net.daemon.wait_for_log("are dropped: Connection refused");
    net.replace();
    net.wait_for_metrics_alone();
}

/// Nobody answers at the old one's address, so that nothing is refused.
#[test]
fn udp_finds_a_server_whose_container_has_gone() {
    let mut net = Net::start(Some("a"), true, "10.1.0.2", "1s");
    net.wait_for_both();
    net.run("at a ip link set a0 down");
    net.replace();
    net.wait_for_metrics_alone();
}

/// Over which the router takes only datagrams from its own network.
#[test]
fn udp_takes_a_better_route_with_the_address_of_that_route() {
    let mut net = Net::start(Some("a"), false, "10.3.0.2", "1s");
    net.wait_for_both();
    net.run("ip route add 10.3.0.0/16 via 10.5.0.2");
    let is_new = |line: &&String| line.starts_with("10.5.0.1 ");
    let arrived = net.wait("a", |lines| lines.iter().filter(is_new).count() >= 20);
    let after: Vec<&String> = arrived.iter().skip_while(|line| !is_new(line)).collect();
    assert!(after.iter().all(|line| *line == "10.5.0.1 metrics"), "{after:?}");
}
