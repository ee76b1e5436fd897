//! UUIDs of VMs, from xenstore: as keys of JSON, as tags, and in the names of metrics.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{
    Daemon, Scratch, json as documents_of, on_the_shims_clock, out_of, run, shim_without, xenmonitor,
};

const A: &str = "c9a5f0e2-0b7d-4c1e-9f3a-1d2e3f405162";
const B: &str = "7d3c1b00-5f5e-4bd1-8a53-0f1e2d3c4b5a";

const DOMAIN_0: &str = "clock_step = \"1s\"\n[[domain]]\nid = 0\nname = \"Domain-0\"\n";

/// The values of each poll by path, but those of the host and the program.
fn polls(host: &str, arguments: &[&str]) -> Vec<BTreeMap<String, String>> {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", &format!("{DOMAIN_0}{host}")));
    on_the_shims_clock(&mut command).args(["--print", "statsd", "--log", "off"]).args(arguments);
    let mut polls = vec![BTreeMap::new()];
    for line in out_of(&mut command).lines() {
        let (name, value) = line.strip_suffix("|g").unwrap().rsplit_once(':').unwrap();
        if name.contains("node.cpus") {
            polls.push(BTreeMap::new());
        } else if !name.contains("node.") {
            assert!(polls.last_mut().unwrap().insert(name.to_owned(), value.to_owned()).is_none(), "twice: {line}");
        }
    }
    assert!(polls.pop().unwrap().is_empty());
    polls
}

/// The value at each poll, or `.` where there is none.
fn of(polls: &[BTreeMap<String, String>], name: &str) -> String {
    polls.iter().map(|poll| poll.get(name).map_or(".", |value| value.as_str())).collect::<Vec<_>>().join(" ")
}

/// The domains that have a metric, each once.
fn names<'a>(polls: &'a [BTreeMap<String, String>], metric: &str) -> Vec<&'a str> {
    let names = polls.iter().flat_map(BTreeMap::keys).filter_map(|name| name.strip_suffix(metric));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

const BY_UUID: [&str; 4] = ["--template", "{uuid}.{metric}", "--on-vanish", "zero"];

/// What is asked of xenstore in four polls. When a domain comes, another one may have got the domid of any.
#[test]
fn uuid_is_read_once_and_only_where_it_is_wanted() {
    let read = |domid| format!("read /local/domain/{domid}/vm\n");
    let begin = "open\nwatch @introduceDomain\nwatch @releaseDomain\n".to_owned();
    let once = &(begin + &[0, 7, 0, 9, 7].map(read).concat() + "close\n");
    for (arguments, expected) in [
        (&["--print", "statsd"][..], ""),
        (&["--print", "table"], ""),
        (&["--print", "statsd", "--detail", "vcpus,vifs,vbds,rates,pcpus"], ""),
        (&["--print", "statsd", "--tag-format", "datadog"], ""),
        (&["--check", "--print", "statsd"], ""),
        (&["--print", "json"], once),
        (&["--print", "statsd", "--template", "{uuid}.{metric}"], once),
        (&["--print", "statsd", "--tag-format", "datadog", "--tag-uuid"], once),
    ] {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let host = format!("store_log = {log:?}\n{DOMAIN_0}[[domain]]\nid = 7\n[[domain]]\nid = 9\nfrom_poll = 2\n");
        let said = run(xenmonitor(&scratch.file("s.toml", &host))
            .args(["--count", "4", "--interval", "20ms"])
            .args(arguments));
        assert_eq!(said.status, Some(0), "{}", said.err);
        let asked = std::fs::read_to_string(&log).unwrap_or_default();
        assert_eq!(asked, expected, "{arguments:?}");
    }
}

