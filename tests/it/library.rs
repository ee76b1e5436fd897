//! Libraries that behave as real ones do, though the shim does not.

use std::os::unix::net::UnixDatagram;

use crate::support::{
    Daemon, Lines, Scratch, bare, behind, clean, run, scenario, shim, shim_with, with_files, xenmonitor,
};

/// libxenctrl keeps the text of an error in thread-specific data. When the thread ends, code of the library frees it.
#[test]
fn library_is_never_unloaded() {
    let scratch = Scratch::new();
    let library = shim_with("thread_key.c", &scratch);
    let xenmonitor = || {
        let mut command = bare();
        command
            .env("XENMONITOR_VIFS", "libxenstat")
            .env("XENSTAT_SCENARIO", scenario("demo"))
            .env("XENMONITOR_LIBXENSTAT", &library);
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

/// Such a library makes all calls about vcpus fail, so that libxenstat leaves out all domains, or all calls.
#[test]
fn library_of_another_release_is_named() {
    let scratch = Scratch::new();
    // The shim's file is libxenstat.so.4.N, and none of these.
    let host = "[host]\nxen_version = \"4.39.1\"\n[[domain]]\nid = 0\nname = \"Domain-0\"\n";
    let scenario = scratch.file("s.toml", &format!("{host}[[fault]]\nif_asked = [\"VCPU\"]\nempty = true\n"));
    let file = shim().file_name().unwrap().to_str().unwrap();
    let release = file.strip_prefix("libxenstat.so.").unwrap();
    let warning = format!("libxenstat {release} is of another release than the running Xen 4.39.1");
    let said = run(xenmonitor(&scenario).args(["--count", "8", "--interval", "20ms", "--print", "json"]));
    assert_eq!((said.status, said.out.lines().count()), (Some(0), 8), "{}", said.err);
    assert_eq!(said.err.matches(&format!("WARN  {warning}: metrics of vcpus are omitted")).count(), 1, "{}", said.err);
    assert!(said.out.lines().all(|poll| poll.contains("\"vcpu\":null") && poll.contains("Domain-0")), "{}", said.out);
    let said = run(xenmonitor(&scenario).args(["--check", "--print", "json"]));
    assert!(said.out.contains(&format!("vcpus        BAD  omitted: {warning}")), "{}", said.out);
    // Without vcpus it works, and nobody misses anything.
    let said = run(xenmonitor(&scenario).args(["--count", "3", "--interval", "20ms", "--print", "statsd"]));
    assert_eq!((said.status, said.err.contains("WARN")), (Some(0), false), "{}", said.err);

    // Without domains in either case xenstored is to blame.
    let scenario = scratch.file("s.toml", &format!("{host}[[fault]]\nempty = true\n"));
    let said = run(xenmonitor(&scenario).args(["--once", "--print", "json"]));
    assert_eq!(said.status, Some(1));
    assert!(said.err.contains("libxenstat shows no domains, not even Domain-0"), "{}", said.err);

    // The release of the hypervisor is then the kernel's to say.
    let scenario = scratch.file("s.toml", &format!("{host}[[fault]]\nfail = \"EACCES\"\n"));
    let script = "mount -t tmpfs none /sys && mkdir -p /sys/hypervisor/version && \
                  echo 4 >/sys/hypervisor/version/major && echo 39 >/sys/hypervisor/version/minor && ";
    let mut command = with_files(xenmonitor(&scenario).args(["--once", "--print", "json"]), &[], &[], script);
    let said = run(&mut command);
    assert_eq!(said.status, Some(1));
    let reason = format!("libxenstat {release} is of another release than the running Xen 4.39\n");
    assert!(said.err.ends_with(&reason), "{}", said.err);
}

/// Where the library ends the process at the first call, and systemd starts it again and again. On one CPU, and without
/// preemption by a thread that wakes up, so that nothing is written while the library is called.
#[test]
fn library_call_is_announced_before_it_is_made() {
    const ON_ONE_CPU: &str = "exec chrt --batch 0 taskset -c \
        $(sed -n 's/^Cpus_allowed_list:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/self/status) \"$0\" \"$@\"";
    let scratch = Scratch::new();
    let library = shim_with("abort.c", &scratch);
    let systemd = UnixDatagram::bind(scratch.join("notify")).unwrap();
    systemd.set_nonblocking(true).unwrap();
    for (more, level, vcpus) in [
        (&["--statsd", "udp://127.0.0.1:9"][..], " INFO ", ""),
        (&["--print", "json", "--log", "debug"], "DEBUG", "vcpus, "),
    ]
    .repeat(5)
    {
        let mut command = xenmonitor(&scenario("demo"));
        command.env("XENMONITOR_LIBXENSTAT", &library).env("NOTIFY_SOCKET", scratch.join("notify"));
        let mut on_one_cpu = clean("sh");
        on_one_cpu.args(["-c", ON_ONE_CPU]);
        let said = run(behind(on_one_cpu, &command).args(more));
        assert_eq!(said.status, None, "{}", said.err);
        // The file of the function that was called first, to open the handle.
        let call = format!("asking {} for domains, {vcpus}network interfaces, disks", shim().display());
        assert!(said.err.ends_with(&format!("{level} {call}\n")), "{}", said.err);
        let mut buffer = [0; 4096];
        let length = systemd.recv(&mut buffer).expect("a status");
        assert_eq!(std::str::from_utf8(&buffer[..length]), Ok(&*format!("STATUS={call}\n")));
        assert!(systemd.recv(&mut buffer).is_err(), "that is the last");
    }
}

/// At each later call it is a line for debugging, but at the first after SIGHUP: the library may be another one then.
#[test]
fn library_calls_are_announced_once() {
    let mut command = xenmonitor(&scenario("demo"));
    let mut daemon =
        Daemon::start(command.args(["--interval", "50ms", "--log", "debug", "--statsd", "udp://127.0.0.1:9"]));
    let log = daemon.wait_for_log("DEBUG asking ");
    daemon.signal("HUP");
    let log = log + &daemon.wait_for_logs(&["SIGHUP", "INFO  asking "]) + &daemon.wait_for_log("DEBUG asking ");
    assert_eq!(log.matches("INFO  asking ").count(), 2, "{log}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().status, Some(0));
}

/// Also what it prints at every poll.
#[test]
fn messages_of_libraries_are_logged_once() {
    let scratch = Scratch::new();
    let library = shim_with("messages.c", &scratch);
    let mut command = xenmonitor(&scenario("demo"));
    command.env("XENMONITOR_LIBXENSTAT", library).args(["--print", "statsd"]);
    let checked = run(behind(clean("env"), &command).arg("--check"));
    assert!(checked.out.contains("libxenstat: xc: error: no buffer\n") && checked.err.is_empty(), "{}", checked.out);
    let said = run(command.args(["--count", "50", "--interval", "20ms"]));
    assert_eq!(said.status, Some(0), "{}", said.err);
    assert_eq!(said.err.matches("WARN  libxenstat: xc: error: no buffer\n").count(), 1, "{}", said.err);
    assert_eq!(said.err.matches("libxenstat: call ").count(), 7, "{}", said.err);
}
