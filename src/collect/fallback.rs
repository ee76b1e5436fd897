//! What to ask libxenstat for, when not everything can be had.
//!
//! One thing missing on the host fails libxenstat's whole call (fact 7 in docs/libxenstat.md). Then less is asked for,
//! step by step, and from time to time everything again.

use std::sync::Arc;

use crate::backoff::Backoff;
use crate::collect::xenstat_error::Error;
use crate::model::snapshot::Collectors;

/// The collectors to ask for, and then, as long as that fails, fewer: first without the one that fails most often.
const FALLBACKS: [Collectors; 8] = [
    Collectors::ALL,
    Collectors { vbd: false, ..Collectors::ALL },
    Collectors { network: false, ..Collectors::ALL },
    Collectors { vcpu: false, ..Collectors::ALL },
    Collectors { vcpu: true, ..Collectors::NONE },
    Collectors { network: true, ..Collectors::NONE },
    Collectors { vbd: true, ..Collectors::NONE },
    Collectors::NONE,
];

/// Polls until everything is asked for again: at first, and at the most.
const RETRY: Backoff<u32> = Backoff::new(1, 32);

/// Where the next poll begins among [`FALLBACKS`].
#[derive(Debug)]
pub struct Fallback {
    /// The index of what the latest good poll got.
    step: usize,
    /// Polls until everything is asked for again.
    wait: u32,
    backoff: Backoff<u32>,
    /// Why not everything can be had.
    cause: Option<Arc<Error>>,
}

impl Fallback {
    /// Begins with everything.
    pub const fn new() -> Self {
        Self { step: 0, wait: 0, backoff: RETRY, cause: None }
    }

    /// Why libxenstat failed when it was last asked for everything, while it answers if asked for less.
    pub fn cause(&self) -> Option<Arc<Error>> {
        self.cause.clone()
    }

