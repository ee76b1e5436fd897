//! Metrics of this program itself: `xenmonitor.…`.
//!
//! A new one is a row here, and the same row in docs/metrics.md, which the failing test prints.

use std::time::Duration;

use crate::metrics::metric::{Metric, counter, gauge};
use crate::model::snapshot::Collectors;

/// The state of this program, for its own metrics.
#[derive(Debug, Default)]
pub struct Health {
    /// Whether the poll returned a snapshot.
    pub up: bool,
    /// How long the poll took, if it has finished.
    pub poll: Option<Duration>,
    /// How long the poll has been running, if it is late.
    pub running: Duration,
    /// How long naming, packing and printing took after the previous successful poll.
    pub send: Option<Duration>,
    /// Domains with metrics, if the poll has finished.
    pub domains: Option<usize>,
    /// Polls skipped because the one before was still running.
    pub skipped: u64,
    /// Polls that returned nothing.
    pub failed: u64,
    /// Polls with dropped datagrams, counted for each server.
    pub send_errors: u64,
    /// Datagrams handed to the kernel.
    pub datagrams: u64,
    /// Datagrams dropped.
    pub dropped: u64,
    /// What the poll could collect, if it has finished or was given up.
    pub collected: Option<Collectors>,
    /// Whether vcpus are to be collected.
    pub vcpus: bool,
}

type HealthFn = fn(&Health) -> Option<f64>;

/// Metrics of this program.
#[rustfmt::skip]
pub const HEALTH: &[Metric<HealthFn>] = &[
    gauge("up", "1 if the latest poll succeeded; 0 if it failed or has been running for two intervals",
        |h| Some(h.up.into())),
    gauge("poll_ms", "milliseconds that reading libxenstat, the kernel and QEMU took", |h| h.poll.map(milliseconds)),
    gauge("send_ms", "milliseconds that naming, packing and printing took after the previous successful poll",
        |h| h.send.map(milliseconds)),
    gauge("poll_running_sec", "seconds that the poll has been running, if longer than the interval; else 0",
        |h| Some(h.running.as_secs_f64())),
    gauge("domains", "domains with metrics", |h| h.domains.map(|domains| domains as f64)),
    counter("skipped_polls", "polls skipped because one was still running, or xenmonitor was suspended",
        |h| Some(h.skipped as f64)),
    counter("poll_errors", "polls that failed", |h| Some(h.failed as f64)),
    counter("send_errors", "polls with dropped datagrams, counted for each server",
        |h| Some(h.send_errors as f64)),
    counter("datagrams", "datagrams handed to the kernel", |h| Some(h.datagrams as f64)),
    counter("dropped_datagrams", "datagrams dropped", |h| Some(h.dropped as f64)),
    gauge("version_major", "the 1 of xenmonitor 1.2.3", |_| env!("CARGO_PKG_VERSION_MAJOR").parse().ok()),
    gauge("version_minor", "the 2 of xenmonitor 1.2.3", |_| env!("CARGO_PKG_VERSION_MINOR").parse().ok()),
    gauge("version_patch", "the 3 of xenmonitor 1.2.3", |_| env!("CARGO_PKG_VERSION_PATCH").parse().ok()),
    gauge("collector.vcpu", "1 if vcpus could be read, else 0; omitted if none are wanted, see `--detail vcpus`",
        |h| Some(h.collected.filter(|_| h.vcpus)?.vcpu.into())),
    gauge("collector.vif", "1 if network interfaces could be read, else 0", |h| Some(h.collected?.network.into())),
    gauge("collector.vbd", "1 if the disks of every domain could be read, else 0", |h| Some(h.collected?.vbd.into())),
];

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
