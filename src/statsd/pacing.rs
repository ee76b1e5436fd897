//! How the datagrams of a tick are spread over time.
//!
//! A server's receive buffer has room for some ninety datagrams, and what does not fit is lost without a word. So
//! no more than `MAX_BURST` go back to back, and the rest are spread over a part of the interval: a few at a time, so
//! that a server may be busy elsewhere for as long as can be. Where they would follow one another closely there are
//! rather fewer and larger bursts, as to wake up costs more than to send. Of datagrams that take more `room` there
//! are fewer.

use std::time::Duration;

use crate::statsd::batch::Batch;

/// Datagrams that go back to back at the most, where the time suffices.
const MAX_BURST: usize = 32;

/// Datagrams in a burst where there are more than [`MAX_BURST`].
const BURST: usize = 8;

/// Bytes of a datagram by default: any network takes it whole. There may be so many of it.
pub const DEFAULT_DATAGRAM: u16 = 1432;

/// Bursts that would come closer than this become larger, up to [`MAX_BURST`]; then they come closer, up to the least.
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
    /// Datagrams; more than `at_once` only where the window is too short.
    pub burst: usize,
    /// Time between the beginnings of two bursts.
    pub gap: Duration,
    /// As many as a server may be trusted to have room for.
    pub at_once: usize,
    /// More than so many go at once after all.
    pub is_crowded: bool,
}

impl Pace {
    /// Spreads a tick evenly over the window.
    pub fn of(tick: &Batch, window: Duration) -> Self {
        Self::new(tick.datagrams(), tick.longest(), window)
    }

    fn new(datagrams: usize, bytes: usize, window: Duration) -> Self {
        let as_usual = |number: usize| (number * room(DEFAULT_DATAGRAM.into()) / room(bytes)).clamp(1, number);
        let (at_once, burst) = (as_usual(MAX_BURST), as_usual(BURST));
        if datagrams <= at_once || window.is_zero() {
            let burst = datagrams.min(at_once);
            return Self { burst, gap: Duration::ZERO, at_once, is_crowded: datagrams > at_once };
        }
        let most = |gap: Duration| (window.as_nanos() / gap.as_nanos()).clamp(1, datagrams as u128) as usize;
        let bursts = datagrams.div_ceil(burst).min(most(GAP));
        let bursts = bursts.max(datagrams.div_ceil(at_once)).min(most(LEAST_GAP));
        let gap = window / u32::try_from(bursts).unwrap_or(u32::MAX);
        let burst = datagrams.div_ceil(bursts);
        Self { burst, gap, at_once, is_crowded: burst > at_once }
    }
}

/// What a datagram takes of a receive buffer on its own host: Linux keeps it and what belongs to it in a piece of
/// memory that is a power of two. Of 1432 bytes 92 fit in a buffer of the usual size; of 3700 bytes 48, of 4095 bytes
/// 25, and of 8192 bytes 12.
fn room(bytes: usize) -> usize {
    /// IPv6's, which are larger than IPv4's.
    const HEADERS: usize = 392;
    const BUFFER: usize = 256;
    (bytes + HEADERS).next_power_of_two() + BUFFER
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use socket2::SockRef;

    use super::*;

    #[test]
    fn paces() {
        let seconds = Duration::from_secs;
        for (datagrams, bytes, window, burst, gap, is_crowded) in [
            (1, 1432, seconds(5), 1, Duration::ZERO, false),
            (32, 1432, seconds(5), 32, Duration::ZERO, false),
            (33, 1432, seconds(5), 7, seconds(1), false),
            (800, 1432, seconds(5), 8, Duration::from_millis(50), false),
            (800, 512, seconds(5), 8, Duration::from_millis(50), false),
            (6000, 1432, seconds(5), 8, Duration::from_nanos(6_666_666), false),
            // Rather larger bursts than many, and rather many than too large ones.
            (6000, 1432, Duration::from_millis(500), 24, Duration::from_millis(2), false),
            (570, 1432, Duration::from_millis(25), 32, Duration::from_nanos(1_388_888), false),
            (6400, 1432, Duration::from_millis(200), 32, Duration::from_millis(1), false),
            // Large ones.
            (16, 3700, seconds(5), 16, Duration::ZERO, false),
            (400, 3700, seconds(5), 4, Duration::from_millis(50), false),
            (8, 4095, seconds(5), 8, Duration::ZERO, false),
            (9, 4095, seconds(5), 2, seconds(1), false),
            (4, 8932, seconds(5), 4, Duration::ZERO, false),
            (5, 8932, seconds(5), 1, seconds(1), false),
            // No time.
            (6400, 1432, Duration::from_millis(100), 64, Duration::from_millis(1), true),
            (6400, 1432, Duration::from_micros(10), 6400, Duration::from_micros(10), true),
            (6400, 1432, Duration::ZERO, 32, Duration::ZERO, true),
            (5, 8932, Duration::ZERO, 4, Duration::ZERO, true),
            (5, 8932, Duration::from_millis(1), 5, Duration::from_millis(1), true),
            (4, 8932, Duration::ZERO, 4, Duration::ZERO, false),
        ] {
            let pace = Pace::new(datagrams, bytes, window);
            let expected = (burst, gap, is_crowded);
            assert_eq!((pace.burst, pace.gap, pace.is_crowded), expected, "{datagrams} of {bytes} in {window:?}");
            assert!(gap * datagrams.div_ceil(burst) as u32 <= window);
        }
    }

    /// As many as arrive while nobody reads; other kernels may have more.
    #[test]
    fn rooms() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (server, client) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
            client.connect(server.local_addr().unwrap()).unwrap();
            server.set_nonblocking(true).unwrap();
            SockRef::from(&server).set_recv_buffer_size(100_000).unwrap();
            let has = SockRef::from(&server).recv_buffer_size().unwrap();
            for bytes in [512, 1432, 1656, 1657, 3700, 3704, 3705, 4095, 7800, 7801, 8932] {
                for _ in 0..300 {
                    client.send(&[0; 8932][..bytes]).unwrap();
                }
                let fit = std::iter::from_fn(|| server.recv(&mut [0; 8932]).ok()).count();
                assert!(fit >= has / room(bytes), "{fit} of {bytes} in {has} at {address}");
            }
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
