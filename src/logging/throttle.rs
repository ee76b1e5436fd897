//! Recurring problems, logged when they begin, change and end instead of every time.

use log::{info, warn};

/// Messages logged for one problem, at most.
const MAX_MESSAGES: usize = 8;

/// A problem ends after this many good polls in a row: one poll without an error may be chance.
pub const GOOD_POLLS: u32 = 3;

/// One kind of problem.
#[derive(Default)]
pub struct Throttle {
    /// The messages logged since the problem began, so that alternating causes are logged once each.
    logged: Vec<String>,
    good_polls: u32,
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
        self.good_polls = 0;
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

    /// The problem has ended for certain. Logs the message if there was one.
    pub fn clear(&mut self, message: impl FnOnce() -> String) {
        if self.is_raised() {
            self.logged.clear();
            info!("{}", message());
        }
    }

    /// A good poll. After [`GOOD_POLLS`] in a row the problem has ended.
    pub fn ok(&mut self, message: impl FnOnce() -> String) {
        self.good_polls += 1;
        if self.good_polls >= GOOD_POLLS {
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
