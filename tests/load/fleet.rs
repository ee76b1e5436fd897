//! Two hundred hosts, and with them one of 8000 domains, send to one server or to three.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::host;
use crate::peers::Nginx;
use crate::servers::{Npm, Server, free_port, wait_until};
use crate::support::{Daemon, Scratch, last_values, out_of, xenmonitor};

const HOSTS: usize = 200;

fn start_one(command: &mut Command) -> Daemon {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Daemon::start_for(Duration::from_secs(600), command)
}

/// Hosts that start at the same time and poll by the wall clock, as after a power cut. Each sends to the server that
/// `url` gives for its number.
fn start(scenario: &Path, name: &str, more: &[&str], url: impl Fn(usize) -> String) -> Vec<Daemon> {
    let daemon = |n| {
        let mut command = xenmonitor(scenario);
        command.args(["--align", "--interval", "10s", "--jitter", "10s"]).args(more);
        command.args(["--host", &format!("{name}{n}"), "--statsd", &url(n)]);
        start_one(&mut command)
    };
    (0..HOSTS).map(daemon).collect()
}

/// The names of all gauges that a host sends from its second poll on.
fn gauges_of(scenario: &Path, host: &str) -> BTreeSet<String> {
    let mut command = xenmonitor(scenario);
    last_values(&out_of(command.args(["--count", "2", "--interval", "1s", "--print", "statsd", "--host", host])))
        .into_keys()
        .collect()
}

/// The same for each of [`HOSTS`], by its number.
fn gauges_of_all(scenario: &Path, name: &str) -> Vec<BTreeSet<String>> {
    let of_one = gauges_of(scenario, "HOST");
    let rename = |n: usize| of_one.iter().map(|path| path.replacen(".HOST.", &format!(".{name}{n}."), 1)).collect();
    (0..HOSTS).map(rename).collect()
}

/// Asserts that this server has these gauges and no others. It shows what it has received a little later.
fn has_exactly(server: &Npm, expected: &BTreeSet<String>) {
    let gauges = server.await_gauges(expected.len());
    let missing: Vec<&String> = expected.iter().filter(|path| !gauges.contains_key(*path)).collect();
    let others: Vec<&String> = gauges.keys().filter(|path| !expected.contains(*path)).collect();
    let (url, few) = (server.url(), |paths: &[&String]| format!("{:?}", &paths[..paths.len().min(3)]));
    assert!(missing.is_empty(), "{url} lacks {} of {}: {}", missing.len(), expected.len(), few(&missing));
    assert!(others.is_empty(), "{url} has {} that it should not have: {}", others.len(), few(&others));
}

fn lost_nothing(server: &Npm) {
    assert_eq!((server.dropped(), server.bad_lines().trim()), (0, "messages.bad_lines_seen: 0"), "{}", server.url());
}

#[test]
fn load_fleet_of_two_hundred_hosts() {
    let scratch = Scratch::new();
    let server = Npm::start();
    let scenario = scratch.file("host.toml", &host(10));
    for daemon in start(&scenario, "xen", &["--count", "2", "--log", "warn"], |_| server.url()) {
        let said = daemon.end();
        assert_eq!((said.status, said.err.as_str()), (Some(0), ""));
    }
    lost_nothing(&server);
    has_exactly(&server, &gauges_of_all(&scenario, "xen").into_iter().flatten().collect());
}

/// Three servers, each of which has the same ports when it is started again.
struct Servers {
    ports: [(u16, u16); 3],
    running: [Option<Npm>; 3],
}

impl Servers {
    fn start() -> Self {
        let ports = std::array::from_fn(|_| (free_port(), free_port()));
        Self { ports, running: ports.map(|(port, management)| Some(Npm::start_at(port, management))) }
    }

    fn kill(&mut self, n: usize) {
        self.running[n] = None;
    }

    fn restart(&mut self, n: usize) {
        self.running[n] = Some(Npm::start_at(self.ports[n].0, self.ports[n].1));
    }

    fn running(&self) -> impl Iterator<Item = &Npm> {
        self.running.iter().flatten()
    }
}

/// The server that is killed.
const KILLED: usize = 1;

