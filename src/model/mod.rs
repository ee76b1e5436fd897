//! One reading of a host as plain owned data, and untrusted bytes made printable.

pub mod device;
pub mod snapshot;
pub mod text;
pub mod uuid;
pub mod vdev;
