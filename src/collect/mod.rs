//! Fills a snapshot, each part from the source that is right about it.

pub mod disks;
mod fallback;
pub mod poller;
pub mod release;
pub mod vif;
pub mod xenstat;
pub mod xenstat_error;
