//! `--watch`, and the terminal.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
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

/// The terminal's text, lines of so many cells, and its cells.
struct Page(vt100::Parser);

impl Page {
    fn lines(&self) -> Vec<String> {
        let (_, columns) = self.0.screen().size();
        self.0.screen().rows(0, columns).map(|line| line.trim_end().to_owned()).collect()
    }

    fn text(&self) -> String {
        self.lines().join("\n")
    }

    /// The line of the table with this name.
    fn row(&self, name: &str) -> (u16, String) {
        let found = (0..).zip(self.lines()).find(|(_, line)| line.trim_start().starts_with(name));
        found.unwrap_or_else(|| panic!("no {name:?} in\n{}", self.text()))
    }

    /// The names of the table's domains, from top to bottom.
    fn names(&self) -> Vec<String> {
        let lines = self.lines();
        let Some(header) = lines.iter().position(|line| line.trim_start().starts_with("NAME")) else {
            return Vec::new();
        };
        let rows = lines[header + 1..lines.len() - 1].iter().filter(|line| !line.starts_with("    ") || line.len() > 6);
        rows.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    }
}

/// The daemon on a terminal of this size.
fn watched(scenario: &Path, rows: u16, columns: u16, more: &str) -> OnTerminal {
    let scenario = scenario.display();
    let line = format!(
        "stty rows {rows} columns {columns}; XENSTAT_SCENARIO='{scenario}' exec \"$XENMONITOR\" --watch {more}"
    );
    let mut terminal = OnTerminal::start(&line);
    terminal.page = Page(vt100::Parser::new(rows, columns, 0));
    terminal
}

#[test]
fn watch_shows_the_busiest_domain_first() {
    let mut terminal = watched(&scenario("demo"), 24, 80, "--interval 50ms");
    terminal.show_until("two polls", |page| page.text().contains("% used"));
    let page = &terminal.page;
    let lines = page.lines();
    assert!(lines[0].starts_with("xen1.example.com - Xen 4.17.0 - "), "{}", lines[0]);
    assert_eq!(lines[1], "5 domains: 3 running, 2 blocked");
    let used = lines[2].strip_prefix("memory: 64.0 GiB, 38.0 free; CPUs: 16 at 2400 MHz, ");
    let used = used.and_then(|rest| rest.strip_suffix(" % used"));
    assert!(used.is_some_and(|percent| percent.parse::<f64>().is_ok()), "{}", lines[2]);
    assert_eq!(lines[3], "by CPU(%); columns 1-8 of 17; K = 1024 bytes");
    let header = "        NAME  STATE CPU(%)   MEM NETTX/s NETRX/s READ/s WRITE/s RDREQ/s WRREQ/s";
    assert_eq!(lines[4], header);
    assert_eq!(page.names(), ["db01", "build", "web01", "Domain-0", "win2019"]);
    let legend = "q quit  arrows scroll  s sort  c counters  n nets  b disks  v vcpus  p pause";
    assert_eq!(lines[23], legend);
    let screen = page.0.screen();
    for (name, colour) in [("db01", vt100::Color::Idx(2)), ("win2019", vt100::Color::Idx(3))] {
        assert_eq!(screen.cell(page.row(name).0, 12).unwrap().fgcolor(), colour, "{name}");
    }
    assert!(screen.cell(4, 20).unwrap().inverse() && screen.hide_cursor() && screen.alternate_screen());
    // The column that the table is sorted by.
    assert_eq!([16, 22, 30].map(|column| screen.cell(4, column).unwrap().underline()), [false, true, false]);
    terminal.quit();
}

/// By the options of tables.
#[test]
fn watch_as_the_options_say() {
    let mut terminal =
        watched(&scenario("demo"), 24, 80, "--interval 50ms --sort name --dom0-first --metrics 'net?x_k'");
    terminal.show_until("two polls", |page| page.text().contains("% used"));
    assert_eq!(terminal.page.names(), ["Domain-0", "build", "db01", "web01", "win2019"]);
    assert_eq!(terminal.page.lines()[4], "        NAME NETTX/s NETRX/s");
    terminal.press_until(b"c", "totals", |page| page.lines()[4].ends_with("NAME   NETTX(k)  NETRX(k)"));
    terminal.quit();

    let mut terminal = OnTerminal::start("stty rows 24 columns 80; NO_COLOR=1 exec \"$XENMONITOR\" --watch");
    terminal.show_until("a table", |page| page.text().contains("db01"));
    let (row, _) = terminal.page.row("db01");
    let screen = terminal.page.0.screen();
    assert!((0..80).all(|column| screen.cell(row, column).unwrap().fgcolor() == vt100::Color::Default));
    terminal.quit();
}

