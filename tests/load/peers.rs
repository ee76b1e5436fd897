//! collectd, netdata and nginx.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::servers::{Process, Server, dropped, free_port, udp_socket, wait_until};
use crate::support::{PATIENCE, Scratch, clean, root};

/// A configuration file from a page of the documentation, with changes to values that it has to contain.
fn documented(page: &str, file: &str, changes: &[(&str, &str)]) -> String {
    let guide = std::fs::read_to_string(root().join(page)).unwrap();
    let block = guide.split_once(&format!("\n# {file}\n")).expect(file).1;
    let block = block.split_once("```").expect("the end of a block").0;
    changes.iter().fold(block.to_owned(), |text, (theirs, ours)| {
        assert_eq!(text.matches(theirs).count(), 1, "{theirs} in {file}");
        text.replace(theirs, ours)
    })
}

/// collectd, with its default interval of ten seconds.
pub struct Collectd {
    _process: Process,
    port: u16,
    socket: PathBuf,
}

impl Collectd {
    pub fn start() -> Self {
        let scratch = Scratch::new();
        let (directory, port) = (scratch.display(), free_port());
        let changes = [("0.0.0.0", "127.0.0.1"), ("8125", &port.to_string())];
        let statsd = documented("docs/servers.md", "/etc/collectd/collectd.conf.d/statsd.conf", &changes);
        let config = format!(
            "Hostname \"h\"\nFQDNLookup false\nBaseDir \"{directory}\"\nPIDFile \"{directory}/pid\"\nInterval 10\n{statsd}\
             LoadPlugin unixsock\n<Plugin unixsock>\nSocketFile \"{directory}/socket\"\n</Plugin>\n"
        );
        let mut command = clean("/usr/sbin/collectd");
        command.args(["-f", "-C"]).arg(scratch.file("collectd.conf", &config));
        let socket = scratch.join("socket");
        let server = Self { _process: Process::start(command, scratch), port, socket };
        assert!(wait_until(|| server.connect().is_ok() && udp_socket(port).is_some()), "collectd does not start");
        server
    }

    fn connect(&self) -> std::io::Result<UnixStream> {
        UnixStream::connect(&self.socket)
    }
}

impl Server for Collectd {
    fn port(&self) -> u16 {
        self.port
    }

    /// With seven digits, as its socket reports them.
    fn gauges(&self) -> BTreeMap<String, f64> {
        let mut socket = self.connect().unwrap();
        let mut answers = BufReader::new(socket.try_clone().unwrap()).lines().map(Result::unwrap);
        writeln!(socket, "LISTVAL").unwrap();
        let count: usize = answers.next().unwrap().split(' ').next().unwrap().parse().unwrap();
        let names: Vec<String> = answers.by_ref().take(count).collect();
        let names: Vec<&str> =
            names.iter().filter_map(|line| line.split_once("h/statsd/gauge-")).map(|s| s.1).collect();
        let mut gauges = BTreeMap::new();
        for some in names.chunks(100) {
            let questions: String = some.iter().map(|name| format!("GETVAL h/statsd/gauge-{name}\n")).collect();
            socket.write_all(questions.as_bytes()).unwrap();
            for name in some {
                // "1 Value found", "value=1.5e+00".
                answers.next();
                let value = answers.next().unwrap().trim_start_matches("value=").parse().unwrap();
                gauges.insert((*name).to_owned(), value);
            }
        }
        gauges
    }
}

/// netdata with a chart for every gauge, and with statsd as its only collector.
pub struct Netdata {
    _process: Process,
    port: u16,
    web: u16,
}

