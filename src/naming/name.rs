//! The name of one metric, in the two parts that stand around its value in a line.

use std::ops::Range;

use crate::model::uuid::Uuid;

/// A domain as the names of its metrics have it.
#[derive(Debug, Clone, Copy)]
pub struct DomainName<'a> {
    /// What [`Namer::domains`](super::namer::Namer::domains) made of its name or UUID.
    pub name: &'a str,
    /// For a tag of its own.
    pub uuid: Option<&'a Uuid>,
}

/// A metric's name: the text before the value in its line, and the text after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// See [`Name::path`].
    pub path: &'a str,
    /// See [`Name::tags`].
    pub tags: &'a str,
}

/// The same, as buffers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    /// All of it, but for DogStatsD's tags.
    pub path: String,
    /// DogStatsD's tags, which follow the type.
    pub tags: String,
}

impl Parts<'_> {
    /// A line with this name, for tests.
    #[cfg(test)]
    pub fn line(&self, value: u64) -> String {
        format!("{}:{value}|g{}", self.path, self.tags)
    }
}

impl Name {
    /// Empties both.
    pub fn clear(&mut self) {
        self.path.clear();
        self.tags.clear();
    }

    /// What was written.
    pub fn parts(&self) -> Parts<'_> {
        Parts { path: &self.path, tags: &self.tags }
    }
}

/// The range of the `n`-th of several items that follow one another, by where each ends.
pub fn nth(ends: &[usize], n: usize) -> Range<usize> {
    n.checked_sub(1).map_or(0, |before| ends[before])..ends[n]
}
