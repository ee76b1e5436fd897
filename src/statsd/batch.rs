//! Lines packed into datagrams.
//!
//! The sink is of cadence's kind; its client is not used, as it writes one dialect of tags only and allocates twice for each
//! gauge (`make bench`).

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use cadence::MetricSink;

use crate::metrics::decimal::Decimal;
use crate::naming::name::{Parts, nth};
use crate::statsd::line::write_line;

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
            write_line(&mut line, name, Decimal::ZERO);
            line.push('\n');
        }
        write_line(&mut line, name, value);
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

    fn datagrams(batch: &Batch) -> Vec<&str> {
        (0..batch.datagrams()).map(|n| std::str::from_utf8(batch.datagram(n)).unwrap()).collect()
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
