//! The names of metrics, in the parts that stand around metric and value in a line.

use crate::model::uuid::Uuid;

/// A domain as the names of its metrics have it.
#[derive(Debug, Clone, Copy)]
pub struct DomainName<'a> {
    /// What [`Namer::domains`](super::namer::Namer::domains) made of its name or UUID.
    pub name: &'a str,
    /// For a tag of its own.
    pub uuid: Option<&'a Uuid>,
}

/// The names of metrics that differ only by the metric: the text around it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parts<'a> {
    /// The path up to the metric.
    pub before: &'a str,
    /// The path from there on.
    pub after: &'a str,
    /// See [`Name::tags`].
    pub tags: &'a str,
}

/// The name of one metric.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    /// All of it, but for DogStatsD's tags.
    pub path: String,
    /// DogStatsD's tags, which follow the type.
    pub tags: String,
}

impl Parts<'_> {
    /// The name of a metric.
    pub fn name(&self, metric: &str) -> Name {
        Name { path: [self.before, metric, self.after].concat(), tags: self.tags.to_owned() }
    }
}

impl Name {
    /// Empties both.
    pub fn clear(&mut self) {
        self.path.clear();
        self.tags.clear();
    }

    /// All of it is before an empty metric.
    pub fn parts(&self) -> Parts<'_> {
        Parts { before: &self.path, after: "", tags: &self.tags }
    }

    /// A line with this name, for tests.
    #[cfg(test)]
    pub fn line(&self, value: u64) -> String {
        format!("{}:{value}|g{}", self.path, self.tags)
    }
}
