//! `--watch`, and the terminal.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{PATIENCE, Scratch, binary, clean, out_of, run, scenario, xenmonitor};

/// Runs a shell line on a terminal, with script(1); `$XENMONITOR` is the daemon, on the demo scenario.
fn on_a_terminal(line: &str) -> Command {
    // The tests may run under nohup(1).
    let mut script = clean("env");
    script.args(["--default-signal=HUP", "script"]);
    script.args(["--quiet", "--return", "--command", line, "/dev/null"]).env("TERM", "xterm");
    script.env("XENMONITOR", binary()).env_remove("NO_COLOR");
    let daemon = xenmonitor(&scenario("demo"));
    script.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    script
}

/// On a terminal: sorted, in colours where these are enabled, redrawn in place, and no longer than the window.
#[test]
fn watch_redraws_the_table() {
    let watch = |setup: &str, more: &str| {
        let line = format!("{setup} \"$XENMONITOR\" --watch --interval 50ms --sort cpu_percent --count 2 {more}");
        let said = run(&mut on_a_terminal(&line));
        assert_eq!(said.status, Some(0), "{}{}", said.out, said.err);
        said.out
    };
    let out = watch("stty rows 40 columns 200;", "");
    let frames: Vec<&str> = out.split("\x1b[H").skip(1).collect();
    assert_eq!(frames.len(), 2, "{out}");
    let lines: Vec<&str> = frames[1].lines().collect();
    assert!(lines[0].starts_with("xen1.example.com - Xen 4.17.0 - "), "{}", lines[0]);
    assert_eq!(lines[1], "5 domains: 3 running, 2 blocked\x1b[K");
    let used = lines[2].strip_prefix("memory: 64.0 GiB, 38.0 free; CPUs: 16 at 2400 MHz, ");
    let used = used.and_then(|rest| rest.strip_suffix(" % used\x1b[K"));
    assert!(used.is_some_and(|percent| percent.parse::<f64>().is_ok()), "{}", lines[2]);
    assert_eq!(lines[3], "\x1b[K");
    let table = &lines[4..10];
    for (row, (start, end)) in table.iter().zip([
        ("\x1b[7m        NAME  STATE ", "SSID\x1b[0m\x1b[K"),
        ("\x1b[32m        db01 ", "\x1b[0m\x1b[K"),
        ("\x1b[32mbuild server ", "\x1b[0m\x1b[K"),
        ("       web01 ", "0\x1b[K"),
        ("\x1b[32m    Domain-0 ", "\x1b[0m\x1b[K"),
        ("\x1b[33m     win2019 ", "\x1b[0m\x1b[K"),
    ]) {
        assert!(row.starts_with(start) && row.ends_with(end), "{row:?}");
    }

    let narrow = watch("stty rows 40 columns 80;", "");
    let hint = narrow.lines().nth(3).unwrap_or_default().trim_end_matches("\x1b[K");
    let end = " columns, 80 shown: widen the window or pick columns with --metrics";
    assert!(hint.starts_with('1') && hint.ends_with(end) && hint.len() < 80, "{hint}");

    let plain = watch("stty rows 9 columns 80; NO_COLOR=1", "--metrics 'cpu_*' --include '*0*'");
    assert!(!plain.contains("widen"), "{plain}");
    let frame = plain.rsplit("\x1b[H").next().unwrap();
    assert!(!frame.contains("\x1b[3") && !frame.contains("STATE") && !frame.contains("build server"), "{frame}");
    assert_eq!(frame.lines().filter(|line| line.ends_with("\x1b[K")).count(), 8, "{frame}");
    assert!(frame.contains("\n2 more domains: enlarge the window"), "{frame}");

    // A long name leaves columns for numbers.
    let scratch = Scratch::new();
    let long = scratch.file("s.toml", &format!("[[domain]]\nid = 1\nname = \"{}\"\n", "n".repeat(60)));
    let frame = watch(&format!("stty rows 40 columns 200; XENSTAT_SCENARIO={}", long.display()), "");
    let row = frame.lines().find(|line| line.contains("nnn")).unwrap();
    assert!(row.matches('n').count() < 33 && row.contains(" 524288 "), "{row}");

    // On the alternate screen; log lines are repeated after it closes.
    let logged = watch("stty rows 40 columns 200;", "--include 'x*'");
    let (before, page) = logged.split_once("\x1b[?1049h").unwrap();
    let (page, after) = page.split_once("\x1b[?1049l").unwrap();
    let warning = "WARN  --include 'x*' matches no running domain";
    assert!(before.is_empty() && page.contains(warning) && after.contains(warning), "{logged}");
}

