//! The gauges that a real statsd server receives.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;

use xenmonitor::metrics::catalogue;

use crate::servers::{Npm, Server};
use crate::support::{Listener, Scratch, last_values, out_of, run, shim, xenmonitor};

/// Domain-0 without a memory limit, and a guest with a space in its name and one of two disks in error.
const HOST: &str = r#"
[host]
tot_mem = 8589934592
free_mem = 2147483648

[[domain]]
id = 0
name = "Domain-0"
state = ["running"]
cpu_ns = { start = 93418061500000, per_poll = 61250000 }
vcpus = 4
cur_mem = 2147483648
max_mem = "no limit"

[[domain]]
id = 7
name = "build server"
state = ["blocked", "paused"]
cpu_ns = { start = 5000000000, per_poll = 1500000000 }
vcpus = 2
cur_mem = 1073741824
max_mem = 1074790400
ssid = 9
[[domain.network]]
rbytes = { start = 10240, per_poll = 1024 }
tbytes = { start = 1048576, per_poll = 2000 }
[[domain.network]]
rbytes = 512
tbytes = 0
[[domain.vbd]]
oo_reqs = 3
rd_reqs = { start = 100, per_poll = 11 }
wr_reqs = { start = 200, per_poll = 7 }
rd_sects = 4096
wr_sects = 8192
[[domain.vbd]]
error = true
rd_reqs = 5
"#;

/// Two polls of it, by hand from the numbers above. A metric that is not here is compared with what is printed.
const GAUGES: &[(&str, &str)] = &[
    ("Domain-0.cpu_percent", "6.125"),
    ("Domain-0.cpu_sec", "93418.122"),
    ("Domain-0.mem_k", "2097152"),
    ("Domain-0.mem_percent", "25"),
    ("Domain-0.nets", "0"),
    ("Domain-0.netrx_k", "0"),
    ("Domain-0.nettx_k", "0"),
    ("Domain-0.ssid", "0"),
    ("Domain-0.state.blocked", "0"),
    ("Domain-0.state.crashed", "0"),
    ("Domain-0.state.dying", "0"),
    ("Domain-0.state.paused", "0"),
    ("Domain-0.state.running", "1"),
    ("Domain-0.state.shutdown", "0"),
    ("Domain-0.vbd_oo", "0"),
    ("Domain-0.vbd_rd", "0"),
    ("Domain-0.vbd_rsect", "0"),
    ("Domain-0.vbd_wr", "0"),
    ("Domain-0.vbd_wsect", "0"),
    ("Domain-0.vbds", "0"),
    ("Domain-0.vcpus", "4"),
    ("build_server.cpu_percent", "150"),
    ("build_server.cpu_sec", "6.5"),
    ("build_server.maxmem_k", "1049600"),
    ("build_server.maxmem_percent", "12.512"),
    ("build_server.mem_k", "1048576"),
    ("build_server.mem_percent", "12.5"),
    ("build_server.nets", "2"),
    ("build_server.netrx_k", "11"),
    ("build_server.nettx_k", "1025"),
    ("build_server.ssid", "9"),
    ("build_server.state.blocked", "1"),
    ("build_server.state.crashed", "0"),
    ("build_server.state.dying", "0"),
    ("build_server.state.paused", "1"),
    ("build_server.state.running", "0"),
    ("build_server.state.shutdown", "0"),
    ("build_server.vbd_oo", "3"),
    ("build_server.vbd_rd", "111"),
    ("build_server.vbd_rsect", "4096"),
    ("build_server.vbd_wr", "207"),
    ("build_server.vbd_wsect", "8192"),
    ("build_server.vbds", "2"),
    ("build_server.vcpus", "2"),
];

