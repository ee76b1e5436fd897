//! The row type of all tables of metrics, and the bounds of their values.

use std::fmt;

use crate::metrics::decimal::EXACT;

/// What a metric's value covers. All three are sent as statsd gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The state at the poll.
    Gauge,
    /// What happened between the previous poll and this one.
    Interval,
    /// A sum since the domain or its devices came up. It drops when a device is detached or in error.
    Counter,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Gauge => "gauge",
            Kind::Interval => "interval",
            Kind::Counter => "counter",
        })
    }
}

/// A row of the docs' tables: metric, kind, meaning.
pub type Entry = (String, Kind, &'static str);

/// One metric; `F` computes its value.
#[derive(Debug)]
pub struct Metric<F> {
    /// Its name, less the domain or device.
    pub name: &'static str,
    /// What its value covers.
    pub kind: Kind,
    /// Unit and meaning, for the docs.
    pub meaning: &'static str,
    /// `None` where the value is unknown. Read it with [`of`](Self::of), which checks its bounds.
    value: F,
}

/// A row of kind [`Kind::Gauge`].
pub const fn gauge<F>(name: &'static str, meaning: &'static str, value: F) -> Metric<F> {
    Metric { name, kind: Kind::Gauge, meaning, value }
}

/// A row of kind [`Kind::Interval`].
pub const fn interval<F>(name: &'static str, meaning: &'static str, value: F) -> Metric<F> {
    Metric { name, kind: Kind::Interval, meaning, value }
}

/// A row of kind [`Kind::Counter`].
pub const fn counter<F>(name: &'static str, meaning: &'static str, value: F) -> Metric<F> {
    Metric { name, kind: Kind::Counter, meaning, value }
}

/// Some rows of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows(u64);

impl Rows {
    /// Tables have at most so many rows.
    pub const MAX: usize = u64::BITS as usize;

    /// Adds a row.
    pub fn insert(&mut self, row: usize) {
        self.0 |= 1 << row;
    }

    /// Whether a row is one of them.
    pub fn contains(self, row: usize) -> bool {
        self.0 >> row & 1 == 1
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl<F> Metric<F> {
    /// The value as it may be sent: `None` where it is unknown, negative, or 2^53 and above.
    pub fn of<T>(&self, subject: &T) -> Option<f64>
    where
        F: Fn(&T) -> Option<f64>,
    {
        (self.value)(subject).filter(|value| (0.0..EXACT).contains(value))
    }
}

/// A count that an `f64`, and so every statsd server, holds exactly. No counter honestly reaches 2^53.
pub fn exact(count: u64) -> Option<f64> {
    (count < EXACT as u64).then_some(count as f64)
}
