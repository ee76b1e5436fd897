//! The modules of the `xenmonitor` program, from the ground up. Each imports only from those above it in this list
//! (tests/it/architecture.rs). Not an API: use the program.
//!
//! - `model`: one reading of a host as plain owned data, and untrusted bytes made printable.
//! - `logging`: writes to standard error that never block, and recurring problems logged once.
//! - `backoff`: waits that double after each failure.
//! - `on_drop`: a function called at the end of a scope.
//! - `collect`: fills a snapshot from libxenstat, the kernel, QEMU and tapdisk3, for each value from a source that is
//!   right.
//! - `naming`: metric names that no VM name can forge; knows no metric and no value.
//! - `metrics`: the catalogue of metrics, and their values from two snapshots.
//! - `statsd`: lines, datagrams, and their delivery to each server.
//! - `report`: turns snapshots into statsd series, a table, JSON or a live view on a terminal.
//! - `cli`: command line and environment variables, and the configuration that they result in.
//! - `daemon`: the main loop, and the process around it: signals, systemd, privileges, `--check`.
//! - `fuzz`: hostile input, for tests only.

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
