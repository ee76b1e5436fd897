//! When to poll.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Deadlines at multiples of the interval, however late a poll was asked for: from the start on, or of wall-clock
/// time.
pub struct Schedule {
    next: Instant,
    interval: Duration,
    /// After each multiple of wall-clock time, where that counts.
    aligned: Option<Duration>,
}

impl Schedule {
    /// Begins after `delay`; or, `aligned`, that much after a multiple of the interval.
    pub fn new(interval: Duration, delay: Duration, aligned: bool, now: Instant, wall: SystemTime) -> Self {
        if !aligned {
            return Self { next: now + delay, interval, aligned: None };
        }
        let next = now + until_aligned(interval, delay, Duration::ZERO, wall);
        Self { next, interval, aligned: Some(delay) }
    }

    /// The deadline.
    pub fn next(&self) -> Instant {
        self.next
    }

    /// Moves on to the first deadline after `now`; returns how many went by beyond the one that is due.
    pub fn advance(&mut self, now: Instant, wall: SystemTime) -> u64 {
        let late = now.saturating_duration_since(self.next).as_nanos() / self.interval.as_nanos();
        let late = u32::try_from(late).unwrap_or(u32::MAX);
        self.next = match self.aligned {
            None => self.next + self.interval * late + self.interval,
            // Asked for anew each time, as the clock may have been set. A tenth of the interval has to lie between,
            // lest one that was slowed down makes two of a deadline, and one that was set makes a burst.
            Some(delay) => now + until_aligned(self.interval, delay, self.interval / 10, wall),
        };
        late.into()
    }
}

/// The time from `wall` to the first multiple of the interval, plus `delay`, that is more than `gap` away.
fn until_aligned(interval: Duration, delay: Duration, gap: Duration, wall: SystemTime) -> Duration {
    let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default() + gap;
    let into = (wall.as_nanos() + interval.as_nanos() - delay.as_nanos()) % interval.as_nanos();
    // Less than the interval, which is at most a day.
    interval - Duration::from_nanos(into as u64) + gap
}

/// The place of a host between 0 and `jitter`, always the same and far from that of hosts with like names.
pub fn delay_of(host: &str, jitter: Duration) -> Duration {
    // FNV-1a, whose upper bits hardly know of the last bytes; then those of all are mixed.
    let hash = host
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    jitter.mul_f64((mixed >> 32) as f64 / 2_f64.powi(32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_do_not_drift_and_do_not_pile_up() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let interval = Duration::from_millis(100);
        let mut schedule = Schedule::new(interval, Duration::ZERO, false, start, UNIX_EPOCH);
        for (now, missed, next) in
            [(0, 0, 100), (101, 0, 200), (299, 0, 300), (300, 0, 400), (999, 5, 1000), (1100, 1, 1200)]
        {
            assert_eq!((schedule.advance(ms(now), UNIX_EPOCH), schedule.next()), (missed, ms(next)), "at {now} ms");
        }
        let later = Schedule::new(interval, Duration::from_millis(30), false, start, UNIX_EPOCH);
        assert_eq!(later.next(), ms(30));
    }

    #[test]
    fn aligned_deadlines_follow_the_wall_clock() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let wall = |time| UNIX_EPOCH + ms(time);
        let interval = ms(1000);
        for (delay, now, next) in
            [(0, 5_300, 700), (0, 6_000, 1000), (0, 5_999, 1), (250, 5_300, 950), (250, 5_100, 150)]
        {
            let schedule = Schedule::new(interval, ms(delay), true, start, wall(now));
            assert_eq!(schedule.next() - start, ms(next), "{delay} {now}");
        }
        // Monotonic time, what the wall clock says then, how many were missed, and when the next comes.
        let mut schedule = Schedule::new(interval, ms(0), true, start, wall(5_300));
        for (now, clock, missed, next) in [
            (700, 6_000, 0, 1700),
            (1701, 7_001, 0, 2700),
            // Slowed down: not again for the same second.
            (2700, 7_996, 0, 3704),
            // Set on by an hour and 300 ms; back by a day.
            (3704, 3_609_300, 0, 4404),
            (4404, 400, 0, 5004),
            (5004, 1_000, 0, 6004),
            (8504, 4_500, 2, 9004),
        ] {
            let moment = start + ms(now);
            assert_eq!(schedule.advance(moment, wall(clock)), missed, "at {now} ms");
            let gap = schedule.next() - moment;
            assert_eq!(schedule.next() - start, ms(next), "at {now} ms");
            assert!(gap > interval / 10 && gap <= interval / 10 * 11, "{gap:?}");
        }
    }

    #[test]
    fn hosts_are_spread_evenly() {
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
