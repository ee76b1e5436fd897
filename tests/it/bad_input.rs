//! Invalid options, variables and libraries: one line of error message that says what to do, and the exit code.

use std::process::Command;

use crate::support::{bare, out_of, run, scenario, shim_without, xenmonitor};

/// Asserts the one line of error message and the exit code.
fn refuses(command: &mut Command, status: i32, line: &str) {
    let said = run(command);
    assert_eq!(said.err.lines().count(), 1, "one line: {}", said.err);
    assert!(said.err.starts_with("xenmonitor: ") && said.err.contains(line), "{line:?} is not in {}", said.err);
    assert_eq!((said.status, said.out.as_str()), (Some(status), ""), "{line}");
}

#[test]
fn cli_invalid_command_line_is_one_line_and_exit_code_2() {
    // One error of each origin; the unit tests of each module have the others.
    for (arguments, line) in [
        (&["--frobnicate"][..], "unexpected argument '--frobnicate' found"),
        (&["extra"], "unexpected argument 'extra' found"),
        (&["--interval", "0"], "invalid value '0' for '--interval <TIME>': too short: at least 10ms"),
        (&["--statsd", "localhost:8125"], "not a URL: did you mean udp://localhost:8125?"),
        (&["--template", "xen.{host}.{domain}"], "{metric} is missing: all metrics would share one name"),
        (&["--watch", "--print", "json"], "--watch shows a table: leave out --print, or use --print table"),
        (&["--sort", "state.running"], "[possible values: name, cpu_sec, cpu_percent,"),
        (&["--include", "[a"], "not a pattern: invalid range pattern; to match [ write [[]"),
        (&["--print", "xml"], "[possible values: table, json, statsd]"),
        (&["--host", " "], "the host name \" \" has no letter or digit: give another with --host"),
        (&["--host", &"h".repeat(100)], "shorten --prefix, --template, --host or --tag"),
        (&["--template", "xen.{metric}"], "{domain} is missing in --template: all domains would share one name"),
        (
            &["--tag-format", "datadog", "--template", "{domain}.{metric}"],
            "leave {host}, {domain} and {uuid} out of --template",
        ),
        (&["--tag", "env=prod"], "--tag needs a --tag-format other than none"),
        (&["--tag-format", "influx", "--tag", "env=a b"], "invalid character ' ' in its value"),
        (&["--layout", "legacy", "--detail", "all"], "--layout legacy has no metrics of --detail"),
        (&["--layout", "legacy", "--names", "strict"], "--layout legacy has names of its own"),
    ] {
        refuses(bare().args(arguments), 2, line);
    }
    refuses(bare().env("XENMONITOR_INTERVAL", "0"), 2, "too short: at least 10ms; it comes from XENMONITOR_INTERVAL");
    refuses(bare().env("STATSD_PORT", "x"), 2, "STATSD_HOST and STATSD_PORT: invalid port 'x'");
    refuses(
        bare().env("STATSD_PREFIX", "a\x1b[2J\nb"),
        2,
        "STATSD_PREFIX 'a\\u{1b}[2J\\nb': invalid character '\\u{1b}'",
    );
    refuses(bare().env("STATSD_PREFIX", "a..b"), 2, "STATSD_PREFIX 'a..b': a component before, between or after");
}

/// In files of defaults a variable that is not set may be empty.
#[test]
fn cli_empty_variable_is_not_set() {
    let mut command = xenmonitor(&scenario("demo"));
    for option in ["STATSD", "INTERVAL", "COUNT", "ONCE", "TEMPLATE", "PREFIX", "LAYOUT", "PRINT", "LOG"] {
        command.env(format!("XENMONITOR_{option}"), "");
    }
    command.env("STATSD_HOST", "").env("STATSD_PORT", "").env("STATSD_PREFIX", "");
    let said = run(command.args(["--once", "--print", "statsd"]));
    assert!(said.out.starts_with("xen.xen1_example_com."), "{} {}", said.out, said.err);
}

