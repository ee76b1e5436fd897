//! What libxenstat reports wrongly, and what is reported for it.

use std::collections::HashSet;

use serde_json::Value;

use crate::support::{Scratch, json, on_the_shims_clock, run, shim, shim_without, without_lateness, xenmonitor};

/// With more than 256 domains and gaps between domids, libxenstat lists some twice (fact 11).
#[test]
fn collect_domains_listed_twice_are_reported_once() {
    let scratch = Scratch::new();
    let host = "sparse_paging_bug = true\n[[domain]]\nid = 0\nname = \"Domain-0\"\n[[domain]]\nid = 1000\ncount = 300\n\
                name = \"vm{i}\"\n";
    let documents = json(xenmonitor(&scratch.file("s.toml", host)).arg("--once"));
    let domains = documents[0]["domains"].as_array().unwrap();
    let ids: HashSet<u64> = domains.iter().map(|domain| domain["domid"].as_u64().unwrap()).collect();
    assert_eq!((domains.len(), ids.len()), (301, 301));
}

/// Some releases set bit 63 as a flag (fact 18).
#[test]
fn collect_flag_bit_in_cpu_time_is_removed() {
    let scratch = Scratch::new();
    // All 64 bits are set, which a TOML number cannot express.
    let host = "[[domain]]\nid = 1\ncpu_ns = \"no limit\"\n";
    let documents = json(xenmonitor(&scratch.file("s.toml", host)).arg("--once"));
    let without_the_flag = ((u64::MAX >> 1) / 1_000_000) as f64 / 1000.0;
    assert_eq!(documents[0]["domains"][0]["cpu_sec"], without_the_flag);
}

/// On an arm64 dom0 with pages of 64 KiB libxenstat reports sixteen times the real memory (fact 21).
#[test]
fn collect_memory_is_right_with_large_pages_in_dom0() {
    let scratch = Scratch::new();
    let host = "clock_step = \"1s\"\n[host]\ntot_mem = \"8G\"\nfree_mem = \"2G\"\npage_size = \"64K\"\n\
                [[domain]]\nid = 0\ncur_mem = \"1G\"\nmax_mem = \"no limit\"\n\
                [[domain]]\nid = 1\ncur_mem = \"3G\"\nmax_mem = \"4G\"\n";
    let scenario = scratch.file("s.toml", host);
    let mut command = xenmonitor(&scenario);
    let document = &json(on_the_shims_clock(command.arg("--once")))[0];
    let (dom0, guest, node) = (&document["domains"][0], &document["domains"][1], &document["node"]);
    assert_eq!((&node["mem_total_k"], &node["mem_free_k"]), (&(8 << 20).into(), &(2 << 20).into()));
    assert_eq!((&dom0["mem_k"], &dom0["maxmem_k"]), (&(1 << 20).into(), &Value::Null));
    assert_eq!((&guest["mem_k"], &guest["maxmem_k"]), (&(3 << 20).into(), &(4 << 20).into()));
    assert_eq!(guest["mem_percent"], 37.5);
}

/// A domain that ends while libxenstat reads is omitted by it, with a message on stderr that is passed on (facts 12,
/// 26); the others are reported, also one that is being built and has no vcpus yet (fact 13).
#[test]
fn collect_domains_omitted_by_libxenstat_are_omitted() {
    let scratch = Scratch::new();
    let word = "Found interface vif5.0 but domain 5 does not exist.";
    let host = format!(
        "[[domain]]\nid = 0\n[[domain]]\nid = 5\nuntil_poll = 1\n[[domain]]\nid = 6\nvcpus = 0\n\
         [[fault]]\nat = 1\nstderr = \"{word}\"\n"
    );
    let mut command = xenmonitor(&scratch.file("s.toml", &host));
    let said = run(command.args(["--count", "2", "--interval", "10ms", "--print", "json", "--log", "warn"]));
    assert_eq!(without_lateness(&said.err), [word]);
    let ids = |line: &str| -> Vec<(u64, u64)> {
        let document: Value = serde_json::from_str(line).unwrap();
        let domains = document["domains"].as_array().unwrap().iter();
        domains.map(|domain| (domain["domid"].as_u64().unwrap(), domain["vcpus"].as_u64().unwrap())).collect()
    };
    let polls: Vec<_> = said.out.lines().map(ids).collect();
    assert_eq!(polls, [vec![(0, 1), (5, 1), (6, 0)], vec![(0, 1), (6, 0)]]);
}

#[test]
fn release_that_miscounts_is_logged() {
    let scratch = Scratch::new();
    let host = "[host]\nxen_version = \"4.14.2\"\n[[domain]]\nid = 1\n[[domain.vbd]]\nrd_reqs = 3\nrd_sects = 4\nwr_sects = 5\n";
    let said = run(xenmonitor(&scratch.file("s.toml", host)).args(["--once", "--print", "json"]));
    let document: Value = serde_json::from_str(&said.out).unwrap();
    let domain = &document["domains"][0];
    assert_eq!((&domain["vbd_rsect"], &domain["vbd_wsect"]), (&Value::Null, &5.into()));
    assert!(domain["vbd"][0]["rsect"].is_null() && domain["vbd"][0]["rd"] == 3);
    assert!(said.err.contains("WARN  Xen 4.14.2 miscounts the sectors read from disks"), "{}", said.err);
}

/// The libraries of XenServer and XCP-ng have the patch that brought this defect on releases before 4.13. They export
/// xenstat_vbd_error.
#[test]
fn release_that_miscounts_is_recognised_by_its_functions() {
    let scratch = Scratch::new();
    let without = shim_without("xenstat_vbd_error");
    for (version, library, rsect) in [
        ("4.7.6-6.9", shim(), None),
        ("4.11.1-7.13", shim(), None),
        ("4.12.4", shim(), None),
        ("4.15.0", shim(), None),
        ("4.13.4", shim(), Some(4)),
        ("4.17.0", shim(), Some(4)),
        ("4.11.4", &*without, Some(4)),
        ("4.14.2", &*without, None),
    ] {
        let host = format!(
            "[host]\nxen_version = \"{version}\"\n[[domain]]\nid = 1\n\
             [[domain.vbd]]\nrd_reqs = 3\nrd_sects = 4\nwr_sects = 5\n"
        );
        let mut command = xenmonitor(&scratch.file("s.toml", &host));
        let said = run(command.env("XENMONITOR_LIBXENSTAT", library).args(["--once", "--print", "json"]));
        let domain = &serde_json::from_str::<Value>(&said.out).unwrap()["domains"][0];
        assert_eq!(domain["vbd_rsect"], rsect.map_or(Value::Null, Value::from), "{version}");
        assert_eq!(domain["vbd_wsect"], 5, "{version}");
        let line = format!("WARN  Xen {version} miscounts the sectors read from disks: vbd_rsect is omitted");
        assert_eq!(said.err.contains(&line), rsect.is_none(), "{}", said.err);
        let check = run(command.arg("--check"));
        assert_eq!(check.out.contains("miscounts the sectors read"), rsect.is_none(), "{}", check.out);
    }
}
