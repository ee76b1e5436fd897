//! The command line: what was typed, and the settings it amounts to.

pub mod config;
pub mod options;
pub mod usage_error;
pub mod values;
mod variables;
