//! Waits that double after each failure, up to a limit.

use std::ops::Add;

/// The waits between attempts, as times or as a number of polls.
#[derive(Debug, Clone, Copy)]
pub struct Backoff<T> {
    first: T,
    longest: T,
    next: T,
}

impl<T: Copy + Ord + Add<Output = T>> Backoff<T> {
    /// Begins with `first` and doubles up to `longest`.
    pub const fn new(first: T, longest: T) -> Self {
        Self { first, longest, next: first }
    }

    /// How long to wait after another failure.
    pub fn wait(&mut self) -> T {
        let wait = self.next;
        self.next = (wait + wait).min(self.longest);
        wait
    }

    /// Begins again after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn backoff_doubles_up_to_its_limit_and_begins_again() {
        let mut polls = Backoff::new(1, 5);
        assert_eq!([0; 5].map(|_| polls.wait()), [1, 2, 4, 5, 5]);
        polls.reset();
        assert_eq!([polls.wait(), polls.wait()], [1, 2]);
        let mut time = Backoff::new(Duration::from_millis(500), Duration::from_secs(1));
        assert_eq!([0; 3].map(|_| time.wait().as_millis()), [500, 1000, 1000]);
    }
}
