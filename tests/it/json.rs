//! `--print json`: its keys, devices and escapes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use xenmonitor::metrics::DOMAIN;
use xenmonitor::metrics::node::NODE;

use crate::support::{Scratch, json, on_the_shims_clock, out_of, root, scenario, xenmonitor};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The table in docs/options.md: of each object the keys that it names.
fn documented_keys(page: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let rows = page.split("| object | keys |\n|---|---|\n").nth(1).expect("the table of keys").lines();
    let is_key = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    rows.take_while(|row| row.starts_with('|'))
        .map(|row| {
            let (object, keys) = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
            (object.trim_matches('`'), keys.split('`').skip(1).step_by(2).filter(is_key).collect())
        })
        .collect()
}

/// Every key of every document is in the table of docs/options.md or the name of a metric, and the other way round.
#[test]
fn json_keys_are_documented() {
    let page = std::fs::read_to_string(root().join("docs/options.md")).unwrap();
    let documented = documented_keys(&page);
    let node: BTreeSet<&str> = NODE.iter().map(|row| row.name).collect();
    let domain: BTreeSet<&str> = DOMAIN.iter().map(|row| row.metric.name.split('.').next().unwrap()).collect();
    let mut objects = BTreeSet::new();
    let mut check = |object: &'static str, value: &Value, metrics: &BTreeSet<&str>| {
        let mut expected = documented[object].clone();
        expected.extend(metrics);
        assert_eq!(keys(value), expected, "{object}");
        objects.insert(object);
    };
    let mut command = xenmonitor(&scenario("odd"));
    let documents = json(on_the_shims_clock(&mut command).args(["--count", "2"]));
    for (n, document) in documents.iter().enumerate() {
        check("the document", document, &BTreeSet::new());
        assert_eq!(document["elapsed_sec"], if n == 0 { Value::Null } else { 1.0.into() });
        assert_eq!(document["host"], "xen1.example.com");
        check("node", &document["node"], &node);
        for value in document["domains"].as_array().unwrap() {
            check("domains[]", value, &domain);
            let states = ["running", "blocked", "paused", "shutdown", "crashed", "dying"];
            assert_eq!(keys(&value["state"]), states.into());
            assert_eq!(value["cpu_percent"].is_null(), n == 0);
            for (object, devices) in
                [("domains[].vcpu[]", "vcpu"), ("domains[].vif[]", "vif"), ("domains[].vbd[]", "vbd")]
            {
                value[devices].as_array().unwrap().iter().for_each(|device| check(object, device, &BTreeSet::new()));
            }
        }
    }
    assert!(objects.iter().eq(documented.keys()), "{objects:?}");
    let dom0 = &documents[0]["domains"][0];
    assert_eq!((&dom0["name"], &dom0["maxmem_k"]), (&"Domain-0".into(), &Value::Null));
}

#[test]
fn json_has_devices_and_names_of_any_bytes() {
    let scratch = Scratch::new();
    let host = "[[domain]]\nid = 4\nname_hex = \"77ff0a\"\nvcpus = 2\n[[domain.network]]\nid = 3\nrbytes = 1\nrpackets = 2\n\
                rerrs = 3\nrdrop = 4\ntbytes = 5\ntpackets = 6\nterrs = 7\ntdrop = 8\n[[domain.vbd]]\ntype = 1\n\
                oo_reqs = 1\nrd_reqs = 2\nwr_reqs = 3\nrd_sects = 4\nwr_sects = 5\n[[domain.vbd]]\nerror = true\n";
    let documents = json(xenmonitor(&scratch.file("s.toml", host)).arg("--once"));
    let domain = &documents[0]["domains"][0];
    assert_eq!((&domain["name"], &domain["metric_name"]), (&"w\u{fffd}\n".into(), &"w__".into()));
    let expected: Value = serde_json::from_str(
        r#"[{"id": 3, "rx_bytes": 1, "rx_packets": 2, "rx_errs": 3, "rx_drop": 4,
             "tx_bytes": 5, "tx_packets": 6, "tx_errs": 7, "tx_drop": 8}]"#,
    )
    .unwrap();
    assert_eq!(domain["vif"], expected);
    let expected: Value = serde_json::from_str(
        r#"[{"dev": 51712, "type": 1, "error": false, "oo": 1, "rd": 2, "wr": 3, "rsect": 4, "wsect": 5,
             "rd_ns": null, "wr_ns": null, "flush": null, "errs": null},
            {"dev": 51728, "type": 1, "error": true, "oo": null, "rd": null, "wr": null, "rsect": null, "wsect": null,
             "rd_ns": null, "wr_ns": null, "flush": null, "errs": null}]"#,
    )
    .unwrap();
    assert_eq!(domain["vbd"], expected);
    assert_eq!(domain["vcpu"].as_array().unwrap().len(), 2);
}

/// JSON cannot control a terminal either: the characters are escaped.
#[test]
fn json_has_no_control_characters() {
    let scratch = Scratch::new();
    let name = "a\u{9b}31m\u{202e}b\u{7f}\u{e0041}";
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    let scenario = scratch.file("s.toml", &format!("[[domain]]\nid = 1\nname_hex = \"{hex}\"\n"));
    let text = out_of(xenmonitor(&scenario).args(["--once", "--print", "json"]));
    assert!(text.is_ascii(), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["domains"][0]["name"], name);
}
