//! The name of one metric, in the two parts that stand around its value in a line.

use std::ops::Range;

/// A gauge's name: what stands before the value in its line, and what behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// As of [`Name::path`].
    pub path: &'a str,
    /// As of [`Name::tags`].
    pub tags: &'a str,
}

/// The same, to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    /// All of it, but for DogStatsD's tags.
    pub path: String,
    /// DogStatsD's tags, behind the type.
    pub tags: String,
}

impl Parts<'_> {
    /// The line that a tested value would stand in.
    #[cfg(test)]
    pub fn line(&self, value: u64) -> String {
        format!("{}:{value}|g{}", self.path, self.tags)
    }
}

impl Name {
    /// Makes room for another.
    pub fn clear(&mut self) {
        self.path.clear();
        self.tags.clear();
    }

    /// What was written.
    pub fn parts(&self) -> Parts<'_> {
        Parts { path: &self.path, tags: &self.tags }
    }
}

/// Where the `n`-th is of what stands one after another and ends at these places.
pub fn nth(ends: &[usize], n: usize) -> Range<usize> {
    n.checked_sub(1).map_or(0, |before| ends[before])..ends[n]
}
