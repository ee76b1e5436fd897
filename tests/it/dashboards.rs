//! The dashboards for Grafana: their queries use metrics that are sent, and functions that suit the metrics.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use xenmonitor::metrics::{Kind, catalogue};
use yaml_rust2::YamlLoader;

use crate::support::root;

/// Functions that compute the rate or increase of a counter.
const GROWTH: [&str; 4] = ["perSecond", "nonNegativeDerivative", "rate", "increase"];
/// The other functions in use.
const OTHERS: [&str; 22] = [
    "absent",
    "alias",
    "aliasByNode",
    "asPercent",
    "averageSeries",
    "avg",
    "avg_over_time",
    "bottomk",
    "consolidateBy",
    "exclude",
    "highestAverage",
    "keepLastValue",
    "label_join",
    "label_replace",
    "last_over_time",
    "lowestAverage",
    "max_over_time",
    "scale",
    "sum",
    "sumSeries",
    "topk",
    "transformNull",
];

/// All metrics, by their names below host and domain; capitals stand for a device.
pub fn vocabulary() -> BTreeMap<String, Kind> {
    catalogue().into_iter().map(|(name, kind, _)| (name, kind)).collect()
}

/// The name of a metric in Prometheus.
pub fn in_prometheus(gauge: &str) -> String {
    let is_device = |part: &&str| part.chars().all(|c| c.is_ascii_uppercase());
    match *gauge.split('.').collect::<Vec<_>>() {
        [kind, device, name] if is_device(&device) => format!("xen_{kind}s_{name}"),
        [group, kind, device, name] if is_device(&device) => format!("xen_{group}_{kind}s_{name}"),
        _ => format!("xen_{}", gauge.replace('.', "_")),
    }
}

