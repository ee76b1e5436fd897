//! What a poll costs, compared with xentop and a script over it: ratios, each measured side by side in one run on the
//! fake libxenstat. `make bench` prints the table.

mod stand_ins;

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cadence::{Gauged, NopMetricSink, StatsdClient};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use xenmonitor::cli::config::Config;
use xenmonitor::cli::options::Options;
use xenmonitor::daemon::{CaughtSignals, Daemon};
use xenmonitor::statsd::batch::BatchWriter;

use stand_ins::{Scratch, in_namespaces, median, out_of, shim, xentop};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const XENMONITOR: &str = env!("CARGO_BIN_EXE_xenmonitor");

/// A ratio is the median of this many pairs of runs.
const PAIRS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        // For `cargo test --benches`.
        Some("--test") => return,
        Some("--run-here") => return run_here(&arguments[2..]),
        _ => {}
    }
    let bench = Bench::new();
    println!("| | measured | goal |\n|---|---|---|");
    gauges();
    bench.cpu();
    bench.growth();
    bench.allocations();
    bench.memory();
    bench.start();
    vifs(&bench.scratch);
}

/// Runs the daemon in this process and counts its allocations.
fn run_here(arguments: &[String]) {
    let arguments = std::iter::once("xenmonitor".to_owned()).chain(arguments.iter().cloned());
    let options = Options::read(arguments, |_| None).unwrap();
    Daemon::new(Config::resolve(options, |_| None).unwrap()).unwrap().run(CaughtSignals::catch().unwrap()).unwrap();
    let stats = ALLOCATOR.stats();
    println!("{}", stats.allocations + stats.reallocations);
}

/// A gauge written and packed, compared with cadence's client and a sink that discards it.
fn gauges() {
    const GAUGES: u32 = 200_000;
    let mut writer = BatchWriter::new(1432);
    let client = StatsdClient::from_sink("", NopMetricSink);
    let name = "xen.xen1_example_com.web-frontend-17.cpu_percent";
    let measure = |gauge: &mut dyn FnMut(f64)| {
        let allocations = || ALLOCATOR.stats().allocations + ALLOCATOR.stats().reallocations;
        let (start, before) = (Instant::now(), allocations());
        (0..GAUGES).for_each(|n| gauge(f64::from(n) + 0.125));
        let each = f64::from(GAUGES);
        (start.elapsed().as_nanos() as f64 / each, (allocations() - before) as f64 / each)
    };
    let batch = |_| {
        let measured = measure(&mut |value| writer.gauge(name, value));
        writer.take();
        measured
    };
    // The first two batches allocate what later ones reuse.
    let ours: Vec<_> = (0..PAIRS + 2).map(batch).skip(2).collect();
    let cadences: Vec<_> = (0..PAIRS).map(|_| measure(&mut |value| drop(client.gauge(name, value)))).collect();
    let nanoseconds = |of: &[(f64, f64)]| median(of.iter().map(|(nanoseconds, _)| *nanoseconds).collect());
    println!(
        "| writing and packing a gauge, relative to cadence's client | {:.2} x ({:.0} ns; {:.0} allocations beside {:.0}) | |",
        nanoseconds(&ours) / nanoseconds(&cadences),
        nanoseconds(&ours),
        ours[PAIRS - 1].1,
        cadences[PAIRS - 1].1
    );
}

struct Bench {
    scratch: Scratch,
    /// The library, in the directory where xentop finds it.
    shim: PathBuf,
    xentop: PathBuf,
    /// Never read: only the sender is measured.
    server: UdpSocket,
}

impl Bench {
    fn new() -> Self {
        Self {
            scratch: Scratch::new(),
            shim: shim().to_owned(),
            xentop: xentop(),
            server: UdpSocket::bind("127.0.0.1:0").unwrap(),
        }
    }

