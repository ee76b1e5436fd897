//! Gauges as statsd lines, and lines as datagrams.
//!
//! The sink is of cadence's kind; its client is not used, which has no dialect of tags but one and asks for new memory
//! twice a gauge (`make bench` tells).

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use cadence::MetricSink;

/// A gauge's name: what stands before the value in its line, and what behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    /// As of [`Name::path`].
    pub path: &'a str,
    /// As of [`Name::tags`].
    pub tags: &'a str,
}

impl Parts<'_> {
    /// Adds the line that gives the gauge this value.
    pub fn write_line(self, line: &mut String, value: Decimal) {
        line.push_str(self.path);
        line.push(':');
        value.write(line);
        line.push_str("|g");
        if !self.tags.is_empty() {
            line.push_str(self.tags);
        }
    }
}

/// The same, to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    /// All of it, but for DogStatsD's tags.
    pub path: String,
    /// DogStatsD's tags, behind the type.
    pub tags: String,
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

/// A number as any server keeps it: three decimals, below 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal {
    thousandths: i64,
}

impl Decimal {
    const ZERO: Self = Self { thousandths: 0 };

    /// The nearest; `None` for what is no number to a server, or another than was meant.
    pub fn of(value: f64) -> Option<Self> {
        if value.is_nan() || value.abs() >= EXACT {
            return None;
        }
        // In integers, as the whole part could not take a factor of 1000, and as no baseline processor rounds.
        let whole = value as i64;
        let rest = (value - whole as f64) * 1000.0;
        Some(Self { thousandths: whole * 1000 + (rest + 0.5_f64.copysign(rest)) as i64 })
    }

    /// Its number for JSON, whole where it is whole.
    pub fn to_json(self) -> serde_json::Number {
        match self.thousandths % 1000 {
            0 => (self.thousandths / 1000).into(),
            _ => serde_json::Number::from_f64(self.thousandths as f64 / 1000.0).expect("it is finite"),
        }
    }

    /// As the standard library prints it, in a fraction of the time: that looks for the shortest number.
    fn write(self, line: &mut String) {
        if self.thousandths < 0 {
            line.push('-');
        }
        let (whole, rest) = (self.thousandths.unsigned_abs() / 1000, self.thousandths.unsigned_abs() % 1000);
        let mut digits = itoa::Buffer::new();
        line.push_str(digits.format(whole));
        if rest > 0 {
            // As 1.125 is written: what is wanted are the zeros before.
            let rest = digits.format(1000 + rest);
            line.push('.');
            line.push_str(rest[1..].trim_end_matches('0'));
        }
    }
}

/// The lines of one tick, packed into datagrams.
#[derive(Debug, Default)]
pub struct Batch {
    /// All of them, one after another.
    bytes: Vec<u8>,
    /// Where each datagram ends.
    ends: Vec<usize>,
}

impl Batch {
    /// How many datagrams.
    pub fn datagrams(&self) -> usize {
        self.ends.len()
    }

    /// One of them: whole lines, the last of them ended too.
    pub fn datagram(&self, n: usize) -> &[u8] {
        &self.bytes[nth(&self.ends, n)]
    }

    /// Bytes of the longest datagram.
    pub fn longest(&self) -> usize {
        (0..self.datagrams()).map(|n| self.datagram(n).len()).max().unwrap_or_default()
    }

