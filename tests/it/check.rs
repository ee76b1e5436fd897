//! `--check` prints what a daemon would collect on this host, and what is missing.

use crate::support::{Listener, Said, Scratch, bare, run, scenario, shim, xenmonitor};

fn line<'a>(said: &'a Said, what: &str) -> &'a str {
    let line = said.out.lines().find(|line| line.starts_with(what));
    line.unwrap_or_else(|| panic!("no {what} in {}{}", said.out, said.err)).trim_start_matches(what).trim()
}

#[test]
fn check_succeeds_on_a_working_host() {
    let listener = Listener::new("127.0.0.1:0");
    let said = run(xenmonitor(&scenario("demo")).args(["--check", "--statsd", &listener.url()]));
    assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{}", said.out);
    assert_eq!(line(&said, "libxenstat"), format!("ok   {} (as named)", shim().display()));
    assert!(line(&said, "hypervisor").starts_with("ok   Xen 4.17.0, 16 CPUs; 5 domains read in "));
    assert_eq!(line(&said, "networks"), "ok   5, from libxenstat");
    assert!(line(&said, "disks").starts_with("ok   5, of which "));
    assert!(line(&said, "example").starts_with("xen.xen1_example_com.win2019.cpu_sec:"));
    assert!(line(&said, "destination").starts_with(&format!("ok   {}", listener.url())));
    // An empty datagram, to find out whether the port refuses it, and two of the size for this host, one of which may be
    // fragmented.
    let full = "\n".repeat(3700);
    assert_eq!(listener.pending(), ["", &full, &full]);
}

#[test]
fn check_reports_failures() {
    let scratch = Scratch::new();
    let host =
        "[host]\nxen_version = \"4.15.0\"\n[[domain]]\nid = 0\n[[fault]]\nif_asked = [\"VBD\"]\nfail = \"ENOENT\"\n";
    let said = run(xenmonitor(&scratch.file("s.toml", host)).args(["--check", "--statsd", "udp://127.0.0.1:9"]));
    assert_eq!(said.status, Some(1));
    assert!(said.err.contains("check failed: see the lines marked BAD"), "{}", said.err);
    assert!(said.out.contains("BAD  this release miscounts the sectors read from disks"), "{}", said.out);
    let omitted = "BAD  omitted: xenstat_get_node failed: No such file or directory (os error 2)";
    assert_eq!(line(&said, "disks"), omitted);
    assert_eq!(line(&said, "destination"), "BAD  udp://127.0.0.1:9 at 127.0.0.1:9: Connection refused (os error 111)");

    let said = run(bare().args(["--check", "--print", "table", "--libxenstat", "/nonexistent"]));
    assert_eq!(said.status, Some(1));
    assert!(line(&said, "libxenstat").starts_with("BAD  libxenstat cannot be loaded: /nonexistent"), "{}", said.out);
}

#[test]
fn check_tries_every_kind_of_destination() {
    let scratch = Scratch::new();
    let udp = Listener::new("127.0.0.1:0");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let path = scratch.join("statsd");
    let unix = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = tcp.local_addr().unwrap();
    let (unix_url, udp_url) = (format!("unix://{}", path.display()), udp.url());
    let at = &udp_url["udp://".len()..];
    let cases = [
        (udp_url.clone(), format!("ok   {udp_url} at {at}: no datagram was refused (UDP reports nothing else)")),
        (format!("tcp://{address}"), format!("ok   tcp://{address} at {address}: connected (TCP does not report")),
        (unix_url.clone(), format!("ok   {unix_url}: accepts datagrams")),
        (format!("tcp://{gone}"), format!("BAD  tcp://{gone} at {gone}: Connection refused (os error 111)")),
        ("unix:///none".into(), "BAD  unix:///none: No such file or directory (os error 2)".into()),
        ("udp://x.invalid".into(), "BAD  udp://x.invalid:8125: failed to lookup address information".into()),
    ];
    let mut command = xenmonitor(&scenario("demo"));
    command.arg("--check");
    for (url, _) in &cases {
        command.args(["--statsd", url]);
    }
    let said = run(&mut command);
    assert_eq!(said.status, Some(1), "{}", said.err);
    let lines = said.out.lines().filter_map(|line| line.strip_prefix("destination  ")).collect::<Vec<_>>();
    assert_eq!(lines.len(), cases.len(), "{}", said.out);
    for (line, (_, expected)) in lines.iter().zip(&cases) {
        assert!(line.starts_with(expected), "{expected:?} is not {line:?}");
    }
    let mut got = [0; 100];
    let length = unix.recv(&mut got).unwrap();
    assert_eq!(length, 0);
}

