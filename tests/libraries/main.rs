//! Compares our program with the real xentop, both over the real libxenstat of several releases of Xen.
//!
//! `make test-libraries` has `fetch` unpack them from Debian's packages. Under libxenstat are stand-ins for libxenctrl
//! and libxenstore, see xen.c; beside it are the kernel's files of a simulated host, see host.rs.

mod host;
mod release;
mod stand_ins;
#[allow(dead_code, reason = "the everyday tests need more of it")]
#[path = "../it/support.rs"]
mod support;
mod table;

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

use host::{Domain, Host, TIB};
use release::Release;
use support::{Scratch, last_values, root, run};
use table::Table;

const POLLS: usize = 3;

const BY_DEFAULT: &[&str] = &[];
/// Networks and disks as xentop has them. By default they come from elsewhere where xentop is wrong.
const AS_XENTOP: &[&str] = &["--vifs", "libxenstat", "--disks", "libxenstat"];

/// The output of a program that succeeds and writes nothing to stderr.
fn output(command: &mut Command) -> String {
    let said = run(command);
    assert_eq!((said.status, said.err.as_str()), (Some(0), ""), "{command:?}");
    said.out
}

fn our_table(release: &Release, host: &Scratch, options: &[&str]) -> Table {
    let mut command = release.xenmonitor(host);
    command.args(["--print", "table", "--log", "error", "--interval", "10ms", "--count", &POLLS.to_string()]);
    Table::parse(&output(command.args(options)))
}

/// Compares the tables of a host, for every release. The cells that differ have to be `exceptions`. Returns the tables
/// of xentop.
fn compare(situation: &str, options: &[&str], describe: impl Fn(&Release) -> Host, exceptions: &[&str]) -> Vec<Table> {
    compare_after(situation, options, describe, exceptions, |_| {})
}

/// As [`compare`], but `change` is applied to the tables of xentop first.
fn compare_after(
    situation: &str,
    options: &[&str],
    describe: impl Fn(&Release) -> Host,
    exceptions: &[&str],
    change: impl Fn(&mut Table),
) -> Vec<Table> {
    let mut tables = Vec::new();
    let mut report = format!("{:<85}", format!("{situation}, {}", options.join(" ")).trim_end_matches(", "));
    for release in release::all() {
        let scratch = Scratch::new();
        describe(release).write(&release.version, &scratch);
        let mut theirs = Table::parse(&output(&mut release.xentop(&scratch, POLLS)));
        change(&mut theirs);
        let differences = theirs.differences(&our_table(release, &scratch, options));
        assert_eq!(differences, exceptions, "{situation}, Xen {}", release.version);
        report += &format!("  {}: {} cells, {} differ", release.version, theirs.cells(), differences.len());
        tables.push(theirs);
    }
    println!("{report}");
    tables
}

/// Nothing differs, whatever networks and disks are read from.
fn agree(situation: &str, describe: impl Fn(&Release) -> Host) {
    compare(situation, BY_DEFAULT, &describe, &[]);
    compare(situation, AS_XENTOP, &describe, &[]);
}

fn names(table: &Table, poll: usize) -> Vec<&str> {
    table.polls[poll].iter().map(|row| row.name.as_str()).collect()
}

#[test]
fn ordinary_host() {
    agree("an ordinary host", |_| {
        let states = ["r", "b", "p", "s", "sc", "", "rp"];
        let guest = |(id, state)| Domain { state, ..Domain::new(id, &format!("web {id}")) };
        Host::new((1..).zip(states).map(guest)).interfaces(&["vif1.0", "vif1.1", "vif3.0", "vif7.3"]).disks(&[
            "vbd-1-51712",
            "vbd-1-51728",
            "vbd-2-51712",
            "vbd-7-768",
        ])
    });
}

fn many(count: u32, step: u32) -> Host {
    Host::new((1..=count).map(|n| Domain::new(n * step, &format!("vm{n}"))))
}

#[test]
fn thousand_domains() {
    agree("a thousand domains", |_| many(1000, 1).interfaces(&["vif1.0", "vif999.0"]).disks(&["vbd-500-51712"]));
}

