//! The mapping for statsd_exporter, and the one for collectd's metrics, applied by their documented rules.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;
use yaml_rust2::{Yaml, YamlLoader};

use crate::dashboards::{in_prometheus, vocabulary};
use crate::support::{last_values, on_the_shims_clock, out_of, root, scenario, xenmonitor};

/// A Prometheus metric: name and labels.
type Metric = (String, BTreeMap<String, String>);

const EVERYTHING: [&str; 6] = ["--count", "2", "--print", "statsd", "--detail", "all,runstates"];

struct Rule {
    pattern: Vec<String>,
    name: String,
    labels: BTreeMap<String, String>,
}

fn rules() -> Vec<Rule> {
    let text = std::fs::read_to_string(root().join("packaging/statsd_exporter/xenmonitor.yml")).unwrap();
    let config = &YamlLoader::load_from_str(&text).unwrap()[0];
    assert_eq!(config["defaults"]["match_type"].as_str(), Some("glob"));
    assert_eq!(config["defaults"]["ttl"].as_str(), Some("1m"));
    let text = |yaml: &Yaml| yaml.as_str().expect("text").to_owned();
    let rule = |rule: &Yaml| {
        let keys = rule.as_hash().unwrap().keys().map(text);
        assert!(keys.into_iter().all(|key| ["match", "name", "labels"].contains(&key.as_str())), "{rule:?}");
        let labels = rule["labels"].as_hash().into_iter().flatten();
        Rule {
            pattern: text(&rule["match"]).split('.').map(str::to_owned).collect(),
            name: text(&rule["name"]),
            labels: labels.map(|(key, value)| (text(key), text(value))).collect(),
        }
    };
    config["mappings"].as_vec().unwrap().iter().map(rule).collect()
}

/// By the first rule that matches: `*` is one component, and `$1` the first of these. Without one dots become `_`.
fn mapped(gauge: &str, rules: &[Rule]) -> Metric {
    let parts: Vec<&str> = gauge.split('.').collect();
    let fits = |rule: &&Rule| {
        let mut pairs = rule.pattern.iter().zip(&parts);
        rule.pattern.len() == parts.len() && pairs.all(|(pattern, part)| pattern == "*" || pattern == part)
    };
    let Some(rule) = rules.iter().find(fits) else { return (gauge.replace('.', "_"), BTreeMap::new()) };
    let stars = rule.pattern.iter().zip(&parts).filter(|(pattern, _)| *pattern == "*").map(|(_, part)| part);
    let fill = |text: &String| {
        let stars = stars.clone().enumerate();
        stars.fold(text.clone(), |text, (place, part)| text.replace(&format!("${}", place + 1), part))
    };
    (fill(&rule.name), rule.labels.iter().map(|(key, value)| (key.clone(), fill(value))).collect())
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn exporter_mapping_covers_every_metric() {
    let rules = rules();
    for gauge in vocabulary().into_keys() {
        let (host, domain, device) = (("host", "h"), ("domain", "d"), ("device", "DEV"));
        let (path, expected) = match gauge.split('.').collect::<Vec<_>>()[..] {
            ["node", kind, "N", name] => (format!("xen.h.node.{kind}.DEV.{name}"), labels(&[host, device])),
            ["node" | "xenmonitor", ..] => (format!("xen.h.{gauge}"), labels(&[host])),
            [kind, "N" | "ID" | "DEV", name] => (format!("xen.h.d.{kind}.DEV.{name}"), labels(&[host, domain, device])),
            _ => (format!("xen.h.d.{gauge}"), labels(&[host, domain])),
        };
        assert_eq!(mapped(&path, &rules), (in_prometheus(&gauge), expected), "{path}");
    }
}

#[test]
fn exporter_mapping_is_the_same_with_tags() {
    let printed = |more: &[&str]| {
        let mut command = xenmonitor(&scenario("ordinary"));
        on_the_shims_clock(&mut command).args(EVERYTHING).args(more);
        out_of(&mut command)
    };
    let rules = rules();
    let plain: BTreeSet<Metric> = last_values(&printed(&[])).keys().map(|path| mapped(path, &rules)).collect();
    let tagged = printed(&["--tag-format", "datadog"]);
    let tagged: BTreeSet<Metric> = tagged
        .lines()
        .map(|line| {
            let (path, tags) = (line.split(':').next().unwrap(), line.split_once("|#").unwrap().1);
            let (name, mut labels) = mapped(path, &rules);
            labels.extend(tags.split(',').map(|tag| tag.split_once(':').unwrap()).map(|(k, v)| (k.into(), v.into())));
            // Names in tags may contain dots.
            labels.values_mut().for_each(|value| *value = value.replace('.', "_"));
            (name, labels)
        })
        .collect();
    for name in ["xen_node_pcpus_percent", "xen_memory_guest_free_k", "xen_runstate_runnable_any_percent"] {
        assert!(plain.iter().any(|(metric, _)| metric == name), "{name}");
    }
    assert_eq!(plain, tagged);
}

/// By Prometheus' relabelling: each step replaces a label if its regex matches all of another one, or drops labels.
fn relabelled(gauge: &str, steps: &[Yaml]) -> Metric {
    let pairs = [("__name__", "collectd_statsd_gauge"), ("exported_instance", "server"), ("statsd", gauge)];
    let mut labels = labels(&pairs);
    for step in steps {
        let regex = Regex::new(&format!("^(?:{})$", step["regex"].as_str().unwrap())).unwrap();
        if step["action"].as_str() == Some("labeldrop") {
            labels.retain(|label, _| !regex.is_match(label));
        } else if let Some(found) = regex.captures(&labels[step["source_labels"][0].as_str().unwrap()]) {
            let mut value = String::new();
            found.expand(step["replacement"].as_str().unwrap_or("$1"), &mut value);
            labels.insert(step["target_label"].as_str().unwrap().to_owned(), value);
        }
    }
    // An empty label is none.
    labels.retain(|_, value| !value.is_empty());
    (labels.remove("__name__").unwrap(), labels)
}

#[test]
fn exporter_mapping_is_the_same_with_collectd() {
    let guide = std::fs::read_to_string(root().join("docs/servers.md")).unwrap();
    let block = guide.split_once("\n# /etc/prometheus/prometheus.yml\n").expect("the file").1;
    let config = &YamlLoader::load_from_str(block.split_once("```").unwrap().0).unwrap()[0];
    let steps = config["scrape_configs"][0]["metric_relabel_configs"].as_vec().unwrap();
    let mut command = xenmonitor(&scenario("ordinary"));
    on_the_shims_clock(&mut command).args(EVERYTHING);
    let rules = rules();
    let sent = last_values(&out_of(&mut command));
    assert!(sent.len() > 100, "{sent:?}");
    for gauge in sent.keys() {
        assert_eq!(relabelled(gauge, steps), mapped(gauge, &rules), "{gauge}");
    }
}
