//! One JSON document a poll, for `jq` and scripts. Keys are the gauges' names and never go away: what
//! cannot be told is `null`.

use serde_json::{Map, Value, json};

use crate::metrics::DOMAIN;
use crate::metrics::decimal::Decimal;
use crate::metrics::delta::Sample;
use crate::model::snapshot::{Domain, Snapshot};
use crate::model::text::is_invisible;

/// When and where a snapshot was taken.
pub struct Taken<'a> {
    /// Seconds since 1970.
    pub time: f64,
    /// Seconds since the poll before; `None` on the first.
    pub elapsed: Option<f64>,
    /// The host's name as in the gauges' paths, but raw.
    pub host: &'a str,
}

/// The document, on one line, without the newline. `told` are the domains and their names in gauge paths.
pub fn document(taken: &Taken, node: &Snapshot, told: &[(Sample, &str)]) -> String {
    let domains: Vec<Value> = told.iter().map(|(sample, component)| domain(sample, component)).collect();
    let document = json!({
        "time": taken.time,
        "elapsed_sec": taken.elapsed,
        "host": taken.host,
        "xen_version": node.xen_version,
        "node": {
            "mem_total_k": node.tot_mem / 1024,
            "mem_free_k": node.free_mem / 1024,
            "cpus": node.num_cpus,
            "cpu_mhz": node.cpu_hz / 1_000_000,
        },
        "domains": domains,
    });
    escape_controls(&document.to_string())
}

/// JSON lets through what may steer a terminal: DEL, the C1 controls and the marks that turn text round. They
/// stand only inside strings, where their escape means the same.
fn escape_controls(document: &str) -> String {
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

fn domain(sample: &Sample, component: &str) -> Value {
    let Domain { id, name, vcpus, vifs, vbds, .. } = sample.domain;
    let mut out = Map::new();
    out.insert("id".into(), json!(id));
    out.insert("name".into(), json!(String::from_utf8_lossy(name)));
    out.insert("component".into(), json!(component));
    for row in DOMAIN {
        let value = row.metric.of(sample).and_then(Decimal::of).map_or(Value::Null, |value| value.to_json().into());
        match row.metric.name.split_once('.') {
            Some((group, name)) => {
                let group = out.entry(group).or_insert_with(|| json!({}));
                group.as_object_mut().expect("made just above").insert(name.into(), value);
            }
            None => drop(out.insert(row.metric.name.into(), value)),
        }
    }
    let told = sample.node.collected;
    let list = |told: bool, list: Value| if told { list } else { Value::Null };
    out.insert(
        "vcpu".into(),
        list(told.vcpu, vcpus.iter().map(|vcpu| json!({"online": vcpu.online, "ns": vcpu.ns})).collect()),
    );
    let vif = |vif: &crate::model::snapshot::Vif| {
        json!({
            "id": vif.id,
            "rx_bytes": vif.rbytes, "rx_packets": vif.rpackets, "rx_errs": vif.rerrs, "rx_drop": vif.rdrop,
            "tx_bytes": vif.tbytes, "tx_packets": vif.tpackets, "tx_errs": vif.terrs, "tx_drop": vif.tdrop,
        })
    };
    out.insert("vif".into(), list(told.network, vifs.iter().map(vif).collect()));
    let vbd = |vbd: &crate::model::snapshot::Vbd| {
        let counters = vbd.counters.as_ref();
        json!({
            "dev": vbd.dev, "type": vbd.kind, "error": counters.is_none(),
            "oo": counters.and_then(|c| c.oo_reqs),
            "rd": counters.map(|c| c.rd_reqs), "wr": counters.map(|c| c.wr_reqs),
            "rsect": counters.and_then(|c| c.rd_sects), "wsect": counters.map(|c| c.wr_sects),
            "rd_ns": counters.and_then(|c| c.rd_time).map(|time| time.ns),
            "wr_ns": counters.and_then(|c| c.wr_time).map(|time| time.ns),
            "flush": counters.and_then(|c| c.flush_reqs), "errs": counters.and_then(|c| c.errs),
        })
    };
    out.insert("vbd".into(), vbds.as_ref().map_or(Value::Null, |vbds| vbds.iter().map(vbd).collect()));
    Value::Object(out)
}
