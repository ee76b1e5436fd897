//! Domains that start, end, reboot, are renamed or migrated: the metrics that are sent for them.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Scratch, on_the_shims_clock, out_of, run, xenmonitor};

/// For thirty polls, one a second.
const LIFE: &str = r#"
clock_step = "1s"

[[domain]]
id = 0
name = "Domain-0"
cpu_ns = { per_poll = 100000000 }

[[domain]] # born at 3, dead at 8
id = 1
name = "brief"
cpu_ns = { per_poll = 500000000 }
from_poll = 3
until_poll = 8

[[domain]] # reboots at 12 and loses a vcpu by it
id = 2
name = "web"
vcpus = 2
cpu_ns = { start = "100s", per_poll = 250000000 }
until_poll = 12
[[domain]]
id = 3
name = "web"
vcpus = 1
cpu_ns = { start = "1s", per_poll = 750000000 }
from_poll = 12

[[domain]] # reboots at 12 and dies at once
id = 8
name = "twice"
cpu_ns = { start = "100s", per_poll = 250000000 }
until_poll = 12
[[domain]]
id = 9
name = "twice"
from_poll = 12
until_poll = 13

[[domain]] # the stub domain of an HVM guest: a domain like any other
id = 7
name = "web-dm"

[[domain]] # renamed at 16, loses its disk at 20
id = 4
name = "old"
rename = [{ poll = 16, name = "new" }]
[[domain.vbd]]
rd_reqs = 7
until_poll = 20

[[domain]] # moves in: two polls as a half of itself
id = 5
name = "guest--incoming"
from_poll = 22
rename = [{ poll = 24, name = "guest" }]

[[domain]] # moves out
id = 6
name = "mover"
until_poll = 28
rename = [{ poll = 26, name = "mover--migratedaway" }]
"#;

/// The values of each poll by path.
fn polls(more: &[&str]) -> Vec<BTreeMap<String, String>> {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("life.toml", LIFE));
    on_the_shims_clock(&mut command).env("XENMONITOR_ON_VANISH", "zero").args([
        "--count",
        "30",
        "--print",
        "statsd",
        "--log",
        "off",
        "--detail",
        "vcpus,vbds",
        "--no-metrics",
        "xenmonitor.*",
    ]);
    let out = out_of(command.args(["--template", "{domain}.{metric}"]).args(more));
    let mut polls: Vec<BTreeMap<String, String>> = Vec::new();
    for line in out.lines() {
        let (path, value) = line.strip_suffix("|g").unwrap().split_once(':').unwrap();
        // The first line of each poll. Without this filter the program's own metrics would come between polls, too.
        if path == "Domain-0.state.running" {
            polls.push(BTreeMap::new());
        }
        assert!(polls.last_mut().unwrap().insert(path.to_owned(), value.to_owned()).is_none(), "twice: {line}");
    }
    assert_eq!(polls.len(), 30);
    polls
}

/// The value at each poll, or `.` where there is none.
fn of(polls: &[BTreeMap<String, String>], path: &str) -> String {
    let values: Vec<&str> = polls.iter().map(|poll| poll.get(path).map_or(".", |value| value.as_str())).collect();
    values.join(" ")
}

