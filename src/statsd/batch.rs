//! Lines packed into datagrams, by cadence's `MultiLineWriter`. Its client is not used: it knows one tag format and
//! allocates twice for each gauge (`make bench`).

use std::io::{self, Write};
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use cadence::ext::MultiLineWriter;

use crate::metrics::decimal::Decimal;
use crate::naming::name::Parts;

/// The lines of one poll, packed into datagrams.
#[derive(Debug, Default)]
pub struct Batch {
    /// All datagrams, one after another.
    bytes: Vec<u8>,
    /// Where each datagram ends.
    ends: Vec<usize>,
    /// Where the second lines of gauges begin.
    second_lines: Vec<usize>,
}

impl Batch {
    /// How many datagrams.
    pub fn datagrams(&self) -> usize {
        self.ends.len()
    }

    /// The `n`-th datagram: whole lines, each with its newline.
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

    /// Whether one datagram may end and the next begin here, which is the end of a line: between two gauges.
    pub fn may_cut_at(&self, end: usize) -> bool {
        self.second_lines.binary_search(&end).is_err()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.second_lines.clear();
    }
}

/// Each write is a datagram.
impl Write for Batch {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(datagram);
        self.ends.push(self.bytes.len());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The range of the `n`-th of several items that follow one another, by where each ends.
pub fn nth(ends: &[usize], n: usize) -> Range<usize> {
    n.checked_sub(1).map_or(0, |before| ends[before])..ends[n]
}

/// Packs gauges into batches.
pub struct BatchWriter {
    /// The line being written. It begins with the text before the metric, which the next line has too.
    line: Vec<u8>,
    /// How long that is.
    before: usize,
    /// What follows the metric in the name, and the tags that follow the value.
    after: String,
    tags: String,
    packer: MultiLineWriter<Batch>,
    /// Bytes of the batch so far.
    written: usize,
    /// Batches that were handed out, to be reused when their readers have dropped them.
    batches: Vec<Arc<Batch>>,
}

impl BatchWriter {
    /// Packs into datagrams of at most `max_datagram` bytes; only a gauge that alone is longer makes a longer one.
    pub fn new(max_datagram: usize) -> Self {
        // Lines bring their newlines: cadence would add none to an oversized line.
        let packer = MultiLineWriter::with_ending(Batch::default(), max_datagram, "");
        let (after, tags) = (String::new(), String::new());
        Self { line: Vec::new(), before: 0, after, tags, packer, written: 0, batches: Vec::new() }
    }

    /// The gauges that follow have these names.
    pub fn names(&mut self, Parts { before, after, tags }: Parts) {
        self.line.clear();
        self.line.extend_from_slice(before.as_bytes());
        self.before = before.len();
        self.after.clear();
        self.after.push_str(after);
        self.tags.clear();
        self.tags.push_str(tags);
    }

    /// Adds the gauge of a metric. One without a [value](Decimal) is omitted.
    pub fn gauge(&mut self, metric: &str, value: f64) {
        let Some(value) = Decimal::of(value) else { return };
        self.line.truncate(self.before);
        // A signed value is a change, not a value: it is right only after a 0 in the same datagram.
        if value < Decimal::ZERO {
            self.end_line(metric, Decimal::ZERO);
            self.packer.get_mut().second_lines.push(self.written + self.line.len());
            self.line.extend_from_within(..self.before);
        }
        self.end_line(metric, value);
        self.written += self.line.len();
        let packed = self.packer.write(&self.line).expect("memory takes every write");
        debug_assert_eq!(packed, self.line.len());
    }