/// xentop lists domains twice where there are more than 256 with gaps between their domids (fact 11).
#[test]
fn sparse_domids() {
    let drop_duplicates = |table: &mut Table| {
        for rows in &mut table.polls {
            let before = rows.len();
            rows.dedup();
            assert_eq!(before - rows.len(), 170, "xentop lists so many domains twice");
        }
    };
    for options in [BY_DEFAULT, AS_XENTOP] {
        compare_after("every third domid, 301 domains", options, |_| many(300, 3), &[], drop_duplicates);
    }
}

#[test]
fn dying_and_nameless_domains_are_left_out() {
    let host = |_: &Release| {
        let dying = Domain { state: "d", vcpu_errno: libc::ESRCH, ..Domain::new(5, "dying") };
        let nameless = Domain { name: None, ..Domain::new(6, "") };
        Host::new([Domain::new(4, "web"), dying, nameless, Domain::new(7, "db")]).interfaces(&["vif4.0", "vif7.0"])
    };
    for options in [BY_DEFAULT, AS_XENTOP] {
        for table in compare("a dying domain and one without a name", options, host, &[]) {
            assert_eq!(names(&table, 1), ["db", "Domain-0", "web"]);
        }
    }
}

#[test]
fn long_names() {
    agree("names of 300 bytes", |_| Host::new((1..=3).map(|id| Domain::new(id, &"n".repeat(299 + id as usize)))));
}

#[test]
fn many_vcpus() {
    agree("128 vcpus", |_| {
        let busy = |id| Domain { vcpus: 128, cpu_ns_per_poll: 127_500_000_000, ..Domain::new(id, &format!("big{id}")) };
        Host { cpus: 128, ..Host::new([busy(1), Domain { vcpus: 1, ..Domain::new(2, "small") }]) }
    });
}

#[test]
fn large_numbers() {
    agree("more than 16 TiB of memory, 2^54 ns, SSID 4e9", |_| {
        let large = Domain {
            pages: 17 * TIB,
            cpu_ns: (1 << 54) + 999_999_999,
            ssid: 4_000_000_000,
            max_pages: u64::from(u32::MAX) - 1,
            ..Domain::new(1, "large")
        };
        Host { pages: 32 * TIB, ..Host::new([large, Domain::new(2, "small")]) }
    });
}

/// The number of its highest vcpu is ~0, as it has none yet.
#[test]
fn domain_being_built() {
    agree("a domain being built", |_| {
        let built = Domain { vcpus: 0, cpu_ns: 0, cpu_ns_per_poll: 0, pages: 0, state: "p", ..Domain::new(9, "new") };
        Host::new([Domain::new(1, "web"), built])
    });
}

#[test]
fn disk_without_statistics() {
    agree("a VBD without statistics", |_| {
        let host = Host::new([Domain::new(1, "web"), Domain::new(2, "db")]).disks(&["vbd-1-51712", "vbd-2-51712"]);
        Host { disks_without_statistics: vec!["vbd-1-51728".into()], ..host }
    });
}

/// xentop counts a VLAN on a VIF as one more network, and its bytes twice. We count VIFs alone.
#[test]
fn vlan_on_a_vif() {
    let host = |_: &Release| Host::new([Domain::new(9, "web")]).interfaces(&["vif9.0", "vif9.0.100"]);
    compare("a VLAN on a VIF", AS_XENTOP, host, &[]);
    let exceptions = ["web NETRX(k): 68359, ours 29296", "web NETS: 2, ours 1", "web NETTX(k): 47851, ours 20507"];
    compare("a VLAN on a VIF", BY_DEFAULT, host, &exceptions);
}

/// xentop counts the tap of an HVM guest's emulated card as one more network (fact 3). We count the card once.
#[test]
fn tap_of_a_vif() {
    let host = |_: &Release| Host::new([Domain::new(9, "win")]).interfaces(&["vif9.0", "vif9.0-emu"]);
    compare("a tap beside a VIF", AS_XENTOP, host, &[]);
    compare("a tap beside a VIF", BY_DEFAULT, host, &["win NETS: 2, ours 1"]);
}