/// A VM keeps its series when it is renamed and rebooted, and its CPU percentage when it is renamed. Another VM of its
/// name has its own; when that ends, its metrics become 0.
#[test]
fn uuid_names_keep_their_series_over_renames_and_reboots() {
    let host = format!(
        "[[domain]]\nid = 5\nvm = \"/vm/{A}\"\nname = \"web\"\nrename = [{{ poll = 2, name = \"www\" }}]\nuntil_poll = 4\n\
         cpu_ns = {{ per_poll = \"250ms\" }}\n\
         [[domain]]\nid = 6\nvm = \"/vm/{B}\"\nname = \"web\"\nuntil_poll = 5\n\
         [[domain]]\nid = 9\nvm = \"/vm/{A}\"\nname = \"www\"\nfrom_poll = 4\ncpu_ns = {{ per_poll = \"500ms\" }}\n"
    );
    let wanted = ["--count", "8", "--metrics", "mem_k,cpu_percent,node.cpus"];
    let polls = polls(&host, &[&BY_UUID[..], &wanted].concat());
    for (name, values) in [
        (format!("{A}.mem_k"), "524288 524288 524288 524288 524288 524288 524288 524288"),
        (format!("{A}.cpu_percent"), ". 25 25 25 . 50 50 50"),
        (format!("{B}.mem_k"), "524288 524288 524288 524288 524288 0 0 0"),
        ("Domain-0-xen1_example_com.mem_k".into(), "524288 524288 524288 524288 524288 524288 524288 524288"),
    ] {
        assert_eq!(of(&polls, &name), values, "{name}");
    }
    assert_eq!(names(&polls, ".mem_k"), [B, "Domain-0-xen1_example_com", A]);
}

/// During a migration within a host two domains are one VM: first the one has its metrics, then the other.
#[test]
fn uuid_names_keep_their_series_over_a_migration() {
    let host = format!(
        "[[domain]]\nid = 5\nvm = \"/vm/{A}\"\nname = \"web\"\nrename = [{{ poll = 4, name = \"web--migratedaway\" }}]\n\
         until_poll = 6\nssid = 5\n\
         [[domain]]\nid = 9\nvm = \"/vm/{A}\"\nname = \"web--incoming\"\nfrom_poll = 2\nssid = 9\n\
         rename = [{{ poll = 4, name = \"web\" }}]\n\
         [[domain]]\nid = 7\nvm = \"/vm/{B}\"\nname = \"db\"\nrename = [{{ poll = 2, name = \"db--migratedaway\" }}]\n\
         until_poll = 4\nssid = 7\n"
    );
    let polls = polls(&host, &[&BY_UUID[..], &["--count", "8", "--metrics", "ssid,node.cpus"]].concat());
    assert_eq!(of(&polls, &format!("{A}.ssid")), "5 5 5 5 9 9 9 9");
    // That one went to another host.
    assert_eq!(of(&polls, &format!("{B}.ssid")), "7 7 0 0 0 . . .");
    assert_eq!(names(&polls, ".ssid"), [B, "Domain-0-xen1_example_com", A]);
}

/// Two domains by one UUID, which no toolstack allows, share no name. A VM that is no longer included is gone.
#[test]
fn uuid_names_are_unique() {
    let host = format!(
        "[[domain]]\nid = 5\nvm = \"/vm/{A}\"\nssid = 5\n[[domain]]\nid = 6\nvm = \"/vm/{A}\"\nfrom_poll = 1\nssid = 6\n\
         [[domain]]\nid = 7\nvm = \"/vm/{B}\"\nname = \"old\"\nrename = [{{ poll = 2, name = \"new\" }}]\nssid = 7\n"
    );
    let wanted = ["--count", "6", "--metrics", "ssid,node.cpus", "--exclude", "new"];
    let polls = polls(&host, &[&BY_UUID[..], &wanted].concat());
    assert_eq!(of(&polls, &format!("{A}.ssid")), "5 5 5 5 5 5");
    assert_eq!(of(&polls, &format!("{B}.ssid")), "7 7 0 0 0 .");
    let other = names(&polls, ".ssid").into_iter().find(|name| name.starts_with(&format!("{A}_"))).unwrap();
    assert_eq!(of(&polls, &format!("{other}.ssid")), ". 6 6 6 6 6");
}

