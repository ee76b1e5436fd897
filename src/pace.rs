//! How the datagrams of a tick are spread over time.
//!
//! A server's receive buffer has room for some ninety datagrams, and what does not fit is lost without a word. So
//! no more than [`AT_ONCE`] go back to back, and the rest are spread over a part of the interval: a few at a time, so that
//! a server may be busy elsewhere for as long as can be. Where they would follow one another closely there are rather
//! fewer and larger bursts, as to wake up costs more than to send.

use std::time::Duration;

/// Datagrams that go back to back at the most, where the time suffices.
pub const AT_ONCE: usize = 32;

/// Datagrams in a burst where there are more than [`AT_ONCE`].
const BURST: usize = 8;

/// Bursts that would come closer than this become larger, up to [`AT_ONCE`]; then they come closer, up to the least.
const GAP: Duration = Duration::from_millis(2);
const LEAST_GAP: Duration = Duration::from_millis(1);

/// However long the interval, a tick is out within this.
const LONGEST_WINDOW: Duration = Duration::from_secs(60);

/// When to send.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Time between two ticks.
    pub interval: Duration,
    /// The part of it to spread the datagrams of a tick over.
    pub spread: f64,
    /// How long an answer of the name servers holds.
    pub resolve_every: Duration,
}

impl Timing {
    /// The time from when a tick is handed over until it should be out.
    pub fn window(&self) -> Duration {
        self.interval.mul_f64(self.spread).min(LONGEST_WINDOW)
    }
}

/// How many datagrams go back to back, and the time from one such burst to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Datagrams; more than [`AT_ONCE`] only where the window is too short, or none at all.
    pub burst: usize,
    /// Time between the beginnings of two bursts.
    pub gap: Duration,
}

impl Pace {
    /// Spreads datagrams evenly over the window.
    pub fn new(datagrams: usize, window: Duration) -> Self {
        if datagrams <= AT_ONCE || window.is_zero() {
            return Self { burst: datagrams.min(AT_ONCE), gap: Duration::ZERO };
        }
        let most = |gap: Duration| (window.as_nanos() / gap.as_nanos()).clamp(1, datagrams as u128) as usize;
        let bursts = datagrams.div_ceil(BURST).min(most(GAP));
        let bursts = bursts.max(datagrams.div_ceil(AT_ONCE)).min(most(LEAST_GAP));
        Self { burst: datagrams.div_ceil(bursts), gap: window / u32::try_from(bursts).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paces() {
        let seconds = Duration::from_secs;
        for (datagrams, window, burst, gap) in [
            (1, seconds(5), 1, Duration::ZERO),
            (32, seconds(5), 32, Duration::ZERO),
            (33, seconds(5), 7, seconds(1)),
            (800, seconds(5), 8, Duration::from_millis(50)),
            (6000, seconds(5), 8, Duration::from_nanos(6_666_666)),
            // Rather larger bursts than many, and rather many than too large ones.
            (6000, Duration::from_millis(500), 24, Duration::from_millis(2)),
            (570, Duration::from_millis(25), 32, Duration::from_nanos(1_388_888)),
            (6400, Duration::from_millis(200), 32, Duration::from_millis(1)),
            // No time.
            (6400, Duration::from_millis(100), 64, Duration::from_millis(1)),
            (6400, Duration::from_micros(10), 6400, Duration::from_micros(10)),
            (6400, Duration::ZERO, 32, Duration::ZERO),
        ] {
            let pace = Pace::new(datagrams, window);
            assert_eq!(pace, Pace { burst, gap }, "{datagrams} in {window:?}");
            assert!(gap * datagrams.div_ceil(burst) as u32 <= window);
        }
    }

    #[test]
    fn windows() {
        for (interval, spread, window) in [(10, 0.5, 5000), (10, 0.0, 0), (1, 0.9, 900), (3600, 0.5, 60_000)] {
            let timing = Timing { interval: Duration::from_secs(interval), spread, resolve_every: Duration::ZERO };
            assert_eq!(timing.window(), Duration::from_millis(window), "{interval} {spread}");
        }
    }
}
