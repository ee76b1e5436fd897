//! The rooms of the `xenmonitor` program; public are those that its `main` and its tests enter. Not an API: use
//! the program.
//!
//! One tick: `monitor`, which keeps the time, asks the `poller` thread for a `snapshot`, which that reads from
//! `xenstat` (the one room that touches C), `vif` and `disks` (which asks `blkback`, `tapdisk` and, by `qmp`, QEMU for
//! its `drives`). `output` has it told: `metrics`, `detail` and `host` hold the gauges, `paths` their names (by
//! `template`, `tags`, and `naming` of domains), `choice` which of them are told, and the `roll` of domains how they
//! end; `statsd` packs them, and `table` (on the `screen`) and `json` print. The `journal` has what the log says of polls,
//! which `trouble` keeps short and `stderr` writes; the `supervisor` is told how it goes. `vdev` knows how Xen numbers
//! disks. `servers` has a `sender` thread for each `destination`, with an `inbox`, `addresses` and a `pace`, which writes
//! to a `socket`; `schedule` says when the next tick is, and other `events` come between. Before all that `cli` reads the
//! options and their `values`, and the process gives up its `privileges`; a `failure` is what it ends with.

mod addresses;
mod blkback;
mod check;
mod choice;
pub mod cli;
mod destination;
pub mod detail;
mod disks;
mod drives;
mod events;
pub mod failure;
pub mod host;
#[cfg(any(test, fuzzing))]
pub mod hostile;
mod inbox;
mod journal;
mod json;
pub mod metrics;
pub mod monitor;
mod naming;
mod output;
mod pace;
mod paths;
mod poller;
pub mod privileges;
mod qmp;
mod release;
mod roll;
mod schedule;
pub mod screen;
mod sender;
mod servers;
mod snapshot;
mod socket;
pub mod statsd;
pub mod stderr;
mod supervisor;
mod table;
mod tags;
mod tapdisk;
mod template;
mod trouble;
mod values;
mod vdev;
mod vif;
mod xenstat;
