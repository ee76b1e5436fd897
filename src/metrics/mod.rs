//! The catalogue: which metrics exist, what they mean, and their values from two snapshots.

pub mod columns;
pub mod decimal;
pub mod delta;
pub mod devices;
pub mod filter;
pub mod gauge;
pub mod node;
pub mod self_metrics;

pub use columns::GAUGES;
pub use gauge::Kind;

use devices::Detail;
use node::NODE;
use self_metrics::OWN;

use crate::naming::scheme::{Layout, RESERVED};

/// Every gauge of the host and of this program: metric, kind, meaning.
pub fn of_host() -> Vec<(String, Kind, &'static str)> {
    let node = NODE.iter().map(|gauge| (format!("{}.{}", RESERVED[0], gauge.name), gauge.kind, gauge.meaning));
    let own = OWN.iter().map(|gauge| (format!("{}.{}", RESERVED[1], gauge.name), gauge.kind, gauge.meaning));
    node.chain(own).collect()
}

/// A metric of every kind that is told; of devices, which bear any name, those that a host most likely has.
pub fn selectable(layout: Layout, details: &[Detail]) -> Vec<String> {
    let columns = GAUGES.iter().filter_map(|gauge| gauge.name_in(layout)).map(str::to_owned);
    if layout == Layout::XenMonitor {
        return columns.collect();
    }
    let below = devices::vocabulary(details).into_iter().flat_map(|(metric, ..)| {
        ["0", "1"].into_iter().flat_map(move |n| {
            let metric = metric.replace(".N.", &format!(".{n}.")).replace(".ID.", &format!(".{n}."));
            ["xvda", "xvdb", "sda", "hda"].map(|device| metric.replace(".DEV.", &format!(".{device}.")))
        })
    });
    columns.chain(below).chain(of_host().into_iter().map(|(metric, ..)| metric)).collect()
}
