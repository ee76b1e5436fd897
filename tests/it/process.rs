//! The process starts no other process, and leaks no memory.

use std::time::{Duration, Instant};

use crate::support::{
    Daemon, Listener, PATIENCE, Scratch, am_root, behind, clean, run, run_for, scenario, unshared, xenmonitor,
};

fn under(wrapper: &[&str], command: &std::process::Command) -> std::process::Command {
    let mut wrapped = clean(wrapper[0]);
    wrapped.args(&wrapper[1..]);
    behind(wrapped, command)
}

/// As in containers, whose session and process group may be outside: their IDs are 0 then.
#[test]
fn process_runs_in_a_pid_namespace() {
    let mut daemon = xenmonitor(&scenario("demo"));
    daemon.args(["--once", "--print", "statsd"]);
    let said = run(&mut behind(unshared(&["--pid", "--fork"], "env"), &daemon));
    assert_eq!(said.status, Some(0), "{}", said.err);
    assert!(
        said.out.contains(".web01.mem_k:4194304|g\n") && !said.err.contains("panicked"),
        "{}{}",
        said.out,
        said.err
    );
}

#[test]
fn process_starts_only_threads() {
    let scratch = Scratch::new();
    let trace = scratch.join("trace");
    let mut daemon = xenmonitor(&scenario("demo"));
    // By name, so that it has to be resolved.
    let listener = Listener::new("127.0.0.1:0");
    let url = listener.url().replace("127.0.0.1", "localhost");
    daemon.args(["--interval", "1s", "--count", "3", "--statsd", &url]);
    let said = run(&mut under(&["strace", "-f", "-e", "trace=process", "-o", trace.to_str().unwrap()], &daemon));
    assert_eq!(said.status, Some(0), "{}", said.err);
    let trace = std::fs::read_to_string(trace).unwrap();
    let mut threads = 0;
    for (n, line) in trace.lines().enumerate() {
        let call = line.split_once(' ').unwrap().1.trim();
        let name = call.trim_start_matches("<... ").split(['(', ' ']).next().unwrap();
        match name {
            "execve" => assert_eq!(n, 0, "{line}"),
            "clone" | "clone3" if call.starts_with("<...") => {}
            "clone" | "clone3" => {
                assert!(call.contains("CLONE_THREAD"), "{line}");
                threads += 1;
            }
            // `???` is a thread that exits with the process before strace can read its system call.
            "exit" | "exit_group" | "+++" | "???" => {}
            _ => panic!("a system call of another kind: {line}"),
        }
    }
    assert!(threads >= 2, "{trace}");
}

/// A signal that comes while threads are being started is not lost, and ends the program as any other. strace makes the
/// start of the poller's thread, the second, take long.
#[test]
fn process_that_is_just_starting_handles_signals() {
    let inject = ["strace", "-D", "-f", "-o", "/dev/null", "-e", "inject=clone3,clone:delay_exit=2000000:when=2"];
    for (signal, last) in [("TERM", "SIGTERM: exiting after "), ("INT", "SIGINT: exiting after ")] {
        let mut command = xenmonitor(&scenario("demo"));
        command.args(["--interval", "1h", "--jitter", "1h", "--print", "statsd"]);
        let mut daemon = Daemon::start(&mut under(&inject, &command));
        let start = Instant::now();
        let has_poller = || {
            let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
            let names = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("comm")));
            names.flatten().any(|name| name == "poller\n")
        };
        while !has_poller() {
            assert!(start.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(1));
        }
        daemon.signal(signal);
        daemon.wait_for_log(last);
        assert_eq!(daemon.end().status, Some(0), "{signal}");
    }
}

#[test]
fn process_is_clean_under_valgrind() {
    let mut daemon = xenmonitor(&scenario("busy"));
    let listener = Listener::new("127.0.0.1:0");
    daemon.args(["--interval", "50ms", "--count", "20", "--print", "json", "--statsd", &listener.url()]);
    // Every library is used, and UUIDs are wanted for JSON.
    daemon.args(["--detail", "all,runstates"]);
    // valgrind takes the upper half of what capget(2) writes for uninitialised, which matters where the lower one is 0.
    daemon.args((!am_root()).then_some("--keep-privileges"));
    let wrapper = ["valgrind", "--leak-check=full", "--errors-for-leak-kinds=definite", "--error-exitcode=99"];
    let said = run_for(PATIENCE * 5, &mut under(&wrapper, &daemon));
    assert_eq!(said.status, Some(0), "{}", said.err);
    assert!(said.err.contains("ERROR SUMMARY: 0 errors"), "{}", said.err);
    let lost = said.err.contains("definitely lost: 0 bytes") || said.err.contains("no leaks are possible");
    assert!(lost && said.err.contains("exiting after 20 polls (0 failed"), "{}", said.err);
}
