//! The mailbox of a sender thread. It holds one batch at most: a newer one replaces it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::statsd::batch::Batch;
use crate::statsd::delivery::report::Outcome;
use crate::statsd::delivery::{End, Event};

/// What the thread has not taken yet, and what the daemon has not.
#[derive(Default)]
pub struct Mailbox {
    pending: Mutex<Pending>,
    is_filled: Condvar,
    delivered: Mutex<Option<Outcome>>,
}

/// The contents of a mailbox.
#[derive(Default)]
pub struct Pending {
    any: bool,
    batch: Option<Arc<Batch>>,
    /// Datagrams of replaced batches, and how many batches that were.
    replaced_datagrams: usize,
    replaced_batches: u64,
    resolved: Option<io::Result<Vec<SocketAddr>>>,
    reopen: bool,
    end: Option<End>,
}

impl Mailbox {
    /// Has a batch sent.
    pub fn send(&self, batch: &Arc<Batch>) {
        self.put(|pending| {
            if let Some(replaced) = pending.batch.replace(Arc::clone(batch)) {
                pending.replaced_datagrams += replaced.datagrams();
                pending.replaced_batches += 1;
            }
        });
    }

    /// Takes the result of a look-up.
    pub fn resolved(&self, result: io::Result<Vec<SocketAddr>>) {
        self.put(|pending| pending.resolved = Some(result));
    }

    /// Makes the thread resolve and connect to the destination again.
    pub fn reopen(&self) {
        self.put(|pending| pending.reopen = true);
    }

    /// Keeps what became of a batch until the daemon [asks](Self::delivered) for it.
    pub fn keep(&self, outcome: Outcome) {
        let mut kept = self.delivered.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert_default().sent += outcome.sent;
    }

    /// What became of batches and has not been asked for.
    pub fn delivered(&self) -> Option<Outcome> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Makes the thread end.
    pub fn end(&self, end: End) {
        self.put(|pending| pending.end = Some(end));
    }

    fn put(&self, put: impl FnOnce(&mut Pending)) {
        let mut pending = self.lock();
        put(&mut pending);
        pending.any = true;
        // Unlocked first: a thread that wakes up to a locked mailbox has to wait again.
        drop(pending);
        self.is_filled.notify_one();
    }

    /// Waits until something is in it, or for the given time; empties it.
    pub fn wait(&self, until: Option<Instant>) -> Pending {
        let mut pending = self.lock();
        while !pending.any {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            pending = match left {
                Some(Duration::ZERO) => break,
                Some(left) => self.is_filled.wait_timeout(pending, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.is_filled.wait(pending).unwrap_or_else(PoisonError::into_inner),
            };
        }
        std::mem::take(&mut pending)
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// What is pending, in the order it is handled in.
    pub fn events(self) -> impl Iterator<Item = Event> {
        let replaced = Event::Replaced(self.replaced_datagrams, self.replaced_batches);
        let reopen = self.reopen.then_some(Event::Reopen).into_iter();
        reopen
            .chain(self.resolved.map(Event::Resolved))
            .chain((self.replaced_batches > 0).then_some(replaced))
            .chain(self.batch.map(Event::Batch))
            .chain(self.end.map(Event::End))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statsd::batch::BatchWriter;

    fn batch(gauges: usize) -> Arc<Batch> {
        let mut writer = BatchWriter::new(8);
        (0..gauges).for_each(|_| writer.gauge("a", 1.0));
        writer.take()
    }

    #[test]
    fn mailbox_keeps_the_latest_batch_and_counts_the_replaced() {
        let mailbox = Mailbox::default();
        mailbox.end(End::Now);
        for gauges in [2, 3, 4] {
            mailbox.send(&batch(gauges));
        }
        mailbox.reopen();
        let events: Vec<Event> = mailbox.wait(None).events().collect();
        assert!(
            matches!(
                &events[..],
                [
                    Event::Reopen,
                    Event::Replaced(5, 2),
                    Event::Batch(batch),
                    Event::End(End::Now)
                ] if batch.datagrams() == 4
            ),
            "{events:?}"
        );
        assert_eq!(mailbox.wait(Some(Instant::now())).events().count(), 0);
    }
}