const HOSTS_GAUGES: &[(&str, &str)] = &[
    ("node.cpu_mhz", "2400"),
    ("node.cpu_percent", "156.125"),
    ("node.cpus", "16"),
    ("node.domains", "2"),
    ("node.domains_blocked", "1"),
    ("node.domains_crashed", "0"),
    ("node.domains_dying", "0"),
    ("node.domains_migrating", "0"),
    ("node.domains_paused", "0"),
    ("node.domains_running", "1"),
    ("node.domains_shutdown", "0"),
    ("node.mem_free_k", "2097152"),
    ("node.mem_percent", "75"),
    ("node.mem_total_k", "8388608"),
    ("node.mem_used_k", "6291456"),
    ("node.vcpus", "6"),
    ("node.xen_major", "4"),
    ("node.xen_minor", "17"),
    ("node.xen_patch", "0"),
    ("xenmonitor.collector.vbd", "1"),
    ("xenmonitor.collector.vif", "1"),
    ("xenmonitor.domains", "2"),
    ("xenmonitor.dropped_datagrams", "0"),
    ("xenmonitor.poll_errors", "0"),
    ("xenmonitor.send_errors", "0"),
    ("xenmonitor.skipped_polls", "0"),
    ("xenmonitor.poll_running_sec", "0"),
    ("xenmonitor.up", "1"),
];

/// Returns what is printed.
fn two_polls_to(server: &Npm, more: &[&str]) -> String {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("host.toml", &format!("clock_step = \"1s\"\n{HOST}")));
    // The first is sent, and counted, before the second begins.
    command.env("LD_PRELOAD", shim()).args([
        "--interval",
        "2s",
        "--count",
        "2",
        "--statsd",
        &server.url(),
        "--print",
        "statsd",
    ]);
    let said = run(command.args(more));
    assert_eq!(said.status, Some(0), "{}", said.err);
    said.out
}

#[test]
fn statsd_npm_server_has_every_gauge() {
    let server = Npm::start();
    let printed = last_values(&two_polls_to(&server, &[]));
    let gauges = server.await_gauges(printed.len());
    assert_eq!(gauges, printed);
    for (name, value) in GAUGES.iter().chain(HOSTS_GAUGES) {
        let name = format!("xen.xen1_example_com.{name}");
        assert_eq!(gauges.get(&name).copied(), value.parse().ok(), "{name} in {gauges:?}");
    }
    let known: BTreeSet<String> = catalogue().into_iter().map(|(name, ..)| name).collect();
    for name in gauges.keys().filter_map(|name| name.strip_prefix("xen.xen1_example_com.")) {
        let metric = ["Domain-0.", "build_server."].iter().find_map(|domain| name.strip_prefix(domain)).unwrap_or(name);
        assert!(known.contains(metric), "{name}");
    }
    // There is no limit.
    assert!(!gauges.keys().any(|name| name.contains("Domain-0.maxmem")), "{gauges:?}");
    assert_eq!(server.bad_lines().trim(), "messages.bad_lines_seen: 0");
}

#[test]
fn statsd_npm_server_has_the_legacy_layout() {
    let server = Npm::start();
    two_polls_to(&server, &["--layout", "legacy"]);
    let per_domain = [
        ("CPU_sec", "93418", "6"),
        ("CPU_percent", "6.125", "150"),
        ("MEM_k", "2097152", "1048576"),
        ("MEM_percent", "25", "12.5"),
        ("VCPUs", "4", "2"),
        ("Networks", "0", "2"),
        ("NET-TX_k", "0", "1025"),
        ("NET-RX_k", "0", "11"),
        ("Block-Devices", "0", "2"),
        ("VBD_Read", "0", "111"),
        ("VBD_Write", "0", "207"),
        ("VBD_Read-Sectors", "0", "4096"),
        ("VBD_Write-Sectors", "0", "8192"),
    ];
    let expected: BTreeMap<String, f64> = per_domain
        .iter()
        .flat_map(|(key, dom0, guest)| {
            let path = |vm: &str| format!("XenVms.xen1_example_com.{key}.{vm}");
            [(path("Domain-0-xen1-example-com"), *dom0), (path("build_server"), *guest)]
        })
        .map(|(path, value)| (path, value.parse().unwrap()))
        .collect();
    assert_eq!(server.await_gauges(expected.len()), expected);
    assert_eq!(server.bad_lines().trim(), "messages.bad_lines_seen: 0");
}