    /// Calls libxenstat for what is `wanted`, or for as much of it as worked last time; if that fails, for less.
    /// `is_reused` says whether the first call goes to a handle that has answered before: such a call is repeated,
    /// because after a failure the handle is opened again, and it may have been stale.
    pub fn collect_what_works<T>(
        &mut self,
        wanted: Collectors,
        is_reused: bool,
        mut call: impl FnMut(Collectors) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if self.wait == 0 {
            self.step = 0;
        }
        self.wait = self.wait.saturating_sub(1);
        let asked = |step: usize| {
            let Collectors { vcpu, network, vbd } = FALLBACKS[step];
            Collectors { vcpu: vcpu && wanted.vcpu, network: network && wanted.network, vbd: vbd && wanted.vbd }
        };

        let mut result = call(asked(self.step));
        if is_reused && matches!(result, Err(Error::Node(_) | Error::OtherRelease { .. })) {
            result = call(asked(self.step));
        }
        // Where all calls about vcpus fail, libxenstat takes each domain for one that has just died (fact 30). A handle
        // that has shown domains when asked for vcpus is stale instead (fact 8).
        let may_be_vcpus = asked(self.step).vcpu && (!is_reused || self.cause.is_some());
        let failure = match result {
            Err(failure @ (Error::Node(_) | Error::OtherRelease { .. })) => failure,
            Err(failure @ Error::NoDomains) if may_be_vcpus => failure,
            // Success; or an error that asking for less does not avoid.
            other => {
                if other.is_ok() && self.step == 0 {
                    (self.backoff, self.cause) = (RETRY, None);
                }
                return other;
            }
        };
        // Find out whether a collector failed or the call itself.
        if call(Collectors::NONE).is_err() {
            (self.step, self.wait) = (0, 0);
            return Err(failure);
        }
        let is_first_such = |step: &usize| !(0..*step).any(|earlier| asked(earlier) == asked(*step));
        let mut steps = (0..FALLBACKS.len()).filter(is_first_such);
        let Some((step, collected)) = steps.find_map(|step| Some((step, call(asked(step)).ok()?))) else {
            (self.step, self.wait) = (0, 0);
            return Err(failure);
        };
        if step > 0 && self.wait == 0 {
            self.wait = self.backoff.wait();
        }
        self.cause = (step > 0).then(|| failure.into());
        self.step = step;
        Ok(collected)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const ALL: Collectors = Collectors::ALL;
    const NONE: Collectors = Collectors::NONE;
    const NO_VBD: Collectors = Collectors { vbd: false, ..ALL };

    /// The calls of one poll on a libxenstat that fails on each of `fails`; ends with `!` if none worked.
    fn calls(
        fallback: &mut Fallback,
        wanted: Collectors,
        is_reused: bool,
        fails: impl Fn(usize, Collectors) -> bool,
    ) -> String {
        let mut calls = Vec::new();
        let result = fallback.collect_what_works(wanted, is_reused, |asked| {
            let parts = [(asked.vcpu, "cpu"), (asked.network, "vif"), (asked.vbd, "vbd")];
            let parts: Vec<&str> = parts.into_iter().filter_map(|(is_asked, part)| is_asked.then_some(part)).collect();
            calls.push(if parts.is_empty() { "none".to_owned() } else { parts.join("+") });
            if fails(calls.len(), asked) { Err(Error::Node(io::Error::other("failed"))) } else { Ok(()) }
        });
        calls.join(" ") + if result.is_err() { " !" } else { "" }
    }

    #[test]
    fn fallback_asks_for_less_and_less() {
        type Fails = fn(usize, Collectors) -> bool;
        let cases: [(&str, Collectors, bool, Fails, &str); 9] = [
            ("all is well", ALL, true, |_, _| false, "cpu+vif+vbd"),
            ("a stale handle", ALL, true, |n, _| n == 1, "cpu+vif+vbd cpu+vif+vbd"),
            ("a new handle fails once", ALL, false, |n, _| n == 1, "cpu+vif+vbd none cpu+vif+vbd"),
            ("nothing works", ALL, true, |_, _| true, "cpu+vif+vbd cpu+vif+vbd none !"),
            ("no disks", ALL, false, |_, asked| asked.vbd, "cpu+vif+vbd none cpu+vif+vbd cpu+vif"),
            ("no vcpus", ALL, false, |_, asked| asked.vcpu, "cpu+vif+vbd none cpu+vif+vbd cpu+vif cpu+vbd vif+vbd"),
            (
                "networks alone",
                ALL,
                false,
                |_, asked| asked.vcpu || asked.vbd,
                "cpu+vif+vbd none cpu+vif+vbd cpu+vif cpu+vbd vif+vbd cpu vif",
            ),
            (
                "what is not wanted is not asked for",
                NO_VBD,
                false,
                |_, asked| asked.network,
                "cpu+vif none cpu+vif cpu",
            ),
            (
                "nothing but domains",
                ALL,
                false,
                |_, asked| asked != NONE,
                "cpu+vif+vbd none cpu+vif+vbd cpu+vif cpu+vbd vif+vbd cpu vif vbd none",
            ),
        ];
        for (case, wanted, is_reused, fails, expected) in cases {
            assert_eq!(calls(&mut Fallback::new(), wanted, is_reused, fails), expected, "{case}");
        }
    }

    #[test]
    fn fallback_asks_for_everything_again_less_and_less_often() {
        let mut fallback = Fallback::new();
        let mut asked_for_all = |from: usize, to: usize, works: bool| {
            let is_all = |fallback: &mut Fallback| {
                calls(fallback, ALL, false, |_, asked| asked.vbd && !works).starts_with("cpu+vif+vbd")
            };
            (from..to).filter(|_| is_all(&mut fallback)).collect::<Vec<_>>()
        };
        assert_eq!(asked_for_all(0, 140, false), [0, 2, 5, 10, 19, 36, 69, 102, 135]);
        // Once it has worked it is asked for at every poll, and the waits begin again.
        assert_eq!(asked_for_all(140, 170, true), [168, 169]);
        assert_eq!(asked_for_all(170, 180, false), [170, 172, 175]);
    }

    #[test]
    fn fallback_keeps_the_cause_until_everything_works() {
        let mut fallback = Fallback::new();
        let cause = |fallback: &Fallback| fallback.cause().map(|cause| cause.to_string());
        for (fails, expected) in [
            (false, None),
            (true, Some("xenstat_get_node failed: failed")),
            (true, Some("xenstat_get_node failed: failed")),
            (false, None),
        ] {
            calls(&mut fallback, ALL, false, |_, asked| asked.vbd && fails);
            assert_eq!(cause(&fallback).as_deref(), expected);
        }
    }

    #[test]
    fn fallback_does_not_ask_for_less_where_nothing_can_work() {
        let mut asked = 0;
        let result = Fallback::new().collect_what_works(ALL, true, |_| {
            asked += 1;
            Err::<(), _>(Error::NoDomains)
        });
        assert!(matches!(result, Err(Error::NoDomains)) && asked == 1, "{asked}");
    }

    #[test]
    fn fallback_leaves_out_vcpus_where_they_hide_all_domains() {
        let mut fallback = Fallback::new();
        let mut poll = |is_reused: bool, hides: bool| {
            let mut calls = 0;
            let result = fallback.collect_what_works(NO_VBD, is_reused, |asked| {
                calls += 1;
                if hides && asked.vcpu { Err(Error::NoDomains) } else { Ok(asked) }
            });
            (result.ok().map(|asked| (asked.vcpu, asked.network)), calls)
        };
        assert_eq!(poll(false, true), (Some((false, true)), 5));
        assert_eq!(poll(true, true), (Some((false, true)), 1));
        // Asked for again, by the handle that has left them out so far.
        assert_eq!(poll(true, true), (Some((false, true)), 5));
        for _ in 0..2 {
            assert_eq!(poll(true, false), (Some((false, true)), 1));
        }
        assert_eq!(poll(true, false), (Some((true, true)), 1));
        // xenstored has gone away.
        assert_eq!(poll(true, true), (None, 1));
    }
}
