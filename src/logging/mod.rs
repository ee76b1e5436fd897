//! Logging that never blocks and does not repeat itself.

pub mod stderr;
pub mod throttle;