/// xentop shows no networks on a host without a Linux bridge (fact 1). We show all.
#[test]
fn no_bridge() {
    let host = |_: &Release| {
        let host = Host::new([Domain::new(1, "web"), Domain::new(2, "db")]);
        Host { has_bridge: false, ..host.interfaces(&["vif1.0", "vif1.1", "vif2.0"]) }
    };
    compare("no bridge", AS_XENTOP, host, &[]);
    let exceptions = [
        "db NETRX(k): 0, ours 39062",
        "db NETS: 0, ours 1",
        "db NETTX(k): 0, ours 27343",
        "web NETRX(k): 0, ours 48828",
        "web NETS: 0, ours 2",
        "web NETTX(k): 0, ours 34179",
    ];
    compare("no bridge", BY_DEFAULT, host, &exceptions);
}

/// After an update of Xen's packages and before the reboot, the library uses another version of the hypervisor's
/// interface than the hypervisor does. Often only one of its two parts has changed: then the calls about vcpus fail,
/// with EACCES, and the others work.
#[test]
fn library_of_another_release() {
    for release in release::all() {
        let scratch = Scratch::new();
        let mut host = Host::new([Domain::new(1, "web"), Domain::new(2, "db")]);
        host.domains.iter_mut().for_each(|domain| domain.vcpu_errno = libc::EACCES);
        let (major, minor) = release.name.split_once('.').unwrap();
        let running = format!("{major}.{}", minor.parse::<u32>().unwrap() + 1);
        host.running = Some(running.clone());
        host.write(&format!("{running}.5"), &scratch);

        let mut command = release.xenmonitor(&scratch);
        command.args(["--count", "2", "--interval", "2s", "--print", "statsd", "--detail", "vcpus"]);
        let said = run(command.args(["--template", "{domain}.{metric}", "--on-vanish", "zero"]));
        assert_eq!(said.status, Some(0), "Xen {running}, libxenstat {}: {}", release.name, said.err);
        let warnings: Vec<&str> = said.err.lines().filter(|line| !line.contains(" INFO ")).collect();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("libxenstat") && warnings[0].contains(&running), "{warnings:?}");
        let gauges = last_values(&said.out);
        for domain in ["Domain-0", "web", "db"] {
            assert!(gauges[&format!("{domain}.mem_k")] > 0.0 && gauges[&format!("{domain}.cpu_sec")] > 0.0);
        }
        assert!(!gauges.keys().any(|name| name.contains(".vcpu.")), "{:?}", gauges.keys());
    }
}

/// The functions of libxenstore are found under the libxenstat of each release.
#[test]
fn uuids() {
    const WEB: Option<&str> = Some("c9a5f0e2-0b7d-4c1e-9f3a-1d2e3f405162");
    for release in release::all() {
        let scratch = Scratch::new();
        let guests = [Domain { uuid: WEB, ..Domain::new(1, "web") }, Domain::new(2, "db")];
        Host::new(guests).write(&release.version, &scratch);
        let mut command = release.xenmonitor(&scratch);
        let said = run(command.args(["--once", "--print", "json"]));
        let document: Value = serde_json::from_str(&said.out).unwrap();
        let domains = document["domains"].as_array().unwrap();
        let uuids: Vec<Option<&str>> = domains.iter().map(|domain| domain["uuid"].as_str()).collect();
        assert_eq!(uuids, [None, WEB, None], "Xen {}: {}", release.version, said.err);
        assert!(said.err.contains("WARN  the UUID of db is unknown: xenstore has none"), "{}", said.err);
        println!("UUIDs by libxenstore, {}: found", release.version);
    }
}

/// The function of libxenctrl is found under the libxenstat of each release.
#[test]
fn physical_cpus() {
    for release in release::all() {
        let scratch = Scratch::new();
        Host::new([]).write(&release.version, &scratch);
        let mut command = release.xenmonitor(&scratch);
        command.args(["--print", "statsd", "--log", "error", "--count", "2", "--interval", "10ms"]);
        let gauges = last_values(&output(command.args(["--detail", "pcpus"])));
        for cpu in 0..16 {
            let busy = 100.0 - f64::from(cpu % 4) * 25.0;
            assert_eq!(gauges.get(&format!("xen.h.node.pcpu.{cpu}.percent")), Some(&busy), "Xen {}", release.version);
        }
        println!("physical CPUs by libxenctrl, {}: found", release.version);
    }
}

