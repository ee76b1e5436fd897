//! The log: its lines at the start, levels and priorities.

use crate::support::{Listener, Scratch, bare, run, scenario, shim, with_files, xenmonitor};

#[test]
fn log_of_the_start_names_library_release_destination_and_host() {
    let said = run(xenmonitor(&scenario("demo")).args(["--once", "--interval", "7s", "--statsd", "udp://127.0.0.1:9"]));
    let library = shim().display();
    let line = format!(
        "INFO  reading Xen 4.17.0 every 7s through {library} (as named), sending to udp://127.0.0.1:9 as host \
         xen1.example.com"
    );
    assert!(said.err.contains(&line), "{line}\nis not in\n{}", said.err);
}

#[test]
fn log_levels_of_single_modules() {
    for (filter, is_logged) in [
        ("off,xenmonitor::daemon=info", true),
        ("xenmonitor::daemon=off", false),
        ("info,xenmonitor::statsd=off", true),
        ("warn", false),
    ] {
        let said = run(xenmonitor(&scenario("demo")).args(["--once", "--print", "json", "--log", filter]));
        assert_eq!(said.err.contains("INFO  reading Xen"), is_logged, "{filter}: {}", said.err);
    }
}

/// Where standard error is the journal's stream, lines have a priority and no time.
#[test]
fn log_has_priorities_for_journald() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let log = std::fs::File::create(scratch.join("log")).unwrap();
    let meta = log.metadata().unwrap();
    let mut command = xenmonitor(&scenario("demo"));
    command.env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino())).stderr(log);
    let listener = Listener::new("127.0.0.1:0");
    let status = command.args(["--once", "--statsd", &listener.url()]).status().unwrap();
    let log = std::fs::read_to_string(scratch.join("log")).unwrap();
    assert!(status.success() && log.starts_with("<6>asking ") && log.contains("\n<6>reading Xen 4.17.0"), "{log}");
    let failed = std::fs::File::create(scratch.join("failed")).unwrap();
    let meta = failed.metadata().unwrap();
    let mut command = bare();
    command.env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino())).stderr(failed);
    command.args(["--libxenstat", "/nonexistent"]).status().unwrap();
    let log = std::fs::read_to_string(scratch.join("failed")).unwrap();
    assert!(log.starts_with("<3>xenmonitor: libxenstat cannot be loaded"), "{log}");
}

/// Hosts whose name was never set have the same, and would share their metrics.
#[test]
fn log_warns_of_a_host_name_that_was_never_set() {
    let warning = |name: &str| format!("WARN  this host is called '{name}', as other hosts may be");
    for (name, more, warns) in [
        ("localhost", &["--print", "statsd"][..], true),
        ("localhost.localdomain", &["--print", "json"], true),
        ("(none)", &["--print", "statsd"], true),
        ("localhost", &["--print", "table"], false),
        ("localhost", &["--print", "statsd", "--host", "localhost"], false),
        ("xen1", &["--print", "statsd"], false),
    ] {
        let mut command = xenmonitor(&scenario("demo"));
        command.env_remove("XENMONITOR_HOST").arg("--once").args(more);
        let script = format!("echo '{name}' >/proc/sys/kernel/hostname && ");
        let said = run(&mut with_files(&command, &[], &["--uts"], &script));
        assert_eq!(said.status, Some(0), "{name}: {}", said.err);
        assert_eq!(said.err.contains(&warning(name)), warns, "{name} {more:?}: {}", said.err);
    }
}
