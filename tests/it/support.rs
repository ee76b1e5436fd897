//! Helpers of all tests: the shim, scenario files, the daemon as a child process, a statsd server that only listens.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than any wait takes on any machine under any load: a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or(root().join("target"), PathBuf::from)
}

/// The shim, built on first use.
pub fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| make_shim("shim", ""))
}

/// The shim without some functions, as an older libxenstat.
pub fn shim_without(functions: &str) -> PathBuf {
    make_shim(&format!("shim-without-{}", functions.replace(' ', "-")), functions)
}

fn make_shim(directory: &str, without: &str) -> PathBuf {
    let out = target().join(directory);
    let made = Command::new("make")
        .args(["-s", "shim"])
        .arg(format!("SHIM_OUT={}", out.display()))
        .arg(format!("SHIM_WITHOUT={without}"))
        .current_dir(root())
        .status();
    assert!(made.unwrap().success(), "make shim");
    out.join("libxenstat.so").canonicalize().unwrap()
}

/// A library of one function or a few, from a file beside this one. All other functions are the shim's.
pub fn shim_with(source: &str, scratch: &Path) -> PathBuf {
    let library = scratch.join("libxenstat.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-fno-builtin", "-o"]).arg(&library).arg(root().join("tests/it").join(source));
    cc.arg("-Wl,--no-as-needed").arg(shim()).arg(format!("-Wl,-rpath,{}", shim().parent().unwrap().display()));
    out_of(&mut cc);
    library
}

pub fn scenario(name: &str) -> PathBuf {
    root().join("tests/shim/scenarios").join(name).with_extension("toml")
}

/// A directory that is removed after the test.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("xenmonitor-test-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Deref for Scratch {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A command whose environment has none of the variables that the daemon or the shim reads.
pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["XENMONITOR_", "STATSD_", "DD_", "XENSTAT_", "LD_", "JOURNAL_", "NOTIFY_", "WATCHDOG_"]
            .iter()
            .any(|ours| name.starts_with(ours))
        {
            command.env_remove(name);
        }
    }
    command
}

/// A command that runs `program` in new namespaces (`--mount`, `--net`). Users other than root need a user namespace
/// for that, which not every machine allows.
pub fn unshared(namespaces: &[&str], program: impl AsRef<OsStr>) -> Command {
    let mut command = clean("unshare");
    command.args(namespaces).args((!am_root()).then_some("--map-root-user")).arg(program);
    command
}

/// Has `wrapper`, such as strace, run a command with its arguments and environment.
pub fn behind(mut wrapper: Command, command: &Command) -> Command {
    wrapper.arg(command.get_program()).args(command.get_args());
    wrapper.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapper
}

/// Runs the daemon in a mount namespace, and `more` namespaces, where files of the test are mounted over the machine's.
/// `script` is run there first.
pub fn with_files(daemon: &Command, files: &[(&Path, &str)], more: &[&str], script: &str) -> Command {
    let mut wrapper = unshared(&[&["--mount"], more].concat(), "sh");
    let mounts = files.iter().map(|(ours, theirs)| format!("mount --bind '{}' {theirs} && ", ours.display()));
    wrapper.args(["-c", &format!("{}{script}exec \"$0\" \"$@\"", mounts.collect::<String>())]);
    behind(wrapper, daemon)
}

/// A command that runs a shell script in the network namespace of `daemon`, which [`unshared`] made.
pub fn in_network_of(daemon: &Daemon, script: &str) -> Command {
    in_namespaces_of(daemon, &["--net"], script)
}

/// The same for these namespaces of `daemon`, all of which [`unshared`] made.
pub fn in_namespaces_of(daemon: &Daemon, namespaces: &[&str], script: &str) -> Command {
    let mut command = clean("nsenter");
    command.args(["--target", &daemon.id().to_string()]).args(namespaces);
    command.args((!am_root()).then_some("--user")).args((!am_root()).then_some("--preserve-credentials"));
    command.args(["sh", "-c", script]);
    command
}

pub fn am_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// The shipped binary, or the one that was built with a sanitizer.
pub fn binary() -> PathBuf {
    std::env::var_os("TESTED_BINARY").map_or(env!("CARGO_BIN_EXE_xenmonitor").into(), PathBuf::from)
}

/// The sanitizer that it was built with: `address` or `thread`.
pub fn sanitizer() -> Option<String> {
    std::env::var("TESTED_WITH").ok()
}

