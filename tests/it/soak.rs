//! Soak test: thousands of polls of a host on which domains, devices and servers come and go, on a clock that runs a
//! thousand times as fast (hurry.c). 2000 polls by default; `make test-soak` runs 200 000.

use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::servers::free_port;
use crate::support::{Daemon, Scratch, out_of, root, xenmonitor};

/// The speed of the daemon's clock.
const HURRY: f64 = 1000.0;

/// The interval of its polls, on its clock.
const INTERVAL: Duration = Duration::from_secs(1);

/// A line that only answered polls have, and the last line of each.
const OF_A_POLL: &str = ".xenmonitor.poll_ms:";
const LAST_LINE: &str = ".xenmonitor.collector.vbd:";

fn polls() -> usize {
    std::env::var("SOAK_POLLS").map_or(2000, |polls| polls.parse().expect("SOAK_POLLS is a number"))
}

#[test]
fn soak_of_many_polls() {
    let (polls, scratch) = (polls(), Scratch::new());
    let host = scratch.join("host.toml");
    write_host(&host, 0);
    let mut servers = Servers::new(&scratch);
    let mut command = xenmonitor(&host);
    command.env("LD_PRELOAD", hurry(&scratch)).env("HURRY", HURRY.to_string());
    // glibc gives threads arenas of their own. Threads that come and go spread over them what a single one would hold:
    // half a MiB after 40 000 polls, which is no leak.
    command.env("MALLOC_ARENA_MAX", "1");
    command.args(["--interval", "1s", "--count", &polls.to_string(), "--print", "statsd", "--log", "error"]);
    command.args(["--detail", "all", "--vifs", "libxenstat", "--disks", "libxenstat"]);
    command.args(servers.urls.iter().flat_map(|url| ["--statsd", url]));
    let mut daemon = Daemon::start_for(Duration::from_secs(3600), command.stdin(Stdio::null()).stdout(Stdio::piped()));

    let (id, stdout) = (daemon.id(), daemon.stdout.take().unwrap());
    let over = AtomicBool::new(false);
    let life = std::thread::scope(|scope| {
        scope.spawn(|| {
            for generation in 1.. {
                if over.load(Relaxed) {
                    break;
                }
                write_host(&host, generation);
                servers.come_and_go(generation);
                if generation % 50 == 0 {
                    let _ = Command::new("kill").args(["-HUP", &id.to_string()]).status();
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let life = Life::watch(id, stdout, polls);
        over.store(true, Relaxed);
        life
    });
    life.check(polls);
}

/// Compiles hurry.c.
fn hurry(scratch: &Path) -> PathBuf {
    let library = scratch.join("hurry.so");
    let source = root().join("tests/it/hurry.c");
    out_of(Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).arg("-ldl"));
    library
}

/// Writes the scenario of a later host; the shim reads it after each failed poll and each SIGHUP.
fn write_host(path: &Path, generation: u32) {
    let mut text = String::from(
        "[[domain]]\nid = 0\nname = \"Domain-0\"\ncpu_ns = { per_second = 100000000 }\n\
         [[fault]]\nat = \"every 40\"\nfail = \"EIO\"\n[[fault]]\nat = \"every 130\"\nempty = true\n\
         [[fault]]\nat = [\"every 170\", \"every 171\"]\nif_asked = [\"VBD\"]\nfail = \"EIO\"\n",
    );
    // Of an agent in a guest that writes other keys and values all the time.
    let free = [&generation.to_string(), "-1", "9223372036854775808", "\\u0000"][generation as usize % 4].repeat(3);
    for n in 0..6 {
        // Some exist all the time; others reboot, are renamed, come and go.
        let (id, name) = match n {
            0..2 => (1 + n, format!("stays{n}")),
            2..4 => (10 + n * 100 + generation % 50, format!("reboots{n}")),
            4 => (
                5,
                ["renamed", "RENAMED", "re named", "re\\nnamed", "renamed--incoming"][generation as usize % 5].into(),
            ),
            _ => (1000 + generation % 1000, format!("brief{generation}")),
        };
        if n == 5 && generation % 3 == 0 {
            continue;
        }
        let vcpus = 1 + (generation + n) % 3;
        let _ = writeln!(text, "[[domain]]\nid = {id}\nname = \"{name}\"\nvcpus = {vcpus}");
        let _ = writeln!(text, "cpu_ns = {{ start = {generation}, per_second = 300000000 }}");
        if n == 0 {
            let _ = writeln!(text, "store = {{ \"data/meminfo_free\" = \"{free}\", \"data/{generation}\" = \"1\" }}");
        }
        for _ in 0..(generation + n) % 4 {
            text += "[[domain.network]]\nrbytes = { per_poll = 1000 }\n";
            text += "[[domain.vbd]]\nrd_reqs = { per_poll = 7 }\nerror = [\"every 9\"]\n";
        }
    }
    // Atomically.
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// One server of each kind, which come and go.
struct Servers {
    urls: [String; 3],
    port: u16,
    path: PathBuf,
    udp: Option<UdpSocket>,
    tcp: Option<TcpListener>,
    unix: Option<UnixDatagram>,
}

impl Servers {
    fn new(scratch: &Path) -> Self {
        let (port, path) = (free_port(), scratch.join("socket"));
        // By name, so that it is resolved again and again.
        let urls = [
            format!("udp://localhost:{port}"),
            format!("tcp://127.0.0.1:{port}"),
            format!("unix://{}", path.display()),
        ];
        Self { urls, port, path, udp: None, tcp: None, unix: None }
    }

    fn come_and_go(&mut self, generation: u32) {
        let address = ("127.0.0.1", self.port);
        let is_there = |every: u32| generation % every < every / 2;
        match self.udp.as_ref().filter(|_| is_there(20)) {
            Some(udp) => {
                let _ = udp.set_nonblocking(true);
                while udp.recv(&mut [0; 65536]).is_ok() {}
            }
            None => self.udp = UdpSocket::bind(address).ok().filter(|_| is_there(20)),
        }
        match self.tcp.as_ref().filter(|_| is_there(30)) {
            // Each connection is closed at once, while the daemon writes to it.
            Some(tcp) => drop(tcp.accept()),
            None => {
                self.tcp = TcpListener::bind(address).ok().filter(|_| is_there(30));
                self.tcp.iter().for_each(|tcp| tcp.set_nonblocking(true).unwrap());
            }
        }
        match self.unix.as_ref().filter(|_| is_there(14)) {
            Some(unix) => while unix.recv(&mut [0; 65536]).is_ok() {},
            None => {
                let _ = fs::remove_file(&self.path);
                self.unix = UnixDatagram::bind(&self.path).ok().filter(|_| is_there(14));
                self.unix.iter().for_each(|unix| unix.set_nonblocking(true).unwrap());
            }
        }
    }
}

/// Observations of the daemon, for each poll.
struct Life {
    /// The delay of each poll after its deadline, in seconds of the daemon's clock.
    late: Vec<f64>,
    skipped: u64,
    /// Allocated memory that is resident, in KiB, and open files, sampled a thousand times.
    memory: Vec<u64>,
    files: Vec<usize>,
    failed: u64,
}

impl Life {
    fn watch(id: u32, stdout: ChildStdout, polls: usize) -> Self {
        let mut lines = BufReader::with_capacity(1 << 20, stdout);
        let mut life = Life { late: Vec::new(), skipped: 0, memory: Vec::new(), files: Vec::new(), failed: 0 };
        let (mut line, mut first, mut is_poll) = (String::new(), None, false);
        while lines.read_line(&mut line).unwrap() > 0 {
            let value = |of: &str| line.rsplit_once(of)?.1.split('|').next()?.parse().ok();
            life.skipped = value(".xenmonitor.skipped_polls:").unwrap_or(life.skipped);
            life.failed = value(".xenmonitor.poll_errors:").unwrap_or(life.failed);
            is_poll |= line.contains(OF_A_POLL);
            if line.contains(LAST_LINE) && std::mem::take(&mut is_poll) {
                let first = *first.get_or_insert_with(Instant::now);
                let due = (life.late.len() as u64 + life.skipped) as f64 * INTERVAL.as_secs_f64();
                life.late.push(first.elapsed().as_secs_f64() * HURRY - due);
                if life.late.len() % (polls / 1000).max(1) == 0 {
                    life.memory.extend(resident(id));
                    life.files.extend(fs::read_dir(format!("/proc/{id}/fd")).map(Iterator::count));
                }
            }
            line.clear();
        }
        life
    }

    fn check(&self, polls: usize) {
        assert_eq!(self.late.len(), polls, "polls");
        let tenth = |n: usize, of: usize| of * n / 10..of * (n + 1) / 10;
        let least = |n| self.late[tenth(n, polls)].iter().copied().fold(f64::INFINITY, f64::min);
        let most = |n| self.memory[tenth(n, self.memory.len())].iter().max().copied().unwrap();
        let hours = (polls as f64 + self.skipped as f64) * INTERVAL.as_secs_f64() / 3600.0;
        let (drifted, drift) = (least(9) - least(1), (least(9) - least(1)) * 1000.0 / hours);
        let (memory, grown) = (most(9), most(9) as i64 - most(4) as i64);
        let files = self.files.iter().max().unwrap();
        println!(
            "{polls} polls, {} failed, {} skipped, {hours:.1} hours of the daemon's: {memory} KiB resident, \
             {grown} more than after half of it; at most {files} open files; drift {drift:.3} ms an hour",
            self.failed, self.skipped
        );
        assert!(self.failed > 0, "none failed");
        assert!(grown < 200, "KiB by tenths: {:?}", (0..10).map(most).collect::<Vec<_>>());
        assert!(*files <= 24, "{:?}", self.files);
        // On a busy machine some intervals are missed before they are counted. A daemon that slept between polls would
        // miss hundreds.
        let is_on_time = if hours > 24.0 { drift.abs() < 1.0 } else { drifted.abs() < 10.0 };
        assert!(is_on_time, "{drift} ms an hour; late by tenths: {:?}", (0..10).map(least).collect::<Vec<_>>());
    }
}

/// In KiB, without the pages of programs and libraries, which are loaded when their code first runs.
fn resident(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB")?.trim().parse().ok())
}
