//! What cannot work ends at once, with one line that says what is wrong and what to do.

use std::process::Command;

use crate::support::{bare, out_of, run, scenario, shim_without, xenmonitor};

/// Asserts the one line and the status; returns nothing, so that each test reads as a table row.
fn refuses(command: &mut Command, status: i32, line: &str) {
    let said = run(command);
    assert_eq!(said.err.lines().count(), 1, "one line: {}", said.err);
    assert!(said.err.starts_with("xenmonitor: ") && said.err.contains(line), "{line:?} is not in {}", said.err);
    assert_eq!((said.status, said.out.as_str()), (Some(status), ""), "{line}");
}

#[test]
fn a_bad_command_line_is_one_line_and_status_2() {
    for (arguments, line) in [
        (&["--frobnicate"][..], "unexpected argument '--frobnicate' found"),
        (&["--interval", "0"], "invalid value '0' for '--interval <TIME>': too short: at least 10ms"),
        (&["--interval", "soon"], "not a time: write it like 500ms, 10s or 1m"),
        (&["--count", "0"], "invalid value '0' for '--count <N>'"),
        (&["--statsd", "localhost:8125"], "this is no URL: udp://HOST[:PORT] and stdout: are understood"),
        (&["--statsd", "udp://h:http"], "the port is no number from 1 to 65535"),
        (&["--template", "xen.{host}.{domain}"], "{metric} is missing: all gauges would share one name"),
        (&["--template", "xen.{metric}"], "{domain} is missing: all domains would share one name"),
        (&["--prefix", "a b"], "' ' cannot stand in a gauge name"),
        (&["--host", ""], "--host is empty"),
        (&["--host", &"h".repeat(100)], "shorten --prefix, --template or --host"),
        (&["--print", "xml"], "[possible values: table, json, statsd]"),
        (&["extra"], "unexpected argument 'extra' found"),
    ] {
        refuses(bare().args(arguments), 2, line);
    }
    refuses(bare().env("XENMONITOR_INTERVAL", "0"), 2, "too short: at least 10ms");
    refuses(bare().env("STATSD_PORT", "x"), 2, "STATSD_HOST and STATSD_PORT make 'udp://127.0.0.1:x'");
}

#[test]
fn a_library_that_cannot_be_loaded_is_named() {
    refuses(
        bare().args(["--libxenstat", "/no/such/libxenstat.so"]),
        1,
        "/no/such/libxenstat.so: cannot open shared object file",
    );
    refuses(bare().args(["--libxenstat", "/etc/passwd"]), 1, "/etc/passwd: ");
}

#[test]
fn a_library_without_a_needed_function_is_refused_by_its_name() {
    let library = shim_without("xenstat_domain_ssid");
    refuses(bare().arg("--libxenstat").arg(&library), 1, "has no function xenstat_domain_ssid");
}

/// The machine's own libxenstat, where there is no Xen under it.
#[test]
fn no_xen_is_told_from_no_library() {
    if std::path::Path::new("/dev/xen/privcmd").exists() {
        panic!("this test needs a machine that is no Xen dom0");
    }
    refuses(&mut bare(), 1, "there is no /dev/xen/privcmd here: not a Xen dom0, or not root");
}

/// Older than Xen 4.13, where no VBD tells of an error.
#[test]
fn a_library_without_vbd_error_is_good_enough() {
    let library = shim_without("xenstat_vbd_error");
    let mut command = xenmonitor(&scenario("demo"));
    let table = out_of(command.arg("--libxenstat").arg(library).args(["--once", "--print", "table"]));
    assert!(table.contains("build server"), "{table}");
}
