//! The terminal that a table is printed to: colours if it has some, and with `--watch` each table in place of the one
//! before.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, SystemTime};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use rustix::termios;
use unicode_width::UnicodeWidthStr;

use crate::metrics::node::{NODE, NodeSample};
use crate::model::snapshot::State;
use crate::model::text::printable;
use crate::report::table::Row;

/// Columns and lines of a terminal of unknown size.
const DEFAULT_SIZE: (usize, usize) = (80, 24);

/// Names are cut to this with `--watch`; the longest there can be would leave no columns for numbers.
const MAX_NAME_WIDTH: usize = 32;

/// Standard output.
pub struct Screen {
    has_colours: bool,
    /// Each table is drawn over the one before.
    in_place: bool,
}

impl Screen {
    /// Only a terminal gets colours, and only on a terminal a table can be watched.
    pub fn new(watch: bool) -> Self {
        let is_terminal = termios::isatty(io::stdout());
        // NO_COLOR, TERM=dumb.
        let has_colours = is_terminal && AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self { has_colours, in_place: watch && is_terminal }
    }

    /// How much of a name is shown.
    pub fn max_name_width(&self) -> usize {
        if self.in_place { MAX_NAME_WIDTH } else { usize::MAX }
    }

    /// What to write for a table of the host's domains, polled every `interval`.
    pub fn draw(&self, rows: &[Row], sample: &NodeSample, host: &str, interval: Duration) -> String {
        if self.in_place {
            self.frame(heading(sample, host, interval), rows, size())
        } else {
            rows.iter().map(|row| self.line(row) + "\n").collect()
        }
    }

    /// A table below its heading, in the place of the one before.
    fn frame(&self, heading: Vec<String>, rows: &[Row], (width, height): (usize, usize)) -> String {
        let mut lines = heading;
        let columns = rows.iter().map(|row| row.text.width()).max().unwrap_or_default();
        lines.push(if columns > width {
            format!("{columns} columns, {width} shown: widen the window or pick columns with --metrics")
        } else {
            String::new()
        });
        // The last line stays free: the cursor is there, and the log is written there.
        let space = height.saturating_sub(lines.len() + 1).max(2);
        let hidden = if rows.len() > space { rows.len() + 1 - space } else { 0 };
        lines.extend(rows[..rows.len() - hidden].iter().map(|row| self.line(row)));
        if hidden > 0 {
            lines.push(format!("{hidden} more domains: enlarge the window or pick domains with --include"));
        }
        // Each line erases the rest of the one that was there, and the end what was below. The terminal cuts lines that
        // are too long, so it must not wrap them.
        let lines: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        format!("\x1b[?7l\x1b[H{lines}\x1b[J\x1b[?7h")
    }

    fn line(&self, row: &Row) -> String {
        let style = match row.state {
            _ if !self.has_colours => return row.text.clone(),
            None => Style::new().invert(),
            Some(State { crashed: true, .. } | State { dying: true, .. }) => AnsiColor::Red.on_default(),
            Some(State { paused: true, .. } | State { shutdown: true, .. }) => AnsiColor::Yellow.on_default(),
            Some(State { running: true, .. }) => AnsiColor::Green.on_default(),
            Some(_) => return row.text.clone(),
        };
        format!("{style}{}{style:#}", row.text)
    }
}

/// Columns and lines of the terminal.
fn size() -> (usize, usize) {
    match termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => DEFAULT_SIZE,
    }
}

