//! Logging that blocks nobody and repeats nothing.

pub mod stderr;
pub mod throttle;
