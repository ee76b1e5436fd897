//! Fills a snapshot, each part from the source that is right about it.

pub mod disks;
mod fallback;
pub mod memory;
mod messages;
pub mod poller;
mod privcmd;
pub mod release;
mod search;
mod store;
pub mod uuids;
pub mod vif;
pub mod xenstat;
pub mod xenstat_error;