/// A new VM of the same name has other tags; the metrics of the one before become 0.
#[test]
fn uuid_tags_tell_vms_of_one_name_apart() {
    let host = format!(
        "[[domain]]\nid = 5\nvm = \"/vm/{A}\"\nname = \"web\"\nuntil_poll = 2\n[[domain.vbd]]\n\
         [[domain]]\nid = 6\nvm = \"/vm/{B}\"\nname = \"web\"\nfrom_poll = 2\n[[domain.vbd]]\n"
    );
    let wanted = ["--count", "6", "--metrics", "mem_k,vbd.*.type,node.cpus", "--detail", "vbds"];
    let polls = polls(&host, &[&["--tag-format", "graphite", "--tag-uuid", "--host", "h"][..], &wanted].concat());
    for (name, values) in [
        ("xen.mem_k;host=h;domain=Domain-0".into(), "524288 524288 524288 524288 524288 524288"),
        (format!("xen.mem_k;host=h;domain=web;uuid={A}"), "524288 524288 0 0 0 ."),
        (format!("xen.mem_k;host=h;domain=web;uuid={B}"), ". . 524288 524288 524288 524288"),
        (format!("xen.vbds.type;host=h;domain=web;uuid={A};device=xvda"), "1 1 0 0 0 ."),
        (format!("xen.vbds.type;host=h;domain=web;uuid={B};device=xvda"), ". . 1 1 1 1"),
    ] {
        assert_eq!(of(&polls, &name), values, "{name}");
    }
    assert_eq!(polls.iter().flat_map(BTreeMap::keys).collect::<std::collections::BTreeSet<_>>().len(), 5);
}

/// What is no UUID is none: the key is null, and there is no name to send metrics by.
#[test]
fn uuid_of_another_form_is_unknown() {
    let nul = format!("/vm/{A}\\u0000");
    let slashes = format!("/vm/{A}/../x");
    for value in [
        "",
        "/vm/",
        A,
        "/vm/00000000-0000-0000-0000-000000000000",
        "/vm/web\\n.cpu_sec:1|g",
        &nul,
        &slashes,
        &format!("/vm/{}", "a".repeat(1 << 20)),
    ] {
        let host =
            format!("[[domain]]\nid = 5\nname = \"web\"\nvm = \"{value}\"\n[[domain]]\nid = 6\nvm = \"/vm/{B}\"\n");
        let wanted = ["--count", "2", "--metrics", "mem_k,node.cpus"];
        let polls = polls(&host, &[&BY_UUID[..], &wanted].concat());
        assert_eq!(names(&polls, ".mem_k"), [B, "Domain-0-xen1_example_com"], "{:.60}", value);

        let scratch = Scratch::new();
        let scenario = scratch.file("s.toml", &format!("{DOMAIN_0}{host}"));
        let said = run(xenmonitor(&scenario).args(["--count", "3", "--interval", "20ms", "--print", "json"]));
        let document: Value = serde_json::from_str(said.out.lines().last().unwrap()).unwrap();
        let key = |domain: usize, key: &str| document["domains"][domain][key].clone();
        assert_eq!([key(0, "uuid"), key(1, "uuid"), key(2, "uuid")], [json!(null), json!(null), json!(B)]);
        assert_eq!([key(0, "domid"), key(1, "domid"), key(2, "domid")], [json!(0), json!(5), json!(6)]);
        let warning = "WARN  the UUID of web is unknown: xenstore has none\n";
        assert_eq!((said.status, said.err.matches(warning).count()), (Some(0), 1), "{}", said.err);
    }
    // Where no name can be made of it JSON has none.
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", &format!("{DOMAIN_0}[[domain]]\nid = 5\nvm = false\n"));
    let documents = documents_of(xenmonitor(&scenario).args(["--once", "--template", "{uuid}.{metric}"]));
    assert_eq!(documents[0]["domains"][0]["metric_name"], "Domain-0-xen1_example_com");
    assert_eq!(documents[0]["domains"][1]["metric_name"], json!(null));
}

/// The log of a daemon with UUIDs as tags, and how many domains had one at each poll.
fn tagged(scenario: &Path, polls: &str) -> (String, Vec<usize>) {
    let mut command = xenmonitor(scenario);
    command.args(["--count", polls, "--interval", "20ms", "--print", "statsd", "--tag-format", "graphite"]);
    let said = run(command.args(["--tag-uuid", "--metrics", "mem_k,node.cpus"]));
    assert_eq!(said.status, Some(0), "{}", said.err);
    let polls = said.out.split("node.cpus").map(|poll| {
        let lines = poll.lines().filter(|line| line.contains("mem_k") && !line.ends_with(":0|g"));
        assert!(poll.lines().count() < 2 || lines.clone().count() == 3, "{poll}");
        lines.filter(|line| line.contains(";uuid=")).count()
    });
    let mut polls: Vec<usize> = polls.collect();
    polls.pop();
    (said.err, polls)
}