#[test]
fn watch_keys_change_the_table() {
    let mut terminal = watched(&scenario("demo"), 60, 100, "--interval 50ms");
    terminal.show_until("two polls", |page| page.text().contains("% used"));
    // Rates of the library's counters, which the scenario defines.
    let db01: Vec<String> = terminal.page.row("db01").1.split_whitespace().map(str::to_owned).collect();
    assert!(db01[4].ends_with('M') && db01[5].ends_with('M'), "{db01:?}");
    terminal.press_until(b"c", "xentop's columns", |page| page.text().contains(" CPU(sec) CPU(%)     MEM(k)"));
    assert!(terminal.page.row("db01").1.contains(" 12582912 "));
    terminal.press_until(b"c", "rates", |page| page.text().contains(" READ/s "));

    for (key, line) in [(b"n", "    vif 0  rx_bytes "), (b"b", "    vbd xvda  oo "), (b"v", "    vcpu 3  online ")] {
        assert!(!terminal.page.text().contains(line));
        terminal.press_until(key, line, |page| page.text().contains(line));
        terminal.press_until(key, "no device", |page| !page.text().contains(line));
    }

    terminal.press_until(b"s", "another order", |page| page.lines()[3].starts_with("by MEM;"));
    assert_eq!(terminal.page.names()[..2], ["db01", "build"]);
    terminal.press_until(b"<<", "by name", |page| page.lines()[3].starts_with("by name;"));
    // The name's other neighbour is the last column.
    terminal.press_until(b"<", "the last", |page| page.lines()[3].starts_with("by SSID;"));

    terminal.press_until(b"p", "the pause", |page| page.lines()[3].starts_with("PAUSED; "));
    let paused = terminal.page.lines();
    // Polls go on meanwhile.
    for _ in 0..10 {
        terminal.press_until(b"c", "totals", |page| page.text().contains("CPU(sec)"));
        terminal.press_until(b"c", "the same rates", |page| page.lines() == paused);
    }
    terminal.press_until(b"p", "the next poll", |page| page.lines()[5..] != paused[5..]);
    // Keys without a meaning, and an answer of the terminal that nobody asked for.
    terminal.press(b"xyz\x1b[1;5R");
    terminal.quit();
}

#[test]
fn watch_scrolls_lines_and_columns() {
    let scratch = Scratch::new();
    let domain = |id: u32| format!("[[domain]]\nid = {id}\nname = \"vm{id:03}\"\n");
    let many = scratch.file("s.toml", &(1..=300).map(domain).collect::<String>());
    let mut terminal = watched(&many, 24, 60, "--interval 50ms --sort name");
    let name = |n: u32| format!("vm{n:03}");
    let shows = |first: u32, last: u32| {
        move |page: &Page| {
            let names = page.names();
            names.first() == Some(&name(first)) && names.last() == Some(&name(last)) && names.len() == 18
        }
    };
    terminal.show_until("the first page", shows(1, 18));
    assert!(terminal.page.lines()[3].starts_with("by name; domains 1-18 of 300; columns 1-"));
    for (keys, first) in [
        ("\x1b[B", 2),
        ("\x1b[6~", 20),
        ("\x1b[F", 283),
        ("\x1b[B", 283),
        ("\x1b[A", 282),
        ("\x1b[5~", 264),
        ("\x1b[H", 1),
        ("\x1b[A", 1),
    ] {
        terminal.press_until(keys.as_bytes(), keys, shows(first, first + 17));
    }
    assert!(terminal.page.lines()[4].contains(" CPU(%) "));
    terminal.press_until(b"\x1b[C", "the next columns", |page| !page.lines()[4].contains("CPU(%)"));
    assert!(terminal.page.lines()[4].contains("NAME  STATE   MEM NETTX/s"));
    // As far as there are columns.
    terminal
        .press_until("\x1b[C".repeat(40).as_bytes(), "the last one", |page| page.lines()[4].ends_with(" STATE SSID"));
    terminal.press_until("\x1b[D".repeat(16).as_bytes(), "the first", |page| page.lines()[4].contains("CPU(%)"));
    terminal.quit();
}

