//! The terminal a table is looked at on: colours where it has some, and with `--watch` each table in the place of
//! the one before, on a page of its own, which `q` closes.

use std::collections::BTreeMap;
use std::io::{self};
use std::time::{Duration, SystemTime};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use rustix::termios::{self};

use crate::metrics::node::NODE;
use crate::model::snapshot::{Snapshot, State};
use crate::model::text::printable;
use crate::report::table::Row;

/// Columns and lines of a terminal that does not tell how many it has.
const USUAL: (usize, usize) = (80, 24);

/// So long may a name be where it is watched: the longest there are would leave no room for a number.
const NAME: usize = 32;

/// Standard output.
pub struct Screen {
    colours: bool,
    in_place: bool,
}

impl Screen {
    /// Watched or not, on a terminal or not: what is no terminal gets the bare text, and all of it.
    pub fn new(watch: bool) -> Self {
        // A terminal, and one that is not said to be without colours (NO_COLOR, TERM=dumb).
        let is_terminal = termios::isatty(io::stdout());
        let colours = is_terminal && AutoStream::choice(&io::stdout()) != ColorChoice::Never;
        Self { colours, in_place: watch && is_terminal }
    }

    /// How much of a name is shown.
    pub fn longest_name(&self) -> usize {
        if self.in_place { NAME } else { usize::MAX }
    }

    /// A table as it is to be written: header and domains of `node`, polled every `interval` as `host`.
    pub fn draw(&self, rows: &[Row], node: &Snapshot, host: &str, interval: Duration) -> String {
        if !self.in_place {
            return rows.iter().map(|row| self.line(row) + "\n").collect();
        }
        let mut lines = heading(node, host, interval);
        let (width, height) = size();
        let wide = rows.iter().map(|row| row.text.chars().count()).max().unwrap_or_default();
        if wide > width {
            lines.push(format!("cut at {width} of {wide} characters: widen the window, or choose with --metrics"));
        } else {
            lines.push(String::new());
        }
        // One stays free for the cursor, below which the log writes.
        let room = height.saturating_sub(lines.len() + 1).max(2);
        if rows.len() <= room {
            lines.extend(rows.iter().map(|row| self.line(row)));
        } else {
            lines.extend(rows[..room - 1].iter().map(|row| self.line(row)));
            lines.push(format!("and {} more: make the window larger, or choose with --include", rows.len() + 1 - room));
        }
        // From the first cell on, each line without the end of the one before; lines that are too long are cut by the
        // terminal itself, which must not wrap them.
        let lines: String = lines.iter().map(|line| format!("{line}\x1b[K\n")).collect();
        format!("\x1b[?7l\x1b[H{lines}\x1b[J\x1b[?7h")
    }

    fn line(&self, row: &Row) -> String {
        let style = match row.state {
            _ if !self.colours => return row.text.clone(),
            None => Style::new().invert(),
            Some(State { crashed: true, .. } | State { dying: true, .. }) => AnsiColor::Red.on_default(),
            Some(State { paused: true, .. } | State { shutdown: true, .. }) => AnsiColor::Yellow.on_default(),
            Some(State { running: true, .. }) => AnsiColor::Green.on_default(),
            Some(_) => return row.text.clone(),
        };
        format!("{style}{}{style:#}", row.text)
    }
}

/// Columns and lines.
fn size() -> (usize, usize) {
    match termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL,
    }
}

/// What xentop has above its table.
fn heading(node: &Snapshot, host: &str, interval: Duration) -> Vec<String> {
    let time = humantime::format_rfc3339_seconds(SystemTime::now());
    let values: BTreeMap<&str, f64> = NODE.iter().filter_map(|row| Some((row.name, row.of(node)?))).collect();
    let value = |name: &str| values[name];
    let states = ["running", "blocked", "paused", "shutdown", "crashed", "dying"]
        .map(|state| (value(&format!("domains_{state}")), state));
    let states: Vec<String> =
        states.iter().filter(|(n, _)| *n > 0.0).map(|(n, state)| format!("{n} {state}")).collect();
    let gib = |name: &str| value(name) / f64::from(1 << 20);
    vec![
        format!("{} - Xen {} - {time} - every {interval:?}", printable(host.as_bytes()), node.xen_version),
        format!("{} domains: {}", value("domains"), states.join(", ")),
        format!(
            "memory: {:.1} GiB, {:.1} free; CPUs: {} at {} MHz",
            gib("mem_total_k"),
            gib("mem_free_k"),
            value("cpus"),
            value("cpu_mhz"),
        ),
    ]
}
