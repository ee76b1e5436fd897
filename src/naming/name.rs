//! The name of one metric, in the two parts that stand around its value in a line.

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
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The pieces of [`Name::path`].
    pub path: [&'a str; 3],
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

impl<'a> Parts<'a> {
    /// A name of one piece and without tags that follow the value.
    pub fn of(path: &'a str) -> Self {
        Self { path: [path, "", ""], tags: "" }
    }

    /// A line with this name, for tests.
    #[cfg(test)]
    pub fn line(&self, value: u64) -> String {
        format!("{}:{value}|g{}", self.path.concat(), self.tags)
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
        Parts { tags: &self.tags, ..Parts::of(&self.path) }
    }
}