    /// A host with this many busy domains, each with a disk and a network card.
    fn scenario(&self, domains: usize) -> PathBuf {
        let host = format!(
            "[[domain]]\nid = 0\nname = \"Domain-0\"\nstate = [\"running\"]\ncpu_ns = {{ per_poll = \"250ms\" }}\nvcpus = 4\n\
             [[domain]]\nid = 1\ncount = {}\nname = \"vm{{i}}\"\nvcpus = 2\n\
             cpu_ns = {{ start = \"100s\", per_poll = \"150us\", per_domain = \"1s\" }}\n\
             [[domain.network]]\nrbytes = {{ start = 100000, per_poll = 1000 }}\ntbytes = {{ start = 5000, per_poll = 2000 }}\n\
             [[domain.vbd]]\nrd_reqs = {{ start = 1000, per_poll = 10 }}\nwr_reqs = {{ start = 1000, per_poll = 20 }}\n\
             rd_sects = {{ start = 8000, per_poll = 80 }}\nwr_sects = {{ start = 8000, per_poll = 160 }}\n",
            domains - 1
        );
        let path = self.scratch.join(format!("{domains}.toml"));
        std::fs::write(&path, host).unwrap();
        path
    }

    /// Arguments that have the daemon send to our socket.
    fn daemon(&self, interval: &str) -> Vec<String> {
        let server = format!("udp://{}", self.server.local_addr().unwrap());
        let library = self.shim.display().to_string();
        [
            "--libxenstat",
            &library,
            "--vifs",
            "libxenstat",
            "--statsd",
            &server,
            "--host",
            "h",
            "--log",
            "off",
            "--interval",
            interval,
        ]
        .map(str::to_owned)
        .into()
    }

    /// CPU seconds per poll of a shell command, in which `$N` is the number of polls.
    fn cpu_of(&self, domains: usize, polls: u32, command: &str) -> f64 {
        let seconds = |polls: u32| {
            let script = format!("TIMEFORMAT='%3U %3S'; time {{ {command}; }} >/dev/null 2>/dev/null");
            let output = Command::new("bash")
                .args(["-c", &script])
                .env("N", polls.to_string())
                .env("XENSTAT_SCENARIO", self.scenario(domains))
                .env("SHIM", self.shim.parent().unwrap())
                .stdout(Stdio::null())
                .output()
                .unwrap();
            let text = String::from_utf8(output.stderr).unwrap();
            text.split_whitespace().map(|part| part.parse::<f64>().unwrap_or_else(|_| panic!("{text}"))).sum::<f64>()
        };
        let few = 5;
        (seconds(few + polls) - seconds(few)) / f64::from(polls)
    }

    fn ours(&self, interval: &str) -> String {
        format!("'{XENMONITOR}' {} --count $N", self.daemon(interval).join(" "))
    }

    fn xentop(&self) -> String {
        format!("LD_LIBRARY_PATH=$SHIM '{}' -b -f -d 0 -i $N", self.xentop.display())
    }

    fn cpu(&self) {
        let (ours, xentop) = (self.ours("10ms"), self.xentop());
        let pair = |_| {
            let own = self.cpu_of(1000, 100, &ours);
            (own / self.cpu_of(1000, 100, &xentop), own * 1000.0)
        };
        let (ratios, own): (Vec<f64>, Vec<f64>) = (0..PAIRS).map(pair).unzip();
        let what = "CPU time of a poll of 1000 domains, all columns, sent; relative to `xentop -b -f >/dev/null`, both without pause";
        println!("| {what} | {:.2} x ({:.1} ms) | 1.0 |", median(ratios), median(own));

        let address = self.server.local_addr().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/split.py");
        let python = format!("{xentop} | python3 '{}' {} {}", script.display(), address.ip(), address.port());
        let pair = |_| self.cpu_of(1000, 10, &python) / self.cpu_of(1000, 100, &ours);
        println!(
            "| the first, relative to a Python script that splits and sends what `xentop -b -f` prints | 1/{:.0} | 1/25 |",
            median((0..PAIRS).map(pair).collect())
        );
    }

    fn growth(&self) {
        let growth = |polls, of: &dyn Fn(usize) -> String| {
            let ratios = (0..3).map(|_| self.cpu_of(8000, polls, &of(8000)) / self.cpu_of(1000, polls * 4, &of(1000)));
            median(ratios.collect())
        };
        // Long enough for pacing not to matter.
        let interval = |domains| if domains > 1000 { "400ms" } else { "50ms" };
        let (ours, xentops) = (growth(20, &|domains| self.ours(interval(domains))), growth(3, &|_| self.xentop()));
        println!("| CPU time of 8000 domains, relative to 1000 | {ours:.1} x (xentop: {xentops:.0} x) | 8.5 |");
    }