#[test]
fn cli_options_override_variables() {
    for (once, count, arguments, polls) in [
        ("1", "", &[][..], 1),
        ("1", "", &["--count", "2"], 2),
        ("0", "", &["--count", "2"], 2),
        ("", "2", &["--once"], 1),
        ("0", "3", &[], 3),
        ("", "3", &["--once", "--count", "2"], 2),
        ("", "3", &["--count", "2", "--once"], 1),
    ] {
        let mut command = xenmonitor(&scenario("demo"));
        command.env("XENMONITOR_ONCE", once).env("XENMONITOR_COUNT", count).args([
            "--interval",
            "10ms",
            "--print",
            "json",
        ]);
        let printed = out_of(command.args(arguments));
        assert_eq!(printed.lines().count(), polls, "{once:?} {count:?} {arguments:?}");
    }
}

/// The same for `--watch` and `--print`.
#[test]
fn cli_watch_and_print_override_variables() {
    for (variable, value, arguments, start) in [
        ("XENMONITOR_PRINT", "json", &["--watch"][..], "  "),
        ("XENMONITOR_WATCH", "1", &["--print", "json"], "{\"time\""),
    ] {
        let mut command = xenmonitor(&scenario("demo"));
        let printed = out_of(command.env(variable, value).arg("--once").args(arguments));
        assert!(printed.starts_with(start), "{variable} {arguments:?}: {printed}");
    }
}

#[test]
fn library_that_cannot_be_loaded_is_named() {
    refuses(
        bare().args(["--libxenstat", "/no/such/libxenstat.so"]),
        1,
        "/no/such/libxenstat.so: cannot open shared object file",
    );
    refuses(bare().args(["--libxenstat", "/etc/passwd"]), 1, "/etc/passwd: ");
}

#[test]
fn library_without_a_required_function_is_refused() {
    let library = shim_without("xenstat_domain_ssid");
    refuses(bare().arg("--libxenstat").arg(&library), 1, "undefined symbol: xenstat_domain_ssid");
}

/// The machine's own libxenstat, without Xen.
#[test]
fn library_present_but_no_xen_has_its_own_error() {
    if std::path::Path::new("/dev/xen/privcmd").exists() {
        panic!("this test needs a machine that is no Xen dom0");
    }
    refuses(&mut bare(), 1, "the hypervisor cannot be reached: no /dev/xen/privcmd: this is no Xen dom0");
}

/// Before Xen 4.13 libxenstat does not report errors of VBDs.
#[test]
fn library_without_vbd_error_is_accepted() {
    let library = shim_without("xenstat_vbd_error");
    let mut command = xenmonitor(&scenario("demo"));
    let table = out_of(command.arg("--libxenstat").arg(library).args(["--once", "--print", "table"]));
    assert!(table.contains("build server"), "{table}");
}

/// The variable of a flag is a boolean.
#[test]
fn cli_variable_of_a_flag_is_a_boolean() {
    for value in ["maybe", "2"] {
        let mut command = xenmonitor(&scenario("demo"));
        let line =
            format!("invalid value '{value}' for '--align': value was not a boolean; it comes from XENMONITOR_ALIGN");
        refuses(command.env("XENMONITOR_ALIGN", value).arg("--once"), 2, &line);
    }
}

/// A variable with a misspelt name has no effect, and is logged.
#[test]
fn cli_unknown_variable_is_logged() {
    let said = run(xenmonitor(&scenario("demo")).env("XENMONITOR_INTERVALL", "1s").args(["--once", "--print", "json"]));
    assert_eq!(said.status, Some(0));
    assert!(
        said.err.contains("ignoring unknown environment variable XENMONITOR_INTERVALL (see --help)"),
        "{}",
        said.err
    );
    // It cannot inject a line into the log.
    let said =
        run(xenmonitor(&scenario("demo")).env("XENMONITOR_\n<0>\x1b[2J", "1").args(["--once", "--print", "json"]));
    assert!(said.err.contains("variable XENMONITOR_\\n<0>\\u{1b}[2J (see --help)"), "{}", said.err);
}
