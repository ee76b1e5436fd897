//! The table of `xentop -b -f`, from a snapshot: the same columns, widths and order.
//!
//! It differs on purpose: the first CPU(%) is `-` where xentop prints a false `0.0`, control characters in names are
//! escaped, and names are padded by the cells of a terminal, not by bytes.

use std::cmp::Reverse;

use unicode_width::UnicodeWidthStr;

use crate::metrics::DOMAIN;
use crate::metrics::delta::Sample;
use crate::metrics::domain::DomainFn;
use crate::metrics::filter::Filter;
use crate::metrics::metric::Metric;
use crate::model::snapshot::State;
use crate::model::text::printable;

/// One of xentop's numeric columns.
pub struct Column {
    /// xentop's title.
    pub header: &'static str,
    /// In cells.
    pub width: usize,
    /// Of its numbers.
    pub decimals: usize,
    /// Printed where there is no value.
    pub placeholder: &'static str,
    /// Whether xentop widens it for large numbers.
    grows: bool,
}

const fn column(header: &'static str, width: usize, decimals: usize, placeholder: &'static str, grows: bool) -> Column {
    Column { header, width, decimals, placeholder, grows }
}

/// In the order of xentop.
pub const COLUMNS: [Column; 17] = [
    column("CPU(sec)", 10, 0, "-", false),
    column("CPU(%)", 6, 1, "-", false),
    column("MEM(k)", 10, 0, "-", false),
    column("MEM(%)", 6, 1, "-", false),
    column("MAXMEM(k)", 10, 0, "no limit", false),
    column("MAXMEM(%)", 9, 1, "n/a", false),
    column("VCPUS", 5, 0, "-", false),
    column("NETS", 4, 0, "-", false),
    column("NETTX(k)", 8, 0, "-", true),
    column("NETRX(k)", 8, 0, "-", true),
    column("VBDS", 4, 0, "-", false),
    column("VBD_OO", 8, 0, "-", false),
    column("VBD_RD", 8, 0, "-", true),
    column("VBD_WR", 8, 0, "-", true),
    column("VBD_RSECT", 10, 0, "-", true),
    column("VBD_WSECT", 10, 0, "-", true),
    column("SSID", 4, 0, "-", false),
];

/// A table whose name column, as in xentop, never becomes narrower.
pub struct Table {
    name_width: usize,
    order: Order,
    dom0_first: bool,
    shows_state: bool,
    columns: Vec<(&'static Metric<DomainFn>, Column)>,
}

/// `--sort`: by name as xentop does, or by a metric, the largest first.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Case ignored.
    Name,
    /// Domains without a value come last.
    Metric(&'static Metric<DomainFn>),
}

/// One line of the table.
pub struct Row {
    /// Its text.
    pub text: String,
    /// The state of the row's domain; `None` in the header.
    pub state: Option<State>,
}

impl Table {
    /// A table of the columns whose metrics pass the filter. `dom0_first` sorts as `xentop -z` does.
    pub fn new(order: Order, dom0_first: bool, filter: &Filter) -> Self {
        let passes = |metric| filter.metric(&[metric], &mut String::new());
        let columns = COLUMNS.map(|column| (metric_of(column.header), column));
        let columns = columns.into_iter().filter(|(metric, _)| passes(metric.name)).collect();
        Self { name_width: 10, order, dom0_first, shows_state: shows_state(filter), columns }
    }

