//! The row type of the tables of metrics, and the bounds of their values.

use crate::metrics::decimal::EXACT;

/// What a gauge's value is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// How things are at the poll.
    Now,
    /// How things were between this poll and the one before.
    Since,
    /// A sum since the domain, or each of its devices, came up. It falls when a device goes or is in error.
    CountsUp,
}

/// One gauge, of `node` or of this program.
pub struct HostGauge<T> {
    /// What follows the group in its name.
    pub name: &'static str,
    /// How to read it.
    pub kind: Kind,
    /// Unit, and what the value covers.
    pub meaning: &'static str,
    /// `None` where the value is unknown.
    pub value: fn(&T) -> Option<f64>,
}

/// A row.
pub const fn gauge<T>(
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
    value: fn(&T) -> Option<f64>,
) -> HostGauge<T> {
    HostGauge { name, kind, meaning, value }
}

/// Hands each metric of a table that has a value to `emit`: group, name and value.
pub fn gauges<T>(group: &str, table: &[HostGauge<T>], of: &T, mut emit: impl FnMut(&str, &str, f64)) {
    for gauge in table {
        if let Some(value) = in_bounds((gauge.value)(of)) {
            emit(group, gauge.name, value);
        }
    }
}

/// A count as statsd servers hold it; above 2^53 they would round it, and no counter gets there honestly.
pub fn exact(count: u64) -> Option<f64> {
    (count < EXACT as u64).then_some(count as f64)
}

/// What may be sent.
pub fn in_bounds(value: Option<f64>) -> Option<f64> {
    value.filter(|value| (0.0..EXACT).contains(value))
}
