//! Real statsd servers, each on its own ports and with the kernel's default receive buffer.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Scratch, clean, root, target};

/// A server whose gauges can be queried.
pub trait Server {
    /// The port it listens on at 127.0.0.1.
    fn port(&self) -> u16;

    /// All gauges that it has received.
    fn gauges(&self) -> BTreeMap<String, f64>;

    fn url(&self) -> String {
        format!("udp://127.0.0.1:{}", self.port())
    }

    /// The gauges, once there are at least `count`, or after [`PATIENCE`].
    fn await_gauges(&self, count: usize) -> BTreeMap<String, f64> {
        let mut gauges = BTreeMap::new();
        wait_until(|| {
            gauges = self.gauges();
            gauges.len() >= count
        });
        gauges
    }

    /// Datagrams that the kernel dropped because the receive buffer was full.
    fn dropped(&self) -> u64 {
        dropped(self.port())
    }
}

/// The same for any UDP socket at 127.0.0.1.
pub fn dropped(port: u16) -> u64 {
    let line = udp_socket(port).expect("it listens");
    line.split_whitespace().last().unwrap().parse().unwrap()
}

/// The kernel's entry for the UDP socket at a port of 127.0.0.1.
pub fn udp_socket(port: u16) -> Option<String> {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let local = format!("0100007F:{port:04X}");
    table.lines().find(|line| line.split_whitespace().nth(1) == Some(&local)).map(str::to_owned)
}

/// A child that is killed at the end of the test.
pub struct Process {
    child: Child,
    _scratch: Scratch,
}

impl Process {
    pub fn start(mut command: Command, scratch: Scratch) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")), _scratch: scratch }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    // Free for both TCP and UDP.
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tcp.local_addr().unwrap().port();
    UdpSocket::bind(("127.0.0.1", port)).map_or_else(|_| free_port(), |_| port)
}

/// Waits until the condition holds, at most for [`PATIENCE`]; returns whether it holds.
pub fn wait_until(mut is: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !is() {
        if start.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// npm's statsd.
pub struct Npm {
    _process: Process,
    port: u16,
    management: u16,
}

impl Npm {
    pub fn start() -> Self {
        Self::start_at(free_port(), free_port())
    }

    /// With these ports for datagrams and for management.
    pub fn start_at(port: u16, management: u16) -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            let made = Command::new("make").args(["-s", "npm-statsd"]).current_dir(root()).status();
            assert!(made.unwrap().success(), "make npm-statsd");
        });
        let scratch = Scratch::new();
        let config = format!(
            "{{port: {port}, address: '127.0.0.1', mgmt_port: {management}, mgmt_address: '127.0.0.1', \
             backends: [], flushInterval: 1000}}"
        );
        let mut command = clean("node");
        let statsd: PathBuf = target().join("npm/node_modules/statsd/stats.js");
        command.arg(statsd).arg(scratch.file("config.js", &config));
        let server = Self { _process: Process::start(command, scratch), port, management };
        let is_up = || TcpStream::connect(("127.0.0.1", management)).is_ok() && udp_socket(port).is_some();
        assert!(wait_until(is_up), "statsd does not start");
        server
    }

    fn ask(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.management)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        writeln!(stream, "{command}").unwrap();
        let lines = BufReader::new(stream).lines().map(Result::unwrap);
        lines.take_while(|line| line != "END").map(|line| line + "\n").collect()
    }

    pub fn bad_lines(&self) -> String {
        let stats = self.ask("stats");
        let line = stats.lines().find(|line| line.contains("bad_lines_seen"));
        line.expect("statsd counts bad lines").to_owned()
    }
}

impl Server for Npm {
    fn port(&self) -> u16 {
        self.port
    }

    /// One line each, as `  'name': 1.5,`.
    fn gauges(&self) -> BTreeMap<String, f64> {
        let text = self.ask("gauges");
        text.lines()
            .filter_map(|line| line.trim().trim_end_matches(',').rsplit_once(": "))
            .map(|(name, value)| (name.trim_matches('\'').to_owned(), value.parse().unwrap()))
            .filter(|(name, _)| !name.starts_with("statsd."))
            .collect()
    }
}
