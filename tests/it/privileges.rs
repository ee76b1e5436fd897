//! The privileges that the process keeps after start-up.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;

use crate::servers::wait_until;
use crate::support::{Daemon, Listener, PATIENCE, Scratch, am_root, behind, clean, run, scenario, xenmonitor};

/// The lines of a thread's `status` on its privileges.
const LINES: [&str; 7] = ["CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd", "NoNewPrivs", "Seccomp"];

/// The threads of a daemon: name, and the values of [`LINES`].
fn threads(daemon: &Daemon) -> Vec<(String, Vec<String>)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", daemon.id())).unwrap();
    let status = |task: std::io::Result<std::fs::DirEntry>| {
        // A thread may have ended meanwhile.
        let status = std::fs::read_to_string(task.unwrap().path().join("status")).ok()?;
        let value = |line: &str| {
            let prefix = format!("{line}:");
            status.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("missing").trim().to_owned()
        };
        Some((value("Name"), LINES.iter().map(|line| value(line)).collect()))
    };
    tasks.filter_map(status).collect()
}

#[test]
fn privileges_are_dropped_in_every_thread() {
    let scratch = Scratch::new();
    let udp = Listener::new("127.0.0.1:0");
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let unix = scratch.join("statsd");
    let _unix = UnixDatagram::bind(&unix).unwrap();
    let urls = [
        udp.url().replace("127.0.0.1", "localhost"),
        format!("tcp://{}", tcp.local_addr().unwrap()),
        format!("unix://{}", unix.display()),
    ];
    let mut command = xenmonitor(&scenario("demo"));
    let mut daemon = Daemon::start(command.args(["--interval", "20ms", "--statsd", &urls.join(",")]));
    daemon.wait_for_log("reading Xen");
    udp.datagram();
    // A new thread has the name of the one that started it, until it runs.
    let expected = [("xenmonitor", 1), ("poller", 1), ("signals", 1), ("sender", 3)];
    let are_named = |threads: &[(String, Vec<String>)]| {
        let count = |name: &str| threads.iter().filter(|(thread, _)| thread == name).count();
        expected.iter().all(|(name, at_least)| count(name) >= *at_least)
    };
    let mut all = threads(&daemon);
    assert!(
        wait_until(|| {
            all = threads(&daemon);
            are_named(&all)
        }),
        "{all:?}"
    );
    let none = "0000000000000000";
    // A process without capabilities cannot clear the bounding set, but gains nothing from it either.
    let bounding = am_root().then_some(none);
    for (name, values) in &all {
        for (line, value) in LINES.iter().zip(values) {
            let expected = match *line {
                "CapBnd" => bounding.unwrap_or(value),
                "NoNewPrivs" => "1",
                // A filter.
                "Seccomp" => "2",
                _ => none,
            };
            assert_eq!(value, expected, "{line} of {name}");
        }
    }
    daemon.signal("HUP");
    daemon.wait_for_log("reading Xen");
    daemon.signal("TERM");
    let said = daemon.end();
    assert!(said.err.contains("(0 failed"), "{}", said.err);
}

#[test]
fn privileges_are_kept_with_the_option() {
    let mut command = xenmonitor(&scenario("demo"));
    let mut daemon = Daemon::start(command.args(["--keep-privileges", "--print", "json"]));
    daemon.wait_for_line();
    let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    for (name, values) in threads(&daemon) {
        assert_eq!((&*values[2], &*values[6]), (own, "0"), "{name}");
    }
}

/// On old kernels libxenctrl locks memory, which needs CAP_IPC_LOCK or a limit; the limit is raised first.
#[test]
fn privileges_memory_lock_limit_is_raised_first() {
    let scratch = Scratch::new();
    let trace = scratch.join("trace");
    let mut command = clean("strace");
    command.args(["-f", "-e", "trace=prlimit64,capset", "-o"]).arg(&trace);
    run(behind(command, &xenmonitor(&scenario("demo"))).args(["--once", "--print", "table"]));
    let trace = std::fs::read_to_string(trace).unwrap();
    let raised = trace.find("RLIMIT_MEMLOCK, {rlim_cur=RLIM64_INFINITY, rlim_max=RLIM64_INFINITY}, NULL)");
    // A process without capabilities to drop cannot raise it either.
    assert!(raised.is_some() && trace.find("capset(").is_none_or(|given_up| raised < Some(given_up)), "{trace}");
}

