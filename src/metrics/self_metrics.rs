//! Metrics of this program itself: `xenmonitor.…`.

use std::time::Duration;

use crate::metrics::gauge::Kind::{CountsUp, Now};
use crate::metrics::gauge::{HostGauge, gauge, gauges};
use crate::model::snapshot::Collectors;
use crate::naming::scheme::RESERVED;

/// How this program is doing, for its own gauges.
#[derive(Debug, Default)]
pub struct Health {
    /// Whether the poll gave a snapshot.
    pub up: bool,
    /// How long the poll took, if it is over.
    pub poll: Option<Duration>,
    /// How long it has been under way, if it is late.
    pub stuck: Duration,
    /// How long naming, packing and printing took at the good poll before.
    pub send: Option<Duration>,
    /// Domains with gauges, if it is over.
    pub domains: Option<usize>,
    /// Polls left out because one was still under way.
    pub skipped: u64,
    /// Polls that gave nothing.
    pub failed: u64,
    /// Ticks of which something is known to be lost.
    pub send_errors: u64,
    /// Handed to the kernel.
    pub datagrams: u64,
    /// Known to be lost.
    pub lost: u64,
    /// What it told, if it is over or given up.
    pub told: Option<Collectors>,
}

/// Metrics of this program.
#[rustfmt::skip]
pub const OWN: &[HostGauge<Health>] = &[
    gauge("up", Now, "1 if the latest poll gave something; 0 if it failed or has taken two intervals",
        |h| Some(h.up.into())),
    gauge("poll_ms", Now, "milliseconds reading took: libxenstat, the kernel, QEMU", |h| h.poll.map(milliseconds)),
    gauge("send_ms", Now, "milliseconds naming, packing and printing took, at the good poll before",
        |h| h.send.map(milliseconds)),
    gauge("poll_running_sec", Now, "seconds a poll has been under way, while that is longer than the interval; else 0",
        |h| Some(h.stuck.as_secs_f64())),
    gauge("domains", Now, "domains with gauges", |h| h.domains.map(|domains| domains as f64)),
    gauge("skipped_polls", CountsUp, "polls left out because one still ran, or this program was stopped",
        |h| Some(h.skipped as f64)),
    gauge("poll_errors", CountsUp, "polls that gave nothing", |h| Some(h.failed as f64)),
    gauge("send_errors", CountsUp, "polls of which something is known to be lost, for each server",
        |h| Some(h.send_errors as f64)),
    gauge("datagrams", CountsUp, "handed to the kernel", |h| Some(h.datagrams as f64)),
    gauge("dropped_datagrams", CountsUp, "known to be lost", |h| Some(h.lost as f64)),
    gauge("collector.vcpu", Now, "1 if vcpus could be told, else 0", |h| Some(h.told?.vcpu.into())),
    gauge("collector.vif", Now, "1 if network interfaces could be told, else 0", |h| Some(h.told?.network.into())),
    gauge("collector.vbd", Now, "1 if the disks of every domain could be told, else 0", |h| Some(h.told?.vbd.into())),
];

/// Hands this program's gauges to `emit`: group, name and value.
pub fn own_gauges(health: &Health, emit: impl FnMut(&str, &str, f64)) {
    gauges(RESERVED[1], OWN, health, emit);
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
