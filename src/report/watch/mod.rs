//! `--watch`: a live table on the terminal. [`view`] is what keys change, [`page`] what is shown; here it is drawn.

mod columns;
mod page;
pub mod view;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, ErrorKind, Stdout};
use std::mem::ManuallyDrop;
use std::time::{Duration, SystemTime};

use ratatui::backend::TermionBackend;
use ratatui::layout::Rect;
use ratatui::widgets::Paragraph;
use ratatui::{Terminal, TerminalOptions, Viewport};
use rustix::io::Errno;
use rustix::termios;
use termion::event::Key;

use self::columns::Columns;
use self::page::{Content, Domain, Palette};
use self::view::View;
use crate::logging::stderr;
use crate::metrics::delta::{Devices, Sample};
use crate::metrics::filter::Filter;
use crate::metrics::node::{NODE, NodeSample};
use crate::model::text::printable;
use crate::report::table::Order;
use crate::report::terminal::has_colours;

/// Columns and lines of a terminal of unknown size, such as a serial console.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// More columns or lines than any terminal has, so that a wrong size takes no memory.
const MAX_SIZE: u16 = 1000;

/// Large enough that a page is written at once.
const BUFFER_SIZE: usize = 1 << 16;

/// The live table.
pub struct Watch {
    /// Never dropped: it would show the cursor, which closing the alternate screen does, and panic without a terminal.
    terminal: ManuallyDrop<Terminal<TermionBackend<BufWriter<Stdout>>>>,
    area: Rect,
    view: View,
    columns: Columns,
    content: Content,
    palette: Palette,
    devices: Devices,
    /// What the screen does not show yet.
    change: Change,
}

/// What has to be drawn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Nothing,
    /// What differs from what was drawn before.
    Some,
    /// Everything.
    All,
}

impl Watch {
    /// A table of the columns that pass the filter. Standard output has to be a terminal.
    pub fn new(order: Order, dom0_first: bool, filter: &Filter) -> io::Result<Self> {
        let area = area();
        let stdout = BufWriter::with_capacity(BUFFER_SIZE, io::stdout());
        let options = TerminalOptions { viewport: Viewport::Fixed(area) };
        Ok(Self {
            terminal: ManuallyDrop::new(Terminal::with_options(TermionBackend::new(stdout), options)?),
            area,
            view: View::new(order, dom0_first),
            columns: Columns::new(filter),
            content: Content::default(),
            palette: if has_colours() { Palette::Colours } else { Palette::Plain },
            devices: Devices::default(),
            change: Change::Nothing,
        })
    }

    /// Shows another poll of the host, unless the table is paused.
    pub fn update<'a>(
        &mut self,
        samples: impl Iterator<Item = &'a Sample<'a>>,
        node: &NodeSample,
        host: &str,
        interval: Duration,
    ) -> io::Result<()> {
        if !self.view.is_paused {
            self.content.heading = heading(node, host, interval);
            self.content.domains.clear();
            for sample in samples {
                self.content.domains.push(Domain::new(sample, &mut self.devices));
            }
        }
        self.content.is_outdated = false;
        self.content.age_message();
        self.draw()
    }

    /// There is no poll of the host to show: it has failed, or is late.
    pub fn on_missing_poll(&mut self) {
        self.content.is_outdated = true;
        self.change = self.change.max(Change::Some);
    }

    /// A line was logged.
    pub fn on_log(&mut self) {
        self.change = self.change.max(Change::Some);
    }

    /// A key was pressed.
    pub fn on_key(&mut self, key: Key) {
        self.view.on_key(key, &self.columns);
        self.change = self.change.max(if key == Key::Ctrl('l') { Change::All } else { Change::Some });
    }

    /// Everything has to be drawn again: the terminal may show something else, or have another size.
    pub fn redraw(&mut self) {
        self.change = Change::All;
    }

    /// Whether it is not drawn as it is now.
    pub fn has_changed(&self) -> bool {
        self.change != Change::Nothing
    }

    /// Draws it.
    pub fn draw(&mut self) -> io::Result<()> {
        self.draw_page().map_err(|error| match Errno::from_io_error(&error) {
            // The terminal has been closed, as a pipe is.
            Some(Errno::IO) => ErrorKind::BrokenPipe.into(),
            _ => error,
        })
    }

    fn draw_page(&mut self) -> io::Result<()> {
        let area = area();
        if std::mem::replace(&mut self.area, area) != area || self.change == Change::All {
            self.terminal.resize(area)?;
        }
        self.change = Change::Nothing;
        stderr::take_latest().into_iter().for_each(|line| self.content.set_message(line));
        let size = (area.width.into(), area.height.into());
        let text = page::page(&mut self.view, &self.columns, &self.content, self.palette, size);
        self.terminal.draw(|frame| frame.render_widget(Paragraph::new(text), area))?;
        Ok(())
    }
}

fn area() -> Rect {
    let (width, height) = match termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_col.min(MAX_SIZE), size.ws_row.min(MAX_SIZE)),
        _ => DEFAULT_SIZE,
    };
    Rect::new(0, 0, width, height)
}

/// A summary, like the one above xentop's table.
fn heading(sample: &NodeSample, host: &str, interval: Duration) -> Vec<String> {
    let time = humantime::format_rfc3339_seconds(SystemTime::now());
    let values: BTreeMap<&str, f64> = NODE.iter().filter_map(|row| Some((row.name, row.of(sample)?))).collect();
    let count = |name: &str| values.get(name).copied().unwrap_or_default();
    let states = ["running", "blocked", "paused", "shutdown", "crashed", "dying"]
        .map(|state| (count(&format!("domains_{state}")), state));
    let states: Vec<String> =
        states.iter().filter(|(n, _)| *n > 0.0).map(|(n, state)| format!("{n} {state}")).collect();
    let gib =
        |name: &str| values.get(name).map_or_else(|| "-".to_owned(), |kib| format!("{:.1}", kib / f64::from(1 << 20)));
    let version = printable(sample.node.xen_version.as_bytes());
    vec![
        format!("{} - Xen {version} - {time} - every {interval:?}", printable(host.as_bytes())),
        format!("{} domains: {}", count("domains"), states.join(", ")),
        format!(
            "memory: {} GiB, {} free; CPUs: {}{}{}",
            gib("mem_total_k"),
            gib("mem_free_k"),
            count("cpus"),
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

    /// A value that cannot be sent cannot be shown either.
    #[test]
    fn watch_heading_of_a_host_whose_memory_is_out_of_range() {
        let node =
            Snapshot { tot_mem: u64::MAX, free_mem: 1 << 30, xen_version: "4\x1b[2J".into(), ..Snapshot::default() };
        let heading = heading(&NodeSample { node: &node, previous: None }, "xen1", Duration::from_secs(1));
        assert!(heading[0].starts_with("xen1 - Xen 4\\x1b[2J - "), "{heading:?}");
        assert_eq!(heading[2], "memory: - GiB, 1.0 free; CPUs: 0");
    }
}