/// A summary, like the one above xentop's table.
fn heading(sample: &NodeSample, host: &str, interval: Duration) -> Vec<String> {
    let time = humantime::format_rfc3339_seconds(SystemTime::now());
    let values: BTreeMap<&str, f64> = NODE.iter().filter_map(|row| Some((row.name, row.of(sample)?))).collect();
    let value = |name: &str| values[name];
    let states = ["running", "blocked", "paused", "shutdown", "crashed", "dying"]
        .map(|state| (value(&format!("domains_{state}")), state));
    let states: Vec<String> =
        states.iter().filter(|(n, _)| *n > 0.0).map(|(n, state)| format!("{n} {state}")).collect();
    let gib = |name: &str| value(name) / f64::from(1 << 20);
    vec![
        format!("{} - Xen {} - {time} - every {interval:?}", printable(host.as_bytes()), sample.node.xen_version),
        format!("{} domains: {}", value("domains"), states.join(", ")),
        format!(
            "memory: {:.1} GiB, {:.1} free; CPUs: {}{}{}",
            gib("mem_total_k"),
            gib("mem_free_k"),
            value("cpus"),
            values.get("cpu_mhz").map(|mhz| format!(" at {mhz} MHz")).unwrap_or_default(),
            values.get("cpu_percent").map(|percent| format!(", {percent:.1} % used")).unwrap_or_default(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::delta::{Previous, Span};
    use crate::model::snapshot::{Domain, Snapshot};

    #[test]
    fn watch_frames_fit_the_window() {
        let screen = Screen { has_colours: false, in_place: true };
        let heading = || vec!["xen1".to_owned(), "3 domains".to_owned()];
        let rows: Vec<Row> = ["NAME CPU", "a      1", "b      2", "c      3"]
            .map(|text| Row { text: text.to_owned(), state: None })
            .into();
        let narrow = "8 columns, 7 shown: widen the window or pick columns with --metrics";
        let low = |n: usize| format!("{n} more domains: enlarge the window or pick domains with --include");
        for (size, hint, shown, end) in [
            ((8, 8), "", 4, None),
            ((7, 8), narrow, 4, None),
            ((8, 7), "", 2, Some(low(2))),
            ((7, 6), narrow, 1, Some(low(3))),
            // A header and a hint are shown even in a window without a line for them.
            ((8, 2), "", 1, Some(low(3))),
        ] {
            let frame = screen.frame(heading(), &rows, size);
            let lines = frame.strip_prefix("\x1b[?7l\x1b[H").and_then(|rest| rest.strip_suffix("\x1b[J\x1b[?7h"));
            let lines: Vec<&str> = lines.unwrap().split_terminator("\x1b[K\n").collect();
            let mut expected = vec!["xen1", "3 domains", hint];
            expected.extend(rows[..shown].iter().map(|row| row.text.as_str()));
            expected.extend(end.as_deref());
            assert_eq!(lines, expected, "{size:?}");
        }
    }

    #[test]
    fn watch_heading_of_a_host_with_and_without_a_cpu_frequency() {
        let span = Span { elapsed: Duration::from_secs(2), uncertainty: Duration::ZERO };
        for (cpu_hz, used, end) in [
            (Some(2_400_000_000), None, "; CPUs: 8 at 2400 MHz"),
            (Some(2_400_000_000), Some(3_005_000_000), "; CPUs: 8 at 2400 MHz, 150.2 % used"),
            (None, None, "; CPUs: 8"),
        ] {
            let snapshot = |cpu_ns| {
                let domains = vec![Domain { cpu_ns, num_vcpus: 2, ..Domain::default() }];
                Snapshot { num_cpus: 8, cpu_hz, domains, ..Snapshot::default() }
            };
            let (earlier, now) = (snapshot(0), snapshot(used.unwrap_or_default()));
            let previous = Previous { snapshot: &earlier, xenstat: span, vifs: span };
            let sample = NodeSample { node: &now, previous: used.map(|_| &previous) };
            let heading = heading(&sample, "xen1", Duration::from_secs(1));
            assert!(heading[2].ends_with(end), "{heading:?}");
        }
    }

    #[test]
    fn watch_shows_states_in_colours() {
        let screen = Screen { has_colours: true, in_place: true };
        let none = State::default();
        for (state, line) in [
            (None, "\x1b[7mx\x1b[0m"),
            (Some(none), "x"),
            (Some(State { running: true, ..none }), "\x1b[32mx\x1b[0m"),
            (Some(State { running: true, paused: true, ..none }), "\x1b[33mx\x1b[0m"),
            (Some(State { shutdown: true, ..none }), "\x1b[33mx\x1b[0m"),
            (Some(State { shutdown: true, crashed: true, ..none }), "\x1b[31mx\x1b[0m"),
            (Some(State { dying: true, ..none }), "\x1b[31mx\x1b[0m"),
        ] {
            assert_eq!(screen.line(&Row { text: "x".into(), state }), line, "{state:?}");
        }
    }

    /// On a terminal other programs' output is not scrolled away by one long name.
    #[test]
    fn watch_cuts_names() {
        for (in_place, width) in [(true, 32), (false, usize::MAX)] {
            assert_eq!(Screen { has_colours: false, in_place }.max_name_width(), width);
        }
    }
}
