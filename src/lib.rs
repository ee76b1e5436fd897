//! The rooms of the `xenmonitor` program, in reach of its tests and benches. Not an API: use the program.

pub mod cli;
pub mod json;
pub mod metrics;
pub mod monitor;
pub mod naming;
pub mod output;
pub mod poller;
pub mod snapshot;
pub mod statsd;
pub mod table;
pub mod xenstat;