    /// Writes what follows the text before the metric. Inlined: a third of a poll's instructions are those of lines.
    #[inline(always)]
    fn end_line(&mut self, metric: &str, value: Decimal) {
        let Self { line, after, tags, .. } = self;
        line.extend_from_slice(metric.as_bytes());
        // Most names have nothing after the metric, and even an empty copy takes its time.
        if !after.is_empty() {
            line.extend_from_slice(after.as_bytes());
        }
        line.push(b':');
        value.write(line);
        if tags.is_empty() {
            line.extend_from_slice(b"|g\n");
        } else {
            [b"|g", tags.as_bytes(), b"\n"].iter().for_each(|text| line.extend_from_slice(text));
        }
    }

    /// The gauges added since the last call.
    pub fn take(&mut self) -> Arc<Batch> {
        self.packer.flush().expect("memory takes every write");
        let free = self.batches.iter_mut().position(|batch| Arc::get_mut(batch).is_some());
        let n = free.unwrap_or_else(|| {
            self.batches.push(Arc::default());
            self.batches.len() - 1
        });
        let batch = Arc::get_mut(&mut self.batches[n]).expect("no reader has it");
        batch.clear();
        mem::swap(batch, self.packer.get_mut());
        self.written = 0;
        Arc::clone(&self.batches[n])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagrams(batch: &Batch) -> Vec<&str> {
        (0..batch.datagrams()).map(|n| std::str::from_utf8(batch.datagram(n)).unwrap()).collect()
    }

    #[test]
    fn batch_packs_whole_lines_up_to_the_datagram_size() {
        let mut writer = BatchWriter::new(600);
        for n in 0..100 {
            writer.gauge(&format!("xen.host.domain-{n}.cpu_percent"), f64::from(n) + 0.125);
        }
        let batch = writer.take();
        let datagrams = datagrams(&batch);
        assert_eq!(datagrams.len(), 7);
        for (n, datagram) in datagrams.iter().enumerate() {
            assert!((n == 6 || datagram.len() > 550) && datagram.len() <= 600 && datagram.ends_with("|g\n"));
        }
        let lines: Vec<&str> = datagrams.iter().flat_map(|datagram| datagram.lines()).collect();
        assert_eq!((lines.len(), lines[99]), (100, "xen.host.domain-99.cpu_percent:99.125|g"));
        assert_eq!(batch.text(), datagrams.concat().as_bytes());
    }

    /// Wherever the datagram ends: a lone `-5` would be subtracted from the earlier value.
    #[test]
    fn batch_keeps_a_negative_value_with_its_zero() {
        for max in 16..48 {
            let mut writer = BatchWriter::new(max);
            for n in 0..4 {
                writer.gauge("a", f64::from(n));
                writer.gauge("b", -5.0);
                writer.gauge("c", f64::NAN);
            }
            let batch = writer.take();
            let datagrams = datagrams(&batch);
            assert!(datagrams.iter().all(|datagram| datagram.len() <= max), "{datagrams:?}");
            let pairs: usize = datagrams.iter().map(|datagram| datagram.matches("b:0|g\nb:-5|g\n").count()).sum();
            assert_eq!((pairs, batch.text().len()), (4, 4 * "a:0|g\nb:0|g\nb:-5|g\n".len()), "{datagrams:?}");
        }
    }

    #[test]
    fn batch_gives_an_oversized_gauge_a_datagram_of_its_own() {
        let mut writer = BatchWriter::new(12);
        for value in [1.0, -5.0, 2.0, 3.0] {
            writer.gauge("a", value);
        }
        assert_eq!(datagrams(&writer.take()), ["a:1|g\n", "a:0|g\na:-5|g\n", "a:2|g\na:3|g\n"]);
    }

    #[test]
    fn batches_are_reused() {
        let mut writer = BatchWriter::new(600);
        let mut held = None;
        for n in 0..10 {
            writer.gauge("a", f64::from(n));
            let batch = writer.take();
            assert_eq!(batch.text(), format!("a:{n}|g\n").as_bytes());
            held = Some(batch);
        }
        assert_eq!(writer.batches.len(), 2);
        drop(held);
        assert_eq!(writer.take().datagrams(), 0);
    }
}
