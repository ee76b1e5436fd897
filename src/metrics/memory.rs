//! Metrics of a domain's memory as xenstore has it, which `--detail memory` adds: `memory.…`.
//!
//! A new one is a row here, and the same row in docs/metrics.md, which the failing test prints.

use crate::metrics::metric::{Metric, exact, gauge};
use crate::model::snapshot::Memory;

type MemoryFn = fn(&Memory) -> Option<f64>;

/// Those that begin with `guest_` are the guest's claim.
#[rustfmt::skip]
pub const MEMORY: &[Metric<MemoryFn>] = &[
    gauge("memory.target_k", "KiB that the toolstack asks the guest's balloon driver to keep",
        |m| exact(m.target_k?)),
    gauge("memory.static_max_k", "KiB that the guest can never exceed, as the toolstack set it when it built the domain",
        |m| exact(m.static_max_k?)),
    gauge("memory.guest_total_k", "KiB of memory that the guest's agent says it has; omitted without an agent",
        |m| exact(m.guest_total_k?)),
    gauge("memory.guest_free_k", "KiB that the guest's agent says are free or available; omitted without an agent",
        |m| exact(m.guest_free_k?)),
    gauge("memory.guest_used_k", "KiB that the guest's agent says are used, swap included; Qubes' agent alone",
        |m| exact(m.guest_used_k?)),
];