/// The shipped binary, which looks for libxenstat by itself.
pub fn bare() -> Command {
    let mut command = clean(binary());
    // LeakSanitizer starts a process, which the seccomp filter forbids.
    command.envs(sanitizer().map(|_| ("XENMONITOR_KEEP_PRIVILEGES", "1")));
    command
}

/// The shipped binary on the shim.
pub fn xenmonitor(scenario: &Path) -> Command {
    let mut command = bare();
    command.env("XENSTAT_SCENARIO", scenario);
    // The kernel of the machine that runs the tests has no VIFs of the shim's domains.
    command.env("XENMONITOR_VIFS", "libxenstat");
    command.env("XENMONITOR_LIBXENSTAT", shim()).env("XENMONITOR_HOST", "xen1.example.com");
    command
}

/// Gives a command's polling thread the shim's clock instead of libc's: each poll is then exactly `clock_step` after
/// the previous one, whatever the interval.
pub fn on_the_shims_clock(command: &mut Command) -> &mut Command {
    command.env("LD_PRELOAD", shim()).args(["--interval", "10ms"])
}

/// Log lines that depend on the load of the machine: a poll was late, or was not sent in time.
const LATENESS: [&str; 5] = [
    "a poll takes longer than the interval",
    "polls take less than the interval again",
    "are dropped: not sent before the next poll",
    "are no longer dropped",
    "without errors again",
];

/// The lines of a log, except those that depend on the load of the machine.
pub fn without_lateness(log: &str) -> Vec<&str> {
    log.lines().filter(|line| !LATENESS.iter().any(|words| line.contains(words))).collect()
}

/// Asserts that the lines with these two texts alternate, `begin` first: neither is logged twice in a row.
pub fn assert_in_turn(log: &str, begin: &str, end: &str) {
    let lines = log.lines().filter(|line| line.contains(begin) || line.contains(end));
    for (n, line) in lines.enumerate() {
        assert!(line.contains([begin, end][n % 2]), "{line:?} out of turn: {log}");
    }
}

/// The gauges that `--print statsd` printed at each answered poll, without those printed while a poll was late.
pub fn answered_polls(printed: &str) -> Vec<Vec<&str>> {
    let own = |line: &&str, gauge: &str| line.split(':').next().unwrap().ends_with(&format!("xenmonitor.{gauge}"));
    let mut polls: Vec<Vec<&str>> = vec![Vec::new()];
    for line in printed.lines() {
        let last = polls.last().unwrap();
        // A poll ends with the gauges of the program itself, the first of which is `up`.
        let has_own = last.iter().any(|line| own(line, "up"));
        if has_own && (own(&line, "up") || !line.contains("xenmonitor.")) {
            polls.push(Vec::new());
        }
        polls.last_mut().unwrap().push(line);
    }
    polls.retain(|lines| lines.iter().any(|line| own(line, "poll_ms")));
    polls
}

/// The output of a finished command.
pub struct Said {
    pub out: String,
    pub err: String,
    pub status: Option<i32>,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Said { out: text(&output.stdout), err: text(&output.stderr), status: output.status.code() }
    }
}

/// Runs a command until it exits.
pub fn run(command: &mut Command) -> Said {
    run_for(PATIENCE, command)
}

/// As [`run`], for commands that take longer.
pub fn run_for(patience: Duration, command: &mut Command) -> Said {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let _alive = kill_if_forgotten(&child, patience);
    Said::from(child.wait_with_output().unwrap())
}

/// Kills a child after `patience`, unless the returned value is dropped before: so a test fails instead of hanging.
fn kill_if_forgotten(child: &Child, patience: Duration) -> mpsc::Sender<()> {
    let (alive, ended) = mpsc::channel();
    let pid = child.id().to_string();
    std::thread::spawn(move || {
        if ended.recv_timeout(patience) == Err(mpsc::RecvTimeoutError::Timeout) {
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
        }
    });
    alive
}

/// As [`run`], for a command that has to succeed; returns its standard output.
pub fn out_of(command: &mut Command) -> String {
    let said = run(command);
    assert_eq!(said.status, Some(0), "{command:?}: {}", said.err);
    said.out
}

