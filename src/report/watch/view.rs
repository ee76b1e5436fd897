//! What the keys of `--watch` change: order, columns, devices, and which part of the table is shown.

use termion::event::Key;

use crate::model::device::DeviceKind;
use crate::report::table::Order;
use crate::report::watch::columns::Columns;

/// The keys, for the last line of the screen.
pub const LEGEND: [(&str, &str); 8] = [
    ("q", "quit"),
    ("arrows", "scroll"),
    ("s", "sort"),
    ("c", "counters"),
    ("n", "nets"),
    ("b", "disks"),
    ("v", "vcpus"),
    ("p", "pause"),
];

/// How many lines PgUp and PgDn scroll, as long as nothing has been shown.
const PAGE: usize = 10;

/// What is shown, and how.
pub struct View {
    /// Cumulative values, as in xentop, instead of rates.
    pub shows_counters: bool,
    /// New polls are not shown.
    pub is_paused: bool,
    /// The metric that domains are sorted by, the largest first; `None`: by name.
    pub sort: Option<&'static str>,
    /// Domain-0 above all others.
    pub dom0_first: bool,
    /// The kinds of devices that have a line of their own.
    pub kinds: Vec<DeviceKind>,
    /// Lines that are scrolled away above.
    pub first_line: usize,
    /// Columns that are scrolled away at the left, after the name.
    pub first_column: usize,
    /// Lines of the table that the screen has room for.
    pub page: usize,
    /// How many lines can be scrolled away, as of the last page.
    pub last_line: usize,
}

impl View {
    /// In this order, from the top left.
    pub fn new(order: Order, dom0_first: bool) -> Self {
        let sort = match order {
            Order::Name => None,
            Order::Metric(metric) => Some(metric.name),
        };
        let (kinds, page) = (Vec::new(), PAGE);
        let (shows_counters, is_paused, first_line, first_column, last_line) = (false, false, 0, 0, 0);
        Self { shows_counters, is_paused, sort, dom0_first, kinds, first_line, first_column, page, last_line }
    }

    /// A key was pressed. Keys without a meaning are ignored.
    pub fn on_key(&mut self, key: Key, columns: &Columns) {
        let page = self.page.max(1);
        match key {
            Key::Char('p' | ' ') => self.is_paused = !self.is_paused,
            Key::Char('c') => self.shows_counters = !self.shows_counters,
            Key::Char('s' | 'S' | '>') => self.sort_by_next(columns, 1),
            Key::Char('<') => self.sort_by_next(columns, -1),
            Key::Char('n' | 'N') => self.toggle(DeviceKind::Vif),
            Key::Char('b' | 'B') => self.toggle(DeviceKind::Vbd),
            Key::Char('v' | 'V') => self.toggle(DeviceKind::Vcpu),
            Key::Up | Key::Char('k') => self.first_line = self.first_line.saturating_sub(1),
            Key::Down | Key::Char('j') => self.first_line = self.last_line.min(self.first_line + 1),
            Key::PageUp => self.first_line = self.first_line.saturating_sub(page),
            Key::PageDown => self.first_line = self.last_line.min(self.first_line + page),
            Key::Home => self.first_line = 0,
            // More than there can be: the page stops at the last line.
            Key::End => self.first_line = usize::MAX / 2,
            Key::Left | Key::Char('h') => self.first_column = self.first_column.saturating_sub(1),
            Key::Right | Key::Char('l') => {
                let last = columns.shown(self.shows_counters).len().saturating_sub(1);
                self.first_column = last.min(self.first_column + 1);
            }
            _ => {}
        }
    }

    /// Sorts by a column further to the right or left; the name is the first.
    fn sort_by_next(&mut self, columns: &Columns, step: isize) {
        let metrics: Vec<Option<&str>> =
            std::iter::once(None).chain(columns.shown(self.shows_counters).iter().map(|c| Some(c.metric))).collect();
        let now = metrics.iter().position(|metric| *metric == self.sort);
        let next = now.map_or(0, |now| (now as isize + step).rem_euclid(metrics.len() as isize) as usize);
        self.sort = metrics[next];
    }

    fn toggle(&mut self, kind: DeviceKind) {
        match self.kinds.iter().position(|shown| *shown == kind) {
            Some(place) => drop(self.kinds.remove(place)),
            None => self.kinds.push(kind),
        }
    }
}
