//! Load tests: a large host and a fleet send to real servers with the kernel's default receive buffers, and everything
//! arrives. They take minutes and gigabytes (netdata has a chart for each gauge), so only `make test-load` runs them.

mod fleet;
mod peers;
#[path = "../it/servers.rs"]
mod servers;
#[allow(dead_code, reason = "the everyday tests need more of it")]
#[path = "../it/support.rs"]
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use peers::{Collectd, Netdata};
use servers::{Npm, Server};
use support::{Scratch, last_values, xenmonitor};

/// Domain-0 and this number of guests, each with two vcpus, networks and disks.
fn host(guests: u32) -> String {
    let counters = |names: &[&str]| -> String {
        let line = |(n, name): (usize, &&str)| {
            format!("{name} = {{ start = {}, per_domain = 1_013, per_poll = {} }}\n", 1_000_000 * (n + 1), 11 * (n + 1))
        };
        names.iter().enumerate().map(line).collect()
    };
    let vif = counters(&["rbytes", "rpackets", "rerrs", "rdrop", "tbytes", "tpackets", "terrs", "tdrop"]);
    let vbd = counters(&["oo_reqs", "rd_reqs", "wr_reqs", "rd_sects", "wr_sects"]);
    let guest = format!("[[domain.network]]\n{vif}[[domain.network]]\n{vif}[[domain.vbd]]\n{vbd}[[domain.vbd]]\n{vbd}");
    format!(
        "[host]\ntot_mem = \"64T\"\n[[domain]]\nid = 0\nname = \"Domain-0\"\nvcpus = 2\n\
         [[domain]]\nid = 1\ncount = {guests}\nname = \"web{{i}}\"\nvcpus = 2\n\
         cpu_ns = {{ start = \"9s\", per_domain = 7_777_777, per_second = \"100ms\" }}\n\
         cur_mem = {{ start = \"512M\", per_domain = 4096 }}\n{guest}"
    )
}

/// Sends two polls, as rates need two, to all these servers; then compares the gauges of each.
fn arrives(guests: u32, more: &[&str], gauges: usize, servers: &[&dyn Server]) {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("host.toml", &host(guests)));
    command.args(["--count", "2", "--print", "statsd"]).args(more);
    for server in servers {
        command.args(["--statsd", &server.url()]);
    }
    let said = support::run_for(Duration::from_secs(180), &mut command);
    let sent = last_values(&said.out);
    assert!(said.status == Some(0) && said.err.contains(", 0 dropped"), "{}", said.err);
    assert!(sent.len() >= gauges, "{} gauges", sent.len());
    for server in servers {
        let url = server.url();
        assert_eq!(server.dropped(), 0, "datagrams lost at {url}, {}", said.err);
        // collectd reports seven digits; netdata truncates the last decimal of some floats, and ignores case.
        let differs = |theirs: &BTreeMap<String, f64>| {
            let close = |one: f64, other: f64| (one - other).abs() <= (one.abs() * 1e-6).max(0.001_001);
            let their = |path: &str| theirs.get(path).or_else(|| theirs.get(&path.to_ascii_lowercase()));
            let differs = |(path, value): &(&String, &f64)| !their(path).is_some_and(|&got| close(**value, got));
            sent.iter().filter(differs).map(|(path, value)| (path.clone(), *value)).collect::<Vec<_>>()
        };
        // They show gauges at the end of their own interval.
        let mut missing = Vec::new();
        servers::wait_until(|| {
            missing = differs(&server.gauges());
            missing.is_empty()
        });
        assert!(missing.is_empty(), "{url} lacks {} of {}, as {:?}", missing.len(), sent.len(), &missing[0]);
    }
}

#[test]
fn load_eight_thousand_domains() {
    arrives(8000, &["--interval", "30s"], 8000 * 23, &[&Npm::start(), &Netdata::start()]);
}

/// Spread over nearly a minute: every ten seconds collectd forwards its 180 000 values, and does not read its socket
/// meanwhile.
#[test]
fn load_eight_thousand_domains_to_collectd() {
    arrives(8000, &["--interval", "1m", "--spread", "0.9"], 8000 * 23, &[&Collectd::start()]);
}

#[test]
fn load_two_thousand_domains_in_detail() {
    let more = ["--interval", "1m", "--spread", "0.9", "--detail", "all"];
    arrives(2000, &more, 2000 * 60, &[&Npm::start(), &Collectd::start(), &Netdata::start()]);
}
