//! Pacing: how the datagrams of a poll are spread over time.
//!
//! A server's default receive buffer holds about 90 datagrams, and the kernel drops what does not fit. So a poll of up
//! to `MAX_BURST` datagrams is sent at once, and a larger one in bursts that are spread over a part of the interval,
//! as small as possible, so that the server may pause as long as possible. If bursts would be closer than `GAP` they
//! grow up to `MAX_BURST`, because a wake-up costs more than a send. Datagrams with a larger `truesize` count for
//! more.

use std::time::Duration;

use crate::statsd::batch::Batch;

/// Datagrams sent back to back, at most, if the time suffices.
const MAX_BURST: usize = 32;

/// Datagrams in a burst of a poll that has more than [`MAX_BURST`].
const BURST: usize = 8;

/// Default size of a datagram in bytes: it fits a 1500-byte MTU. Bursts are counted in datagrams of this size.
pub const DEFAULT_DATAGRAM: u16 = 1432;

/// Bursts closer than this grow up to [`MAX_BURST`]. Then they come closer, down to [`MIN_GAP`].
const GAP: Duration = Duration::from_millis(2);
const MIN_GAP: Duration = Duration::from_millis(1);

/// A poll is sent within this time, however long the interval.
const MAX_WINDOW: Duration = Duration::from_secs(60);

/// How long the peer of a connection may acknowledge or read nothing: an interval within these limits.
const MIN_PEER_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_PEER_TIMEOUT: Duration = Duration::from_secs(30);

/// When to send.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Time between two polls.
    pub interval: Duration,
    /// The fraction of it that the datagrams of a poll are spread over.
    pub spread: f64,
    /// How often names are looked up again.
    pub resolve_every: Duration,
}

impl Timing {
    /// The time that the datagrams of a poll are spread over.
    pub fn window(&self) -> Duration {
        self.interval.mul_f64(self.spread).min(MAX_WINDOW)
    }

    /// After this time a connection whose peer reads nothing is given up.
    pub fn peer_timeout(&self) -> Duration {
        self.interval.clamp(MIN_PEER_TIMEOUT, MAX_PEER_TIMEOUT)
    }

    /// After this time a connection whose peer acknowledges nothing is given up: before the next poll, if that is not
    /// soon, so that only one poll is lost.
    pub fn ack_timeout(&self) -> Duration {
        self.interval.mul_f64(0.9).clamp(MIN_PEER_TIMEOUT, MAX_PEER_TIMEOUT)
    }
}

/// How many datagrams to send back to back, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Datagrams in a burst. More than `max_burst` only if the window is too short.
    pub burst: usize,
    /// Time from the start of one burst to the next.
    pub gap: Duration,
    /// Datagrams of this size that a receive buffer certainly holds.
    pub max_burst: usize,
    /// Whether the window is too short for bursts of at most `max_burst`.
    pub is_too_fast: bool,
}

impl Pace {
    /// Spreads a batch evenly over the window.
    pub fn of(batch: &Batch, window: Duration) -> Self {
        Self::new(batch.datagrams(), batch.longest(), window)
    }

    /// Spreads so many datagrams of at most so many bytes evenly over the window.
    pub fn new(datagrams: usize, bytes: usize, window: Duration) -> Self {
        let by_size = |number: usize| (number * truesize(DEFAULT_DATAGRAM.into()) / truesize(bytes)).clamp(1, number);
        let (max_burst, burst) = (by_size(MAX_BURST), by_size(BURST));
        if datagrams <= max_burst || window.is_zero() {
            let burst = datagrams.min(max_burst);
            return Self { burst, gap: Duration::ZERO, max_burst, is_too_fast: datagrams > max_burst };
        }
        let most = |gap: Duration| (window.as_nanos() / gap.as_nanos()).clamp(1, datagrams as u128) as usize;
        let bursts = datagrams.div_ceil(burst).min(most(GAP));
        let bursts = bursts.max(datagrams.div_ceil(max_burst)).min(most(MIN_GAP));
        let gap = window / u32::try_from(bursts).unwrap_or(u32::MAX);
        let burst = datagrams.div_ceil(bursts);
        Self { burst, gap, max_burst, is_too_fast: burst > max_burst }
    }
}

