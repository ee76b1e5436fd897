//! The columns of `--watch`: rates and sizes for people, or xentop's own.

use crate::metrics::filter::Filter;
use crate::report::table::{self, metric_of};

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its title.
    pub header: &'static str,
    /// The metric that it shows.
    pub metric: &'static str,
    /// At least so many cells.
    pub width: usize,
    /// How it shows values.
    pub format: Format,
    /// Shown where there is no value.
    pub missing: &'static str,
}

/// How a value is written.
#[derive(Debug, Clone, Copy)]
pub enum Format {
    /// As in xentop, with so many decimals.
    Xentop(usize),
    /// Bytes, in units of 1024.
    Bytes,
    /// KiB, in units of 1024.
    Kib,
    /// One decimal, as long as that says something.
    Short,
}

const fn column(header: &'static str, metric: &'static str, width: usize, format: Format) -> Column {
    Column { header, metric, width, format, missing: "-" }
}

/// The most wanted first: they fit a narrow terminal.
const RATES: [Column; 17] = [
    column("CPU(%)", "cpu_percent", 6, Format::Xentop(1)),
    column("MEM", "mem_k", 5, Format::Kib),
    column("NETTX/s", "nettx_bytes_per_sec", 7, Format::Bytes),
    column("NETRX/s", "netrx_bytes_per_sec", 7, Format::Bytes),
    column("READ/s", "vbd_rd_bytes_per_sec", 6, Format::Bytes),
    column("WRITE/s", "vbd_wr_bytes_per_sec", 7, Format::Bytes),
    column("RDREQ/s", "vbd_rd_per_sec", 7, Format::Short),
    column("WRREQ/s", "vbd_wr_per_sec", 7, Format::Short),
    column("VCPUS", "vcpus", 5, Format::Xentop(0)),
    column("MEM(%)", "mem_percent", 6, Format::Xentop(1)),
    column("CPU(sec)", "cpu_sec", 8, Format::Xentop(0)),
    column("MAXMEM", "maxmem_k", 6, Format::Kib),
    column("MAXMEM(%)", "maxmem_percent", 9, Format::Xentop(1)),
    column("NETS", "nets", 4, Format::Xentop(0)),
    column("VBDS", "vbds", 4, Format::Xentop(0)),
    column("VBD_OO", "vbd_oo", 6, Format::Xentop(0)),
    column("SSID", "ssid", 4, Format::Xentop(0)),
];

/// For each rate the counters that it is made from: who selects these with `--metrics` sees the rate, too.
const COUNTERS_OF_RATES: [(&str, &str); 6] = [
    ("nettx_bytes_per_sec", "nettx_k"),
    ("netrx_bytes_per_sec", "netrx_k"),
    ("vbd_rd_bytes_per_sec", "vbd_rsect"),
    ("vbd_wr_bytes_per_sec", "vbd_wsect"),
    ("vbd_rd_per_sec", "vbd_rd"),
    ("vbd_wr_per_sec", "vbd_wr"),
];

/// The columns that `--metrics` leaves.
pub struct Columns {
    rates: Vec<Column>,
    counters: Vec<Column>,
    /// Whether the state is shown.
    pub has_state: bool,
}

impl Columns {
    /// Those that pass the filter.
    pub fn new(filter: &Filter) -> Self {
        let passes = |metric: &str| filter.metric(&[metric], &mut String::new());
        let counter = |metric| COUNTERS_OF_RATES.iter().find(|(rate, _)| *rate == metric).map(|(_, counter)| *counter);
        let is_shown = |c: &Column| passes(c.metric) || counter(c.metric).is_some_and(passes);
        let xentops = table::COLUMNS.iter().map(|c| Column {
            header: c.header,
            metric: metric_of(c.header).name,
            width: c.width,
            format: Format::Xentop(c.decimals),
            missing: c.placeholder,
        });
        Self {
            rates: RATES.into_iter().filter(is_shown).collect(),
            counters: xentops.filter(|c| passes(c.metric)).collect(),
            has_state: table::shows_state(filter),
        }
    }

    /// The columns of one of the two views.
    pub fn shown(&self, counters: bool) -> &[Column] {
        if counters { &self.counters } else { &self.rates }
    }
}

impl Format {
    /// The value as text.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Xentop(decimals) => table::number(value, decimals),
            Self::Bytes => bytes(value),
            Self::Kib => bytes(value * 1024.0),
            Self::Short => short(value),
        }
    }
}

fn short(value: f64) -> String {
    if value < 99.95 { format!("{value:.1}") } else { format!("{value:.0}") }
}

/// At most five characters, but above 999 PiB: `512`, `1.5K`, `64.0G`, `999M`.
pub fn bytes(value: f64) -> String {
    let units = ["", "K", "M", "G", "T", "P"];
    let mut scaled = value;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < units.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{scaled:.0}") } else { format!("{}{}", short(scaled), units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watch_sizes_have_three_digits_or_four() {
        for (value, text) in [
            (0.0, "0"),
            (0.4, "0"),
            (999.4, "999"),
            (999.5, "1.0K"),
            (1024.0, "1.0K"),
            (1536.0, "1.5K"),
            (102_348.0, "99.9K"),
            (102_390.0, "100K"),
            (1_023_000.0, "999K"),
            (1_048_576.0, "1.0M"),
            (68_719_476_736.0, "64.0G"),
            (4e18, "3553P"),
        ] {
            assert_eq!(bytes(value), text, "{value}");
        }
        for (value, text) in [(0.0, "0.0"), (0.3, "0.3"), (99.94, "99.9"), (99.95, "100"), (12345.0, "12345")] {
            assert_eq!(short(value), text, "{value}");
        }
    }

    #[test]
    fn watch_shows_every_rate_and_every_column_of_xentop() {
        let columns = Columns::new(&Filter::default());
        let rates: Vec<&str> = columns.shown(false).iter().map(|c| c.metric).collect();
        for row in crate::metrics::DOMAIN.iter().filter(|row| !row.metric.name.starts_with("state.")) {
            let name = row.metric.name;
            let as_rate = COUNTERS_OF_RATES.iter().any(|(rate, counter)| *counter == name && rates.contains(rate));
            assert!(rates.contains(&name) || as_rate, "{name}");
        }
        assert_eq!(columns.shown(true).len(), table::COLUMNS.len());
    }
}