#[test]
fn watch_fits_every_window() {
    for (rows, columns, header) in [
        (5, 20, "      NAME CPU(%)"),
        (6, 20, "      NAME CPU(%)"),
        (24, 80, "        NAME  STATE CPU(%)   MEM NETTX/s NETRX/s READ/s WRITE/s RDREQ/s WRREQ/s"),
        (40, 120, " RDREQ/s WRREQ/s VCPUS MEM(%) CPU(sec) MAXMEM MAXMEM(%)"),
        (50, 200, " MAXMEM MAXMEM(%) NETS VBDS VBD_OO SSID"),
    ] {
        let mut terminal = watched(&scenario("demo"), rows, columns, "--interval 50ms");
        terminal.show_until("a table", |page| page.text().contains("db01"));
        let lines = terminal.page.lines();
        let table = lines.iter().position(|line| line.contains("NAME")).unwrap();
        assert_eq!(table, if rows < 10 { 1 } else { 4 }, "{lines:?}");
        assert!(lines[table].ends_with(header), "{lines:?}");
        assert!(lines[usize::from(rows) - 1].starts_with("q quit  arrows"), "{lines:?}");
        terminal.quit();
    }
}

/// Without the terminal's help: by a signal of the kernel.
#[test]
fn watch_follows_the_size_of_the_window() {
    let scratch = Scratch::new();
    let resize = scratch.join("resize");
    let line = format!(
        "stty rows 24 columns 80; exec 3<&0; (until [ -e '{0}' ]; do sleep 0.1; done; stty rows 12 columns 60 <&3) & \
         exec \"$XENMONITOR\" --watch --interval 1h",
        resize.display()
    );
    let mut terminal = OnTerminal::start(&line);
    terminal.show_until("the legend", |page| page.lines()[23].starts_with("q quit"));
    terminal.page = Page(vt100::Parser::new(12, 60, 0));
    fs::write(&resize, "").unwrap();
    terminal.show_until("the legend", |page| page.lines()[11].starts_with("q quit") && page.text().contains("web01"));
    terminal.quit();
}

#[test]
fn watch_aligns_and_cuts_names() {
    let mut terminal = watched(&scenario("names"), 40, 100, "--interval 50ms");
    terminal.show_until("a table", |page| page.text().contains("build server"));
    // Each row has STATE below its header, whichever cells its name takes.
    let lines = terminal.page.lines();
    let header = lines.iter().position(|line| line.contains("NAME  STATE")).unwrap();
    let place = lines[header].find("STATE").unwrap() - 1;
    let screen = terminal.page.0.screen();
    let mut seen = 0;
    for row in (header + 1..lines.len() - 1).filter(|row| !lines[*row].is_empty()) {
        let cells = (0..6).map(|n| screen.cell(row as u16, (place + n) as u16).unwrap().contents());
        let state: String = cells.collect();
        assert!(state.chars().all(|c| "-dsbcpr".contains(c)) && state.len() == 6, "{state:?} in {:?}", lines[row]);
        seen += 1;
    }
    assert!(seen > 5, "{lines:?}");
    terminal.quit();

    // Letters that become one in Arabic script are two for most terminals.
    let text = format!("[[domain]]\nid = 1\nname = \"{}\"\n[[domain]]\nid = 2\n", "\u{644}\u{627}".repeat(5));
    let scratch = Scratch::new();
    let mut terminal = watched(&scratch.file("s.toml", &text), 24, 80, "--interval 50ms");
    terminal.show_until("two polls", |page| page.text().contains("% used"));
    let (row, _) = terminal.page.row("\u{644}");
    assert_eq!(terminal.page.lines()[usize::from(row)].matches(" 0.0").count(), 3, "{}", terminal.page.text());
    terminal.quit();

    // A long name leaves columns for numbers; and one cannot control the terminal.
    let hostile = "\\u001b]0;title\\u0007\\u001b[2J";
    let text = format!("[[domain]]\nid = 1\nname = \"{}\"\n[[domain]]\nid = 2\nname = \"{hostile}\"\n", "n".repeat(60));
    let mut terminal = watched(&scratch.file("s.toml", &text), 24, 120, "--interval 50ms");
    terminal.show_until("a table", |page| page.text().contains("nnnn"));
    assert!(terminal.page.text().contains(&format!("{}.. ", "n".repeat(30))), "{}", terminal.page.text());
    assert!(terminal.page.text().contains("\\x1b]0;title\\x07\\x1b[2J"), "{}", terminal.page.text());
    assert_eq!(terminal.page.0.screen().title(), "");
    terminal.quit();
}

