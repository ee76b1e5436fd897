//! The modules of the `xenmonitor` program, from the ground up. Each imports only from those above it in this list
//! (tests/it/architecture.rs). Not an API: use the program.
//!
//! - `model`: one reading of a host as plain owned data, and untrusted bytes made printable.
//! - `logging`: standard error that blocks nobody, and recurring problems logged once.
//! - `backoff`: waits that double after each failure.
//! - `on_drop`: a function called at the end of a scope.
//! - `collect`: fills a snapshot from libxenstat, the kernel, QEMU and tapdisk3, each where it is right.
//! - `naming`: metric names that no VM name can forge; knows no metric and no value.
//! - `metrics`: the catalogue of metrics, and their values from two snapshots.
//! - `statsd`: lines, datagrams, and their delivery to each server.
//! - `report`: what becomes of a snapshot: series and their end, table, JSON, terminal.
//! - `cli`: the options that were typed, and the configuration they amount to.
//! - `daemon`: the loop, and the process around it.
//! - `fuzz`: hostile input, for tests alone.

mod backoff;
pub mod cli;
mod collect;
pub mod daemon;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod logging;
pub mod metrics;
pub mod model;
pub mod naming;
mod on_drop;
mod report;
pub mod statsd;