/// A xenstored that refuses costs UUIDs alone, until it answers again.
#[test]
fn uuid_is_read_again_where_xenstored_failed() {
    let guests = "[[domain]]\nid = 5\nname = \"web\"\n[[domain]]\nid = 6\nname = \"db\"\n";
    let scratch = Scratch::new();
    for (fault, error, uuids) in [
        ("[[store_open_fault]]\nat = \"0..2\"\nfail = \"EACCES\"\n", "Permission denied", [0, 0, 2, 2, 2, 2]),
        // In the middle of a poll, which leaves out neither those before nor those after it.
        ("[[store_fault]]\nat = 2\nfail = \"EIO\"\n", "Input/output error", [1, 2, 2, 2, 2, 2]),
        ("[[store_fault]]\nat = 1\nfail = \"EIO\"\n", "Input/output error", [1, 2, 2, 2, 2, 2]),
    ] {
        let (log, polls) = tagged(&scratch.file("s.toml", &format!("{DOMAIN_0}{guests}{fault}")), "6");
        assert_eq!(polls, uuids, "{log}");
        assert_eq!(log.matches(" unknown: xenstore cannot be read: ").count(), 1, "{log}");
        assert!(log.contains(error) && log.contains("INFO  all UUIDs are known again"), "{log}");
    }
    let host = scratch.file("s.toml", &format!("{DOMAIN_0}{guests}"));
    let mut check = xenmonitor(&host);
    check.args(["--check", "--print", "json"]);
    assert!(run(&mut check).out.contains("\nuuids        ok   2, from xenstore\n"));
    let older = shim_without("xs_open");
    let said = run(check.env("XENMONITOR_LIBXENSTAT", older));
    let line = "\nuuids        BAD  the UUIDs of 2 domains, web among them, are unknown: xenstore cannot be read: the library \
                has no xs_open, xs_read and xs_close\n";
    assert!(said.status == Some(1) && said.out.contains(line), "{}", said.out);
}

/// UUIDs that are known stay known. When the destinations are reopened they are read again.
#[test]
fn uuid_is_kept_while_xenstored_fails() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let fault = "[[store_fault]]\nat = \"2..\"\nfail = \"EIO\"\n";
    let host = format!("store_log = {log:?}\n{DOMAIN_0}[[domain]]\nid = 5\nname = \"web\"\n{fault}");
    let mut command = xenmonitor(&scratch.file("s.toml", &host));
    let mut daemon = Daemon::start(command.args(["--interval", "20ms", "--print", "json"]));
    let uuid = "\"uuid\":\"00000000-0000-4000-8000-000000000005\"";
    assert!(daemon.wait_for_line().contains(uuid));
    daemon.signal("HUP");
    let reads = || std::fs::read_to_string(&log).unwrap().matches("open\n").count();
    while reads() < 3 {
        assert!(daemon.wait_for_line().contains(uuid));
    }
    daemon.signal("TERM");
    let said = daemon.end();
    assert!(!said.err.contains("unknown"), "{}", said.err);
}