/// The documents that `--print json` prints.
pub fn json(command: &mut Command) -> Vec<Value> {
    out_of(command.args(["--print", "json"])).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last value of each gauge that `--print statsd` printed.
pub fn last_values(printed: &str) -> BTreeMap<String, f64> {
    let gauge = |line: &str| {
        let (name, value) = line.strip_suffix("|g").unwrap().rsplit_once(':').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    printed.lines().map(gauge).collect()
}

/// A child that is killed at the end of the test, at the latest after [`PATIENCE`].
pub struct Daemon {
    child: Child,
    /// Dropped with the daemon, so that the thread that would kill it ends.
    _alive: mpsc::Sender<()>,
}

impl Daemon {
    pub fn start(command: &mut Command) -> Self {
        Self::start_as_is(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    /// Leaves standard input, output and error as they are set in the command.
    pub fn start_as_is(command: &mut Command) -> Self {
        Self::start_for(PATIENCE, command)
    }

    /// The same, for a test that takes longer.
    pub fn start_for(patience: Duration, command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let _alive = kill_if_forgotten(&child, patience);
        Self { child, _alive }
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let name =
            |task: std::io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
        tasks.filter_map(name).map(|name| name.trim().to_owned()).collect()
    }

    /// Reads the log up to a line with `text`; returns what it read.
    pub fn wait_for_log(&mut self, text: &str) -> String {
        let mut log = String::new();
        let stderr = self.stderr.as_mut().unwrap();
        // Byte by byte, so that nothing after the line is lost.
        let mut byte = [0];
        while stderr.read(&mut byte).unwrap() == 1 {
            log.push(byte[0].into());
            if byte[0] == b'\n' && log.contains(text) {
                return log;
            }
        }
        panic!("the log ended without {text:?}: {log}");
    }

    /// Reads the log until each of `texts` has come; returns what it read.
    pub fn wait_for_logs(&mut self, texts: &[&str]) -> String {
        let mut log = String::new();
        while !texts.iter().all(|text| log.contains(text)) {
            log += &self.wait_for_log("");
        }
        log
    }

    pub fn wait_for_line(&mut self) -> String {
        let mut line = String::new();
        BufReader::with_capacity(1, self.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        line
    }

    /// Waits until the daemon exits, and fails the test if it does not.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        let start = Instant::now();
        while self.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < PATIENCE, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        self.wait().unwrap().code()
    }

    /// The same; returns the output that was not read before.
    pub fn end(mut self) -> Said {
        let status = self.wait_for_end();
        let (mut out, mut err) = (String::new(), String::new());
        // It is not there if it was passed to `Lines`.
        self.stdout.take().map(|mut stdout| stdout.read_to_string(&mut out).unwrap());
        self.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        Said { out, err, status }
    }
}

impl Deref for Daemon {
    type Target = Child;
    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The standard output of a daemon, read by a thread, so that the daemon never waits for the test.
pub struct Lines(mpsc::Receiver<String>);

impl Lines {
    pub fn of(daemon: &mut Daemon) -> Self {
        let printed = BufReader::new(daemon.stdout.take().unwrap());
        let (lines, received) = mpsc::channel();
        std::thread::spawn(move || printed.lines().map_while(Result::ok).all(|line| lines.send(line).is_ok()));
        Self(received)
    }

    pub fn next(&self) -> String {
        self.0.recv_timeout(PATIENCE).expect("a line")
    }

    /// Skips the lines that have been printed so far.
    pub fn skip_old(&self) {
        while self.0.try_recv().is_ok() {}
    }
}

/// A statsd server that only listens.
pub struct Listener(UdpSocket);

impl Listener {
    pub fn new(address: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    pub fn url(&self) -> String {
        format!("udp://{}", self.0.local_addr().unwrap())
    }

    pub fn datagram(&self) -> String {
        let mut buffer = [0; 65536];
        let length = self.0.recv(&mut buffer).expect("a datagram");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// The next datagram with `text`. (While a poll is late there are datagrams without most gauges.)
    pub fn datagram_with(&self, text: &str) -> String {
        std::iter::repeat_with(|| self.datagram()).find(|datagram| datagram.contains(text)).unwrap()
    }

    /// Skips the datagrams that have arrived so far.
    pub fn skip_old(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 1]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }

    /// The next datagram that arrives from now on.
    pub fn latest(&self) -> String {
        self.skip_old();
        self.datagram()
    }

    /// All datagrams that have not been read, once no more arrive.
    pub fn pending(&self) -> Vec<String> {
        self.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut buffer = [0; 65536];
        std::iter::from_fn(|| self.0.recv(&mut buffer).ok().map(|n| String::from_utf8(buffer[..n].to_vec()).unwrap()))
            .collect()
    }
}

/// The machine's xentop.
pub fn xentop() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin/xentop")).filter(|path| path.is_file()))
        .chain(["/usr/sbin/xentop".into()])
        .collect();
    found.retain(|path| path.is_file());
    found.into_iter().next().expect("xentop (Debian: xen-utils-4.17); `make test` installs it")
}
