//! One JSON document for each poll, on one line. Every key is always present; what could not be read is `null`.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::metrics::DOMAIN;
use crate::metrics::decimal::Decimal;
use crate::metrics::delta::Sample;
use crate::metrics::memory::MEMORY;
use crate::metrics::metric::Metric;
use crate::metrics::node::{NODE, NodeSample};
use crate::metrics::runstates::{RUNSTATE, Runstates};
use crate::model::snapshot::{Vbd, Vcpu, Vif};
use crate::model::text::is_invisible;
use crate::model::uuid::Uuid;

/// When and where a snapshot was taken.
pub struct Taken<'a> {
    /// Seconds since 1970.
    pub time: f64,
    /// Seconds since the previous poll; `None` at the first.
    pub elapsed: Option<f64>,
    /// This host's raw name.
    pub host: &'a str,
}

#[derive(Serialize)]
struct Document<'a> {
    time: f64,
    elapsed_sec: Option<f64>,
    host: &'a str,
    xen_version: &'a str,
    node: Values,
    pcpu_idle_ns: Option<&'a [u64]>,
    domains: Vec<DomainObject<'a>>,
}

#[derive(Serialize)]
struct DomainObject<'a> {
    domid: u32,
    uuid: Option<&'a str>,
    name: String,
    metric_name: Option<&'a str>,
    #[serde(flatten)]
    metrics: Values,
    vcpu: Option<Vec<VcpuObject>>,
    vif: Option<Vec<VifObject>>,
    vbd: Option<Vec<VbdObject>>,
}

#[derive(Serialize)]
struct VcpuObject {
    online: bool,
    ns: u64,
}

#[derive(Serialize)]
struct VifObject {
    id: u32,
    rx_bytes: u64,
    rx_packets: u64,
    rx_errs: u64,
    rx_drop: u64,
    tx_bytes: u64,
    tx_packets: u64,
    tx_errs: u64,
    tx_drop: u64,
}

#[derive(Serialize)]
struct VbdObject {
    dev: u32,
    #[serde(rename = "type")]
    kind: u32,
    error: bool,
    oo: Option<u64>,
    rd: Option<u64>,
    wr: Option<u64>,
    rsect: Option<u64>,
    wsect: Option<u64>,
    rd_ns: Option<u64>,
    wr_ns: Option<u64>,
    flush: Option<u64>,
    errs: Option<u64>,
}

/// The metrics of a table by their names; `state.running` and its like as an object `state`.
struct Values(Vec<(&'static str, Option<Decimal>)>);

impl Serialize for Values {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let group = |name: &'static str| name.split_once('.').map(|(group, _)| group);
        for (place, (name, value)) in self.0.iter().enumerate() {
            match group(name) {
                None => map.serialize_entry(name, value)?,
                // Written as a whole where its first metric stands.
                Some(same) if self.0[..place].iter().any(|(name, _)| group(name) == Some(same)) => {}
                Some(same) => {
                    let member = |(name, value): &(&'static str, _)| {
                        let (group, name) = name.split_once('.')?;
                        (group == same).then_some((name, *value))
                    };
                    map.serialize_entry(same, &Values(self.0.iter().filter_map(member).collect()))?;
                }
            }
        }
        map.end()
    }
}

impl From<&Vcpu> for VcpuObject {
    fn from(&Vcpu { online, ns }: &Vcpu) -> Self {
        Self { online, ns }
    }
}

impl From<&Vif> for VifObject {
    fn from(vif: &Vif) -> Self {
        Self {
            id: vif.id,
            rx_bytes: vif.rbytes,
            rx_packets: vif.rpackets,
            rx_errs: vif.rerrs,
            rx_drop: vif.rdrop,
            tx_bytes: vif.tbytes,
            tx_packets: vif.tpackets,
            tx_errs: vif.terrs,
            tx_drop: vif.tdrop,
        }
    }
}

impl From<&Vbd> for VbdObject {
    fn from(vbd: &Vbd) -> Self {
        let counters = vbd.counters;
        Self {
            dev: vbd.dev,
            kind: vbd.kind,
            error: counters.is_none(),
            oo: counters.and_then(|c| c.oo_reqs),
            rd: counters.map(|c| c.rd_reqs),
            wr: counters.map(|c| c.wr_reqs),
            rsect: counters.and_then(|c| c.rd_sects),
            wsect: counters.map(|c| c.wr_sects),
            rd_ns: counters.and_then(|c| c.rd_time).map(|time| time.ns),
            wr_ns: counters.and_then(|c| c.wr_time).map(|time| time.ns),
            flush: counters.and_then(|c| c.flush_reqs),
            errs: counters.and_then(|c| c.errs),
        }
    }
}

/// The document, without a newline at its end. `domains` are the selected ones with their names in metrics.
pub fn document(taken: &Taken, sample: &NodeSample, domains: &[(Sample, Option<&str>)]) -> String {
    let document = Document {
        time: taken.time,
        elapsed_sec: taken.elapsed,
        host: taken.host,
        xen_version: &sample.node.xen_version,
        node: Values(NODE.iter().map(|row| (row.name, row.of(sample).and_then(Decimal::of))).collect()),
        pcpu_idle_ns: sample.node.pcpus.as_ref().map(|pcpus| &*pcpus.idle_ns),
        domains: domains.iter().map(|(sample, metric_name)| domain(sample, *metric_name)).collect(),
    };
    escape_invisible(&serde_json::to_string(&document).expect("its keys are strings"))
}

fn domain<'a>(sample: &Sample<'a>, metric_name: Option<&'a str>) -> DomainObject<'a> {
    let domain = sample.domain;
    let collected = sample.node.collected;
    let metrics = DOMAIN.iter().map(|row| (row.metric.name, row.metric.of(sample).and_then(Decimal::of)));
    let runstates = Runstates::of(sample);
    let runstate =
        |row: &Metric<_>| (row.name, runstates.as_ref().and_then(|runstates| row.of(runstates)).and_then(Decimal::of));
    let memory = |row: &Metric<_>| {
        (row.name, sample.node.memory_of(domain.id).and_then(|memory| row.of(memory)).and_then(Decimal::of))
    };
    DomainObject {
        domid: domain.id,
        uuid: domain.uuid.as_ref().map(Uuid::as_str),
        name: String::from_utf8_lossy(&domain.name).into_owned(),
        metric_name,
        metrics: Values(metrics.chain(MEMORY.iter().map(memory)).chain(RUNSTATE.iter().map(runstate)).collect()),
        vcpu: collected.vcpu.then(|| domain.vcpus.iter().map(Into::into).collect()),
        vif: collected.network.then(|| domain.vifs.iter().map(Into::into).collect()),
        vbd: domain.vbds.as_ref().map(|vbds| vbds.iter().map(Into::into).collect()),
    }
}

/// JSON allows characters that can control a terminal: DEL, the C1 controls, and marks that reverse text. They occur
/// only in strings, where an escape means the same.
fn escape_invisible(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        match c {
            c if is_invisible(c) => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04x}"))
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_groups_metrics_by_the_part_before_the_dot() {
        let value = Decimal::of(1.5);
        let values = Values(vec![("a", value), ("b.x", Decimal::of(2.0)), ("c", None), ("b.y", value)]);
        assert_eq!(serde_json::to_string(&values).unwrap(), r#"{"a":1.5,"b":{"x":2,"y":1.5},"c":null}"#);
    }
}
