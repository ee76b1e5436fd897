//! `--help` and `--version`.

use crate::support::{bare, out_of};

#[test]
fn cli_version_and_help() {
    let version = out_of(bare().arg("--version"));
    assert!(version.starts_with(&format!("xenmonitor {} (", env!("CARGO_PKG_VERSION"))), "{version}");
    assert!(version.contains("header of Xen "), "{version}");
    for columns in [80, 100] {
        let help = |option| out_of(bare().arg(option).env("COLUMNS", columns.to_string()));
        let (summary, whole) = (help("-h"), help("--help"));
        let widest = summary.lines().chain(whole.lines()).map(str::len).max().unwrap();
        assert!(widest <= columns, "{widest} columns");
        assert!(summary.lines().count() * 2 < whole.lines().count(), "{summary}");
        // Exit codes, signals and variables.
        assert!(
            whole.contains("2 usage error") && whole.contains("SIGHUP") && whole.contains("STATSD_PREFIX"),
            "{whole}"
        );
    }
}