    fn allocations(&self) {
        for (what, more) in [
            ("allocations in a poll of 1000 domains, without the C library's", &[][..]),
            ("the same with `--detail all`", &["--detail", "all"]),
        ] {
            let count = |polls: u32| -> f64 {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.arg("--run-here").args(self.daemon("50ms")).args(["--count", &polls.to_string()]);
                let text = out_of(command.args(more).env("XENSTAT_SCENARIO", self.scenario(1000)));
                text.trim().parse().unwrap()
            };
            let per_poll = (count(60) - count(20)) / 40.0;
            let goal = if more.is_empty() { "0" } else { "" };
            println!("| {what} | {per_poll:.1} | {goal} |");
        }
    }

    fn memory(&self) {
        let resident = |mut command: Command| {
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_secs(4));
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
        };
        let ours = |domains| {
            let mut command = Command::new(XENMONITOR);
            command.args(self.daemon("200ms")).env("XENSTAT_SCENARIO", self.scenario(domains));
            resident(command)
        };
        let xentops = |domains| {
            let mut command = Command::new(&self.xentop);
            command.args(["-b", "-f", "-d", "1"]).env("LD_LIBRARY_PATH", self.shim.parent().unwrap());
            resident({
                command.env("XENSTAT_SCENARIO", self.scenario(domains));
                command
            })
        };
        // The shim keeps as much of 1000 domains in xentop, which itself keeps only two nodes.
        let (many, one, library) = (ours(1000), ours(1), xentops(1000) - xentops(1));
        println!(
            "| resident memory that 1000 domains take, without the C library's | {:.1} MB ({many:.1} MB in all) | 6 MB |",
            many - one - library
        );
        let size = std::fs::metadata(XENMONITOR).unwrap().len() as f64 / 1e6;
        println!("| size of the binary | {size:.1} MB | 3 MB |");
    }

    fn start(&self) {
        self.server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let first = |_| {
            // Datagrams of the run before.
            self.server.set_nonblocking(true).unwrap();
            while self.server.recv(&mut [0; 9000]).is_ok() {}
            self.server.set_nonblocking(false).unwrap();
            let mut command = Command::new(XENMONITOR);
            command.args(self.daemon("1s")).env("XENSTAT_SCENARIO", self.scenario(10));
            let start = Instant::now();
            let mut child = command.stderr(Stdio::null()).spawn().unwrap();
            self.server.recv(&mut [0; 9000]).unwrap();
            let took = start.elapsed().as_secs_f64() * 1000.0;
            child.kill().unwrap();
            child.wait().unwrap();
            took
        };
        println!(
            "| time from start to the first gauge at the server | {:.0} ms | 30 ms |",
            median((0..15).map(first).collect())
        );
    }
}

/// Reading VIFs from the kernel, compared with the real libxenstat over stand-ins for the libraries that talk to Xen.
fn vifs(scratch: &Scratch) {
    stand_ins::compile(scratch);
    let poll = |vifs: u32, who: &str| {
        // Both ends of each veth pair have a VIF's name.
        let links: String =
            (0..vifs / 2).map(|n| format!("ip link add vif{n}.0 type veth peer name vif{n}.1 && ")).collect();
        let mut command = in_namespaces(scratch, &["--net"], &links);
        command.args([
            "--count",
            "21",
            "--interval",
            "50ms",
            "--print",
            "statsd",
            "--vifs",
            who,
            "--disks",
            "backends",
        ]);
        command.args(["--metrics", "xenmonitor.poll_ms", "--host", "h", "--log", "error"]);
        command.env("XEN_HOST", stand_ins::guests(scratch, 10));
        let lines = out_of(&mut command);
        median(lines.lines().skip(1).map(|line| line.split([':', '|']).nth(1).unwrap().parse().unwrap()).collect())
    };
    let nothing = poll(0, "kernel");
    let (ours, theirs) = (poll(200, "kernel") - nothing, poll(200, "libxenstat") - nothing);
    println!(
        "| reading 200 VIFs, relative to libxenstat's own collector | 1/{:.0} ({ours:.2} ms, {theirs:.1} ms) | 1/20 |",
        theirs / ours
    );
}
