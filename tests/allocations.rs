//! Polls of a host on which nothing changes allocate nothing for a domain, and little for those that stay if one comes
//! or goes. A program of its own, because the allocator counts for the whole process: it runs itself as the daemon.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use xenmonitor::cli::config::Config;
use xenmonitor::cli::options::Options;
use xenmonitor::daemon::{CaughtSignals, Daemon};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const NAMES: [&str; 2] =
    ["steady_polls_allocate_nothing_for_a_domain", "domains_that_stay_cost_little_when_others_change"];

const DOMAINS: u64 = 300;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--run-here") {
        return run_here(&arguments[1..]);
    }
    // Like other tests, run unless another name is given.
    let is_wanted =
        |name: &str| arguments.iter().all(|argument| argument.starts_with('-') || name.contains(argument.as_str()));
    for (name, test) in NAMES.into_iter().zip([steady, changing]) {
        if is_wanted(name) {
            test();
            println!("test {name} ... ok");
        }
    }
}

/// Runs the daemon in this process and prints how often it allocated.
fn run_here(arguments: &[String]) {
    let arguments = std::iter::once("xenmonitor".to_owned()).chain(arguments.iter().cloned());
    let options = Options::read(arguments, |_| None).unwrap();
    Daemon::new(Config::resolve(options, |_| None).unwrap()).unwrap().run(CaughtSignals::catch().unwrap()).unwrap();
    let stats = ALLOCATOR.stats();
    println!("{}", stats.allocations + stats.reallocations);
}

fn steady() {
    for more in [&[][..], &["--detail", "all"], &["--detail", "all", "--metrics", "v*", "--no-metrics", "*.rd"]] {
        // What grows once in a while, such as the buffer of all lines, is far less than one for a domain.
        let allocations = allocations(20, "", more);
        assert!(allocations < 20 * DOMAINS / 4, "{allocations} in 20 polls with {more:?}");
    }
}

/// At each poll a domain comes and another one goes.
fn changing() {
    let guest = |n: u64| format!("[[domain]]\nid = {}\nfrom_poll = {n}\nuntil_poll = {}\n", 1000 + n, n + 1);
    let guests: String = (0..50).map(guest).collect();
    for more in [&[][..], &["--detail", "all"]] {
        // What servers may take the name of each domain for.
        let allocations = allocations(20, &guests, more);
        assert!(allocations < 20 * DOMAINS * 4, "{allocations} in 20 polls with {more:?}");
    }
}

/// How often so many polls allocate, on a host with [`DOMAINS`] and these.
fn allocations(polls: u64, guests: &str, more: &[&str]) -> u64 {
    let scenario = std::env::temp_dir().join(format!("xenmonitor-allocations-{}.toml", std::process::id()));
    let host = format!(
        "[[domain]]\nid = 0\n[[domain]]\nid = 1\ncount = {}\nvcpus = 2\nstore = {{ \"memory/target\" = \"7\", \"data/meminfo_free\" = \"5\" }}\ncpu_ns = {{ per_poll = \"1ms\" }}\n\
         [[domain.network]]\nrbytes = {{ per_poll = 1000 }}\n\
         [[domain.vbd]]\nrd_reqs = {{ per_poll = 10 }}\n[[domain.vbd]]\nwr_reqs = {{ per_poll = 20 }}\n{guests}",
        DOMAINS - 1
    );
    std::fs::write(&scenario, host).unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("udp://{}", server.local_addr().unwrap());
    let library = shim();
    let count = |polls: u64| -> u64 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--run-here", "--interval", "20ms", "--count", &polls.to_string(), "--statsd", &url]);
        command.args(["--host", "h", "--log", "off", "--vifs", "libxenstat", "--libxenstat"]).arg(&library).args(more);
        let output = command.env("XENSTAT_SCENARIO", &scenario).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| panic!("{error}"))
    };
    let allocations = count(2 * polls).saturating_sub(count(polls));
    std::fs::remove_file(scenario).unwrap();
    allocations
}

fn shim() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
    let made = Command::new("make").args(["-s", "shim"]).current_dir(root).status();
    assert!(made.unwrap().success(), "make shim");
    target.join("shim/libxenstat.so")
}
