//! `--detail memory`: what xenstore has of the memory of domains.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{Daemon, Scratch, json as documents_of, on_the_shims_clock, run, shim_without, xenmonitor};

const DOMAIN_0: &str = "clock_step = \"1s\"\n[[domain]]\nid = 0\nname = \"Domain-0\"\n";

/// With XenServer's agent.
const WEB: &str = "[[domain]]\nid = 5\nname = \"web\"\nstore = { \"memory/target\" = \"524288\", \
                   \"memory/static-max\" = \"1048576\", \"data/meminfo_total\" = \"507904\", \
                   \"data/meminfo_free\" = \"65536\" }\n";

/// The lines about memory that are printed, but columns of xentop, and the log.
fn printed(host: &str, arguments: &[&str]) -> (Vec<String>, String) {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", &format!("{DOMAIN_0}{host}")));
    let said = run(on_the_shims_clock(&mut command).args(["--print", "statsd", "--host", "h"]).args(arguments));
    assert_eq!(said.status, Some(0), "{}", said.err);
    (said.out.lines().filter(|line| line.contains("memory.")).map(str::to_owned).collect(), said.err)
}

#[test]
fn memory_of_the_toolstack_and_of_agents() {
    let qubes = "[[domain]]\nid = 6\nname = \"vault\"\nstore = { \"memory/meminfo\" = \"849925\" }\n";
    let host = format!("{WEB}{qubes}");
    let expected = [
        "xen.h.web.memory.target_k:524288|g",
        "xen.h.web.memory.static_max_k:1048576|g",
        "xen.h.web.memory.guest_total_k:507904|g",
        "xen.h.web.memory.guest_free_k:65536|g",
        "xen.h.vault.memory.guest_used_k:849925|g",
    ];
    for detail in ["memory", "vifs,memory", "all"] {
        assert_eq!(printed(&host, &["--detail", detail, "--once"]).0, expected, "{detail}");
    }
    let detail = ["--detail", "memory", "--once"];
    let chosen = printed(&host, &[&detail[..], &["--metrics", "memory.guest_*", "--exclude", "vault"]].concat()).0;
    assert_eq!(chosen, expected[2..4]);
    let tagged = printed(&host, &[&detail[..], &["--tag-format", "graphite"]].concat()).0;
    assert_eq!(tagged[0], "xen.memory.target_k;host=h;domain=web:524288|g");

    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", &format!("{DOMAIN_0}{host}"));
    for (arguments, target, used) in
        [(&["--detail", "memory"][..], json!(524_288), json!(849_925)), (&[], json!(null), json!(null))]
    {
        let documents = documents_of(xenmonitor(&scenario).arg("--once").args(arguments));
        let memory = |domain: usize| &documents[0]["domains"][domain]["memory"];
        assert_eq!((&memory(1)["target_k"], &memory(2)["guest_used_k"]), (&target, &used), "{arguments:?}");
        assert_eq!(memory(0)["guest_free_k"], json!(null));
    }
}

/// Five reads for each domain and poll, and by default none, whatever else a guest writes.
#[test]
fn memory_is_read_only_where_it_is_wanted() {
    let reads = |domid| {
        ["memory/target", "memory/static-max", "data/meminfo_total", "data/meminfo_free", "memory/meminfo"]
            .map(|key| format!("read /local/domain/{domid}/{key}\n"))
            .concat()
    };
    let all = format!("open\n{}close\n", [reads(0), reads(5)].concat().repeat(3));
    let chosen = ["--print", "statsd", "--detail", "memory", "--metrics", "memory.*"];
    for (arguments, expected) in
        [(&["--print", "statsd", "--detail", "vcpus,vifs,vbds,rates,pcpus"][..], ""), (&chosen, &all)]
    {
        let scratch = Scratch::new();
        let log = scratch.join("log");
        let keys: String =
            (0..1000).map(|n| format!(", \"data/meminfo_free/{n}\" = \"{n}\", \"data/{n}\" = \"1\"")).collect();
        let host = format!("store_log = {log:?}\n{DOMAIN_0}{}", WEB.replace(" }", &format!("{keys} }}")));
        let scenario = scratch.file("s.toml", &host);
        let said = run(xenmonitor(&scenario).args(["--count", "3", "--interval", "20ms"]).args(arguments));
        assert_eq!(said.status, Some(0), "{}", said.err);
        assert_eq!(std::fs::read_to_string(&log).unwrap_or_default(), expected, "{arguments:?}");
    }
}

/// What is no number below 2^53 is omitted: a guest may write anything. The numbers of the toolstack stay.
#[test]
fn memory_that_is_no_number_is_omitted() {
    let million = "9".repeat(1 << 20);
    for value in [
        "",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1\\n",
        "1 kB",
        "65536\\u0000",
        "\\u0000",
        "0x10",
        "1e3",
        "1.5",
        "NaN",
        "inf",
        "9007199254740992",
        "9223372036854775808",
        "18446744073709551616",
        "\\u0661",
        "1|g\\nxen.h.web.mem_k:7",
        &million,
    ] {
        let host = WEB.replace("\"65536\"", &format!("\"{value}\"")).replace("\"507904\"", &format!("\"{value}\""));
        let (lines, log) = printed(&host, &["--detail", "memory", "--once"]);
        let expected = ["xen.h.web.memory.target_k:524288|g", "xen.h.web.memory.static_max_k:1048576|g"];
        assert_eq!(lines, expected, "{value:.60}");
        assert!(!log.contains("xenstore"), "{log}");
    }
}