/// Each host sends to one of three servers, as the example for Ansible divides them.
#[test]
fn load_fleet_divided_over_three_servers() {
    let scratch = Scratch::new();
    let scenario = scratch.file("host.toml", &host(10));
    let mut servers = Servers::start();
    let urls = servers.ports.map(|(port, _)| format!("udp://127.0.0.1:{port}"));
    let mut daemons = start(&scenario, "xen", &[], |n| urls[n % 3].clone());
    // Those of the server that is killed.
    let wait_for_log = |daemons: &mut Vec<Daemon>, text: &str| {
        daemons.iter_mut().skip(KILLED).step_by(3).for_each(|daemon| drop(daemon.wait_for_log(text)));
    };
    wait_for_log(&mut daemons, "reading Xen");
    servers.kill(KILLED);
    wait_for_log(&mut daemons, &format!("metrics for {} are dropped: Connection refused", urls[KILLED]));
    servers.restart(KILLED);
    // This is logged after three whole polls.
    wait_for_log(&mut daemons, "without errors again");
    daemons.iter().for_each(|daemon| daemon.signal("TERM"));
    for (n, daemon) in daemons.into_iter().enumerate() {
        let said = daemon.end();
        assert_eq!(said.status, Some(0), "{}", said.err);
        // The hosts of other servers notice nothing.
        assert!(n % 3 == KILLED || !said.err.contains("Connection refused"), "{n}: {}", said.err);
    }
    let mut expected: [BTreeSet<String>; 3] = Default::default();
    gauges_of_all(&scenario, "xen").into_iter().enumerate().for_each(|(n, gauges)| expected[n % 3].extend(gauges));
    for (server, expected) in servers.running().zip(&expected) {
        lost_nothing(server);
        has_exactly(server, expected);
    }
}

/// All send to nginx, which passes the datagrams on to three servers.
#[test]
fn load_fleet_through_nginx() {
    let scratch = Scratch::new();
    let (small, large) = (scratch.file("small.toml", &host(10)), scratch.file("large.toml", &host(8000)));
    let mut servers = Servers::start();
    let nginx = Nginx::start(&servers.ports);
    // A host that sends from a new port would be another one, see there.
    let keep_port = ["--resolve-every", "1d"];
    let send = |name: &str| {
        for daemon in
            start(&small, name, &[&["--count", "2", "--log", "warn"], &keep_port[..]].concat(), |_| nginx.url())
        {
            let said = daemon.end();
            assert_eq!((said.status, said.err.as_str()), (Some(0), ""));
        }
        gauges_of_all(&small, name)
    };
    let mut command = xenmonitor(&large);
    command.args(["--interval", "1m", "--spread", "0.9", "--count", "2", "--host", "large", "--statsd", &nginx.url()]);
    let large_host = start_one(command.args(keep_port));
    let mut hosts = send("a");
    let said = large_host.end();
    assert!(said.status == Some(0) && said.err.contains(", 0 dropped"), "{}", said.err);
    hosts.push(gauges_of(&large, "large"));
    let at_each = at_each_server(&servers, &hosts, HOSTS + 1);
    assert!(at_each.iter().all(|hosts| *hosts > 0), "{at_each:?}");
    servers.running().for_each(lost_nothing);

    // nginx does not notice: what it passes to this server is lost.
    servers.kill(KILLED);
    let at_each = at_each_server(&servers, &send("b"), 1);
    assert!(at_each.iter().all(|hosts| *hosts > 0) && at_each.iter().sum::<usize>() < HOSTS, "{at_each:?}");
    servers.restart(KILLED);
    let at_each = at_each_server(&servers, &send("c"), HOSTS);
    assert!(at_each.iter().all(|hosts| *hosts > 0), "{at_each:?}");
    servers.running().for_each(lost_nothing);
    assert_eq!(nginx.dropped(), 0);
}

/// How many of these hosts each running server has, once they have all gauges of at least `least` hosts and of no other
/// host a part.
fn at_each_server(servers: &Servers, hosts: &[BTreeSet<String>], least: usize) -> Vec<usize> {
    let mut at_each = Err("nothing was asked".to_owned());
    wait_until(|| {
        at_each = ask_each_server(servers, hosts);
        at_each.as_ref().is_ok_and(|hosts| hosts.iter().sum::<usize>() >= least)
    });
    at_each.unwrap()
}

/// The same at present. It is an error if a server has only a part of a host, or if two servers have it.
fn ask_each_server(servers: &Servers, hosts: &[BTreeSet<String>]) -> Result<Vec<usize>, String> {
    let gauges: Vec<_> = servers.running().map(Server::gauges).collect();
    let mut at_each = vec![0; gauges.len()];
    for host in hosts {
        let found = gauges.iter().map(|gauges| host.iter().filter(|path| gauges.contains_key(*path)).count());
        let holders: Vec<(usize, usize)> = found.enumerate().filter(|(_, found)| *found > 0).collect();
        match holders[..] {
            [] => {}
            [(server, found)] if found == host.len() => at_each[server] += 1,
            _ => return Err(format!("(server, gauges): {holders:?}, of {}, as {:?}", host.len(), host.first())),
        }
    }
    Ok(at_each)
}
