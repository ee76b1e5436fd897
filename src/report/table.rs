//! The table of `xentop -b -f`, from a snapshot: the same columns, widths and order.
//!
//! Two cells differ on purpose: a first CPU(%) is `-` where xentop prints a false `0.0`, and a name cannot
//! reach the terminal with control characters.

use crate::model::text::printable;
use std::cmp::Reverse;

use crate::metrics::columns::{GAUGES, Gauge};
use crate::metrics::delta::View;
use crate::metrics::filter::Choice;
use crate::model::snapshot::State;

/// One of xentop's numeric columns.
struct Column {
    header: &'static str,
    width: usize,
    decimals: usize,
    /// Stands where there is no number.
    absent: &'static str,
    /// Whether xentop widens it for large numbers.
    grows: bool,
}

const fn column(header: &'static str, width: usize, decimals: usize, absent: &'static str, grows: bool) -> Column {
    Column { header, width, decimals, absent, grows }
}

const COLUMNS: [Column; 17] = [
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

/// A table that remembers, as xentop does, how wide its names have been.
pub struct Table {
    name_width: usize,
    /// What is longer is cut.
    longest_name: usize,
    order: Order,
    dom0_first: bool,
    shows_state: bool,
    columns: Vec<(&'static Gauge, Column)>,
}

/// `--sort`: by name as xentop does, or by a column, the largest first.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Case ignored.
    Name,
    /// Those that have none come last.
    Gauge(&'static Gauge),
}

/// One line of the table.
pub struct Row {
    /// What it says.
    pub text: String,
    /// Of the domain it is about; `None` in the header.
    pub state: Option<State>,
}

impl Table {
    /// With `dom0_first` as `xentop -z` sorts; with those columns only whose gauges are chosen.
    pub fn new(order: Order, dom0_first: bool, choice: &Choice, longest_name: usize) -> Self {
        let columns = COLUMNS.map(|column| (of_column(column.header), column));
        let columns = columns.into_iter().filter(|(gauge, _)| choice.metric(gauge.name)).collect();
        let mut states = GAUGES.iter().filter(|gauge| gauge.xentop == "STATE");
        let shows_state = states.any(|gauge| choice.metric(gauge.name));
        Self { name_width: 10, longest_name, order, dom0_first, shows_state, columns }
    }

    /// Header and one row a domain.
    pub fn rows<'a>(&mut self, views: impl Iterator<Item = &'a View<'a>>) -> Vec<Row> {
        let shown = |view: &'a View<'a>| (cut(printable(&view.domain.name), self.longest_name), view);
        let mut domains: Vec<(String, &View)> = views.map(shown).collect();
        domains.sort_by_cached_key(|(_, view)| {
            let first = self.dom0_first && view.domain.id == 0;
            let value = match self.order {
                Order::Name => None,
                Order::Gauge(gauge) => gauge.value(view),
            };
            // What is finite and not negative, as all gauges are, is in the order of its bits.
            (!first, Reverse(value.map(f64::to_bits)), view.domain.name.to_ascii_lowercase())
        });
        self.name_width = domains.iter().map(|(name, _)| name.len()).fold(self.name_width, usize::max);
        let columns: Vec<_> = self
            .columns
            .iter()
            .map(|(gauge, column)| {
                let widest = domains.iter().filter(|_| column.grows).map(|(_, view)| digits(gauge.value(view)));
                (gauge, widest.fold(column.width, usize::max), column)
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
        for (name, view) in domains {
            let mut text = String::new();
            cell(&mut text, &name, self.name_width);
            if self.shows_state {
                text.push(' ');
                text.push_str(&letters(view.domain.state));
            }
            for (gauge, width, column) in &columns {
                text.push(' ');
                match gauge.value(view) {
                    None => cell(&mut text, column.absent, *width),
                    // xentop divides integers: it cuts where printf would round.
                    Some(value) if column.decimals == 0 => cell(&mut text, &format!("{:.0}", value.trunc()), *width),
                    Some(value) => cell(&mut text, &format!("{value:.*}", column.decimals), *width),
                }
            }
            rows.push(Row { text, state: Some(view.domain.state) });
        }
        rows
    }
}

fn cut(name: String, longest: usize) -> String {
    if name.chars().count() <= longest {
        return name;
    }
    name.chars().take(longest - 2).chain("..".chars()).collect()
}

fn of_column(header: &str) -> &'static Gauge {
    GAUGES.iter().find(|gauge| gauge.xentop == header).expect("every column has its gauge")
}

/// printf's `%*s`: right-aligned by bytes.
fn cell(out: &mut String, text: &str, width: usize) {
    out.extend(std::iter::repeat_n(' ', width.saturating_sub(text.len())));
    out.push_str(text);
}

/// xentop's INT_FIELD_WIDTH(n + 1): one column early when n is all nines.
fn digits(value: Option<f64>) -> usize {
    ((value.unwrap_or(0.0) + 1.0).log10() + 1.0) as usize
}

fn letters(state: State) -> String {
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

    // What the whole table looks like is compared with xentop's in tests/it/oracle.rs.

    #[test]
    fn names_that_are_too_long_are_cut() {
        for (name, shown) in [("abcdef", "abcdef"), ("abcdefg", "abcd.."), ("z\u{fc}rich", "z\u{fc}rich"), ("", "")] {
            assert_eq!(cut(name.to_owned(), 6), shown);
        }
        assert_eq!(cut("abcdefg".into(), usize::MAX), "abcdefg");
    }

    #[test]
    fn columns_grow_as_xentops_do() {
        for (value, width) in [(None, 1), (Some(0.0), 1), (Some(8.0), 1), (Some(9.0), 2), (Some(99_999_999.0), 9)] {
            assert_eq!(digits(value), width, "{value:?}");
        }
    }
}
