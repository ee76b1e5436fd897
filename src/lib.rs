//! The rooms of the `xenmonitor` program; public are those that its `main` and its tests enter. Not an API: use
//! the program.

mod check;
mod choice;
pub mod cli;
pub mod detail;
pub mod host;
mod json;
mod lifecycle;
pub mod metrics;
pub mod monitor;
mod naming;
mod output;
mod poller;
mod snapshot;
mod statsd;
mod table;
mod vif;
mod xenstat;