    /// The header, and one row for each domain.
    pub fn rows<'a>(&mut self, samples: impl Iterator<Item = &'a Sample<'a>>) -> Vec<Row> {
        let shown = |sample: &'a Sample<'a>| (printable(&sample.domain.name), sample);
        let mut domains: Vec<(String, &Sample)> = samples.map(shown).collect();
        domains.sort_by_cached_key(|(_, sample)| {
            let first = self.dom0_first && sample.domain.id == 0;
            let value = match self.order {
                Order::Name => None,
                Order::Metric(metric) => metric.of(*sample),
            };
            // Values are finite and not negative, and so in the order of their bits.
            (!first, Reverse(value.map(f64::to_bits)), sample.domain.name.to_ascii_lowercase())
        });
        self.name_width = domains.iter().map(|(name, _)| name.width()).fold(self.name_width, usize::max);
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|(metric, column)| {
                let widest = domains.iter().filter(|_| column.grows).map(|(_, sample)| digits(metric.of(*sample)));
                (metric, widest.fold(column.width, usize::max), column)
            })
            .collect();

        let mut header = String::new();
        cell(&mut header, "NAME", self.name_width);
        header.push_str(if self.shows_state { "  STATE" } else { "" });
        for (_, width, column) in &columns {
            header.push(' ');
            cell(&mut header, column.header, *width);
        }
        let mut rows = vec![Row { text: header, state: None }];
        for (name, sample) in domains {
            let mut text = String::new();
            cell(&mut text, &name, self.name_width);
            if self.shows_state {
                text.push(' ');
                text.push_str(&letters(sample.domain.state));
            }
            for (metric, width, column) in &columns {
                text.push(' ');
                match metric.of(sample) {
                    None => cell(&mut text, column.placeholder, *width),
                    Some(value) => cell(&mut text, &number(value, column.decimals), *width),
                }
            }
            rows.push(Row { text, state: Some(sample.domain.state) });
        }
        rows
    }
}

/// Whether the column STATE passes the filter.
pub fn shows_state(filter: &Filter) -> bool {
    let mut states = DOMAIN.iter().filter(|row| row.xentop == Some("STATE"));
    states.any(|row| filter.metric(&[row.metric.name], &mut String::new()))
}

/// A number as xentop prints it: it divides integers, which truncates where printf would round.
pub fn number(value: f64, decimals: usize) -> String {
    if decimals == 0 { format!("{:.0}", value.trunc()) } else { format!("{value:.decimals$}") }
}

/// The metric that one of xentop's columns shows.
pub fn metric_of(column: &str) -> &'static Metric<DomainFn> {
    let row = DOMAIN.iter().find(|row| row.xentop == Some(column));
    &row.expect("every column has its metric").metric
}

/// printf's `%*s`, right-aligned, but by the cells of a terminal: a character may take two of them, or none.
pub fn cell(out: &mut String, text: &str, width: usize) {
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(text.width())));
    out.push_str(text);
}

/// xentop's INT_FIELD_WIDTH(n + 1): one column early when n is all nines.
fn digits(value: Option<f64>) -> usize {
    ((value.unwrap_or(0.0) + 1.0).log10() + 1.0) as usize
}

/// The column STATE.
pub fn letters(state: State) -> String {
    [
        (state.dying, 'd'),
        (state.shutdown, 's'),
        (state.blocked, 'b'),
        (state.crashed, 'c'),
        (state.paused, 'p'),
        (state.running, 'r'),
    ]
    .map(|(is, letter)| if is { letter } else { '-' })
    .iter()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // tests/it/oracle.rs compares the whole table with xentop's.

    #[test]
    fn table_cells_are_padded_by_width() {
        for (text, padded) in [
            ("web", "   web"),
            ("z\u{fc}rich", "z\u{fc}rich"),
            ("\u{6771}\u{4eac}", "  \u{6771}\u{4eac}"),
            ("e\u{301}", "     e\u{301}"),
            ("overlong", "overlong"),
        ] {
            let mut out = String::new();
            cell(&mut out, text, 6);
            assert_eq!(out, padded);
        }
    }

    #[test]
    fn table_columns_grow_as_in_xentop() {
        for (value, width) in [(None, 1), (Some(0.0), 1), (Some(8.0), 1), (Some(9.0), 2), (Some(99_999_999.0), 9)] {
            assert_eq!(digits(value), width, "{value:?}");
        }
    }
}