/// SIGHUP closes the connection to xenstored, and opens another.
#[test]
fn uuid_is_read_by_another_connection_after_sighup() {
    let scratch = Scratch::new();
    let log = scratch.join("log");
    let host = format!("store_log = {log:?}\n{DOMAIN_0}[[domain]]\nid = 5\n");
    let mut command = xenmonitor(&scratch.file("s.toml", &host));
    let mut daemon = Daemon::start(command.args(["--interval", "20ms", "--print", "json"]));
    daemon.wait_for_line();
    daemon.signal("HUP");
    while !std::fs::read_to_string(&log).unwrap().contains("close\nopen\n") {
        assert!(!daemon.wait_for_line().is_empty());
    }
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

/// A xenstored that does not answer costs UUIDs alone, and is not asked again before it has answered.
#[test]
fn uuid_that_is_not_answered_holds_up_nothing_else() {
    let scratch = Scratch::new();
    let (log, go) = (scratch.join("log"), scratch.join("go"));
    let fault = format!("[[store_fault]]\nat = 1\nwait_for = {go:?}\n");
    let host = format!("store_log = {log:?}\n{DOMAIN_0}[[domain]]\nid = 5\nname = \"web\"\n{fault}");
    let mut command = xenmonitor(&scratch.file("s.toml", &host));
    let mut daemon = Daemon::start(command.args(["--interval", "20ms", "--print", "json"]));
    let uuid = "\"uuid\":\"00000000-0000-4000-8000-000000000005\"";
    for _ in 0..5 {
        let line = daemon.wait_for_line();
        assert!(
            line.contains("\"name\":\"web\"") && line.contains("\"mem_k\":524288") && !line.contains(uuid),
            "{line}"
        );
    }
    let asked = std::fs::read_to_string(&log).unwrap();
    assert!(asked.ends_with("read /local/domain/0/vm\nread /local/domain/5/vm\n"), "{asked}");
    std::fs::write(&go, "").unwrap();
    while !daemon.wait_for_line().contains(uuid) {}
    daemon.signal("TERM");
    let said = daemon.end();
    let warning = "WARN  the UUID of web is unknown: xenstore cannot be read: xenstored does not answer\n";
    assert!(said.status == Some(0) && said.err.matches(warning).count() == 1, "{}", said.err);
}

/// Nor is its end waited for, and SIGHUP leaves no thread behind.
#[test]
fn uuid_that_is_never_answered_does_not_delay_the_end() {
    let scratch = Scratch::new();
    let fault = "[[store_fault]]\nat = 1\nhang = true\n";
    let host = scratch.file("s.toml", &format!("{DOMAIN_0}[[domain]]\nid = 5\n{fault}"));
    let said = run(xenmonitor(&host).args(["--count", "3", "--interval", "20ms", "--print", "json"]));
    assert_eq!((said.status, said.out.lines().count()), (Some(0), 3), "{}", said.err);
    let mut daemon = Daemon::start(xenmonitor(&host).args(["--interval", "20ms", "--print", "json"]));
    daemon.wait_for_line();
    for _ in 0..3 {
        daemon.signal("HUP");
        daemon.wait_for_log("SIGHUP");
        (0..2).for_each(|_| drop(daemon.wait_for_line()));
    }
    let waiting = daemon.threads().iter().filter(|name| *name == "xenstore").count();
    assert_eq!(waiting, 1, "{:?}", daemon.threads());
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

/// A domid that another VM gets between two polls has that VM's UUID, though its CPU time has grown. A libxenstore that
/// cannot tell when domains come and go is asked at each poll.
#[test]
fn uuid_follows_a_domid_that_is_used_again() {
    let host = format!(
        "[[domain]]\nid = 5\nvm = \"/vm/{A}\"\nname = \"web\"\nuntil_poll = 2\ncpu_ns = \"1s\"\n\
         [[domain]]\nid = 5\nvm = \"/vm/{B}\"\nname = \"web\"\nfrom_poll = 2\ncpu_ns = \"1500ms\"\n"
    );
    for library in [None, Some(shim_without("xs_check_watch"))] {
        let scratch = Scratch::new();
        let mut command = xenmonitor(&scratch.file("s.toml", &format!("{DOMAIN_0}{host}")));
        command.args(["--count", "4", "--interval", "20ms"]);
        let documents = documents_of(command.envs(library.iter().map(|library| ("XENMONITOR_LIBXENSTAT", library))));
        let uuids: Vec<&Value> = documents.iter().map(|document| &document["domains"][1]["uuid"]).collect();
        assert_eq!(uuids, [A, A, B, B], "{library:?}");
    }
    // So they are two series, and the first ends; no CPU percentage is computed from both.
    let wanted = ["--count", "6", "--metrics", "mem_k,cpu_percent,node.cpus"];
    let polls = polls(&host, &[&["--tag-format", "graphite", "--tag-uuid", "--host", "h"][..], &wanted].concat());
    for (metric, uuid, values) in [
        ("mem_k", A, "524288 524288 0 0 0 ."),
        ("mem_k", B, ". . 524288 524288 524288 524288"),
        ("cpu_percent", A, ". 0 0 0 0 ."),
        ("cpu_percent", B, ". . . 0 0 0"),
    ] {
        assert_eq!(of(&polls, &format!("xen.{metric};host=h;domain=web;uuid={uuid}")), values, "{metric} of {uuid}");
    }
}

/// A domain that is new gets its UUID from a slow xenstored even if others come and go at each poll.
#[test]
fn uuid_of_a_new_domain_is_read_first() {
    let domain = |id: u64, from: u64, until: u64| {
        format!("[[domain]]\nid = {id}\nname = \"vm{id}\"\nfrom_poll = {from}\nuntil_poll = {until}\n")
    };
    let old: String = (5..15).map(|id| domain(id, 0, 100)).collect();
    let short: String = (1..6).map(|poll| domain(60 + poll, poll, poll + 1)).collect();
    // Read from the second poll on, seven at each.
    let slow = "[[store_fault]]\nat = \"11..\"\ndelay = \"150ms\"\n";
    let host = format!("{DOMAIN_0}{old}{short}{}{slow}", domain(40, 1, 100)).replace("clock_step = \"1s\"\n", "");
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", &host));
    let documents = documents_of(command.args(["--count", "4", "--interval", "20ms"]));
    let uuid = |document: &Value| {
        let mut domains = document["domains"].as_array().unwrap().iter();
        domains.any(|domain| domain["name"] == "vm40" && !domain["uuid"].is_null())
    };
    assert_eq!(documents.iter().map(uuid).collect::<Vec<_>>(), [false, true, true, true]);
}

/// Even at the poll after which xenstored has been started again, and has reported nothing.
#[test]
fn uuid_follows_a_domid_while_xenstored_is_restarted() {
    let host = format!(
        "store_restarts = 2\n{DOMAIN_0}[[domain]]\nid = 5\nvm = \"/vm/{A}\"\nname = \"web\"\nuntil_poll = 2\n\
         [[domain]]\nid = 5\nvm = \"/vm/{B}\"\nname = \"web\"\nfrom_poll = 2\ncpu_ns = \"1500ms\"\n\
         store = {{ \"memory/target\" = \"1024\" }}\n"
    );
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", &host));
    command.args(["--count", "4", "--interval", "20ms", "--print", "json", "--detail", "memory"]);
    let said = run(&mut command);
    let documents: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let uuids: Vec<&Value> = documents.iter().map(|document| &document["domains"][1]["uuid"]).collect();
    assert_eq!(uuids, [A, A, B, B], "{}", said.err);
    assert!(!said.err.contains("xenstore"), "{}", said.err);

    let targets: Vec<&Value> = documents.iter().map(|document| &document["domains"][1]["memory"]["target_k"]).collect();
    assert_eq!(targets, [&json!(null), &json!(null), &json!(1024), &json!(1024)]);
}

/// Metrics that were sent without a UUID as their tag, as it was unknown, become 0 when they get one.
#[test]
fn uuid_that_becomes_known_ends_the_series_without_it() {
    let host = "[[domain]]\nid = 5\nname = \"web\"\n[[domain.vbd]]\n[[store_fault]]\nat = \"0..4\"\nfail = \"EIO\"\n";
    let wanted = ["--count", "7", "--metrics", "mem_k,vbd.*.type,vbd.*.rd,node.cpus", "--detail", "vbds"];
    let polls = polls(host, &[&["--tag-format", "graphite", "--tag-uuid", "--host", "h"][..], &wanted].concat());
    let uuid = "uuid=00000000-0000-4000-8000-000000000005";
    for (name, values) in [
        ("xen.mem_k;host=h;domain=web".to_owned(), "524288 524288 0 0 0 . ."),
        (format!("xen.mem_k;host=h;domain=web;{uuid}"), ". . 524288 524288 524288 524288 524288"),
        ("xen.vbds.type;host=h;domain=web;device=xvda".into(), "1 1 0 0 0 . ."),
        (format!("xen.vbds.type;host=h;domain=web;{uuid};device=xvda"), ". . 1 1 1 1 1"),
        // A counter.
        ("xen.vbds.rd;host=h;domain=web;device=xvda".into(), "0 0 . . . . ."),
    ] {
        assert_eq!(of(&polls, &name), values, "{name}");
    }
}
