//! Pacing: how the datagrams of a poll are spread over time.
//!
//! A server's default receive buffer holds about 90 datagrams, and the kernel drops what does not fit. So a poll of up
//! to `MAX_BURST` datagrams is sent at once, and a larger one in bursts that are spread over a part of the interval.
//! A wake-up costs more than a send, so bursts are as large as possible: the buffer has room for a burst beside what
//! arrives while the server [pauses](Timing::pause). If bursts would be closer than `GAP` they grow up to `MAX_BURST`.
//! Datagrams with a larger `truesize` count for more.

use std::time::Duration;

use crate::statsd::batch::Batch;
use crate::statsd::datagrams::NETWORK_DATAGRAM;

/// Datagrams sent back to back, at most, if the time suffices.
const MAX_BURST: usize = 32;

/// Smaller bursts would let the server pause hardly longer.
const MIN_BURST: usize = 16;

/// Linux's default for a receive buffer (`net.core.rmem_default`).
const RECEIVE_BUFFER: usize = 212_992;

/// Bursts closer than this grow up to [`MAX_BURST`]. Then they come closer, down to [`MIN_GAP`].
const GAP: Duration = Duration::from_millis(2);
const MIN_GAP: Duration = Duration::from_millis(1);

/// A poll is sent within this time, however long the interval.
const MAX_WINDOW: Duration = Duration::from_secs(60);

/// The longest pause of a server that is allowed for.
const MAX_PAUSE: Duration = Duration::from_millis(500);

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

    /// How long a server may read nothing without losing datagrams, if that can be had: as while it collects garbage or
    /// passes values on.
    pub fn pause(&self) -> Duration {
        (self.interval / 10).min(MAX_PAUSE)
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
    pub fn of(batch: &Batch, timing: &Timing) -> Self {
        Self::new(batch.datagrams(), batch.longest(), timing.window(), timing.pause())
    }

    /// Spreads so many datagrams of at most so many bytes evenly over the window, to a server that may pause.
    pub fn new(datagrams: usize, bytes: usize, window: Duration, pause: Duration) -> Self {
        let by_size = |number: usize| (number * truesize(NETWORK_DATAGRAM) / truesize(bytes)).clamp(1, number);
        let (max_burst, min_burst) = (by_size(MAX_BURST), by_size(MIN_BURST));
        if datagrams <= max_burst || window.is_zero() {
            let burst = datagrams.min(max_burst);
            return Self { burst, gap: Duration::ZERO, max_burst, is_too_fast: datagrams > max_burst };
        }
        let in_pause = (datagrams as u128 * pause.as_nanos()).div_ceil(window.as_nanos());
        let room = (RECEIVE_BUFFER / truesize(bytes)).saturating_sub(usize::try_from(in_pause).unwrap_or(usize::MAX));
        let burst = room.clamp(min_burst, max_burst);
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
        let ms = Duration::from_millis;
        for (datagrams, bytes, window, burst, gap, is_too_fast) in [
            (1, 1432, seconds(5), 1, Duration::ZERO, false),
            (32, 1432, seconds(5), 32, Duration::ZERO, false),
            (33, 1432, seconds(5), 17, ms(2500), false),
            // While the server pauses for half a second, 44 of them arrive: there is room for 48 more.
            (443, 1432, seconds(5), 32, Duration::from_nanos(357_142_857), false),
            (640, 1432, seconds(5), 28, Duration::from_nanos(217_391_304), false),
            (800, 1432, seconds(5), 16, ms(100), false),
            (800, 512, seconds(5), 32, ms(200), false),
            (6000, 1432, seconds(5), 16, Duration::from_nanos(13_333_333), false),
            // Larger bursts before closer ones, and closer ones before too large ones.
            (6000, 1432, ms(500), 24, ms(2), false),
            (570, 1432, ms(25), 32, Duration::from_nanos(1_388_888), false),
            (6400, 1432, ms(200), 32, ms(1), false),
            // Large datagrams.
            (16, 3700, seconds(5), 16, Duration::ZERO, false),
            (171, 3700, seconds(5), 16, Duration::from_nanos(454_545_454), false),
            (171, 3700, ms(500), 13, Duration::from_nanos(35_714_285), false),
            (400, 3700, seconds(5), 8, ms(100), false),
            (8, 4095, seconds(5), 8, Duration::ZERO, false),
            (9, 4095, seconds(5), 5, ms(2500), false),
            (4, 8932, seconds(5), 4, Duration::ZERO, false),
            (5, 8932, seconds(5), 3, ms(2500), false),
            // Too little time.
            (6400, 1432, ms(100), 64, ms(1), true),
            (6400, 1432, Duration::from_micros(10), 6400, Duration::from_micros(10), true),
            (6400, 1432, Duration::ZERO, 32, Duration::ZERO, true),
            (5, 8932, Duration::ZERO, 4, Duration::ZERO, true),
            (5, 8932, ms(1), 5, ms(1), true),
            (4, 8932, Duration::ZERO, 4, Duration::ZERO, false),
        ] {
            let timing = Timing { interval: window * 2, spread: 0.5, resolve_every: Duration::ZERO };
            let pace = Pace::new(datagrams, bytes, timing.window(), timing.pause());
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
    fn pacing_window_and_pause() {
        for (interval, spread, window, pause) in
            [(10, 0.5, 5000, 500), (10, 0.0, 0, 500), (1, 0.9, 900, 100), (3600, 0.5, 60_000, 500)]
        {
            let timing = Timing { interval: Duration::from_secs(interval), spread, resolve_every: Duration::ZERO };
            assert_eq!(timing.window(), Duration::from_millis(window), "{interval} {spread}");
            assert_eq!(timing.pause(), Duration::from_millis(pause), "{interval}");
        }
    }
}