impl Netdata {
    pub fn start() -> Self {
        let scratch = Scratch::new();
        let (directory, port, web) = (scratch.display().to_string(), free_port(), free_port());
        scratch.file(".opt-out-from-anonymous-statistics", "");
        let directories = ["config", "stock config", "cache", "lib", "log", "home", "registry", "lock", "plugins"];
        let directories: String = directories.map(|which| format!("{which} = {directory}\n")).concat();
        let plugins = [
            "timex",
            "diskspace",
            "tc",
            "idlejitter",
            "cgroups",
            "proc",
            "netdata monitoring",
            "enable running new plugins",
            "checks",
        ];
        let plugins: String = plugins.map(|which| format!("{which} = no\n")).concat();
        let changes = [
            ("*:8125", &*format!("127.0.0.1:{port}")),
            ("hard limit = 20000", "hard limit = 1000000\nprivate charts history = 5"),
            ("allowed = 20000", "allowed = 1000000"),
        ];
        let statsd = documented("docs/servers.md", "/etc/netdata/netdata.conf", &changes);
        let config = format!(
            "[directories]\n{directories}\n[db]\nmode = alloc\nupdate every = 1\n[logs]\nerror = none\naccess = none\n\
             [ml]\nenabled = no\n[health]\nenabled = no\n[cloud]\nenabled = no\n\
             [web]\nbind to = 127.0.0.1:{web}\n[plugins]\n{plugins}statsd = yes\n\
             {statsd}"
        );
        let mut command = clean("/usr/sbin/netdata");
        command.arg("-D").arg("-c").arg(scratch.file("netdata.conf", &config));
        command.arg("-P").arg(scratch.join("pid"));
        command.args(["-W", "set", "global", "run as user", &whoami()]);
        let server = Self { _process: Process::start(command, scratch), port, web };
        // Both ports have to be open.
        let is_up = || TcpStream::connect(("127.0.0.1", web)).is_ok() && udp_socket(port).is_some();
        assert!(wait_until(is_up), "netdata does not start");
        server
    }
}

fn whoami() -> String {
    let said = clean("id").arg("-un").output().unwrap();
    String::from_utf8(said.stdout).unwrap().trim().to_owned()
}

impl Server for Netdata {
    fn port(&self) -> u16 {
        self.port
    }

    /// Parsed by lines: `"statsd_NAME_gauge": {` and, some lines later, `"value": 1.5000000`.
    fn gauges(&self) -> BTreeMap<String, f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.web)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /api/v1/allmetrics?format=json HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let mut gauges = BTreeMap::new();
        let mut name = "";
        for line in answer.lines().map(str::trim) {
            if let Some(chart) = line.strip_prefix("\"statsd_") {
                name = chart.split_once("_gauge\"").map_or("", |(name, _)| name);
            } else if let Some(value) = line.strip_prefix("\"value\": ").filter(|_| !name.is_empty()) {
                gauges.insert(name.to_owned(), value.parse().unwrap_or(f64::NAN));
            }
        }
        gauges
    }
}

/// nginx, which passes each datagram to one of several servers, as its sender's address says. Here all senders have one
/// address, so their ports stand for it.
pub struct Nginx {
    _process: Process,
    port: u16,
}

impl Nginx {
    pub fn start(servers: &[(u16, u16); 3]) -> Self {
        let scratch = Scratch::new();
        let (directory, port) = (scratch.display(), free_port());
        let servers = servers.map(|(port, _)| format!("127.0.0.1:{port}"));
        let changes = [
            ("$remote_addr", "$remote_addr$remote_port"),
            ("192.0.2.11:8125", &servers[0]),
            ("192.0.2.12:8125", &servers[1]),
            ("192.0.2.13:8125", &servers[2]),
            ("listen 8125", &format!("listen 127.0.0.1:{port}")),
        ];
        let stream = documented("docs/fleet.md", "/etc/nginx/nginx.conf, at the end", &changes);
        // As in Debian's nginx.conf.
        let config = format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\nevents {{ worker_connections 768; }}\n\
             daemon off; master_process off; pid {directory}/pid; error_log {directory}/log;\n{stream}"
        );
        let mut command = clean("/usr/sbin/nginx");
        command.arg("-e").arg(scratch.join("log")).arg("-c").arg(scratch.file("nginx.conf", &config));
        let proxy = Self { _process: Process::start(command, scratch), port };
        assert!(wait_until(|| udp_socket(port).is_some()), "nginx does not start");
        proxy
    }

    pub fn url(&self) -> String {
        format!("udp://127.0.0.1:{}", self.port)
    }

    /// Datagrams that the kernel dropped because nginx's receive buffer was full.
    pub fn dropped(&self) -> u64 {
        dropped(self.port)
    }
}
