//! Integration tests of the shipped binary, with the shim as libxenstat, the real xentop, and real statsd servers.

mod architecture;
mod bad_input;
mod building;
mod check;
mod chroot;
mod dashboards;
mod delivery;
mod disks;
mod exporter;
mod library;
mod lifecycle;
mod looking;
mod network;
mod oracle;
mod privileges;
mod process;
mod qmp;
mod readme;
mod reliability;
mod sanitizers;
mod servers;
mod soak;
mod statsd;
mod support;
mod time;
mod unit;
