//! `--detail pcpus`: the physical CPUs.

use crate::support::{Scratch, json, on_the_shims_clock, run, shim_without, xenmonitor};

/// Of four CPUs one is offline, and one is half as busy as the first.
const HOST: &str = "clock_step = \"1s\"\n[host]\ncpus = 4\nidle_ns = [{ start = \"1h\", per_poll = \"100ms\" }, \
                    { start = \"2h\", per_poll = \"550ms\" }, 0, { start = \"3h\", per_poll = \"1s\" }]\n\
                    [[domain]]\nid = 0\nname = \"Domain-0\"\n";

/// The lines about physical CPUs that are printed, and the log.
fn printed(host: &str, arguments: &[&str]) -> (Vec<String>, String) {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", host));
    let said = run(on_the_shims_clock(&mut command).args(["--print", "statsd", "--host", "h"]).args(arguments));
    assert_eq!(said.status, Some(0), "{}", said.err);
    (said.out.lines().filter(|line| line.contains(".pcpu")).map(str::to_owned).collect(), said.err)
}

#[test]
fn pcpu_percent_of_each_that_is_online() {
    let busy = ["xen.h.node.pcpu.0.percent:90|g", "xen.h.node.pcpu.1.percent:45|g", "xen.h.node.pcpu.3.percent:0|g"];
    for detail in ["pcpus", "rates,pcpus", "all"] {
        assert_eq!(printed(HOST, &["--detail", detail, "--count", "3"]).0, [busy, busy].concat(), "{detail}");
    }
    let detail = ["--detail", "pcpus", "--count", "2"];
    assert_eq!(printed(HOST, &[&detail[..], &["--metrics", "node.pcpu.1.*"]].concat()).0, [busy[1]]);
    let tagged = printed(HOST, &[&detail[..], &["--tag-format", "graphite"]].concat()).0;
    assert_eq!(tagged[1], "xen.node.pcpus.percent;host=h;device=1:45|g");
}

/// By default the hypervisor is not asked about them.
#[test]
fn pcpus_are_read_only_where_they_are_wanted() {
    let host = format!("{HOST}[[cpu_fault]]\nstderr = \"xc_getcpuinfo is called\"\n");
    for (arguments, is_asked) in [
        (&[][..], false),
        (&["--detail", "vcpus,vifs,vbds,rates", "--tag-format", "datadog", "--tag-uuid"], false),
        (&["--detail", "pcpus"], true),
    ] {
        let (_, log) = printed(&host, &[&["--count", "3"], arguments].concat());
        assert_eq!(log.contains("xc_getcpuinfo is called"), is_asked, "{arguments:?}: {log}");
    }
}

/// They alone are omitted, and read again.
#[test]
fn pcpus_that_cannot_be_read_are_omitted() {
    let host = format!("{HOST}[[cpu_fault]]\nat = \"2..4\"\nfail = \"EACCES\"\n");
    let (lines, log) = printed(&host, &["--detail", "pcpus", "--count", "8", "--metrics", "node.pcpu.0.*,node.cpus"]);
    // The second poll, and those after the fifth, which is the first to read them again.
    assert_eq!(lines, ["xen.h.node.pcpu.0.percent:90|g"; 4]);
    let warning = "WARN  cannot read physical CPUs: Permission denied (os error 13): their metrics are omitted";
    let ended = "INFO  physical CPUs can be read again";
    assert!(log.matches(warning).count() == 1 && log.matches(ended).count() == 1, "{log}");

    let scratch = Scratch::new();
    let host = scratch.file("s.toml", HOST);
    let mut check = xenmonitor(&host);
    check.args(["--check", "--print", "statsd", "--detail", "pcpus"]);
    assert!(run(&mut check).out.contains("\npcpus        ok   3, from libxenctrl\n"));
    let said = run(check.env("XENMONITOR_LIBXENSTAT", shim_without("xc_getcpuinfo")));
    let line = "\npcpus        BAD  omitted: the library has no xc_getcpuinfo of Xen 4.1 or later\n";
    assert!(said.status == Some(1) && said.out.contains(line), "{}", said.out);

    for (arguments, idle) in [
        (
            &["--detail", "pcpus"][..],
            serde_json::json!([3_600_000_000_000_u64, 7_200_000_000_000_u64, 0, 10_800_000_000_000_u64]),
        ),
        (&[], serde_json::json!(null)),
    ] {
        let documents = json(xenmonitor(&host).args(["--once"]).args(arguments));
        assert_eq!(documents[0]["pcpu_idle_ns"], idle, "{arguments:?}");
    }
}
