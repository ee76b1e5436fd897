//! Gauges as statsd lines, and lines as datagrams: cadence's client over a sink that packs whole lines.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cadence::{Gauged, MetricSink, StatsdClient};

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
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// One of them: whole lines, the last of them ended too.
    pub fn datagram(&self, n: usize) -> &[u8] {
        let start = n.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[n]]
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
    client: StatsdClient,
    packer: Arc<Mutex<Packer>>,
    /// Batches that were given away, to be filled again once nobody has them.
    batches: Vec<Arc<Batch>>,
}

impl Statsd {
    /// Packs into datagrams of at most so many bytes.
    pub fn new(max_datagram: usize) -> Self {
        let packer = Arc::new(Mutex::new(Packer::new(max_datagram)));
        let client = StatsdClient::from_sink("", Sink(Arc::clone(&packer)));
        Self { client, packer, batches: Vec::new() }
    }

    /// Adds a gauge. One of no [value](sendable) is left out.
    pub fn gauge(&self, path: &str, value: f64) {
        let Some(value) = sendable(value) else { return };
        // What has a sign changes the gauge by so much; only from 0 does it set it.
        let from_zero = value < 0.0;
        if from_zero {
            lock(&self.packer).keep_together = true;
            self.line(path, 0.0);
            lock(&self.packer).keep_together = false;
        }
        self.line(path, value);
    }

    fn line(&self, path: &str, value: f64) {
        // The only error is the sink's, which knows none.
        let _ = self.client.gauge(path, value);
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
        lock(&self.packer).take(batch);
        Arc::clone(&self.batches[n])
    }
}

/// 2^53: from here on statsd servers round whole numbers.
pub const EXACT: f64 = (1_u64 << 53) as f64;

/// What is sent for a value: three decimals, which any server keeps. Nothing for what is no number to a server, or
/// another than was meant.
pub fn sendable(value: f64) -> Option<f64> {
    // Multiplied, a large whole number would lose digits. Added to 0, there is no `-0`.
    let rounded = if value.fract() == 0.0 { value } else { (value * 1000.0).round() / 1000.0 };
    (rounded.abs() < EXACT).then_some(rounded + 0.0)
}

/// Our end of cadence, whose client spells the statsd lines.
struct Sink(Arc<Mutex<Packer>>);

impl MetricSink for Sink {
    fn emit(&self, line: &str) -> io::Result<usize> {
        lock(&self.0).push(line);
        Ok(line.len())
    }
}

/// Puts as many lines into each datagram as it may hold.
struct Packer {
    max: usize,
    batch: Batch,
    /// Where the datagram that is being filled begins, and what in it may not be torn.
    datagram: usize,
    piece: usize,
    /// The next line belongs to the one after it.
    keep_together: bool,
}

impl Packer {
    fn new(max: usize) -> Self {
        Self { max, batch: Batch::default(), datagram: 0, piece: 0, keep_together: false }
    }

    fn push(&mut self, line: &str) {
        let Batch { bytes, ends } = &mut self.batch;
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        if self.keep_together {
            return;
        }
        if bytes.len() - self.datagram > self.max && self.piece > self.datagram {
            ends.push(self.piece);
            self.datagram = self.piece;
        }
        self.piece = bytes.len();
    }

    /// Ends the last datagram and changes all for an empty batch.
    fn take(&mut self, batch: &mut Batch) {
        if self.batch.bytes.len() > self.datagram {
            self.batch.ends.push(self.batch.bytes.len());
        }
        std::mem::swap(&mut self.batch, batch);
        (self.datagram, self.piece) = (0, 0);
    }
}

fn lock(packer: &Mutex<Packer>) -> MutexGuard<'_, Packer> {
    packer.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagrams(batch: &Batch) -> Vec<&str> {
        (0..batch.len()).map(|n| std::str::from_utf8(batch.datagram(n)).unwrap()).collect()
    }

    #[test]
    fn values() {
        let whole = [0, 12, 95_123_888_014_451, 3_860_020_017_238_112, (1 << 53) - 1];
        for (value, sent) in [
            (7.14159, "7.142"),
            (0.0004, "0"),
            (93418.0615, "93418.062"),
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
            assert_eq!(sendable(value).map(|value| value.to_string()), Some(sent));
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, EXACT, -EXACT, 1.8e19, f64::MAX] {
            assert_eq!(sendable(value), None, "{value}");
        }
    }

    #[test]
    fn datagrams_hold_whole_lines_and_as_many_as_they_may() {
        let mut statsd = Statsd::new(600);
        for n in 0..100 {
            statsd.gauge(&format!("xen.host.domain-{n}.cpu_percent"), f64::from(n) + 0.125);
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
                statsd.gauge("a", f64::from(n));
                statsd.gauge("b", -5.0);
                statsd.gauge("c", f64::NAN);
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
            statsd.gauge("a", f64::from(n));
            let batch = statsd.take();
            assert_eq!(batch.text(), format!("a:{n}|g\n").as_bytes());
            held = Some(batch);
        }
        assert_eq!(statsd.batches.len(), 2);
        drop(held);
        assert_eq!(statsd.take().len(), 0);
    }
}