/// What the toolstack and a guest have written to xenstore.
#[test]
fn memory_in_xenstore() {
    for release in release::all() {
        let scratch = Scratch::new();
        let store = &[("memory/target", "524288"), ("data/meminfo_free", "65536 kB")];
        Host::new([Domain { store, ..Domain::new(1, "web") }]).write(&release.version, &scratch);
        let mut command = release.xenmonitor(&scratch);
        command.args(["--print", "statsd", "--log", "error", "--once", "--detail", "memory", "--metrics", "memory.*"]);
        assert_eq!(output(&mut command), "xen.h.web.memory.target_k:524288|g\n", "Xen {}", release.version);
        println!("memory by libxenstore, {}: found", release.version);
    }
}

/// Xen's own libxenctrl has no function for them.
#[test]
fn runstates_are_reported_missing() {
    for release in release::all() {
        let scratch = Scratch::new();
        Host::new([]).write(&release.version, &scratch);
        let mut command = release.xenmonitor(&scratch);
        let said = run(command.args(["--check", "--print", "statsd", "--detail", "all,runstates"]));
        let line = "\nrunstates    BAD  omitted: the library has no xc_get_runstate_info, ";
        assert!(said.status == Some(1) && said.out.contains(line), "{}{}", said.out, said.err);
        let mut command = release.xenmonitor(&scratch);
        let said = run(command.args(["--check", "--print", "statsd", "--detail", "all"]));
        assert!(!said.out.contains("runstates"), "{}", said.out);
        println!("runstates by libxenctrl, {}: reported missing", release.version);
    }
}

/// The calls of a poll that ask the hypervisor or xenstored, libxenstat's own included, on a host of three domains.
#[test]
fn calls_of_a_poll() {
    // libxenstat's alone: names, and a search for guests with disks that QEMU serves.
    let names = [("xc_physinfo", 1), ("xc_domain_getinfolist", 3), ("xs_read", 5)];
    for release in release::all() {
        let calls_of = |options: &[&str], polls: &str| {
            let scratch = Scratch::new();
            let uuid = Some("c9a5f0e2-0b7d-4c1e-9f3a-1d2e3f405162");
            let guests = [1, 2].map(|id| Domain { vcpus: 1, uuid, ..Domain::new(id, &format!("vm{id}")) });
            Host::new(guests).write(&release.version, &scratch);
            let mut command = release.xenmonitor(&scratch);
            command.args(["--print", "statsd", "--log", "error", "--interval", "10ms", "--count", polls]).args(options);
            output(command.env("XEN_CALLS", "/host/calls"));
            let mut calls = BTreeMap::new();
            for line in std::fs::read_to_string(scratch.join("calls")).unwrap().lines() {
                *calls.entry(line.to_owned()).or_insert(0) += 1;
            }
            calls
        };
        for (options, more) in [
            (&[][..], &[][..]),
            (&["--detail", "vifs,vbds,rates", "--tag-format", "datadog"], &[]),
            (&["--template", "{uuid}.{metric}", "--on-vanish", "zero"], &[]),
            (&["--detail", "vcpus"], &[("xc_vcpu_getinfo", 6)]),
            (&["--detail", "pcpus"], &[("xc_getcpuinfo", 1)]),
            (&["--detail", "memory"], &[("xs_read", 15)]),
        ] {
            let (two, five) = (calls_of(options, "2"), calls_of(options, "5"));
            let calls = five.iter().map(|(call, count)| (&**call, count - two.get(call).unwrap_or(&0)));
            let calls: BTreeMap<&str, u32> = calls.filter(|(_, count)| *count > 0).collect();
            let mut expected = BTreeMap::from(names);
            more.iter().for_each(|(call, count)| *expected.entry(*call).or_insert(0) += count);
            expected.values_mut().for_each(|count| *count *= 3);
            assert_eq!(calls, expected, "{options:?}, Xen {}", release.version);
        }
        println!("calls of a poll of three domains, {}: {names:?}", release.version);
    }
}

