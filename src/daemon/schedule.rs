//! When to poll.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::naming::sanitize::fnv1a;

/// A moment by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// By the monotonic clock.
    pub instant: Instant,
    /// By the wall clock.
    pub wall: SystemTime,
}

impl Now {
    /// Reads the clocks.
    pub fn read() -> Self {
        Self::at(Instant::now())
    }

    /// This moment by the monotonic clock, with the wall clock as it is now.
    pub fn at(instant: Instant) -> Self {
        Self { instant, wall: SystemTime::now() }
    }
}

/// Deadlines at multiples of the interval, however late a poll was requested: counted from the start, or by the wall
/// clock.
pub struct Schedule {
    next: Instant,
    interval: Duration,
    /// With `--align`: the time after each multiple of the interval by the wall clock.
    aligned: Option<Duration>,
}

impl Schedule {
    /// The first deadline is `delay` from now; with `align` so much after a multiple of the interval.
    pub fn new(interval: Duration, delay: Duration, align: bool, now: Now) -> Self {
        let wait = if align { until_aligned(interval, delay, Duration::ZERO, now.wall) } else { delay };
        Self { next: now.instant + wait, interval, aligned: align.then_some(delay) }
    }

    /// Time between two deadlines.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// The next deadline.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Moves on to the first deadline after `now`; returns how many were missed, not counting the one that is due.
    pub fn advance(&mut self, now: Now) -> u64 {
        let missed = now.instant.saturating_duration_since(self.next).as_nanos() / self.interval.as_nanos();
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        self.next = match self.aligned {
            None => self.next + self.interval * missed + self.interval,
            // Read from the wall clock again each time, as it may have been set. The gap of a tenth of the interval
            // keeps a slewed clock from firing twice, and one that was stepped from firing in a burst.
            Some(delay) => now.instant + until_aligned(self.interval, delay, self.interval / 10, now.wall),
        };
        missed.into()
    }
}

/// The time from `wall` to the first multiple of the interval, plus `delay`, that is more than `gap` away.
fn until_aligned(interval: Duration, delay: Duration, gap: Duration, wall: SystemTime) -> Duration {
    let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default() + gap;
    let into = (wall.as_nanos() + interval.as_nanos() - delay.as_nanos()) % interval.as_nanos();
    // Less than the interval, which is at most a day.
    interval - Duration::from_nanos(into as u64) + gap
}

/// The delay of a host, from 0 to `jitter`: always the same, and unrelated to that of hosts with similar names.
pub fn delay_of(host: &str, jitter: Duration) -> Duration {
    // The upper bits of FNV-1a hardly depend on the last bytes, so all bits are mixed.
    let hash = fnv1a(host.as_bytes());
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    jitter.mul_f64((mixed >> 32) as f64 / 2_f64.powi(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedule_deadlines_do_not_drift_or_accumulate() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let interval = Duration::from_millis(100);
        let at = |time| Now { instant: ms(time), wall: UNIX_EPOCH };
        let mut schedule = Schedule::new(interval, Duration::ZERO, false, at(0));
        for (now, missed, next) in
            [(0, 0, 100), (101, 0, 200), (299, 0, 300), (300, 0, 400), (999, 5, 1000), (1100, 1, 1200)]
        {
            assert_eq!((schedule.advance(at(now)), schedule.next()), (missed, ms(next)), "at {now} ms");
        }
        let later = Schedule::new(interval, Duration::from_millis(30), false, at(0));
        assert_eq!(later.next(), ms(30));
    }

    #[test]
    fn schedule_aligned_deadlines_follow_the_wall_clock() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        // By the monotonic clock, and by the wall clock.
        let at = |time, wall| Now { instant: start + ms(time), wall: UNIX_EPOCH + ms(wall) };
        let interval = ms(1000);
        for (delay, now, next) in
            [(0, 5_300, 700), (0, 6_000, 1000), (0, 5_999, 1), (250, 5_300, 950), (250, 5_100, 150)]
        {
            let schedule = Schedule::new(interval, ms(delay), true, at(0, now));
            assert_eq!(schedule.next() - start, ms(next), "{delay} {now}");
        }
        // Monotonic time, wall clock, missed deadlines, and the next one.
        let mut schedule = Schedule::new(interval, ms(0), true, at(0, 5_300));
        for (now, clock, missed, next) in [
            (700, 6_000, 0, 1700),
            (1701, 7_001, 0, 2700),
            // Slewed: not again for the same second.
            (2700, 7_996, 0, 3704),
            // Stepped forward by an hour and 300 ms, and back by a day.
            (3704, 3_609_300, 0, 4404),
            (4404, 400, 0, 5004),
            (5004, 1_000, 0, 6004),
            (8504, 4_500, 2, 9004),
        ] {
            assert_eq!(schedule.advance(at(now, clock)), missed, "at {now} ms");
            let gap = schedule.next() - (start + ms(now));
            assert_eq!(schedule.next() - start, ms(next), "at {now} ms");
            assert!(gap > interval / 10 && gap <= interval / 10 * 11, "{gap:?}");
        }
    }

    #[test]
    fn jitter_spreads_hosts_evenly() {
        let jitter = Duration::from_secs(10);
        let mut seconds = [0; 10];
        for n in 0..1000 {
            let host = format!("xen{n}.example.com");
            assert_eq!(delay_of(&host, jitter), delay_of(&host, jitter));
            seconds[delay_of(&host, jitter).as_secs() as usize] += 1;
        }
        assert!(seconds.iter().all(|hosts| (60..140).contains(hosts)), "{seconds:?}");
        assert_eq!(delay_of("xen1", Duration::ZERO), Duration::ZERO);
    }
}
