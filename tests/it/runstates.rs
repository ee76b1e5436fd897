//! `--detail runstates`: how long domains waited for a CPU, on XenServer and XCP-ng.

use serde_json::json;

use crate::support::{Daemon, Scratch, json as documents_of, on_the_shims_clock, run, shim_without, xenmonitor};

/// In a second one domain is in each of its six states for another time, and one is only blocked.
const HOST: &str = "clock_step = \"1s\"\n[[domain]]\nid = 0\nname = \"Domain-0\"\nrunstate = [0, 0, 0, \
                    { start = \"1h\", per_poll = \"1s\" }, 0, 0]\n[[domain]]\nid = 5\nname = \"web\"\n\
                    missed_changes = { start = 7, per_poll = 1 }\nrunstate = [{ per_poll = \"100ms\" }, \
                    { per_poll = \"150ms\" }, { per_poll = \"50ms\" }, { start = \"2h\", per_poll = \"300ms\" }, \
                    { per_poll = \"360ms\" }, { per_poll = \"40ms\" }]\n";

/// The lines about states that are printed, and the log.
fn printed(host: &str, arguments: &[&str]) -> (Vec<String>, String) {
    let scratch = Scratch::new();
    let mut command = xenmonitor(&scratch.file("s.toml", host));
    let said = run(on_the_shims_clock(&mut command).args(["--print", "statsd", "--host", "h"]).args(arguments));
    assert_eq!(said.status, Some(0), "{}", said.err);
    (said.out.lines().filter(|line| line.contains("runstate.")).map(str::to_owned).collect(), said.err)
}

#[test]
fn runstates_are_shares_of_the_time_between_two_polls() {
    let wanted = ["--detail", "runstates", "--include", "web", "--count", "2"];
    let (lines, log) = printed(HOST, &wanted);
    assert_eq!(
        lines,
        [
            "xen.h.web.runstate.missed_changes:7|g",
            "xen.h.web.runstate.fullrun_percent:10|g",
            "xen.h.web.runstate.full_contention_percent:15|g",
            "xen.h.web.runstate.concurrency_hazard_percent:5|g",
            "xen.h.web.runstate.blocked_percent:30|g",
            "xen.h.web.runstate.partial_run_percent:36|g",
            "xen.h.web.runstate.partial_contention_percent:4|g",
            "xen.h.web.runstate.runnable_any_percent:24|g",
            "xen.h.web.runstate.missed_changes:8|g",
        ],
        "{log}"
    );
    // A time that falls, or grows by more than there was, is wrong, and the others are not.
    for wrong in ["-1s", "1200ms"] {
        let host = HOST.replace("\"150ms\"", &format!("\"{wrong}\"")).replace("= 7", "= 8");
        let lines = printed(
            &host.replace("[{ per_poll = \"100ms\" }, {", "[{ per_poll = \"100ms\" }, { start = \"1h\","),
            &wanted,
        )
        .0;
        let omitted = ["full_contention", "runnable_any"].map(|state| lines.iter().any(|line| line.contains(state)));
        assert_eq!((lines.len(), omitted), (7, [false, false]), "{lines:?}");
    }
    let tagged =
        printed(HOST, &[&wanted[..], &["--tag-format", "graphite", "--metrics", "*.blocked_percent"]].concat()).0;
    assert_eq!(tagged, ["xen.runstate.blocked_percent;host=h;domain=web:30|g"]);

    let scratch = Scratch::new();
    let host = scratch.file("s.toml", HOST);
    for (arguments, missed) in [(&["--detail", "runstates"][..], json!(7)), (&["--detail", "all"], json!(null))] {
        let documents = documents_of(xenmonitor(&host).arg("--once").args(arguments));
        let runstate = &documents[0]["domains"][1]["runstate"];
        assert_eq!((&runstate["missed_changes"], &runstate["blocked_percent"]), (&missed, &json!(null)));
    }
}

/// No release of Xen's own has the function, so `all` does not ask for it.
#[test]
fn runstates_are_read_only_where_they_are_wanted() {
    let host = format!("{HOST}[[runstate_fault]]\nstderr = \"xc_get_runstate_info is called\"\n");
    for (arguments, is_asked) in
        [(&[][..], false), (&["--detail", "all"], false), (&["--detail", "all,runstates"], true)]
    {
        let (_, log) = printed(&host, &[&["--count", "3"], arguments].concat());
        assert_eq!(log.contains("xc_get_runstate_info is called"), is_asked, "{arguments:?}: {log}");
    }
}

/// They alone are omitted, of one domain or of all.
#[test]
fn runstates_that_cannot_be_read_are_omitted() {
    let wanted = ["--detail", "runstates", "--count", "6", "--metrics", "*.blocked_percent"];
    // Of the first and of the second domain at the third poll; then of both at the fourth.
    for (fault, lines, warnings) in [("4..5", 3 + 5, 0), ("5..6", 5 + 3, 0), ("6..8", 3 + 3, 1)] {
        let host = format!("{HOST}[[runstate_fault]]\nat = \"{fault}\"\nfail = \"EACCES\"\n");
        let (found, log) = printed(&host, &wanted);
        assert_eq!(found.len(), lines, "{found:?}");
        let warning = "WARN  cannot read runstates: Permission denied (os error 13): runstate.* is omitted";
        assert_eq!(log.matches(warning).count(), warnings, "{log}");
    }
    // After SIGHUP libxenctrl cannot be opened: what was read before is not sent again.
    let scratch = Scratch::new();
    let closed = "[[control_open_fault]]\nat = \"1..\"\nfail = \"EACCES\"\n";
    let mut command = xenmonitor(&scratch.file("s.toml", &format!("{HOST}{closed}")));
    let mut daemon = Daemon::start(command.args(["--detail", "runstates", "--interval", "20ms", "--print", "json"]));
    (0..3).for_each(|_| assert!(!daemon.wait_for_line().contains("\"missed_changes\":null")));
    daemon.signal("HUP");
    daemon.wait_for_log("cannot read runstates: Permission denied");
    while !daemon.wait_for_line().contains("\"missed_changes\":null") {
        assert!(daemon.try_wait().unwrap().is_none());
    }
    drop(daemon);

    let host = scratch.file("t.toml", HOST);
    let mut check = xenmonitor(&host);
    check.args(["--check", "--print", "statsd", "--detail", "runstates"]);
    assert!(run(&mut check).out.contains("\nrunstates    ok   of 2 domains, from libxenctrl\n"));
    check.env("XENMONITOR_LIBXENSTAT", shim_without("xc_get_runstate_info"));
    let line =
        "\nrunstates    BAD  omitted: the library has no xc_get_runstate_info, as XenServer's and XCP-ng's have\n";
    let said = run(&mut check);
    assert!(said.status == Some(1) && said.out.contains(line), "{}", said.out);
    let all = run(check.args(["--detail", "pcpus"]));
    assert!(all.out.contains("\npcpus        ok   16, from libxenctrl\n"), "{}", all.out);
}
