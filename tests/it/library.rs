//! Libraries that behave as real ones do, though the shim does not.

use crate::support::{Daemon, Lines, Scratch, bare, run, scenario, shim_with};

/// libxenctrl keeps the text of an error in thread-specific data. When the thread ends, code of the library frees it.
#[test]
fn library_is_never_unloaded() {
    let scratch = Scratch::new();
    let library = shim_with("thread_key.c", &scratch);
    let xenmonitor = || {
        let mut command = bare();
        command.env("XENSTAT_SCENARIO", scenario("demo")).env("XENMONITOR_LIBXENSTAT", &library);
        command.args(["--host", "h", "--interval", "100ms", "--print", "statsd"]);
        command
    };
    for arguments in [&["--once"][..], &["--count", "3"], &["--check"]] {
        for _ in 0..5 {
            let said = run(xenmonitor().args(arguments));
            assert_eq!((said.status, said.err.contains("unloaded")), (Some(0), false), "{arguments:?}: {}", said.err);
        }
    }
    let mut daemon = Daemon::start(&mut xenmonitor());
    let _lines = Lines::of(&mut daemon);
    daemon.wait_for_log("reading Xen");
    daemon.signal("HUP");
    let log = daemon.wait_for_logs(&["SIGHUP", "reading Xen"]);
    daemon.signal("TERM");
    let said = daemon.end();
    assert_eq!((said.status, (log + &said.err).contains("unloaded")), (Some(0), false));
}