/// The check fails if no metric would be sent, or less than xentop shows.
#[test]
fn check_reports_unmatched_patterns_and_missing_devices() {
    let check =
        |arguments: &[&str]| run(xenmonitor(&scenario("demo")).args(["--check", "--print", "table"]).args(arguments));
    let said = check(&["--include", "x*", "--metrics", "cpu_foo"]);
    assert_eq!(said.status, Some(1));
    for word in ["BAD  --include 'x*' matches no running domain", "BAD  --metrics 'cpu_foo' matches no metric"] {
        assert!(said.out.contains(word), "{word}: {}", said.out);
    }
    let said = check(&["--disks", "backends"]);
    assert_eq!(said.status, Some(1));
    assert!(line(&said, "disks").starts_with("BAD  0, of which 0 in error"), "{}", said.out);
}

/// It cannot show more than the kernel does, and is not safe in every release.
#[test]
fn check_does_not_ask_libxenstat_for_networks() {
    let scratch = Scratch::new();
    let fault = "[[fault]]\nif_asked = [\"NETWORK\"]\nhang = true\n";
    let scenario = scratch.file("s.toml", &format!("[[domain]]\nid = 0\n{fault}"));
    for arguments in [&["--check"][..], &["--once"]] {
        let said = run(xenmonitor(&scenario).env_remove("XENMONITOR_VIFS").args(["--print", "table"]).args(arguments));
        assert_eq!(said.status, Some(0), "{}{}", said.out, said.err);
    }
}

/// Without a use for vcpus, as by default, they are asked for by `--check` alone: one hypercall for each.
#[test]
fn collect_vcpus_only_where_they_are_wanted() {
    let scratch = Scratch::new();
    let fault = "[[fault]]\nif_asked = [\"VCPU\"]\nfail = \"EIO\"\n";
    let scenario = scratch.file("s.toml", &format!("[[domain]]\nid = 0\n{fault}"));
    let said = |arguments: &[&str]| run(xenmonitor(&scenario).args(["--once", "--print", "statsd"]).args(arguments));
    let by_default = said(&[]);
    assert_eq!((by_default.status, by_default.err.contains("vcpus")), (Some(0), false), "{}", by_default.err);
    assert!(!by_default.out.contains("collector.vcpu") && by_default.out.contains("collector.vif:1"));
    let detailed = said(&["--detail", "vcpus"]);
    assert!(detailed.out.contains("collector.vcpu:0|g"), "{}", detailed.out);
    assert!(detailed.err.contains("when asked for vcpus: their metrics are omitted"), "{}", detailed.err);
    let checked = run(xenmonitor(&scenario).args(["--check", "--print", "statsd"]));
    assert_eq!(checked.status, Some(0), "{}", checked.out);
    assert!(line(&checked, "vcpus").starts_with("omitted: xenstat_get_node failed: Input/output error"));
}

/// A hung xenstored does not hang the check.
#[test]
fn check_reports_a_hanging_library() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", "[[domain]]\nid = 0\n[[fault]]\nhang = true\n");
    let said = run(xenmonitor(&scenario).args(["--check", "--print", "table"]));
    assert_eq!(said.status, Some(1));
    let cause = "dom0 is overloaded, or what libxenstat reads hangs (xenstored?)";
    assert_eq!(line(&said, "libxenstat"), format!("BAD  no answer within 10s: {cause}"));
}

/// Only the comparison with xentop is too slow: xentop is not said to fail.
#[test]
fn check_does_not_take_a_time_out_for_a_failure() {
    let scratch = Scratch::new();
    let host = "[[domain]]\nid = 0\n[[fault]]\nif_asked = [\"VBD\"]\nhang = true\n";
    let mut command = xenmonitor(&scratch.file("s.toml", host));
    let said = run(command.args(["--check", "--print", "table", "--disks", "backends"]));
    let not_compared = "not compared with xentop: no answer from libxenstat within 10s";
    assert!(line(&said, "disks").ends_with(&format!("the kernel; {not_compared}")), "{}", said.out);
    assert!(line(&said, "disks").starts_with("ok   "), "{}", said.out);
    assert_eq!(said.status, Some(0), "{}", said.out);
}