/// The shim tries to, in place of a compromised libxenstat.
#[test]
fn privileges_forbid_running_programs() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", "[[domain]]\nid = 0\n[[fault]]\nat = 0\nrun = \"/bin/true\"\n");
    let said = run(xenmonitor(&scenario).args(["--once", "--print", "table"]));
    assert_eq!(said.status, Some(0), "{}", said.err);
    assert!(said.err.contains("/bin/true: Function not implemented (os error 38)\n"), "{}", said.err);
    let said = run(xenmonitor(&scenario).args(["--once", "--print", "table", "--keep-privileges"]));
    assert!(said.err.contains("/bin/true: exit status: 0\n"), "{}", said.err);
}

/// Each of these calls returns another error for arguments of 0 if the filter allows it.
#[test]
fn privileges_seccomp_refuses_system_calls() {
    let refused = [
        libc::SYS_execve,
        libc::SYS_execveat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork,
        // Without CLONE_THREAD.
        libc::SYS_clone,
        libc::SYS_clone3,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_modify_ldt,
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
        // Of the family 0.
        libc::SYS_socket,
    ];
    let scratch = Scratch::new();
    let fault = format!("[[domain]]\nid = 0\n[[fault]]\nat = 0\nsystem_calls = {refused:?}\n");
    let said = run(xenmonitor(&scratch.file("s.toml", &fault)).args(["--once", "--print", "table"]));
    assert_eq!(said.status, Some(0), "{}", said.err);
    for call in refused {
        let line = format!("system call {call}: Function not implemented (os error 38)\n");
        assert!(said.err.contains(&line), "{call}: {}", said.err);
    }
}

/// Sockets of another user, as of Datadog's agent, which others may write to or not.
#[test]
#[ignore = "needs root, to make others' sockets: make test-root"]
fn privileges_sockets_of_others_depend_on_their_mode() {
    let scratch = Scratch::new();
    let path = scratch.join("dsd.socket");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    chown(&path, Some(1), Some(1)).unwrap();
    let send = |mode, more: &[&str]| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let url = format!("unix://{}", path.display());
        run(xenmonitor(&scenario("demo")).args(["--once", "--statsd", &url]).args(more))
    };
    let gets_gauges = || socket.recv(&mut [0; 2000]).unwrap() > 0;
    let said = send(0o722, &[]);
    assert!(said.status == Some(0) && gets_gauges(), "{}", said.err);
    let said = send(0o755, &[]);
    assert_eq!(said.status, Some(1));
    let advice = "Permission denied (os error 13): the socket must be writable without root's capabilities (see \
                  --keep-privileges)";
    assert!(said.err.contains(advice), "{}", said.err);
    socket.set_nonblocking(true).unwrap();
    while socket.recv(&mut [0; 2000]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    let said = send(0o755, &["--keep-privileges"]);
    assert!(said.status == Some(0) && gets_gauges(), "{}", said.err);
}

/// strace has the system calls fail, for a daemon with capabilities (if root runs this) and for one without.
#[test]
fn privileges_that_cannot_be_dropped_are_logged() {
    let log = |wrapper: &[&str], refused: &str| {
        let mut command = clean(wrapper[0]);
        command.args(&wrapper[1..]).args(["strace", "-f", "-o", "/dev/null"]);
        command.args([format!("-etrace={refused}"), format!("-einject={refused}:error=EPERM")]);
        let mut command = behind(command, &xenmonitor(&scenario("demo")));
        let said = run(command.args(["--once", "--print", "table"]));
        assert_eq!((said.status, said.out.lines().count()), (Some(0), 6), "{}", said.err);
        said.err
    };
    let logged = log(&["env"], "seccomp");
    assert_eq!(logged.matches("cannot ").count(), 1, "{logged}");
    assert!(logged.contains(" WARN  cannot filter system calls: "), "{logged}");
    let logged = log(&["env"], "capset,seccomp");
    assert_eq!(logged.contains("cannot drop capabilities: "), am_root(), "{logged}");
    // As in the unit for systemd, whose filter refuses to change what is not there.
    let logged = log(&["setpriv", "--bounding-set=-all", "--inh-caps=-all"], "capset");
    assert!(!logged.contains("cannot "), "{logged}");
}