/// In both tag formats that it understands the keys are the same: `xen.mem_k;host=...;domain=...`.
#[test]
fn statsd_npm_server_has_the_tags() {
    for dialect in ["datadog", "graphite"] {
        let server = Npm::start();
        let printed = two_polls_to(&server, &["--tag-format", dialect, "--tag", "env=prod", "--detail", "vbds"]);
        let host = "host=xen1.example.com";
        let of_domains = GAUGES.iter().map(|(name, value)| {
            let (domain, metric) = name.split_once('.').unwrap();
            (format!("xen.{metric};{host};domain={domain};env=prod"), (*value).to_owned())
        });
        let of_host =
            HOSTS_GAUGES.iter().map(|(name, value)| (format!("xen.{name};{host};env=prod"), (*value).to_owned()));
        let disks = [("xvda", "rd", "111"), ("xvda", "error", "0"), ("xvdb", "error", "1")];
        let of_disks = disks.map(|(device, metric, value)| {
            (format!("xen.vbds.{metric};{host};domain=build_server;device={device};env=prod"), value.to_owned())
        });
        let all = of_domains.chain(of_host).chain(of_disks);
        let expected: BTreeMap<String, f64> = all.map(|(name, value)| (name, value.parse().unwrap())).collect();
        let name_and_tags = |line: &'_ str| {
            let (name, (_, tags)) =
                line.split_once(':').map(|(name, rest)| (name, rest.split_once("|g").unwrap())).unwrap();
            format!("{name}{tags}")
        };
        let names: BTreeSet<String> = printed.lines().map(name_and_tags).collect();
        let gauges = server.await_gauges(names.len());
        assert_eq!(gauges.len(), names.len(), "{gauges:?}");
        let missing: Vec<_> = expected.iter().filter(|(name, value)| gauges.get(*name) != Some(value)).collect();
        assert_eq!(missing, [], "{dialect}: {gauges:?}");
        assert_eq!(server.bad_lines().trim(), "messages.bad_lines_seen: 0");
    }
}

/// Lines of the tag formats that no server here reads.
#[test]
fn tags_of_formats_without_a_test_server() {
    let scratch = Scratch::new();
    let scenario =
        scratch.file("host.toml", "[[domain]]\nid = 1\nname = \"a,b|c:d=e f\"\n[[domain.vbd]]\nrd_reqs = 7\n");
    for (dialect, lines) in [
        (
            "influx",
            [
                "xen.vcpus,host=xen1.example.com,domain=a_b_c_d_e_f,env=prod:1|g",
                "xen.vbds.rd,host=xen1.example.com,domain=a_b_c_d_e_f,device=xvda,env=prod:7|g",
                "xen.node.cpus,host=xen1.example.com,env=prod:16|g",
            ],
        ),
        (
            "signalfx",
            [
                "xen.vcpus[host=xen1.example.com,domain=a_b_c_d_e_f,env=prod]:1|g",
                "xen.vbds.rd[host=xen1.example.com,domain=a_b_c_d_e_f,device=xvda,env=prod]:7|g",
                "xen.node.cpus[host=xen1.example.com,env=prod]:16|g",
            ],
        ),
    ] {
        let mut command = xenmonitor(&scenario);
        command.args(["--once", "--print", "statsd", "--detail", "vbds", "--tag-format", dialect, "--tag", "env=prod"]);
        let out = out_of(&mut command);
        for line in lines {
            assert!(out.lines().any(|printed| printed == line), "{line} is not in {out}");
        }
    }
}