/// As in top(1).
#[test]
fn watch_ends_on_q() {
    let line = "timeout --foreground 20 \"$XENMONITOR\" --watch --interval 50ms || echo failed; stty -a";
    let mut script = on_a_terminal(line);
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut keyboard = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    let mut shown = String::new();
    while !shown.contains("web01") {
        let mut bytes = [0; 4096];
        let length = screen.read(&mut bytes).unwrap();
        shown += &String::from_utf8_lossy(&bytes[..length]);
    }
    keyboard.write_all(b"xq").unwrap();
    screen.read_to_string(&mut shown).unwrap();
    drop(keyboard);
    assert!(child.wait().unwrap().success());
    // The terminal's modes are restored.
    let modes = shown.rsplit_once("\x1b[?1049l").unwrap().1;
    assert!(modes.contains(" icanon ") && modes.contains(" echo ") && !modes.contains("failed"), "{modes}");
}

/// What runs on a terminal, and what it has shown.
struct OnTerminal {
    child: Child,
    keyboard: ChildStdin,
    screen: ChildStdout,
    shown: String,
}

impl OnTerminal {
    fn start(line: &str) -> Self {
        let mut child = on_a_terminal(line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keyboard, screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, keyboard, screen, shown: String::new() }
    }

    /// Returns what is shown up to these words.
    fn read_until(&mut self, words: &str) -> String {
        loop {
            if let Some(at) = self.shown.find(words) {
                let rest = self.shown.split_off(at + words.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            let mut bytes = [0; 4096];
            let length = self.screen.read(&mut bytes).unwrap();
            assert!(length > 0, "no {words:?} in {}", self.shown);
            self.shown += &String::from_utf8_lossy(&bytes[..length]);
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }
}

/// As in top(1): the shell has its screen and its keyboard meanwhile; then the table is there at once.
#[test]
fn watch_leaves_the_screen_while_it_is_stopped() {
    let line = "set -m; \"$XENMONITOR\" --watch --interval 30s --count 2; stty -a; echo now-stopped; fg; \
                stty -a; echo now-ended";
    let mut terminal = OnTerminal::start(line);
    terminal.read_until("web01");
    terminal.press(b"\x1a");
    let modes = terminal.read_until("now-stopped");
    let (_, modes) = modes.split_once("\x1b[?1049l").expect("the alternate screen is left");
    assert!(modes.contains(" icanon ") && modes.contains(" echo "), "{modes}");
    terminal.read_until("\x1b[?1049h");
    terminal.read_until("web01");
    terminal.press(b"q");
    let modes = terminal.read_until("now-ended");
    let (_, modes) = modes.split_once("\x1b[?1049l").expect("the alternate screen is left");
    assert!(modes.contains(" icanon ") && modes.contains(" echo "), "{modes}");
    assert!(terminal.child.wait().unwrap().success());
}

/// Where no shell could continue it, Ctrl-Z does nothing. Ctrl-\\ leaves the screen.
#[test]
fn watch_leaves_the_screen_when_it_is_quit() {
    // The shell is sent SIGQUIT, too.
    let line = "trap : QUIT; ulimit -c 0; \"$XENMONITOR\" --watch --interval 30s --count 2; stty -a; echo now-ended";
    let mut terminal = OnTerminal::start(line);
    terminal.read_until("web01");
    terminal.press(b"\x1a\x1c");
    let modes = terminal.read_until("now-ended");
    let (_, modes) = modes.split_once("\x1b[?1049l").expect("the alternate screen is left");
    assert!(modes.contains(" icanon ") && modes.contains(" echo "), "{modes}");
    terminal.child.wait().unwrap();
}

/// At its very start, too: nothing is caught too late for the screen to be left.
#[test]
fn watch_leaves_the_screen_however_early_it_is_interrupted() {
    for _ in 0..20 {
        let mut terminal =
            OnTerminal::start("trap : INT; \"$XENMONITOR\" --watch --interval 30s; stty -a; echo now-ended");
        terminal.read_until("\x1b[?1049h");
        terminal.press(b"\x03");
        let modes = terminal.read_until("now-ended");
        let (_, modes) = modes.split_once("\x1b[?1049l").expect("the alternate screen is left");
        assert!(modes.contains(" icanon ") && modes.contains(" echo "), "{modes}");
        terminal.child.wait().unwrap();
    }
}

/// There are no IDs of the shell and of the terminal's processes then.
#[test]
fn watch_runs_on_a_terminal_of_another_pid_namespace() {
    let mut terminal =
        OnTerminal::start(&format!("{PID_NAMESPACE} --mount-proc \"$XENMONITOR\" --watch --interval 30s --count 2"));
    terminal.read_until("web01");
    terminal.press(b"\x1aq");
    let rest = terminal.read_until("\x1b[?1049l");
    assert!(!rest.contains("panicked"), "{rest}");
    assert!(terminal.child.wait().unwrap().success());
}

const PID_NAMESPACE: &str = "unshare --user --map-root-user --pid --fork";

/// What was started from a terminal ends when that is closed, as other programs do.
#[test]
fn terminal_that_is_closed_ends_the_program() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let mut terminal =
        OnTerminal::start(&format!("exec \"$XENMONITOR\" --statsd udp://127.0.0.1:9 2>{}", log.display()));
    let wait_for = |words: &str| {
        let start = Instant::now();
        loop {
            let log = fs::read_to_string(&log).unwrap_or_default();
            if log.contains(words) {
                return log;
            }
            assert!(start.elapsed() < PATIENCE, "no {words:?} in {log}");
            thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for("reading Xen");
    terminal.child.kill().unwrap();
    terminal.child.wait().unwrap();
    let log = wait_for("exiting");
    assert!(log.contains("SIGHUP: exiting after ") && !log.contains("reopening"), "{log}");
}

/// SIGHUP is what closing the terminal sends.
#[test]
fn terminal_of_another_pid_namespace_is_recognised() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let line = "exec 3<&0; \"$XENMONITOR\" --interval 100ms --count 100 --statsd udp://127.0.0.1:9 <&3 2>\"$LOG\" & \
                until grep \"reading Xen\" \"$LOG\"; do sleep 0.1; done; kill -HUP $!; wait $!";
    let mut terminal = on_a_terminal(&format!("{PID_NAMESPACE} sh -c '{line}'"));
    assert_eq!(run(terminal.env("LOG", &log)).status, Some(0));
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("SIGHUP: exiting after ") && !log.contains("reopening"), "{log}");
}

/// As nohup(1) asks for, and a shell's `trap '' HUP`: SIGHUP reopens then, as in a service.
#[test]
fn terminal_may_be_closed_if_sighup_is_ignored() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let line = "trap '' HUP; exec 3<&0; \"$XENMONITOR\" --interval 30s --statsd udp://127.0.0.1:9 <&3 2>\"$LOG\" & \
                until grep \"reading Xen\" \"$LOG\"; do sleep 0.1; done; kill -HUP $!; \
                until grep -E \"reopening|exiting\" \"$LOG\"; do sleep 0.1; done; kill -TERM $!; wait $!";
    let mut terminal = on_a_terminal(line);
    assert_eq!(run(terminal.env("LOG", &log)).status, Some(0));
    let log = fs::read_to_string(&log).unwrap();
    assert!(log.contains("SIGHUP: reopening") && log.contains("SIGTERM: exiting after "), "{log}");
}

/// Through a pipe it is plain text.
#[test]
fn watch_through_a_pipe_is_plain_text() {
    let arguments = ["--watch", "--sort", "mem_k", "--interval", "10ms", "--count", "2", "--metrics", "mem_k,nets"];
    let out = out_of(xenmonitor(&scenario("demo")).args(arguments));
    assert_eq!(
        out.lines().take(6).collect::<Vec<_>>(),
        [
            "        NAME     MEM(k) NETS",
            "        db01   12582912    1",
            "build server    6291456    1",
            "    Domain-0    4194304    0",
            "       web01    4194304    2",
            "     win2019    4194304    1",
        ]
    );
    assert_eq!(out.lines().count(), 12);
}
