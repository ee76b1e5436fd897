//! Recurring problems, logged when they begin, change and end instead of every time.

use log::{info, warn};

/// Messages logged for one problem, at most.
const MAX_MESSAGES: usize = 8;

/// A problem ends after this many good polls in a row: one poll without an error may be chance.
pub const GOOD_POLLS: u32 = 3;

/// A problem that comes and goes ends after twice as many each time, but not more often doubled than this.
const MAX_RELAPSES: u32 = 8;

/// Counts the good polls after which a problem has ended.
#[derive(Default)]
pub struct Recovery {
    /// In a row, also after the end.
    good_polls: u32,
    /// How many times in succession the problem came back soon after its end.
    relapses: u32,
    phase: Phase,
}

#[derive(Default, PartialEq, Eq)]
enum Phase {
    #[default]
    NeverBegun,
    Begun,
    Ended,
}

impl Recovery {
    /// A poll with the problem.
    pub fn bad_poll(&mut self) {
        if std::mem::replace(&mut self.phase, Phase::Begun) == Phase::Ended {
            self.relapses = if self.is_past() { 0 } else { (self.relapses + 1).min(MAX_RELAPSES) };
        }
        self.good_polls = 0;
    }

    /// A poll without it. Returns whether it has ended by that.
    pub fn good_poll(&mut self) -> bool {
        self.good_polls = self.good_polls.saturating_add(1);
        let ends = self.phase == Phase::Begun && self.good_polls >= self.needed();
        if ends {
            self.phase = Phase::Ended;
        }
        ends
    }

    /// The problem seems to have ended. Returns whether that counts as its end: not where it has come back before.
    fn seems_over(&mut self) -> bool {
        let ends = self.phase == Phase::Begun && self.relapses == 0;
        if ends {
            self.phase = Phase::Ended;
        }
        ends
    }

    /// Whether it ended so long ago that the next problem is another one.
    pub fn is_past(&self) -> bool {
        self.good_polls >= 100 * self.needed()
    }

    fn needed(&self) -> u32 {
        GOOD_POLLS << self.relapses
    }
}

/// One kind of problem.
#[derive(Default)]
pub struct Throttle {
    /// The messages logged since the problem began, so that alternating causes are logged once each.
    logged: Vec<String>,
    recovery: Recovery,
}

impl Throttle {
    /// The problem is there. Logs the message as a warning unless it was logged before.
    pub fn raise(&mut self, message: String) {
        if self.begin(&message) {
            warn!("{message}");
        }
    }

    /// Whether the message is to be logged.
    fn begin(&mut self, message: &str) -> bool {
        self.recovery.bad_poll();
        let log = self.logged.len() < MAX_MESSAGES && !self.logged.iter().any(|logged| logged == message);
        if log {
            self.logged.push(message.to_owned());
        }
        log
    }

    /// Whether the problem has been logged and has not ended.
    pub fn is_raised(&self) -> bool {
        !self.logged.is_empty()
    }

    /// The problem has ended. Logs the message if there was one.
    fn clear(&mut self, message: impl FnOnce() -> String) {
        if self.is_raised() {
            self.logged.clear();
            info!("{}", message());
        }
    }

    /// The problem seems to have ended. Logs the message, unless the problem has come back before: then
    /// [good polls](Self::ok) end it.
    pub fn seems_over(&mut self, message: impl FnOnce() -> String) {
        if self.recovery.seems_over() {
            self.clear(message);
        }
    }

    /// A good poll. After [`GOOD_POLLS`] in a row the problem has ended; after more if it has come back before.
    pub fn ok(&mut self, message: impl FnOnce() -> String) {
        if self.recovery.good_poll() {
            self.clear(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn throttle_logs_each_message_once() {
        let mut throttle = Throttle::default();
        let logged = ["refused", "unreachable", "refused", "unreachable"].map(|message| throttle.begin(message));
        assert_eq!(logged, [true, true, false, false]);
        throttle.clear(|| "resumed".into());
        assert!(throttle.begin("refused"), "a new problem is logged again");
    }

    #[test]
    fn throttle_limits_the_messages_of_one_problem() {
        let mut throttle = Throttle::default();
        let logged: Vec<bool> = (0..20).map(|n| throttle.begin(&format!("error {n}"))).collect();
        assert_eq!(logged.iter().filter(|logged| **logged).count(), MAX_MESSAGES);
        assert!(logged[..MAX_MESSAGES].iter().all(|logged| *logged));
    }

    /// Polls that are bad now and then, and good in between for any time: a few lines in all.
    #[test]
    fn throttle_limits_the_lines_of_a_problem_that_comes_and_goes() {
        for good_polls in [1, 3, 5, 7, 10, 20, 40] {
            let (mut throttle, mut lines) = (Throttle::default(), 0);
            for poll in 0..10_000 {
                if poll % (good_polls + 1) == 0 {
                    lines += u32::from(throttle.begin("slow"));
                } else {
                    throttle.ok(|| {
                        lines += 1;
                        String::new()
                    });
                }
            }
            assert!((1..=12).contains(&lines), "{lines} lines with {good_polls} good polls in between");
        }
    }

    #[test]
    fn throttle_takes_a_problem_that_was_long_away_for_another() {
        let mut throttle = Throttle::default();
        (0..5).for_each(|_| throttle.ok(String::new));
        let mut begins_and_ends_after = |good_polls: u32| {
            throttle.raise("slow".into());
            (0..good_polls).for_each(|_| throttle.ok(String::new));
            !throttle.is_raised()
        };
        assert!(begins_and_ends_after(GOOD_POLLS));
        assert!(!begins_and_ends_after(GOOD_POLLS), "it is back at once");
        assert!(begins_and_ends_after(1000 * GOOD_POLLS));
        assert!(begins_and_ends_after(GOOD_POLLS));
        assert!(!begins_and_ends_after(GOOD_POLLS));
    }

    /// As a server that can be reached now and then.
    #[test]
    fn throttle_limits_the_lines_of_a_problem_that_seems_over_again_and_again() {
        for good_polls in [0, 1, 3, 10, 40] {
            let (mut throttle, mut lines) = (Throttle::default(), 0);
            for _ in 0..1000 {
                lines += u32::from(throttle.begin("refused"));
                throttle.seems_over(|| {
                    lines += 1;
                    String::new()
                });
                for _ in 0..good_polls {
                    throttle.ok(|| {
                        lines += 1;
                        String::new()
                    });
                }
            }
            assert!((2..=14).contains(&lines), "{lines} lines with {good_polls} good polls in between");
        }
        let mut throttle = Throttle::default();
        for _ in 0..3 {
            throttle.raise("refused".into());
            throttle.seems_over(String::new);
            assert!(!throttle.is_raised(), "the first time at once");
            (0..100 * GOOD_POLLS).for_each(|_| throttle.ok(String::new));
        }
    }

    #[test]
    fn throttle_ends_a_problem_after_good_polls_in_a_row() {
        let mut throttle = Throttle::default();
        throttle.raise("refused".into());
        for good in [true, true, false, true, true] {
            match good {
                true => throttle.ok(|| "resumed".into()),
                false => throttle.raise("refused".into()),
            }
            assert!(throttle.is_raised());
        }
        throttle.ok(|| "resumed".into());
        assert!(!throttle.is_raised());
    }
}
