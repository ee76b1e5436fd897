//! The catalogue: which metrics exist, what they mean, and their values from two snapshots.

pub mod decimal;
pub mod delta;
pub mod devices;
pub mod domain;
pub mod filter;
pub mod memory;
pub mod metric;
pub mod node;
pub mod pcpus;
pub mod runstates;
pub mod self_metrics;

pub use domain::DOMAIN;
pub use metric::{Entry, Kind};

use devices::Detail;
use node::{NODE, NodeSample};
use pcpus::PCPU_KIND;
use self_metrics::{HEALTH, Health};

use crate::naming::scheme::{Layout, RESERVED};

/// The metrics of the host and of this program that have a value: group, name, value.
pub fn host_values(
    sample: Option<&NodeSample>,
    health: &Health,
) -> impl Iterator<Item = (&'static str, &'static str, f64)> {
    let node = sample
        .into_iter()
        .flat_map(|sample| NODE.iter().filter_map(|row| Some((RESERVED[0], row.name, row.of(sample)?))));
    node.chain(HEALTH.iter().filter_map(|row| Some((RESERVED[1], row.name, row.of(health)?))))
}

/// Every metric there is, by its name below host and domain; capitals stand for a device.
pub fn catalogue() -> Vec<Entry> {
    let of_domain = DOMAIN.iter().map(|row| (row.metric.name.to_owned(), row.metric.kind, row.metric.meaning));
    of_domain.chain(devices::catalogue(&[Detail::All, Detail::Runstates])).chain(host_catalogue()).collect()
}

/// Every metric of the host and of this program.
pub fn host_catalogue() -> Vec<Entry> {
    let node = NODE.iter().map(|row| (format!("{}.{}", RESERVED[0], row.name), row.kind, row.meaning));
    let pcpus = pcpus::catalogue().map(|(name, kind, meaning)| (format!("{}.{name}", RESERVED[0]), kind, meaning));
    let health = HEALTH.iter().map(|row| (format!("{}.{}", RESERVED[1], row.name), row.kind, row.meaning));
    node.chain(pcpus).chain(health).collect()
}

/// The metrics that these options send, to match patterns against. Devices may have any name: the most likely names
/// stand for all.
pub fn selectable(layout: Layout, details: &[Detail]) -> Vec<String> {
    let of_domain = DOMAIN.iter().filter_map(|row| row.name_in(layout)).map(str::to_owned);
    if layout == Layout::Legacy {
        return of_domain.collect();
    }
    let of_host = host_catalogue().into_iter().filter(|(metric, ..)| {
        Detail::Pcpus.is_among(details) || !metric.starts_with(&format!("{}.{PCPU_KIND}.", RESERVED[0]))
    });
    let of_devices = devices::catalogue(details).into_iter().chain(of_host).flat_map(|(metric, ..)| {
        ["0", "1"].into_iter().flat_map(move |n| {
            let metric = metric.replace(".N.", &format!(".{n}.")).replace(".ID.", &format!(".{n}."));
            ["xvda", "xvdb", "sda", "hda"].map(|device| metric.replace(".DEV.", &format!(".{device}.")))
        })
    });
    of_domain.chain(of_devices).collect()
}