#[test]
fn destination_ipv6_and_variables_of_other_clients() {
    let scratch = Scratch::new();
    let scenario = scratch.file("host.toml", HOST);
    let listener = Listener::new("[::1]:0");
    out_of(xenmonitor(&scenario).args(["--once", "--statsd", &listener.url()]));
    assert!(listener.datagram().starts_with("xen.xen1_example_com.Domain-0.state.running:1|g\n"));

    let listener = Listener::new("127.0.0.1:0");
    let url = listener.url();
    let mut command = xenmonitor(&scenario);
    command.env("STATSD_HOST", "127.0.0.1").env("STATSD_PORT", url.rsplit_once(':').unwrap().1);
    out_of(command.env("STATSD_PREFIX", "dc1").args(["--once", "--template", "{domain}.{metric}"]));
    assert!(listener.datagram().starts_with("dc1.Domain-0.state.running:1|g\n"));

    let starts_with = |listener: &Listener| {
        assert!(listener.datagram().starts_with("xen.xen1_example_com.Domain-0.state.running:1|g\n"));
    };
    let listener = Listener::new("127.0.0.1:0");
    let url = listener.url();
    let mut command = xenmonitor(&scenario);
    command.env("DD_AGENT_HOST", "127.0.0.1").env("DD_DOGSTATSD_PORT", url.rsplit_once(':').unwrap().1);
    out_of(command.arg("--once"));
    starts_with(&listener);

    let listener = Listener::new("127.0.0.1:0");
    let mut command = xenmonitor(&scenario);
    out_of(command.env("DD_DOGSTATSD_URL", listener.url()).env("DD_AGENT_HOST", "no.such.host").arg("--once"));
    starts_with(&listener);
}

/// With 301 domains, so that there are many datagrams.
#[test]
fn statsd_datagrams_are_whole_lines_within_the_limit() {
    let scenario = crate::support::scenario("many");
    // To a server on this host the size is 3700.
    for (size, arguments) in [(3700, &[][..]), (512, &["--max-datagram", "512"]), (8932, &["--max-datagram", "8932"])] {
        let listener = Listener::new("127.0.0.1:0");
        let mut command = xenmonitor(&scenario);
        command.args(["--once", "--spread", "0", "--print", "statsd", "--statsd", &listener.url()]).args(arguments);
        let said = run(&mut command);
        // There may be more than the receive buffer holds; those that arrived are enough.
        let datagrams = listener.pending();
        assert!(datagrams.len() > 10, "{} datagrams", datagrams.len());
        let longest = datagrams.iter().map(String::len).max().unwrap();
        assert!((size - 100..=size).contains(&longest), "{longest} of {size}");
        assert!(datagrams.iter().all(|datagram| datagram.ends_with("|g\n")));
        assert!(said.out.starts_with(&datagrams[..10].concat()), "what is printed is what is sent");
        let warning = "--max-datagram exceeds the 4095 bytes of a datagram that collectd reads";
        assert_eq!(said.err.contains(warning), size > 4095, "{}", said.err);
    }
}

/// The only datagram of each poll is refused, and each refusal is counted, also that of the last.
#[test]
fn delivery_refusals_are_logged_once_and_counted() {
    let scratch = Scratch::new();
    let scenario = scratch.file("host.toml", "[[domain]]\nid = 0\nname = \"Domain-0\"\n");
    let said = run(xenmonitor(&scenario).args([
        "--count",
        "8",
        "--interval",
        "300ms",
        "--statsd",
        "udp://127.0.0.1:9",
        "--layout",
        "legacy",
    ]));
    assert_eq!(said.err.matches("are dropped: Connection refused").count(), 1, "{}", said.err);
    assert!(!said.err.contains("without errors"), "{}", said.err);
    assert!(said.err.contains("datagrams: 8 sent, 8 dropped"), "{}", said.err);
    assert_eq!(said.status, Some(1));
}

/// A refused port is logged once, and a server that listens there later gets the gauges.
#[test]
fn delivery_recovers_from_a_refused_port() {
    let scratch = Scratch::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    drop(socket);
    let mut command = xenmonitor(&scratch.file("host.toml", HOST));
    let mut daemon =
        crate::support::Daemon::start(command.args(["--interval", "50ms", "--statsd", &format!("udp://{address}")]));
    daemon.wait_for_log(&format!("metrics for udp://{address} are dropped: Connection refused"));
    let listener = Listener::new(&address);
    listener.datagram_with("Domain-0.cpu_percent:");
    let log = daemon.wait_for_log(&format!("sending to udp://{address} at {address} without errors again"));
    assert!(!log.contains("are dropped: Connection refused"), "logged once: {log}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}
