//! The unit for systemd: checked by systemd's own tools, and run by a systemd in namespaces.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Daemon, Listener, PATIENCE, Scratch, clean, out_of, root, run, scenario, shim, without_lateness};

/// The exposure level of `systemd-analyze security`, in tenths; docs/privileges.md explains each part of it.
const EXPOSED: u32 = 18;

/// The packaged unit, with the path of the binary under test.
fn unit(scratch: &Scratch) -> PathBuf {
    let unit = std::fs::read_to_string(root().join("packaging/systemd/xenmonitor.service")).unwrap();
    let installed = "ExecStart=/usr/sbin/xenmonitor\n";
    assert!(unit.contains(installed));
    let built = format!("ExecStart={}\n", env!("CARGO_BIN_EXE_xenmonitor"));
    scratch.file("xenmonitor.service", &unit.replace(installed, &built))
}

fn analyze(arguments: &[&str], unit: &Path) -> (Option<i32>, String) {
    let said = run(clean("systemd-analyze").args(arguments).arg(unit));
    (said.status, said.out + &said.err)
}

#[test]
fn unit_file_is_valid() {
    let scratch = Scratch::new();
    let (status, said) = analyze(&["verify", "--man=no", "--recursive-errors=no"], &unit(&scratch));
    assert_eq!(status, Some(0), "{said}");
    // Messages on other units of the machine are ignored.
    assert!(!said.contains("xenmonitor"), "{said}");
}

#[test]
fn unit_file_exposure_is_as_documented() {
    let scratch = Scratch::new();
    let unit = unit(&scratch);
    let security = |threshold: u32| {
        analyze(&["security", "--offline=true", "--no-pager", &format!("--threshold={threshold}")], &unit)
    };
    let (status, said) = security(EXPOSED);
    // Other versions use other weights.
    let counts_so = out_of(clean("systemd-analyze").arg("--version")).starts_with("systemd 252 ");
    if counts_so {
        assert_eq!(status, Some(0), "{said}");
        assert_eq!(security(EXPOSED - 1).0, Some(1), "it is less exposed than documented");
    } else {
        assert_eq!(security(EXPOSED + 5).0, Some(0), "{said}");
    }
    // A `|` in a table is written `\|`.
    let docs = std::fs::read_to_string(root().join("docs/privileges.md")).unwrap().replace("\\|", "|");
    let score = format!("{}.{}", EXPOSED / 10, EXPOSED % 10);
    assert!(docs.contains(&format!("exposure level {score}")), "docs/privileges.md does not have {score}");
    // The table there has each finding.
    for shortcoming in said.lines().filter_map(|line| line.strip_prefix("✗ ")).filter(|_| counts_so) {
        let name = shortcoming.split_whitespace().next().unwrap();
        assert!(docs.contains(&format!("`{name}`")), "docs/privileges.md does not explain {name}");
    }
}

/// Boots a systemd in namespaces, as in a container, that starts only the unit. The machine's files are read-only,
/// except the scratch directory; the daemon's are under /mnt, which no Protect…= setting hides.
const BOOT: &str = r#"
set -e
mount --bind "$SCRATCH" "$SCRATCH"
mount -o remount,bind,ro /
mount -t tmpfs none /run && mount -t tmpfs none /mnt
cp "$DAEMON" /mnt/xenmonitor && cp "$SHIM" /mnt/libxenstat.so && cp "$SCENARIO" /mnt/scenario.toml
umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup
mount -t proc none /proc
exec env -i container=test SYSTEMD_UNIT_PATH="$SCRATCH/units" /lib/systemd/systemd --system --unit=xenmonitor.service \
    --log-target=console --show-status=no
"#;

/// The settings that differ there.
const DROP_IN: &str = "[Unit]\nDefaultDependencies=no\nConditionPathExists=\n\
    [Service]\nEnvironmentFile=\nEnvironmentFile=SCRATCH/default\n\
    ExecStart=\nExecStart=/mnt/xenmonitor\nStandardError=append:SCRATCH/log\n";

/// A control group for it, outside those of the machine's own systemd.
struct ControlGroup(PathBuf);

