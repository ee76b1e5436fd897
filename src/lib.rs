//! The rooms of the `xenmonitor` program; public are those that its `main` and its tests enter. Not an API: use
//! the program.
//!
//! One tick: `monitor`, which keeps the time, asks the `poller` thread for a `snapshot`, which that reads from
//! `xenstat` (the one room that touches C) and `vif`. `output` has it told: `metrics`, `detail` and `host` hold the
//! gauges, `naming` and `template` their names, `choice` and `lifecycle` which of them are told and how they
//! end; `statsd` packs them, `table` and `json` print, and `trouble` keeps the log short. `servers` has a `sender`
//! thread for each `destination`, with an `inbox` and a `pace`, which writes to a `socket`; `schedule` says when the next tick is.

mod check;
mod choice;
pub mod cli;
mod destination;
pub mod detail;
pub mod host;
mod inbox;
mod json;
mod lifecycle;
pub mod metrics;
pub mod monitor;
mod naming;
mod output;
mod pace;
mod poller;
mod release;
mod schedule;
mod sender;
mod servers;
mod snapshot;
mod socket;
mod statsd;
mod table;
mod template;
mod trouble;
mod vif;
mod xenstat;
