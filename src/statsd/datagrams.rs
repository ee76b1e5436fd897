//! The datagrams of a batch as one server gets them: as they were packed, or shorter where the path takes less.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::statsd::batch::{Batch, nth};

/// Bytes of a datagram to a server on the same host. It takes a page of memory there, and a receive buffer holds more
/// lines in datagrams of this size than in any others.
pub const LOCAL_DATAGRAM: usize = 3700;

/// Bytes of a datagram to any other server: it fits a 1500-byte MTU, less some for tunnels.
pub const NETWORK_DATAGRAM: usize = 1432;

/// `--max-datagram`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxDatagram {
    /// By the path to each server.
    Auto,
    /// So many bytes to all servers.
    Bytes(u16),
}

impl MaxDatagram {
    /// Bytes of the longest datagrams that any server gets.
    pub fn longest(self) -> usize {
        match self {
            Self::Auto => LOCAL_DATAGRAM,
            Self::Bytes(bytes) => bytes.into(),
        }
    }
}

impl FromStr for MaxDatagram {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = || text.parse().ok().filter(|bytes| (512..=8932).contains(bytes)).map(Self::Bytes);
        let size = if text == "auto" { Some(Self::Auto) } else { bytes() };
        size.ok_or("not auto, nor a number of bytes from 512 to 8932")
    }
}

impl fmt::Display for MaxDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Bytes(bytes) => bytes.fmt(f),
        }
    }
}

/// The datagrams of a batch.
#[derive(Debug)]
pub struct Datagrams {
    batch: Arc<Batch>,
    /// Where each ends, if they were cut again.
    ends: Option<Vec<usize>>,
}

impl Datagrams {
    /// As they were packed.
    pub fn new(batch: Arc<Batch>) -> Self {
        Self { batch, ends: None }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.ends.as_ref().map_or(self.batch.datagrams(), Vec::len)
    }

    /// The `n`-th.
    pub fn get(&self, n: usize) -> &[u8] {
        self.ends.as_ref().map_or_else(|| self.batch.datagram(n), |ends| &self.batch.text()[nth(ends, n)])
    }

    /// Bytes of the longest, from the `n`-th on.
    pub fn longest(&self, n: usize) -> usize {
        (n..self.count()).map(|n| self.get(n).len()).max().unwrap_or_default()
    }

    /// Repacks the datagrams from the `n`-th on to at most `max` bytes, except for a single gauge that is longer.
    pub fn limit(&mut self, n: usize, max: usize) {
        if self.longest(n) <= max {
            return;
        }
        let mut ends: Vec<usize> = (0..n)
            .scan(0, |end, n| {
                *end += self.get(n).len();
                Some(*end)
            })
            .collect();
        let mut start = ends.last().copied().unwrap_or_default();
        while start < self.batch.text().len() {
            start = self.cut(start, max);
            ends.push(start);
        }
        self.ends = Some(ends);
    }

    /// Where the datagram that begins at `start` ends: after as many whole gauges as fit, and at least one.
    fn cut(&self, start: usize, max: usize) -> usize {
        let text = self.batch.text();
        let is_cut = |&end: &usize| text[end - 1] == b'\n' && self.batch.may_cut_at(end);
        let fits = text.len().min(start + max);
        let last = (start + 1..=fits).rfind(is_cut);
        last.or_else(|| (fits + 1..=text.len()).find(is_cut)).unwrap_or(text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statsd::batch::BatchWriter;

    fn texts(datagrams: &Datagrams) -> Vec<&str> {
        (0..datagrams.count()).map(|n| std::str::from_utf8(datagrams.get(n)).unwrap()).collect()
    }

    fn batch(max: usize, gauges: &[(&str, f64)]) -> Arc<Batch> {
        let mut writer = BatchWriter::new(max);
        gauges.iter().for_each(|&(path, value)| writer.gauge(path, value));
        writer.take()
    }

    #[test]
    fn datagrams_are_cut_at_line_ends() {
        let gauges = [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 4.0), ("e", 5.0), ("long", 60.0), ("f", 7.0)];
        let whole = Datagrams::new(batch(18, &gauges));
        let packed = ["a:1|g\nb:2|g\nc:3|g\n", "d:4|g\ne:5|g\n", "long:60|g\nf:7|g\n"];
        assert_eq!(texts(&whole), packed);
        for (from, max, expected) in [
            (0, 18, &packed[..]),
            (0, 12, &["a:1|g\nb:2|g\n", "c:3|g\nd:4|g\n", "e:5|g\n", "long:60|g\n", "f:7|g\n"]),
            (1, 12, &["a:1|g\nb:2|g\nc:3|g\n", "d:4|g\ne:5|g\n", "long:60|g\n", "f:7|g\n"]),
            (2, 8, &["a:1|g\nb:2|g\nc:3|g\n", "d:4|g\ne:5|g\n", "long:60|g\n", "f:7|g\n"]),
            (3, 1, &packed[..]),
        ] {
            let mut datagrams = Datagrams::new(Arc::clone(&whole.batch));
            datagrams.limit(from, max);
            assert_eq!(texts(&datagrams), expected, "{from} {max}");
            assert_eq!(datagrams.longest(0), expected.iter().map(|text| text.len()).max().unwrap());
        }
    }

    /// A lone `-5` would be subtracted from the earlier value.
    #[test]
    fn datagrams_keep_a_negative_value_with_its_zero() {
        let gauges: Vec<_> = (0..30).map(|n| if n % 3 == 1 { ("b", -5.0) } else { ("a", f64::from(n)) }).collect();
        for max in 1..60 {
            let mut datagrams = Datagrams::new(batch(200, &gauges));
            let text = texts(&datagrams).concat();
            datagrams.limit(0, 80);
            datagrams.limit(1, max);
            let cut = texts(&datagrams);
            assert_eq!(cut.concat(), text);
            let pairs: usize = cut.iter().map(|datagram| datagram.matches("b:0|g\nb:-5|g\n").count()).sum();
            assert_eq!(pairs, 10, "{cut:?}");
            assert!(cut[1..].iter().all(|datagram| datagram.len() <= max || datagram.matches('a').count() <= 1));
            assert!(cut[1..].iter().all(|datagram| !datagram.is_empty() && datagram.len() <= max.max(13)), "{cut:?}");
        }
    }
}