/// A gauge that is only omitted, as the guest's agent ended, gets no zeros; those of a domain that has gone do.
#[test]
fn memory_becomes_zero_with_its_domain_alone() {
    let host = format!("{}until_poll = 2\n{}from_poll = 2\nuntil_poll = 4\n", WEB, WEB.replace("meminfo", "other"));
    let wanted = ["--detail", "memory", "--count", "8", "--metrics", "memory.target_k,memory.guest_free_k"];
    let lines = printed(&host, &wanted).0;
    let of = |metric: &str| {
        let start = format!("xen.h.web.memory.{metric}:");
        lines.iter().filter_map(|line| line.strip_prefix(&start)).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of("target_k"), "524288|g 524288|g 524288|g 524288|g 0|g 0|g 0|g");
    assert_eq!(of("guest_free_k"), "65536|g 65536|g 0|g 0|g 0|g");
}

/// A xenstored that refuses, or does not answer, costs them alone.
#[test]
fn memory_that_cannot_be_read_is_omitted() {
    let faulty = |at: &str, fault: &str| format!("{WEB}[[store_fault]]\nat = \"{at}\"\n{fault}");
    let wanted = ["--detail", "memory", "--count", "6", "--metrics", "memory.guest_free_k,mem_k"];
    // Of Domain-0; of the other domain at the second poll, where it is asked for twice; of both at the first two.
    for (at, lines) in [("0..1", 6), ("15..17", 5), ("0..4", 4)] {
        let (found, log) = printed(&faulty(at, "fail = \"EIO\"\n"), &wanted);
        assert_eq!(found, vec!["xen.h.web.memory.guest_free_k:65536|g"; lines], "{at}");
        let warning = "WARN  cannot read memory from xenstore: Input/output error (os error 5): memory.* is omitted";
        assert_eq!(log.matches(warning).count(), 1, "{log}");
    }

    let scratch = Scratch::new();
    let go = scratch.join("go");
    // At the second poll: what was read at the first is not sent again.
    let host = format!("{DOMAIN_0}{}", faulty("15..19", &format!("wait_for = {go:?}\n")));
    let mut command = xenmonitor(&scratch.file("s.toml", &host));
    let mut daemon = Daemon::start(command.args(["--interval", "20ms", "--print", "json", "--detail", "memory"]));
    assert!(daemon.wait_for_line().contains("\"guest_free_k\":65536"));
    for _ in 0..5 {
        let line = daemon.wait_for_line();
        assert!(line.contains("\"mem_k\":524288") && !line.contains("65536"), "{line}");
    }
    std::fs::write(&go, "").unwrap();
    while !daemon.wait_for_line().contains("\"guest_free_k\":65536") {}
    daemon.signal("TERM");
    let said = daemon.end();
    assert!(said.status == Some(0) && said.err.contains("from xenstore: xenstored does not answer: "), "{}", said.err);

    let host = scratch.file("t.toml", &format!("{DOMAIN_0}{WEB}"));
    let mut check = xenmonitor(&host);
    check.args(["--check", "--print", "statsd", "--detail", "memory"]);
    assert!(run(&mut check).out.contains("\nmemory       ok   of 2 domains, from xenstore\n"));
    let said = run(check.env("XENMONITOR_LIBXENSTAT", shim_without("xs_open")));
    let line = "\nmemory       BAD  omitted: the library has no xs_open, xs_read and xs_close\n";
    assert!(said.status == Some(1) && said.out.contains(line), "{}", said.out);
}

/// A xenstored that is slow is asked for a second at each poll, and for each domain in turn.
#[test]
fn memory_of_a_slow_xenstored_is_read_in_turn() {
    let scratch = Scratch::new();
    let guests: String = (5..10).map(|id| WEB.replace("id = 5", &format!("id = {id}"))).collect();
    let slow = "[[store_fault]]\ndelay = \"60ms\"\n";
    let host = format!("{DOMAIN_0}{guests}{slow}").replace("clock_step = \"1s\"\n", "");
    let mut command = xenmonitor(&scratch.file("s.toml", &host));
    let mut daemon = Daemon::start(command.args(["--interval", "20ms", "--print", "json", "--detail", "memory"]));
    let mut seen = BTreeSet::new();
    while seen.len() < 5 {
        let document: serde_json::Value = serde_json::from_str(&daemon.wait_for_line()).unwrap();
        let domains = document["domains"].as_array().unwrap();
        let read = domains.iter().filter(|domain| !domain["memory"]["guest_free_k"].is_null());
        let read: Vec<u64> = read.map(|domain| domain["domid"].as_u64().unwrap()).collect();
        assert!(read.len() < 5 && domains.len() == 6, "{document}");
        seen.extend(read);
    }
    daemon.signal("TERM");
    let said = daemon.end();
    assert!(said.err.contains("from xenstore: xenstored is too slow: "), "{}", said.err);
}