    /// All lines.
    pub fn text(&self) -> &[u8] {
        &self.bytes
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// Where the `n`-th is of what stands one after another and ends at these places.
pub fn nth(ends: &[usize], n: usize) -> Range<usize> {
    n.checked_sub(1).map_or(0, |before| ends[before])..ends[n]
}

/// Takes gauges and gives datagrams.
pub struct Statsd {
    /// The line being written.
    line: RefCell<String>,
    sink: Sink,
    /// Batches that were given away, to be filled again once nobody has them.
    batches: Vec<Arc<Batch>>,
}

impl Statsd {
    /// Packs into datagrams of at most so many bytes.
    pub fn new(max_datagram: usize) -> Self {
        let packer = Packer { max: max_datagram, batch: Batch::default(), datagram: 0 };
        Self { line: RefCell::default(), sink: Sink(RefCell::new(packer)), batches: Vec::new() }
    }

    /// Adds a gauge. One without a [value](Decimal) is left out.
    pub fn gauge(&self, name: Parts, value: f64) {
        let Some(value) = Decimal::of(value) else { return };
        let mut line = self.line.borrow_mut();
        line.clear();
        // What has a sign changes the gauge by so much; only from 0, in the same datagram, does it set it.
        if value < Decimal::ZERO {
            name.write_line(&mut line, Decimal::ZERO);
            line.push('\n');
        }
        name.write_line(&mut line, value);
        // The only error is the sink's, which knows none.
        let _ = self.sink.emit(&line);
    }

    /// What was added since the last time.
    pub fn take(&mut self) -> Arc<Batch> {
        let free = self.batches.iter_mut().position(|batch| Arc::get_mut(batch).is_some());
        let n = free.unwrap_or_else(|| {
            self.batches.push(Arc::default());
            self.batches.len() - 1
        });
        let batch = Arc::get_mut(&mut self.batches[n]).expect("nobody else has it");
        batch.clear();
        self.sink.0.borrow_mut().take(batch);
        Arc::clone(&self.batches[n])
    }
}

/// 2^53: from here on statsd servers round whole numbers.
pub const EXACT: f64 = (1_u64 << 53) as f64;

/// Our end of cadence.
struct Sink(RefCell<Packer>);

impl MetricSink for Sink {
    fn emit(&self, metric: &str) -> io::Result<usize> {
        self.0.borrow_mut().push(metric);
        Ok(metric.len())
    }
}

/// Puts as many lines into each datagram as it may hold.
struct Packer {
    max: usize,
    batch: Batch,
    /// Where the datagram that is being filled begins.
    datagram: usize,
}

impl Packer {
    /// Adds a line, or some that belong together.
    fn push(&mut self, lines: &str) {
        let Batch { bytes, ends } = &mut self.batch;
        if bytes.len() - self.datagram + lines.len() + 1 > self.max && bytes.len() > self.datagram {
            ends.push(bytes.len());
            self.datagram = bytes.len();
        }
        bytes.extend_from_slice(lines.as_bytes());
        bytes.push(b'\n');
    }

    /// Ends the last datagram and changes all for an empty batch.
    fn take(&mut self, batch: &mut Batch) {
        if self.batch.bytes.len() > self.datagram {
            self.batch.ends.push(self.batch.bytes.len());
        }
        std::mem::swap(&mut self.batch, batch);
        self.datagram = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> Parts<'_> {
        Parts { path, tags: "" }
    }

    fn written(value: f64) -> String {
        let mut text = String::new();
        Decimal::of(value).unwrap().write(&mut text);
        text
    }

    fn datagrams(batch: &Batch) -> Vec<&str> {
        (0..batch.datagrams()).map(|n| std::str::from_utf8(batch.datagram(n)).unwrap()).collect()
    }

    #[test]
    fn values() {
        let whole = [0, 12, 95_123_888_014_451, 3_860_020_017_238_112, (1 << 53) - 1];
        for (value, sent) in [
            (7.14159, "7.142"),
            (0.0004, "0"),
            (93418.0616, "93418.062"),
            (99.9996, "100"),
            (-5.0, "-5"),
            (-0.1234, "-0.123"),
            (-0.0004, "0"),
            (-0.0, "0"),
        ]
        .into_iter()
        .map(|(value, sent)| (value, sent.to_owned()))
        .chain(whole.map(|whole: u64| (whole as f64, whole.to_string())))
        {
            assert_eq!(written(value), sent);
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, EXACT, -EXACT, 1.8e19, f64::MAX] {
            assert_eq!(Decimal::of(value), None, "{value}");
        }
    }

    /// As the standard library writes them.
    #[test]
    fn every_thousandth() {
        for n in (-5_000..5_000).chain((0..400).map(|n| n * 7_919 + 1_234_567_891)) {
            let value = f64::from(n) / 1000.0;
            assert_eq!(written(value), value.to_string());
            assert_eq!(Decimal::of(value).unwrap().to_json().to_string().trim_end_matches(".0"), value.to_string());
        }
    }

    #[test]
    fn datagrams_hold_whole_lines_and_as_many_as_they_may() {
        let mut statsd = Statsd::new(600);
        for n in 0..100 {
            statsd.gauge(named(&format!("xen.host.domain-{n}.cpu_percent")), f64::from(n) + 0.125);
        }
        let batch = statsd.take();
        let datagrams = datagrams(&batch);
        assert_eq!(datagrams.len(), 7);
        for (n, datagram) in datagrams.iter().enumerate() {
            assert!((n == 6 || datagram.len() > 550) && datagram.len() <= 600 && datagram.ends_with("|g\n"));
        }
        let lines: Vec<&str> = datagrams.iter().flat_map(|datagram| datagram.lines()).collect();
        assert_eq!((lines.len(), lines[99]), (100, "xen.host.domain-99.cpu_percent:99.125|g"));
        assert_eq!(batch.text(), datagrams.concat().as_bytes());
    }

    /// Wherever the datagram ends: a lone `-5` would be taken from the value before.
    #[test]
    fn a_negative_value_is_never_torn_from_its_zero() {
        for max in 16..48 {
            let mut statsd = Statsd::new(max);
            for n in 0..4 {
                statsd.gauge(named("a"), f64::from(n));
                statsd.gauge(named("b"), -5.0);
                statsd.gauge(named("c"), f64::NAN);
            }
            let batch = statsd.take();
            let datagrams = datagrams(&batch);
            assert!(datagrams.iter().all(|datagram| datagram.len() <= max), "{datagrams:?}");
            let pairs: usize = datagrams.iter().map(|datagram| datagram.matches("b:0|g\nb:-5|g\n").count()).sum();
            assert_eq!((pairs, batch.text().len()), (4, 4 * "a:0|g\nb:0|g\nb:-5|g\n".len()), "{datagrams:?}");
        }
    }

    #[test]
    fn batches_are_used_again() {
        let mut statsd = Statsd::new(600);
        let mut held = None;
        for n in 0..10 {
            statsd.gauge(named("a"), f64::from(n));
            let batch = statsd.take();
            assert_eq!(batch.text(), format!("a:{n}|g\n").as_bytes());
            held = Some(batch);
        }
        assert_eq!(statsd.batches.len(), 2);
        drop(held);
        assert_eq!(statsd.take().datagrams(), 0);
    }
}