fn dashboard(name: &str) -> Value {
    let text = std::fs::read_to_string(root().join("packaging/grafana").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// A metric in a query.
struct Asked {
    name: String,
    /// The functions around it, the outermost first.
    functions: Vec<String>,
    /// In Prometheus: the content of `{…}` after it, and whether a range follows.
    labels: String,
    is_range: bool,
}

/// The metrics in a query of either language: words that begin with `begins`.
fn asked(query: &str, begins: &str) -> Vec<Asked> {
    let (mut found, mut functions, mut rest) = (Vec::new(), Vec::new(), query);
    while !rest.is_empty() {
        let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_$.*-".contains(c))).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        rest = after;
        if word.starts_with(begins) {
            let mut between = |open, close| {
                let inner = rest.strip_prefix(open)?;
                let (inside, after) = inner.split_once(close).unwrap_or_else(|| panic!("no {close} in {query}"));
                rest = after;
                Some(inside.to_owned())
            };
            let labels = between('{', '}').unwrap_or_default();
            let is_range = between('[', ']').is_some();
            found.push(Asked { name: word.to_owned(), functions: functions.clone(), labels, is_range });
            continue;
        }
        match rest.chars().next() {
            Some('(') => functions.push(word.to_owned()),
            Some(')') => drop(functions.pop().unwrap_or_else(|| panic!("too many ')' in {query}"))),
            Some('\'') => rest = &rest[1 + rest[1..].find('\'').expect("the end of a string")..],
            _ => {}
        }
        rest = rest.get(1..).unwrap_or("");
    }
    assert!(functions.is_empty(), "')' is missing in {query}");
    found
}

/// The subject of a query's metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Host,
    AnyDomain,
    ChosenDomain,
}

type Sight = BTreeSet<(String, Whose)>;

/// Rates and increases are computed of counters, and of nothing else.
fn suits(kind: Kind, asked: &Asked, query: &str) {
    for function in asked.functions.iter().filter(|function| !function.is_empty()) {
        let is_known = GROWTH.iter().chain(&OTHERS).any(|known| known == function);
        assert!(is_known, "{function} in {query}");
    }
    let grows = asked.functions.iter().any(|function| GROWTH.contains(&function.as_str()));
    assert_eq!(grows, kind == Kind::Counter, "{} in {query} is {kind:?}", asked.name);
}

/// The metrics of a Graphite query, with `*` expanded.
fn in_graphite(query: &str, vocabulary: &BTreeMap<String, Kind>) -> Sight {
    let mut sight = Sight::new();
    for asked in asked(query, "$prefix") {
        let below = asked.name.strip_prefix("$prefix.$host.").unwrap_or_else(|| panic!("{query}"));
        let (whose, gauge) = match (below.strip_prefix("$domain."), below.strip_prefix("*.")) {
            (Some(gauge), _) => (Whose::ChosenDomain, gauge),
            (_, Some(gauge)) => (Whose::AnyDomain, gauge),
            _ => (Whose::Host, below),
        };
        // `*` in place of the domain matches `node`, too.
        let of_host = ["node", "xenmonitor"].map(|group| format!("{group}.{gauge}"));
        if whose == Whose::AnyDomain && of_host.iter().any(|name| vocabulary.contains_key(name)) {
            assert!(asked.functions.iter().any(|function| function == "exclude"), "{query} shows the host as a domain");
        }
        let matches = |name: &str| {
            name.split('.').count() == gauge.split('.').count()
                && name.split('.').zip(gauge.split('.')).all(|(part, pattern)| pattern == "*" || part == pattern)
                && (whose == Whose::Host) == (name.starts_with("node.") || name.starts_with("xenmonitor."))
        };
        let before = sight.len();
        for (name, kind) in vocabulary.iter().filter(|(name, _)| matches(name)) {
            suits(*kind, &asked, query);
            sight.insert((name.clone(), whose));
        }
        assert!(sight.len() > before, "{gauge} in {query} is no gauge");
    }
    sight
}

/// The metrics of a Prometheus query.
fn in_promql(query: &str, vocabulary: &BTreeMap<String, Kind>) -> Sight {
    let gauge = |asked: Asked| {
        let is_it = |name: &&String| in_prometheus(name) == asked.name;
        let name = vocabulary.keys().find(is_it).unwrap_or_else(|| panic!("{} in {query} is no gauge", asked.name));
        suits(vocabulary[name], &asked, query);
        let is_over_time = asked.functions.iter().any(|function| function.ends_with("_over_time"));
        assert_eq!(asked.is_range, vocabulary[name] == Kind::Counter || is_over_time, "{query}");
        let whose = match asked.labels.as_str() {
            "host=~'$host', domain=~'$domain'" => Whose::ChosenDomain,
            "host=~'$host'" if name.starts_with("node.") || name.starts_with("xenmonitor.") => Whose::Host,
            "host=~'$host'" => Whose::AnyDomain,
            labels => panic!("{labels} in {query}"),
        };
        (name.clone(), whose)
    };
    asked(query, "xen_").into_iter().map(gauge).collect()
}

/// The options of fields, without the links from series to their domain: they need labels, which Graphite does not have.
fn without_links(fields: &Value) -> Value {
    let mut fields = fields.clone();
    if let Some(overrides) = fields["overrides"].as_array_mut() {
        overrides.retain(|one| {
            one["matcher"]["id"] == "byName" || list(one, "properties").iter().any(|property| property["id"] != "links")
        });
    }
    fields
}

/// That each query has an answer is tested with Graphite and Prometheus: make test-dashboards.
#[test]
fn dashboards_query_the_metrics_that_are_sent() {
    let vocabulary = vocabulary();
    let mut names = BTreeMap::new();
    for metric in vocabulary.keys() {
        let other = names.insert(in_prometheus(metric), metric);
        assert_eq!(other, None, "in Prometheus it has the name of {metric}");
    }
    let [graphite, prometheus] = ["graphite.json", "prometheus.json"].map(dashboard);
    let (ours, theirs) = (list(&graphite, "panels"), list(&prometheus, "panels"));
    assert!(ours.len() > 30 && ours.len() == theirs.len());
    for (ours, theirs) in ours.iter().zip(theirs) {
        for key in ["id", "type", "title", "description", "gridPos", "options"] {
            assert_eq!(ours[key], theirs[key], "{key}");
        }
        assert_eq!(without_links(&ours["fieldConfig"]), without_links(&theirs["fieldConfig"]), "{}", ours["title"]);
        let mut sights = [Sight::new(), Sight::new()];
        for target in list(ours, "targets") {
            sights[0].extend(in_graphite(word(target, "target"), &vocabulary));
        }
        for target in list(theirs, "targets") {
            sights[1].extend(in_promql(word(target, "expr"), &vocabulary));
        }
        assert_eq!(sights[0].is_empty(), ours["type"] == "row", "{}", ours["title"]);
        assert_eq!(sights[0], sights[1], "{}", ours["title"]);
    }
}

/// That they work is tested with promtool: make test-alerts.
#[test]
fn alerts_query_the_metrics_that_are_sent_and_are_tested() {
    let read = |path: &str| {
        let text = std::fs::read_to_string(root().join(path)).unwrap();
        YamlLoader::load_from_str(&text).unwrap().remove(0)
    };
    let rules = read("packaging/prometheus/xenmonitor.rules.yml");
    let tests = read("tests/alerts/rules.yml");
    let fired: BTreeSet<&str> = tests["tests"]
        .as_vec()
        .unwrap()
        .iter()
        .flat_map(|test| test["alert_rule_test"].as_vec().unwrap())
        .filter(|test| test["exp_alerts"].as_vec().is_some_and(|alerts| !alerts.is_empty()))
        .filter_map(|test| test["alertname"].as_str())
        .collect();
    let vocabulary = vocabulary();
    let mut alerts = BTreeSet::new();
    for rule in rules["groups"][0]["rules"].as_vec().unwrap() {
        let query = rule["expr"].as_str().unwrap();
        alerts.insert(rule["alert"].as_str().unwrap());
        let queried = asked(query, "xen_");
        assert!(!queried.is_empty(), "{query}");
        for metric in queried {
            let kind = vocabulary.iter().find(|(name, _)| in_prometheus(name) == metric.name);
            suits(*kind.unwrap_or_else(|| panic!("{} in {query} is not sent", metric.name)).1, &metric, query);
        }
    }
    assert_eq!(alerts, fired);
}

/// Errors on which Grafana fails, or which it changes on import.
#[test]
fn dashboards_can_be_imported() {
    let mut uids = BTreeSet::new();
    for source in ["graphite", "prometheus"] {
        let dashboard = dashboard(&format!("{source}.json"));
        assert!(uids.insert(word(&dashboard, "uid").to_owned()) && word(&dashboard, "uid").len() <= 40);
        assert!(dashboard["schemaVersion"].as_u64() >= Some(36) && dashboard["id"].is_null());
        // The first variable is the data source of the others and of all panels.
        let variables = list(&dashboard["templating"], "list");
        let names: Vec<&str> = variables.iter().map(|variable| word(variable, "name")).collect();
        assert_eq!((word(&variables[0], "type"), word(&variables[0], "query")), ("datasource", source));
        let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
        let panels = list(&dashboard, "panels");
        for asking in variables.iter().filter(|one| one["type"] == "query").chain(panels) {
            let text = asking.to_string();
            let names_in = text.split('$').skip(1).map(|name| name.trim_start_matches('{'));
            for name in names_in.filter(|name| !name.starts_with(['_', ')', '/'])) {
                let name = &name[..name.find(|c: char| !c.is_ascii_alphabetic()).unwrap()];
                assert!(names.contains(&name), "${name} in {asking}");
            }
            if asking["type"] != "row" {
                let theirs = (word(&asking["datasource"], "type"), word(&asking["datasource"], "uid"));
                assert_eq!(theirs, (source, "${datasource}"), "{asking}");
            }
        }
        // As in Grafana's own exports: no data source is among the inputs, because a variable selects it.
        assert_eq!(dashboard["__inputs"], serde_json::json!([]));
        let types: BTreeSet<&str> =
            panels.iter().map(|panel| word(panel, "type")).filter(|kind| *kind != "row").collect();
        let required = list(&dashboard, "__requires").iter().filter(|one| one["type"] == "panel");
        assert_eq!(required.map(|one| word(one, "id")).collect::<BTreeSet<_>>(), types);
        let mut titles = BTreeSet::new();
        for panel in panels {
            let title = word(panel, "title");
            let kind = if panel["type"] == "row" { "row" } else { "panel" };
            assert!(titles.insert((kind, title)), "two panels have the title {title}");
            assert!(panel["type"] == "row" || word(panel, "description").ends_with('.'), "{title}");
            assert!(ids.insert(panel["id"].as_u64().expect("a number")), "{title}: its id is another's");
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a number"));
            assert!(w > 0 && h > 0 && x + w <= 24, "{title}");
            let cells = (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y)));
            assert!(cells.into_iter().all(|cell| taken.insert(cell)), "{title} lies upon another");
            let mut targets = BTreeSet::new();
            assert!(list(panel, "targets").iter().all(|target| targets.insert(word(target, "refId"))), "{title}");
            // The columns of a table, as the last transformation names them.
            let names = list(panel, "transformations").last().map(|one| &one["options"]["renameByName"]);
            let columns = || names.and_then(Value::as_object).into_iter().flatten().map(|(_, name)| name);
            for matcher in list(&panel["fieldConfig"], "overrides").iter().map(|one| &one["matcher"]) {
                match word(matcher, "id") {
                    "byFrameRefID" => assert!(targets.contains(word(matcher, "options")), "{title}: {matcher}"),
                    "byName" => assert!(columns().any(|name| name == &matcher["options"]), "{title}: {matcher}"),
                    id => panic!("{title}: {id}"),
                }
            }
        }
        // Grafana would close gaps.
        let height = taken.iter().map(|(_, y)| y + 1).max().unwrap();
        assert_eq!(taken.len() as u64, 24 * height);
    }
}
