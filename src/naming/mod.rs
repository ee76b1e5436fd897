//! Metric names that no VM name can forge. Knows no metric and no value.

pub mod name;
pub mod namer;
pub mod sanitize;
pub mod scheme;
pub mod tags;
pub mod template;
pub mod unique;