impl ControlGroup {
    fn new() -> Self {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let version_2 = mounts.find(|mount| mount[2] == "cgroup2").expect("a file system of type cgroup2");
        let path = Path::new(version_2[1]).join(format!("xenmonitor-test-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self(path)
    }

    /// The first process in a group below it; waits until there is one.
    fn first_in(&self, group: &str) -> u32 {
        let start = Instant::now();
        loop {
            let processes = std::fs::read_to_string(self.0.join(group).join("cgroup.procs")).unwrap_or_default();
            if let Some(Ok(pid)) = processes.lines().next().map(str::parse) {
                return pid;
            }
            assert!(start.elapsed() < PATIENCE, "nothing runs in {group}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Killed processes take a moment to disappear.
        for _ in 0..200 {
            let _ =
                Command::new("find").arg(&self.0).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]).output();
            if !self.0.exists() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The unit forbids nothing that the daemon needs, to work or to drop its privileges.
#[test]
#[ignore = "needs root and version 2 of control groups: make test-root"]
fn unit_file_lets_the_daemon_work() {
    let group = ControlGroup::new();
    let scratch = Scratch::new();
    let units = scratch.join("units");
    std::fs::create_dir_all(units.join("xenmonitor.service.d")).unwrap();
    std::fs::copy(root().join("packaging/systemd/xenmonitor.service"), units.join("xenmonitor.service")).unwrap();
    let place = scratch.display().to_string();
    std::fs::write(units.join("xenmonitor.service.d/test.conf"), DROP_IN.replace("SCRATCH", &place)).unwrap();
    let listener = Listener::new("127.0.0.1:0");
    let url = listener.url().replace("127.0.0.1", "localhost");
    scratch.file(
        "default",
        &format!(
            "XENSTAT_SCENARIO=/mnt/scenario.toml\nXENMONITOR_LIBXENSTAT=/mnt/libxenstat.so\n\
             XENMONITOR_INTERVAL=1s\nXENMONITOR_DISKS=backends\nXENMONITOR_STATSD={url}\n"
        ),
    );

    let mut command = clean("sh");
    let enter = "echo $$ >\"$GROUP/cgroup.procs\" && exec unshare --pid --fork --kill-child --mount --cgroup --uts --ipc \
                 sh -c \"$BOOT\"";
    command.args(["-c", enter]).env("BOOT", BOOT).env("GROUP", &group.0).env("SCRATCH", &*scratch);
    command.env("DAEMON", env!("CARGO_BIN_EXE_xenmonitor")).env("SHIM", shim()).env("SCENARIO", scenario("demo"));
    let systemd = Daemon::start(&mut command);

    assert!(listener.datagram().contains("|g"));
    let daemon = group.first_in("system.slice/xenmonitor.service");
    let status = std::fs::read_to_string(format!("/proc/{daemon}/status")).unwrap();
    for line in ["CapBnd:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "no {line}: {status}");
    }
    let enter = ["--target", &group.first_in("init.scope").to_string(), "--mount", "--pid"];
    out_of(clean("nsenter").args(enter).args(["systemctl", "reload", "xenmonitor"]));
    let log = || std::fs::read_to_string(scratch.join("log")).unwrap();
    let start = Instant::now();
    while log().matches("reading Xen 4.17.0").count() < 2 {
        assert!(start.elapsed() < PATIENCE, "{}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
    let state = |property| {
        out_of(clean("nsenter").args(enter).args([
            "systemctl",
            "show",
            "--value",
            "--property",
            property,
            "xenmonitor",
        ]))
    };
    assert_eq!(state("ActiveState"), "active\n");
    // Until the poll is over it says what libxenstat is asked for.
    while !state("StatusText").contains("5 domains") {
        assert!(start.elapsed() < PATIENCE, "{}", state("StatusText"));
    }
    out_of(clean("nsenter").args(enter).args(["systemctl", "stop", "xenmonitor"]));
    drop(systemd);
    let log = log();
    assert!(log.contains("SIGTERM: exiting after") && log.contains("(0 failed, "), "{log}");
    let log = without_lateness(&log).join("\n");
    assert!(!log.contains("cannot") && !log.contains("WARN"), "{log}");
}