/// The table is not disturbed by log lines, which stay on the terminal when the table has gone.
#[test]
fn watch_holds_the_log() {
    let line = "stty rows 24 columns 100; exec \"$XENMONITOR\" --watch --interval 50ms --include 'x*' --count 2";
    let warning = "WARN  --include 'x*' matches no running domain";
    let mut terminal = OnTerminal::start(line);
    terminal.page = Page(vt100::Parser::new(24, 100, 0));
    terminal.show_until("the warning", |page| page.lines()[3].ends_with(warning));
    terminal.show_until("the end", |page| !page.0.screen().alternate_screen() && page.text().contains(warning));
    assert_eq!(terminal.page.text().matches(warning).count(), 1);
    assert!(!terminal.page.0.screen().hide_cursor());
    assert!(terminal.child.wait().unwrap().success());
}

/// Polls that fail, one that hangs, and that there has been none yet.
#[test]
fn watch_says_that_the_table_is_old() {
    let scratch = Scratch::new();
    let go = scratch.join("go");
    let domain = "[[domain]]\nid = 1\nname = \"web\"\n";
    for (fault, reason) in [
        (
            "at = \"3..\"\nfail = \"EIO\"\n".to_owned(),
            "xenstat_get_node failed: Input/output error (os error 5); retrying",
        ),
        (
            format!("at = 3\nwait_for = {go:?}\n"),
            "a poll takes longer than the interval of 50ms: skipping polls until it ends",
        ),
    ] {
        let host = scratch.file("s.toml", &format!("{domain}[[fault]]\n{fault}"));
        let mut terminal = watched(&host, 24, 160, "--interval 50ms");
        terminal.show_until("a table", |page| page.text().contains("web"));
        let says = |page: &Page| page.lines()[3].starts_with("NOT UPDATED; ") && page.lines()[3].ends_with(reason);
        terminal.show_until(reason, says);
        assert!(terminal.page.text().contains("web"));
        if fault.contains("wait_for") {
            fs::write(&go, "").unwrap();
            terminal.show_until("another poll", |page| page.lines()[3].starts_with("by CPU(%); "));
        }
        terminal.quit();
    }
    let line =
        "stty rows 24 columns 160; exec \"$XENMONITOR\" --watch --wait-for-xen --libxenstat /nowhere/libxenstat.so";
    let mut terminal = OnTerminal::start(line);
    terminal.page = Page(vt100::Parser::new(24, 160, 0));
    let says = |page: &Page| {
        page.lines()[0].starts_with("NOT UPDATED; ") && page.lines()[0].contains("libxenstat cannot be loaded")
    };
    terminal.show_until("the error", says);
    terminal.quit();
}