/// Each vcpu, network and disk: `xentop -v -n -x` and `--detail`.
#[test]
fn details() {
    for release in release::all() {
        let scratch = Scratch::new();
        let host = Host::new([Domain::new(1, "web"), Domain { vcpus: 1, ..Domain::new(2, "db") }]);
        let host = host.interfaces(&["vif1.0", "vif1.1", "vif2.0"]).disks(&["vbd-1-51712", "vbd-1-51728", "vbd-2-768"]);
        host.write(&release.version, &scratch);
        let theirs = table::details(&output(release.xentop(&scratch, 1).args(["-n", "-v", "-x"])));
        for options in [BY_DEFAULT, AS_XENTOP] {
            let mut command = release.xenmonitor(&scratch);
            command.args(["--print", "statsd", "--log", "error", "--count", "1", "--detail", "vcpus,vifs,vbds"]);
            let ours = last_values(&output(command.args(["--template", "{domain}.{metric}"]).args(options)));
            for (path, value) in &theirs {
                let ours = ours.get(path).copied();
                // xentop shows whole seconds.
                let ours = if path.ends_with("cpu_sec") { ours.map(f64::trunc) } else { ours };
                assert_eq!(ours, Some(*value), "{path}, Xen {}", release.version);
            }
        }
        assert_eq!(theirs.len(), 4 + 2 + 1 + 3 * 8 + 3 * 5, "{theirs:?}");
        println!("details of vcpus, networks and disks, {}: 2 x {} gauges", release.version, theirs.len());
    }
}

/// `--check`'s line about the library, and the one about the hypervisor.
fn check(command: &mut Command) -> (String, String) {
    let said = run(command.args(["--check", "--print", "table"]));
    let line = |label: &str| {
        let line = said.out.lines().find_map(|line| line.strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label}: {}{}", said.out, said.err)).trim().to_owned()
    };
    (line("libxenstat "), line("hypervisor "))
}

#[test]
fn library_that_is_loaded() {
    for release in release::all() {
        let file = format!("libxenstat.so.{}", release.name);
        for (running, option, why) in [
            (Some(&release.name), None, "the running Xen's own"),
            (None, None, "the newest one found"),
            (None, Some(&file), "as named"),
        ] {
            let scratch = Scratch::new();
            Host { running: running.cloned(), ..Host::new([]) }.write(&release.version, &scratch);
            let mut command = release.xenmonitor(&scratch);
            let (library, xen) = check(command.args(option.into_iter().flat_map(|file| ["--libxenstat", file])));
            assert!(library.starts_with("ok ") && library.ends_with(&format!("/{file} ({why})")), "{library}");
            assert!(xen.contains(&format!("Xen {}, 16 CPUs; 1 domains read", release.version)), "{xen}");
        }
    }
}

/// Of several libraries in one directory, as after an update, that of the running hypervisor is loaded.
#[test]
fn library_among_several() {
    // Its libc is new enough for all of them.
    let newest = release::all().last().unwrap();
    for release in release::all() {
        let scratch = Scratch::new();
        Host { running: Some(release.name.clone()), ..Host::new([]) }.write(&release.version, &scratch);
        let libraries = scratch.join("libraries");
        std::fs::create_dir(&libraries).unwrap();
        for each in release::all() {
            std::fs::copy(&each.library, libraries.join(each.library.file_name().unwrap())).unwrap();
            for name in stand_ins::needed(&each.library).keys() {
                std::fs::copy(each.stand_ins.join(name), libraries.join(name)).unwrap();
            }
        }
        let mut command = newest.xenmonitor(&scratch);
        let (library, xen) = check(command.env("STAND_INS", &libraries));
        assert_eq!(library, format!("ok   /stand-ins/libxenstat.so.{} (the running Xen's own)", release.name));
        assert!(xen.contains(&format!("Xen {}, 16 CPUs; 1 domains read", release.version)), "{xen}");
    }
}

/// The shim can have the SONAME and the symbol version of each release, so that the real xentop starts on it.
#[test]
fn shim_under_the_xentop_of_each_release() {
    for release in release::all() {
        let scratch = Scratch::new();
        Host::new([]).write(&release.version, &scratch);
        let make = Command::new("make")
            .args(["-s", "shim", &format!("SHIM_OUT={}", scratch.join("shim").display())])
            .arg(format!("SHIM_LIKE={}", release.library.display()))
            .current_dir(root())
            .status();
        assert!(make.unwrap().success(), "make shim");
        std::fs::copy(root().join("tests/shim/scenarios/demo.toml"), scratch.join("demo.toml")).unwrap();
        let mut command = release.xentop(&scratch, 1);
        command.env("SEARCH", "/host/shim").env("XENSTAT_SCENARIO", "/host/demo.toml");
        let table = Table::parse(&output(&mut command));
        assert_eq!(names(&table, 0), ["build server", "db01", "Domain-0", "web01", "win2019"], "{}", release.version);
    }
}