#[test]
fn lifecycle_births_deaths_reboots_and_migrations() {
    let polls = polls(&[]);
    for (path, values) in [
        ("brief.state.blocked", ". . . 1 1 1 1 1 0 0 0 . . . . . . . . . . . . . . . . . . ."),
        ("brief.cpu_percent", ". . . . 50 50 50 50 0 0 0 . . . . . . . . . . . . . . . . . . ."),
        ("brief.cpu_sec", ". . . 1.5 2 2.5 3 3.5 . . . . . . . . . . . . . . . . . . . . . ."),
        // Across the reboot there is no percentage, not even 0; the states continue.
        ("web.cpu_percent", ". 25 25 25 25 25 25 25 25 25 25 25 . 75 75 75 75 75 75 75 75 75 75 75 75 75 75 75 75 75"),
        ("web.state.blocked", "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1"),
        // A metric that only the first of them had gets its zeros when the second ends.
        ("twice.cpu_percent", ". 25 25 25 25 25 25 25 25 25 25 25 . 0 0 0 . . . . . . . . . . . . . ."),
        ("web-dm.vcpus", &["1"; 30].join(" ")),
        ("web.vcpu.1.online", "1 1 1 1 1 1 1 1 1 1 1 1 0 0 0 . . . . . . . . . . . . . . ."),
        ("old.mem_k", &(["524288"; 16].join(" ") + " 0 0 0 . . . . . . . . . . .")),
        ("new.vbds", ". . . . . . . . . . . . . . . . 1 1 1 1 0 0 0 0 0 0 0 0 0 0"),
        ("new.vbd.xvda.type", ". . . . . . . . . . . . . . . . 1 1 1 1 0 0 0 . . . . . . ."),
        ("new.vbd.xvda.rd", ". . . . . . . . . . . . . . . . 7 7 7 7 . . . . . . . . . ."),
        ("guest.vcpus", ". . . . . . . . . . . . . . . . . . . . . . . . 1 1 1 1 1 1"),
        ("mover.vcpus", "1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 0 0 0 ."),
        ("node.domains_migrating", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 0 0 1 1 0 0"),
        (
            "Domain-0.cpu_percent",
            ". 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10 10",
        ),
    ] {
        assert_eq!(of(&polls, path), values, "{path}");
    }
    let halves = polls.iter().flat_map(BTreeMap::keys).filter(|path| path.contains("--"));
    assert_eq!(halves.count(), 0);
}

#[test]
fn zeros_are_not_sent_with_on_vanish_keep() {
    let polls = polls(&["--on-vanish", "keep"]);
    assert_eq!(of(&polls, "brief.state.blocked"), ". . . 1 1 1 1 1 . . . . . . . . . . . . . . . . . . . . . .");
    assert_eq!(of(&polls, "old.mem_k"), ["524288"; 16].join(" ") + &" .".repeat(14));
}

/// The statsd lines of all polls of a scenario.
fn lines(scenario: &str, arguments: &[&str]) -> String {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", scenario));
    command.env("XENMONITOR_INTERVAL", "20ms").env("XENMONITOR_TEMPLATE", "{domain}.{metric}");
    command.env("XENMONITOR_ON_VANISH", "zero");
    out_of(command.args(["--print", "statsd", "--log", "off", "--vifs", "libxenstat"]).args(arguments))
}

/// The same by the shim's clock, so that they do not depend on the load of the machine.
fn clocked_lines(scenario: &str, arguments: &[&str]) -> String {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", scenario));
    on_the_shims_clock(&mut command).env("XENMONITOR_TEMPLATE", "{domain}.{metric}").env("XENMONITOR_PRINT", "statsd");
    out_of(command.args(["--log", "off", "--vifs", "libxenstat"]).args(arguments))
}

const DEVICES: &str = "[[domain.network]]\nrbytes = 1\n[[domain.vbd]]\nerror = true\n";

/// No zeros for a rebooted VM whose collectors fail, nor for a memory limit that became "no limit".
#[test]
fn zeros_are_not_sent_for_unavailable_metrics() {
    let host = format!(
        "[[domain]]\nid = 5\nname = \"web\"\nmax_mem = \"512M\"\nuntil_poll = 2\n{DEVICES}\
         [[domain]]\nid = 6\nname = \"web\"\nmax_mem = \"no limit\"\nfrom_poll = 2\n{DEVICES}\
         [[fault]]\nat = \"2..\"\nif_asked = [\"VBD\", \"NETWORK\"]\nfail = \"EIO\"\n"
    );
    for more in [["--detail", "all"], ["--layout", "legacy"]] {
        let lines = lines(&host, &[&["--count", "6"], &more[..]].concat());
        for metric in ["vbds", "nets", "vbd.xvda.type", "maxmem_k", "maxmem_percent", "Block-Devices", "Networks"] {
            assert!(!lines.contains(&format!("web.{metric}:0|g")), "{metric}: {lines}");
        }
        assert!(!lines.contains("web.vbd.xvda.error:0|g"), "{lines}");
    }
}

/// A domain that ends while its collectors fail gets its zeros: the server still has its gauges.
#[test]
fn zeros_are_sent_for_a_domain_that_ends_while_collectors_fail() {
    let host = format!(
        "[[domain]]\nid = 0\n[[domain]]\nid = 5\nname = \"web\"\nuntil_poll = 40\n{DEVICES}\
         [[fault]]\nat = \"2..\"\nif_asked = [\"VBD\", \"NETWORK\"]\nfail = \"EIO\"\n"
    );
    let lines = lines(&host, &["--count", "40", "--detail", "all"]);
    for metric in ["vbds", "nets", "vbd.xvda.error", "vbd.xvda.type", "state.blocked", "vcpus"] {
        assert!(lines.contains(&format!("web.{metric}:1|g")), "{metric}: {lines}");
        // None of these is 0 while the domain exists.
        assert_eq!(lines.matches(&format!("web.{metric}:0|g")).count(), 3, "{metric}");
    }
}

/// A server may treat two names as equal: while zeros are sent for one, no domain has the other.
#[test]
fn zeros_never_go_to_the_name_of_another_domain() {
    let renamed = "[[domain]]\nid = 4\nname = \"WEB-1\"\nrename = [{ poll = 2, name = \"web_1\" }]\n";
    // A domain with a clean name starts later.
    let comes = "[[domain]]\nid = 4\nname = \"w b\"\n[[domain]]\nid = 5\nname = \"w-b\"\nfrom_poll = 2\n";
    let goes = "[[domain]]\nid = 4\nname = \"web\"\nuntil_poll = 2\n[[domain]]\nid = 5\nname = \"WEB\"\n";
    let thin = "[[domain]]\nid = 4\nname = \"web\"\nuntil_poll = 2\n[[domain]]\nid = 5\nname = \"we\u{e9}b\"\n";
    let tags = ["--tag-format", "graphite", "--template", "{metric}", "--host", "h"];
    for (host, more, polls) in [
        (renamed, &[][..], ["WEB-1", "web_1_# WEB-1!", "web_1_#", "web_1_#"]),
        (comes, &[], ["w_b", "w_b w-b_#", "w_b w-b_#", "w_b w-b_#"]),
        (goes, &[], ["web WEB_#", "WEB_# web!", "WEB_#", "WEB_#"]),
        (thin, &tags, ["web we\u{e9}b_#", "we\u{e9}b_# web!", "we\u{e9}b_#", "we\u{e9}b_#"]),
    ] {
        let lines = lines(host, &[&["--count", "9", "--metrics", "mem_k,node.cpus"], more].concat());
        // The name, with `#` for the digits of a hash, and with `!` if the value is 0.
        let domain = |line: &str| {
            let (name, value) = line.strip_suffix("|g").unwrap().rsplit_once(':').unwrap();
            let name = name.rsplit_once("domain=").map_or(name, |(_, name)| name);
            let name = name.split('.').next().unwrap();
            let name = match name.rsplit_once('_') {
                Some((stem, digits)) if digits.len() == 8 => format!("{stem}_#"),
                _ => name.to_owned(),
            };
            if value == "0" { name + "!" } else { name }
        };
        let of_poll =
            |poll: &str| poll.lines().filter(|line| line.contains("mem_k")).map(domain).collect::<Vec<_>>().join(" ");
        let polls_of: Vec<String> = lines.split("node.cpus").map(of_poll).collect();
        let expected = [&[polls[0]; 2][..], &[polls[1]; 3], &[polls[2]; 3], &[polls[3]]].concat();
        assert_eq!(polls_of[..9], expected, "{host}");
    }
}

/// Of a host with domains that start, end, and are renamed or built: the sum over all domains, or nothing.
#[test]
fn node_cpu_percent_is_omitted_where_a_share_is_unknown() {
    let host = r#"
        clock_step = "1s"
        [host]
        cpus = 4
        [[domain]]
        id = 0
        cpu_ns = { start = "9h", per_poll = "250ms" }
        [[domain]]
        id = 3
        name = "ends"
        cpu_ns = { start = "1h", per_poll = "500ms" }
        until_poll = 4
        [[domain]]
        id = 4
        name = "before"
        rename = [{ poll = 2, name = "after" }]
        cpu_ns = { start = "1h", per_poll = "125ms" }
        [[domain]]
        id = 7
        name = "starts"
        from_poll = 6
        cpu_ns = { start = "1s" }
        [[domain]]
        id = 8
        name = "is built"
        vcpus = 0
        from_poll = 8
    "#;
    let polls = |more: &[&str]| {
        let wanted = ["--count", "10", "--metrics", "node.cpus,node.cpu_percent"];
        let lines = clocked_lines(host, &[&wanted, more].concat());
        let value = |poll: &str| poll.lines().find_map(|line| Some(line.strip_prefix("node.cpu_percent:")?.to_owned()));
        let polls = lines.split("node.cpus:4|g").skip(1).map(value);
        polls.map(|value| value.unwrap_or("-".into()).replace("|g", "")).collect::<Vec<_>>()
    };
    let expected = ["-", "87.5", "87.5", "87.5", "-", "37.5", "-", "37.5", "37.5", "37.5"];
    assert_eq!(polls(&[]), expected);
    // Domains that are not reported count all the same.
    assert_eq!(polls(&["--include", "nothing"]), expected);
}

/// No rate over an unknown time: polls 4 and 8 take 250 ms longer, and on the shim's clock the next ones 250 ms less,
/// so that six of the eleven intervals are uncertain.
#[test]
fn rates_are_omitted_after_a_slow_call() {
    let host = "clock_step = \"400ms\"\n\
                [[domain]]\nid = 1\nname = \"web\"\nvcpus = 8\ncpu_ns = { per_second = 500000000 }\n\
                [[domain.vbd]]\nrd_reqs = { per_second = 1000 }\n\
                [[fault]]\nat = \"every 4\"\ndelay = \"250ms\"\n";
    let wanted = "cpu_percent,vbd_rd_per_sec";
    let lines = clocked_lines(host, &["--count", "12", "--detail", "rates", "--metrics", wanted]);
    for (metric, right) in [("cpu_percent", "50"), ("vbd_rd_per_sec", "1000")] {
        let values = lines.lines().filter_map(|line| line.strip_prefix(&format!("web.{metric}:"))?.strip_suffix("|g"));
        assert_eq!(values.collect::<Vec<_>>(), [right; 5], "{metric}");
    }
}

/// The zeros of a device have its tags.
#[test]
fn zeros_of_a_device_have_its_tags() {
    let host = "[[domain]]\nid = 4\nname = \"web\"\n[[domain.vbd]]\nrd_reqs = 7\nuntil_poll = 2\n";
    let arguments =
        ["--count", "6", "--detail", "vbds", "--template", "{metric}", "--tag-format", "datadog", "--host", "h"];
    let lines = lines(host, &arguments);
    assert_eq!(lines.matches("vbds.type:1|g|#host:h,domain:web,device:xvda\n").count(), 2, "{lines}");
    assert_eq!(lines.matches("vbds.type:0|g|#host:h,domain:web,device:xvda\n").count(), 3, "{lines}");
}

/// The time of a reading is that of the successful call, not of those that failed before it. Each call takes a step of
/// the clock, and the number of calls varies from poll to poll.
#[test]
fn rates_use_the_time_of_the_successful_call() {
    let host = "clock_step = \"400ms\"\n\
                [[domain]]\nid = 0\nname = \"Domain-0\"\nvcpus = 8\ncpu_ns = { per_second = 500000000 }\n\
                [[fault]]\nif_asked = [\"VCPU\", \"NETWORK\", \"VBD\"]\nfail = \"EIO\"\n";
    let lines = clocked_lines(host, &["--count", "6", "--metrics", "cpu_percent"]);
    assert_eq!(lines, "Domain-0.cpu_percent:50|g\n".repeat(5));
}

/// Xen's clock may run faster than dom0's. The CPU(%) of a busy domain is then a little more than all of its vcpus, and
/// is sent as all of them. Much more, as from a leaked flag (fact 18), is no CPU time.
#[test]
fn cpu_percent_of_a_busy_domain_where_xens_clock_is_faster() {
    for (ns_per_second, vcpus, percent) in [
        (999_950_000_u64, 1, Some("99.995")),
        (1_000_000_000, 1, Some("100")),
        (1_000_010_000, 1, Some("100")),
        (1_000_050_000, 1, Some("100")),
        (1_000_500_000, 1, Some("100")),
        (4_000_200_000, 4, Some("400")),
        (1_100_000_000, 1, Some("100")),
        (1_101_000_000, 1, None),
        (1_000_000_000_000, 1, None),
    ] {
        let host = format!(
            "clock_step = \"10s\"\n[[domain]]\nid = 1\nname = \"busy\"\nvcpus = {vcpus}\n\
             cpu_ns = {{ start = \"300s\", per_second = {ns_per_second} }}\n"
        );
        let of = |more: &[&str]| clocked_lines(&host, &[&["--count", "13"], more].concat());
        let lines = of(&["--detail", "vcpus", "--metrics", "cpu_percent,vcpu.*.cpu_percent"]);
        let values = |path: &str| {
            let value = |line: &str| Some(line.strip_prefix(path)?.strip_suffix("|g")?.to_owned());
            lines.lines().filter_map(value).collect::<Vec<_>>()
        };
        let of_domain = percent.map_or(vec![], |percent| vec![percent.to_owned(); 12]);
        assert_eq!(values("busy.cpu_percent:"), of_domain, "{ns_per_second}");
        let of_vcpu = percent.map_or(vec![], |percent| vec![percent.replace('4', "1"); 12]);
        assert_eq!(values("busy.vcpu.0.cpu_percent:"), of_vcpu, "{ns_per_second}");
        let of_poll = |line: &str| serde_json::from_str::<Value>(line).unwrap()["domains"][0]["cpu_percent"].as_f64();
        let number = percent.map(|percent| percent.parse::<f64>().unwrap());
        let in_json: Vec<_> = of(&["--print", "json"]).lines().skip(1).map(of_poll).collect();
        assert_eq!(in_json, [number; 12], "{ns_per_second}");
        let cell = number.map_or("-".into(), |number| format!("{number:.1}"));
        let table = of(&["--print", "table", "--metrics", "cpu_percent"]);
        assert_eq!(table.lines().last().unwrap().split_whitespace().last(), Some(&*cell), "{ns_per_second}");
    }
}

/// If names do not contain the host, a domain that disappears may have moved to another host, which sends its gauges by
/// the same names: zeros would be false.
#[test]
fn no_zeros_where_names_lack_the_host() {
    let scratch = Scratch::new();
    let host = "[[domain]]\nid = 0\n[[domain]]\nid = 5\nname = \"web\"\nuntil_poll = 2\n";
    let scenario = scratch.file("s.toml", host);
    for (more, zeros, warns) in [
        (&["--template", "vm.{domain}.{metric}"][..], 0, true),
        (&["--template", "vm.{domain}.{metric}", "--layout", "legacy"], 0, true),
        (&["--template", "vm.{domain}.{metric}", "--on-vanish", "keep"], 0, false),
        (&["--template", "vm.{domain}.{metric}", "--on-vanish", "zero"], 3, false),
        (&["--template", "vm.{host}.{domain}.{metric}"], 3, false),
        // The administrator has named this host.
        (&["--template", "vm.XEN1.{domain}.{metric}"], 3, false),
        (&["--template", "{domain}.{metric}", "--prefix", "xen.xen1_example_com"], 3, false),
        (&["--template", "{domain}.{metric}", "--prefix", "xen.xen12"], 0, true),
        (&["--tag-format", "datadog"], 3, false),
        (&[], 3, false),
    ] {
        let mut command = xenmonitor(&scenario);
        command.args(["--interval", "20ms", "--count", "8", "--print", "statsd", "--metrics", "vcpus,Vcpus,VCPUs"]);
        let said = run(command.args(more));
        assert_eq!(said.out.lines().filter(|line| line.contains(":0|g")).count(), zeros, "{more:?}: {}", said.out);
        let lines = said.err.matches("WARN  metric names do not contain this host").count();
        assert_eq!(lines, usize::from(warns), "{more:?}: {}", said.err);
    }
}

/// The domain that has a name keeps it while it lives, and gets no zeros; a newcomer gets the suffix.
#[test]
fn names_are_kept_while_their_domains_live() {
    let domain = |id: u32, name: &str, polls: &str| format!("[[domain]]\nid = {id}\nname = \"{name}\"\n{polls}\n");
    let upper = domain(5, "DB01", "") + &domain(7, "db01", "from_poll = 2\nuntil_poll = 5");
    let same = domain(5, "web", "") + &domain(7, "web", "from_poll = 2\nuntil_poll = 5");
    let clean = domain(5, "a b", "") + &domain(7, "a_b", "from_poll = 2\nuntil_poll = 5");
    // The one with the suffix lives on, and reboots.
    let suffix = domain(5, "DB01", "until_poll = 4") + &domain(7, "db01", "from_poll = 2\nuntil_poll = 6");
    let suffix = suffix + &domain(9, "db01", "from_poll = 6");
    // Of several that were there first the one with the lower domid is the older; two of one name have none.
    let start = domain(7, "db01", "") + &domain(5, "DB01", "") + &domain(8, "web", "") + &domain(9, "web", "");
    for (host, values) in [
        (upper, &[("DB01", "111111111"), ("db01_#", "..111000."), ("db01", "........."), ("DB01_#", ".........")][..]),
        (same, &[("web", "111111111"), ("web_#", "..111000.")]),
        (clean, &[("a_b", "111111111"), ("a_b_#", "..111000.")]),
        (suffix, &[("DB01", "1111000.."), ("db01_#", "..1111111"), ("db01", ".........")]),
        (start, &[("DB01", "111111111"), ("db01_#", "111111111"), ("web", "........."), ("web_#_8", "111111111")]),
    ] {
        let lines = lines(&host, &["--count", "9", "--metrics", "vcpus,node.cpus"]);
        let polls: Vec<&str> = lines.split("node.cpus").collect();
        for (name, expected) in values {
            // `#` stands for the digits of a hash.
            let matches = |found: &str| match name.split_once('#') {
                None => found == *name,
                Some((stem, end)) => found
                    .strip_prefix(stem)
                    .and_then(|rest| rest.strip_suffix(end))
                    .is_some_and(|hash| hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())),
            };
            let value = |line: &str| {
                let (found, value) = line.strip_suffix("|g")?.split_once(".vcpus:")?;
                matches(found).then(|| value.to_owned())
            };
            let of_poll = |poll: &&str| poll.lines().find_map(value).unwrap_or(".".into());
            assert_eq!(polls[..9].iter().map(of_poll).collect::<String>(), *expected, "{name} of {host}: {lines}");
        }
    }
}