/// However long it takes to draw the table.
#[test]
fn watch_polls_while_keys_are_pressed() {
    let scratch = Scratch::new();
    let many = scratch.file("s.toml", "[[domain]]\nid = 1\nname = \"vm-{i}\"\ncount = 2000\nvcpus = 4\n");
    let mut terminal = watched(&many, 24, 200, "--interval 100ms --count 8");
    terminal.show_until("a table", |page| page.text().contains("vm-"));
    let mut keyboard = terminal.keyboard;
    // Faster than it draws, but script(1) keeps in memory what is not read.
    let is_over = Arc::new(AtomicBool::new(false));
    let ended = is_over.clone();
    let typing = thread::spawn(move || {
        while !ended.load(Relaxed) && keyboard.write_all(b"\x1b[B\x1b[A").is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let start = Instant::now();
    while terminal.page.0.screen().alternate_screen() {
        let bytes = terminal.screen.recv_timeout(PATIENCE.saturating_sub(start.elapsed()));
        terminal.page.0.process(&bytes.expect("the keys keep it from polling"));
        assert!(start.elapsed() < PATIENCE, "the keys keep it from polling");
    }
    is_over.store(true, Relaxed);
    typing.join().unwrap();
    assert!(terminal.child.wait().unwrap().success());
}

/// Those that are pressed while the table is drawn.
#[test]
fn watch_draws_once_for_many_keys() {
    let scratch = Scratch::new();
    let many = scratch.file("s.toml", "[[domain]]\nid = 1\nname = \"vm-{i}\"\ncount = 2000\nvcpus = 4\n");
    let mut terminal = watched(&many, 24, 200, "--interval 1h");
    terminal.show_until("a table", |page| page.text().contains("vm-"));
    terminal.press("\x1b[B".repeat(50).as_bytes());
    let mut shown = std::collections::BTreeSet::new();
    let mut status = String::new();
    while !status.contains("domains 51-") {
        let bytes = terminal.screen.recv_timeout(PATIENCE).unwrap();
        terminal.page.0.process(&bytes);
        status = terminal.page.lines()[3].clone();
        shown.insert(status.clone());
    }
    assert!(shown.len() < 40, "{shown:?}");
    terminal.quit();
}

/// A terminal as another program may have left it, one that cannot be drawn on, and one of no size that there is.
#[test]
fn watch_on_odd_terminals() {
    let mut terminal = OnTerminal::start("stty rows 24 columns 80 min 0 time 0; exec \"$XENMONITOR\" --watch");
    terminal.show_until("a table", |page| page.text().contains("db01"));
    terminal.press_until(b"c", "totals", |page| page.text().contains("CPU(sec)"));
    terminal.quit();

    // Where CI is set, anstream colours the output for every terminal.
    let line = "stty rows 24 columns 200; unset CI; TERM=dumb exec \"$XENMONITOR\" --watch --interval 10ms --count 2";
    let text = out_of(&mut on_a_terminal(line));
    assert!(!text.contains('\x1b') && text.matches(" NAME  STATE   CPU(sec) ").count() == 2, "{text}");

    let line = "stty rows 65535 columns 65535; ulimit -v 4000000; exec \"$XENMONITOR\" --watch";
    let mut terminal = OnTerminal::start(line);
    terminal.read_until("db01");
    terminal.quit();
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
    /// What is written to the screen, until it ends.
    screen: Receiver<Vec<u8>>,
    shown: String,
    page: Page,
}

impl OnTerminal {
    fn start(line: &str) -> Self {
        let mut child = on_a_terminal(line).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (keyboard, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, screen) = mpsc::channel();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut bytes) {
                let _ = sender.send(bytes[..length].to_vec());
            }
        });
        let page = Page(vt100::Parser::new(24, 80, 0));
        Self { child, keyboard, screen, shown: String::new(), page }
    }

    /// Returns what is shown up to these words.
    fn read_until(&mut self, words: &str) -> String {
        loop {
            if let Some(at) = self.shown.find(words) {
                let rest = self.shown.split_off(at + words.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            let bytes = self.screen.recv_timeout(PATIENCE);
            let bytes = bytes.unwrap_or_else(|_| panic!("no {words:?} in {}", self.shown));
            self.shown += &String::from_utf8_lossy(&bytes);
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// Shows what is written until the page is as expected.
    fn show_until(&mut self, what: &str, is_shown: impl Fn(&Page) -> bool) {
        let start = Instant::now();
        while !is_shown(&self.page) {
            let bytes = self.screen.recv_timeout(PATIENCE.saturating_sub(start.elapsed()));
            let bytes = bytes.unwrap_or_else(|_| panic!("not {what}:\n{}", self.page.text()));
            self.page.0.process(&bytes);
            assert!(start.elapsed() < PATIENCE, "not {what}:\n{}", self.page.text());
        }
    }

    fn press_until(&mut self, keys: &[u8], what: &str, is_shown: impl Fn(&Page) -> bool) {
        self.press(keys);
        self.show_until(what, is_shown);
    }

    fn quit(mut self) {
        self.press(b"q");
        self.screen.iter().for_each(drop);
        assert!(self.child.wait().unwrap().success());
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

/// Also while a table is on it; whether the signal comes first, or a write that fails.
#[test]
fn watch_ends_when_the_terminal_is_closed() {
    for trap in ["", "trap '' HUP; "] {
        let scratch = Scratch::new();
        let end = scratch.join("end");
        // The shell outlives its terminal, too.
        let line = format!(
            "trap : HUP; ({trap}exec \"$XENMONITOR\" --watch --interval 20ms) 2>'{0}.log'; echo $? >'{0}.new'; \
             mv '{0}.new' '{0}'",
            end.display()
        );
        let mut terminal = OnTerminal::start(&line);
        terminal.show_until("a table", |page| page.text().contains("web01"));
        terminal.child.kill().unwrap();
        terminal.child.wait().unwrap();
        let start = Instant::now();
        while !end.exists() {
            assert!(start.elapsed() < PATIENCE, "it does not end");
            thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(end.with_extension("log")).unwrap();
        assert_eq!((fs::read_to_string(&end).unwrap().trim(), &*log), ("0", ""), "{trap}");
    }
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
