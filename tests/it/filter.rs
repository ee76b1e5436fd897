//! `--include`, `--exclude`, `--metrics` and `--no-metrics`.

use std::collections::HashSet;

use crate::support::{Scratch, out_of, run, scenario, xenmonitor};

#[test]
fn filter_options_select_domains_and_metrics() {
    let lines = |arguments: &[&str]| {
        let mut command = xenmonitor(&scenario("demo"));
        let said =
            run(command.args(["--once", "--print", "statsd", "--template", "{domain}.{metric}"]).args(arguments));
        (said.out.lines().map(|line| line.split(':').next().unwrap().to_owned()).collect::<HashSet<String>>(), said.err)
    };
    let all = lines(&[]).0;
    let with = |keep: &dyn Fn(&str) -> bool| all.iter().filter(|path| keep(path)).cloned().collect::<HashSet<String>>();

    let hosts = |path: &str| path.starts_with("node.") || path.starts_with("xenmonitor.");
    assert_eq!(
        lines(&["--include", "db*", "--include", "web*"]).0,
        with(&|path| { hosts(path) || path.starts_with("db01.") || path.starts_with("web01.") })
    );
    assert_eq!(
        lines(&["--exclude", "*o*"]).0,
        with(&|path| hosts(path)
            || path.starts_with("db01.")
            || path.starts_with("web01.")
            || path.starts_with("build_server.")
            || path.starts_with("win2019."))
    );
    assert_eq!(
        lines(&["--metrics", "mem_*,node.cpus", "--no-metrics", "*_percent"]).0,
        with(&|path| path == "node.cpus" || path.contains(".mem_") && !path.ends_with("_percent") && !hosts(path))
    );
    let err = lines(&["--include", "db*,nginx*", "--metrics", "cpu"]).1;
    assert!(err.contains("WARN  --include 'nginx*' matches no running domain"), "{err}");
    assert!(err.contains("WARN  --metrics 'cpu' matches no metric that is sent, see --detail and --layout"), "{err}");

    let table =
        out_of(xenmonitor(&scenario("demo")).args(["--once", "--print", "table", "--exclude", "w*", "--dom0-first"]));
    let names: Vec<&str> = table.lines().skip(1).map(|row| row.trim_start().split("  ").next().unwrap()).collect();
    assert!(
        names[0].starts_with("Domain-0 ") && names[1].starts_with("build server ") && names.len() == 3,
        "{names:?}"
    );
}

/// No zeros are sent for an excluded domain that ends.
#[test]
fn filter_excluded_domain_gets_no_zeros() {
    let scratch = Scratch::new();
    let host = "[[domain]]\nid = 0\nname = \"Domain-0\"\n[[domain]]\nid = 1\nname = \"secret\"\nuntil_poll = 2\n";
    let scenario = scratch.file("s.toml", host);
    let arguments = ["--count", "4", "--interval", "10ms", "--print", "statsd", "--exclude", "secret"];
    let lines = out_of(xenmonitor(&scenario).args(arguments));
    assert!(!lines.contains("secret"), "{lines}");
}
