//! What a sender's thread is told, by the loop and by look-ups. It has room for one tick, the latest.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::statsd::batch::Batch;

/// How to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// When the tick at hand is out, or cannot be got out.
    Finish,
    /// At once; what is not out is lost.
    Now,
}

/// What the thread has not taken notice of yet.
#[derive(Default)]
pub struct Inbox {
    news: Mutex<News>,
    are_new: Condvar,
}

/// What there is to take notice of.
#[derive(Default)]
pub struct News {
    any: bool,
    /// To be sent, in place of any other.
    pub tick: Option<Arc<Batch>>,
    /// Datagrams of ticks that another has taken the place of.
    pub replaced: usize,
    /// And how many ticks they were.
    pub replaced_ticks: u64,
    /// What a look-up came to.
    pub found: Option<io::Result<Vec<SocketAddr>>>,
    /// To look up and connect anew.
    pub reopen: bool,
    /// To end.
    pub end: Option<End>,
}

impl Inbox {
    /// Puts something in and wakes the thread.
    pub fn put(&self, what: impl FnOnce(&mut News)) {
        let mut news = self.lock();
        what(&mut news);
        news.any = true;
        self.are_new.notify_one();
    }

    /// Waits for news, or for the moment to come.
    pub fn wait(&self, until: Option<Instant>) -> News {
        let mut news = self.lock();
        while !news.any {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            news = match left {
                Some(Duration::ZERO) => break,
                Some(left) => self.are_new.wait_timeout(news, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.are_new.wait(news).unwrap_or_else(PoisonError::into_inner),
            };
        }
        std::mem::take(&mut news)
    }

    fn lock(&self) -> MutexGuard<'_, News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