/// What a datagram takes of a receive buffer on the same host (the kernel's `skb->truesize`): its data, headers and
/// bookkeeping are kept in a piece of memory whose size is a power of two. A buffer of the default size holds 92
/// datagrams of 1432 bytes, 48 of 3700, 25 of 4095 and 12 of 8192.
fn truesize(bytes: usize) -> usize {
    /// With IPv6, whose headers are larger than IPv4's.
    const HEADERS: usize = 392;
    const SK_BUFF: usize = 256;
    (bytes + HEADERS).next_power_of_two() + SK_BUFF
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use rustix::net::sockopt::{set_socket_recv_buffer_size, socket_recv_buffer_size};

    use super::*;

    #[test]
    fn pacing_by_number_size_and_window() {
        let seconds = Duration::from_secs;
        for (datagrams, bytes, window, burst, gap, is_too_fast) in [
            (1, 1432, seconds(5), 1, Duration::ZERO, false),
            (32, 1432, seconds(5), 32, Duration::ZERO, false),
            (33, 1432, seconds(5), 7, seconds(1), false),
            (800, 1432, seconds(5), 8, Duration::from_millis(50), false),
            (800, 512, seconds(5), 8, Duration::from_millis(50), false),
            (6000, 1432, seconds(5), 8, Duration::from_nanos(6_666_666), false),
            // Larger bursts before closer ones, and closer ones before too large ones.
            (6000, 1432, Duration::from_millis(500), 24, Duration::from_millis(2), false),
            (570, 1432, Duration::from_millis(25), 32, Duration::from_nanos(1_388_888), false),
            (6400, 1432, Duration::from_millis(200), 32, Duration::from_millis(1), false),
            // Large datagrams.
            (16, 3700, seconds(5), 16, Duration::ZERO, false),
            (400, 3700, seconds(5), 4, Duration::from_millis(50), false),
            (8, 4095, seconds(5), 8, Duration::ZERO, false),
            (9, 4095, seconds(5), 2, seconds(1), false),
            (4, 8932, seconds(5), 4, Duration::ZERO, false),
            (5, 8932, seconds(5), 1, seconds(1), false),
            // Too little time.
            (6400, 1432, Duration::from_millis(100), 64, Duration::from_millis(1), true),
            (6400, 1432, Duration::from_micros(10), 6400, Duration::from_micros(10), true),
            (6400, 1432, Duration::ZERO, 32, Duration::ZERO, true),
            (5, 8932, Duration::ZERO, 4, Duration::ZERO, true),
            (5, 8932, Duration::from_millis(1), 5, Duration::from_millis(1), true),
            (4, 8932, Duration::ZERO, 4, Duration::ZERO, false),
        ] {
            let pace = Pace::new(datagrams, bytes, window);
            let expected = (burst, gap, is_too_fast);
            assert_eq!((pace.burst, pace.gap, pace.is_too_fast), expected, "{datagrams} of {bytes} in {window:?}");
            assert!(gap * datagrams.div_ceil(burst) as u32 <= window);
        }
    }

    /// Datagrams that arrive while nobody reads, on this kernel; another one may take more.
    #[test]
    fn pacing_knows_what_a_receive_buffer_holds() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (server, client) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
            client.connect(server.local_addr().unwrap()).unwrap();
            server.set_nonblocking(true).unwrap();
            set_socket_recv_buffer_size(&server, 100_000).unwrap();
            let size = socket_recv_buffer_size(&server).unwrap();
            for bytes in [512, 1432, 1656, 1657, 3700, 3704, 3705, 4095, 7800, 7801, 8932] {
                for _ in 0..300 {
                    client.send(&[0; 8932][..bytes]).unwrap();
                }
                let fit = std::iter::from_fn(|| server.recv(&mut [0; 8932]).ok()).count();
                assert!(fit >= size / truesize(bytes), "{fit} of {bytes} in {size} at {address}");
            }
        }
    }

    #[test]
    fn pacing_window() {
        for (interval, spread, window) in [(10, 0.5, 5000), (10, 0.0, 0), (1, 0.9, 900), (3600, 0.5, 60_000)] {
            let timing = Timing { interval: Duration::from_secs(interval), spread, resolve_every: Duration::ZERO };
            assert_eq!(timing.window(), Duration::from_millis(window), "{interval} {spread}");
        }
    }
}
