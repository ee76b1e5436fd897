//! Disks, with simulated QEMUs, backends and tapdisks in the places where the daemon looks for the real ones.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType};
use serde_json::{Value, json};

use crate::support::{
    Daemon, Listener, PATIENCE, Said, Scratch, answered_polls, behind, clean, out_of, run, shim, unshared, xenmonitor,
};

/// The files and sockets of a dom0 that the daemon reads besides libxenstat.
pub struct Dom0 {
    pub scratch: Scratch,
    guests: u32,
}

impl Dom0 {
    pub fn new(guests: u32) -> Self {
        let scratch = Scratch::new();
        for directory in ["run", "devices", "shm"] {
            std::fs::create_dir(scratch.join(directory)).unwrap();
        }
        Self { scratch, guests }
    }

    /// The daemon in it. libxenstat hangs when asked for disks, or has one for each guest if `libxenstats` is set.
    pub fn daemon(&self, libxenstats: bool, arguments: &[&str]) -> Command {
        let mut host = "[[domain]]\nid = 0\nname = \"Domain-0\"\n".to_owned();
        for id in 1..=self.guests {
            host += &format!("[[domain]]\nid = {id}\nname = \"g{id}\"\n[[domain.vbd]]\nrd_reqs = 77\n");
        }
        if !libxenstats {
            host += "[[fault]]\nif_asked = [\"VBD\"]\nhang = true\n";
        }
        self.on(&host, arguments)
    }

    /// The same, on a clock that each poll sets forward by `step`. With a long step the duration of a poll is
    /// negligible, so that rates do not depend on the load of the machine.
    fn clocked(&self, step: &str, arguments: &[&str]) -> Command {
        let mut daemon = self.daemon(false, arguments);
        let path = self.scratch.join("s.toml");
        let host = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("clock_step = \"{step}\"\nclock_runs = true\n{host}")).unwrap();
        daemon.env("LD_PRELOAD", shim());
        daemon
    }

    pub fn on(&self, scenario: &str, arguments: &[&str]) -> Command {
        let mut daemon = xenmonitor(&self.scratch.file("s.toml", scenario));
        daemon.args(arguments);
        let script = "mount -t tmpfs none /run && mkdir /run/xen && mount --bind \"$DOM0/run\" /run/xen && \
                      mount -t tmpfs none /sys/bus && mkdir -p /sys/bus/xen-backend/devices && \
                      mount --bind \"$DOM0/devices\" /sys/bus/xen-backend/devices && \
                      mount --bind \"$DOM0/shm\" /dev/shm && ulimit -n ${FILES:-1024} && exec \"$0\" \"$@\"";
        let mut command = unshared(&["--mount"], "sh");
        command.args(["-c", script]).env("DOM0", &*self.scratch);
        behind(command, &daemon)
    }

    /// The guests' JSON objects of a single poll.
    fn guests(&self, arguments: &[&str]) -> Vec<Value> {
        let arguments = [&["--once", "--print", "json"], arguments].concat();
        let document: Value = serde_json::from_str(&out_of(&mut self.daemon(false, &arguments))).unwrap();
        document["domains"].as_array().unwrap()[1..].to_vec()
    }

    pub fn socket(&self, guest: u32) -> PathBuf {
        self.scratch.join(format!("run/qmp-libxenstat-{guest}"))
    }

    /// A QEMU that handles connections one after the other with `behave`, which gets the number of earlier ones.
    fn qemu(&self, guest: u32, behave: impl Fn(UnixStream, usize) + Send + 'static) {
        serve(UnixListener::bind(self.socket(guest)).unwrap(), behave);
    }

    fn device(&self, name: &str, statistics: &[(&str, u64)]) {
        let directory = self.scratch.join("devices").join(name).join("statistics");
        std::fs::create_dir_all(&directory).unwrap();
        for (file, count) in statistics {
            std::fs::write(directory.join(file), format!("{count}\n")).unwrap();
        }
    }
}

pub fn serve(listener: UnixListener, behave: impl Fn(UnixStream, usize) + Send + 'static) {
    thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            behave(stream.unwrap(), n);
        }
    });
}

pub const GREETING: &[u8] = b"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}, \"capabilities\": [\"oob\"]}}\r\n";

/// Replies of QEMU 7.2 in a real dom0, for a PV guest with a raw file and a qcow2 file that has a backing file.
pub const PV: &str = include_str!("../qmp/pv.json");

/// The same, for a PV guest with a partition and a CD drive.
const PV_CDROM: &str = include_str!("../qmp/pv-cdrom.json");

/// Replies of QEMU 7.2 with libxl's arguments for an HVM guest with two IDE disks, a SCSI disk, a CD and an empty CD
/// drive; the backends `hda-qcow2`, `xvdb-raw`, `hdc-raw` and `xvdg-raw` are added by hand.
const HVM: &str = include_str!("../qmp/hvm.json");

/// What a poll costs does not creep up: its system calls by kind, of the poll with the fewest, as a busy machine adds
/// some. A guest's QEMU serves two disks, the kernel four.
#[test]
fn disks_cost_few_system_calls() {
    const FILES: [&str; 6] = ["oo_req", "rd_req", "wr_req", "rd_sect", "wr_sect", "f_req"];
    let dom0 = Dom0::new(5);
    dom0.qemu(5, well);
    (1..=4).for_each(|id| dom0.device(&format!("vbd-{id}-51712"), &FILES.map(|file| (file, 7))));
    let (listener, trace) = (Listener::new("127.0.0.1:0"), dom0.scratch.join("trace"));
    let mut daemon = dom0.daemon(false, &["--interval", "100ms", "--count", "20", "--vifs", "kernel"]);
    daemon.args(["--statsd", &listener.url(), "--log", "warn"]);
    let mut strace = clean("strace");
    strace.args(["-f", "-o"]).arg(&trace);
    out_of(&mut behind(strace, &daemon));
    let trace = std::fs::read_to_string(trace).unwrap();
    // Every poll begins with /proc/net/dev. The first ones open what later ones keep open.
    let polls = trace.split("\"Inter-|").skip(10);
    let count = |poll: &str| {
        let mut calls: BTreeMap<String, usize> = BTreeMap::new();
        let names = poll.lines().filter_map(|line| line.split_whitespace().nth(1)?.split_once('('));
        names.for_each(|(name, _)| *calls.entry(name.to_owned()).or_default() += 1);
        calls
    };
    let polls: Vec<_> = polls.map(count).collect();
    for (what, names, most) in [
        (
            "files",
            &["open", "openat", "close", "read", "pread64", "getdents64", "newfstatat", "statx", "lseek"][..],
            39,
        ),
        ("sockets", &["socket", "connect", "ppoll", "recvfrom", "sendto", "getsockopt"], 20),
        ("threads", &["futex"], 9),
    ] {
        let of_poll = |calls: &BTreeMap<String, usize>| names.iter().filter_map(|name| calls.get(*name)).sum::<usize>();
        let fewest = polls.iter().map(of_poll).min().unwrap();
        assert!((1..=most).contains(&fewest), "{fewest} system calls for {what}: {polls:?}");
    }
}

/// The server side of a correct QMP conversation; `say` writes each message.
fn converse(stream: &UnixStream, answers: &str, mut say: impl FnMut(&[u8])) {
    let answers: Value = serde_json::from_str(answers).unwrap();
    say(GREETING);
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let asked: Value = serde_json::from_str(&line).unwrap();
        let answer = answers.get(asked["execute"].as_str().unwrap()).cloned().unwrap_or(json!({}));
        say(format!("{}\r\n", json!({"return": answer, "id": asked["id"]})).as_bytes());
    }
}

fn well(stream: UnixStream, _: usize) {
    converse(&stream, PV, |bytes| drop((&stream).write_all(bytes)));
}

/// The replies of a QEMU with these disks: device, node, read and write requests.
fn serving(disks: &[(&str, &str, u64, u64)]) -> String {
    let (mut drives, mut stats) = (Vec::new(), Vec::new());
    for (n, (device, node, rd, wr)) in disks.iter().enumerate() {
        let qdev = format!("/machine/unattached/device[{n}]");
        drives.push(json!({"device": device, "qdev": qdev, "removable": false, "inserted": {"node-name": node}}));
        stats.push(json!({"device": device, "qdev": qdev, "node-name": node, "stats": {
            "rd_operations": rd, "rd_bytes": rd * 512, "rd_total_time_ns": rd * 1000,
            "wr_operations": wr, "wr_bytes": wr * 512, "wr_total_time_ns": wr * 1000,
            "failed_rd_operations": 0, "failed_wr_operations": 0, "account_failed": true}}));
    }
    json!({"query-block": drives, "qom-list": [], "query-blockstats": stats}).to_string()
}

/// The rates and latencies of a domain's disks.
fn since<'a>(out: &'a str, domain: &str) -> Vec<&'a str> {
    let of = |line: &&str| line.strip_prefix(domain).is_some_and(|rest| rest.starts_with(".vbd"));
    out.lines().filter(of).filter(|line| line.contains("_per_sec") || line.contains("_ms:")).collect()
}

const RATES: [&str; 6] = ["--print", "statsd", "--template", "{domain}.{metric}", "--detail", "vbds,rates"];

/// Sends nothing until the client disconnects.
fn hang(mut stream: UnixStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Waits until the client disconnects.
fn outwait(mut stream: &UnixStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

/// The number and the read requests of each disk.
fn disks(domain: &Value) -> Option<Vec<(u64, Option<u64>)>> {
    Some(domain["vbd"].as_array()?.iter().map(|vbd| (vbd["dev"].as_u64().unwrap(), vbd["rd"].as_u64())).collect())
}

#[test]
fn qmp_disks_without_a_device_are_named_by_their_nodes() {
    let dom0 = Dom0::new(2);
    dom0.qemu(2, well);
    let guests = dom0.guests(&[]);
    assert_eq!(disks(&guests[0]), Some(vec![]));
    let domain = &guests[1];
    let expected = json!([
        {"dev": 51712, "type": 0, "error": false, "oo": null, "rd": 321, "wr": 160, "rsect": 10248, "wsect": 5120,
         "rd_ns": 1_336_074_165, "wr_ns": 593_922_424, "flush": null, "errs": 0},
        {"dev": 51728, "type": 0, "error": false, "oo": null, "rd": 161, "wr": 0, "rsect": 5128, "wsect": 0,
         "rd_ns": 316_407_360, "wr_ns": 0, "flush": null, "errs": 0},
    ]);
    assert_eq!(domain["vbd"], expected);
    let sums = ["vbds", "vbd_oo", "vbd_rd", "vbd_wr", "vbd_rsect", "vbd_wsect"].map(|gauge| &domain[gauge]);
    assert_eq!(sums, [&json!(2), &Value::Null, &json!(482), &json!(160), &json!(15376), &json!(5120)]);
}

/// QEMUs that answer in different ways, or fail to: disks of those that answer are reported, of the others omitted.
#[test]
fn qmp_every_way_to_answer() {
    type Behaviour = fn(UnixStream, usize);
    let ways: [(&str, Behaviour, Option<&str>); 14] = [
        ("at once", well, None),
        (
            "in pieces",
            |stream, _| {
                converse(&stream, PV, |bytes| {
                    for part in bytes.chunks(bytes.len() / 4 + 1) {
                        thread::sleep(Duration::from_millis(3));
                        let _ = (&stream).write_all(part);
                    }
                })
            },
            None,
        ),
        (
            "after 60 ms",
            |stream, _| {
                converse(&stream, PV, |bytes| {
                    thread::sleep(Duration::from_millis(60));
                    let _ = (&stream).write_all(bytes);
                })
            },
            None,
        ),
        (
            "with events in between",
            |stream, _| {
                converse(&stream, PV, |bytes| {
                    let event: &[u8] =
                        b"{\"timestamp\": {\"seconds\": 1}, \"event\": \"RTC_CHANGE\", \"data\": {}}\r\n";
                    let _ = (&stream).write_all(&[bytes, event].concat());
                })
            },
            None,
        ),
        (
            "with an answer to nobody",
            |stream, _| {
                converse(&stream, PV, |bytes| {
                    let other: &[u8] = b"{\"return\": [{\"device\": \"x\"}]}\r\n";
                    let _ = (&stream).write_all(&[bytes, other].concat());
                })
            },
            None,
        ),
        (
            "too late",
            |stream, _| {
                converse(&stream, PV, |bytes| {
                    if bytes != GREETING {
                        outwait(&stream);
                    }
                    let _ = (&stream).write_all(bytes);
                });
            },
            Some("does not answer within 5s"),
        ),
        ("never", |stream, _| outwait(&stream), Some("says nothing within 5s")),
        (
            "with a greeting only",
            |mut stream, _| {
                let _ = stream.write_all(GREETING);
                let _ = stream.read_to_end(&mut Vec::new());
            },
            Some("does not answer within 5s"),
        ),
        (
            "with garbage",
            |mut stream, _| {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
                let _ = stream.read_to_end(&mut Vec::new());
            },
            Some("answers with what is no QMP"),
        ),
        (
            "with JSON of another kind",
            |stream, _| {
                converse(
                    &stream,
                    "{\"query-blockstats\": [{\"device\": 7, \"qdev\": \"a\", \"stats\": [1]}], \"query-block\": [{\"qdev\": \"a\", \"inserted\": {}}]}",
                    |bytes| drop((&stream).write_all(bytes)),
                );
            },
            Some("answers with what is no QMP"),
        ),
        ("with a closed socket", |stream, _| drop(stream), Some("closes the connection")),
        (
            "with half an answer",
            |mut stream, _| {
                let _ = stream.write_all(
                    &[GREETING, b"{\"return\": {}, \"id\": \"qmp_capabilities\"}\r\n{\"return\": [{\"dev"].concat(),
                );
            },
            Some("closes the connection"),
        ),
        (
            "with a refusal",
            |mut stream, _| {
                let _ = stream.write_all(
                    &[
                        GREETING,
                        b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\u001b[2J\"}, \"id\": \"qmp_capabilities\"}\r\n",
                    ]
                    .concat(),
                );
                let _ = stream.read_to_end(&mut Vec::new());
            },
            Some("refuses: \"no\\u{1b}[2J\""),
        ),
        (
            "without an end",
            |mut stream, _| while stream.write_all(&[b'['; 65536]).is_ok() {},
            Some("answers with more than"),
        ),
    ];
    let dom0 = Dom0::new(ways.len() as u32 + 1);
    for (n, (_, behave, _)) in ways.iter().enumerate() {
        dom0.qemu(n as u32 + 1, *behave);
    }
    // This QEMU has died and left the socket.
    let gone = ways.len() as u32 + 1;
    drop(UnixListener::bind(dom0.socket(gone)).unwrap());

    let guests = dom0.guests(&["--qmp-timeout", "5s"]);
    for (domain, (way, _, why)) in guests.iter().zip(ways) {
        let expected = why.is_none().then(|| vec![(51712, Some(321)), (51728, Some(161))]);
        assert_eq!(disks(domain), expected, "{way}");
        assert_eq!(domain["vbds"].is_null(), why.is_some(), "{way}");
        assert_eq!(domain["vbd_rd"].is_null(), why.is_some(), "{way}");
    }
    assert_eq!(disks(&guests[ways.len()]), None);
    let said = run(&mut dom0.daemon(true, &["--check", "--print", "json", "--qmp-timeout", "5s"]));
    assert_eq!(said.status, Some(1));
    for (n, (way, _, why)) in ways.iter().enumerate() {
        let line = format!("QEMU of g{} {}", n + 1, why.unwrap_or_default());
        assert_eq!(said.out.contains(&line), why.is_some(), "{way}: {}", said.out);
    }
    let line = format!("QEMU of g{gone} cannot be asked: Connection refused");
    assert!(said.out.contains(&line), "{}", said.out);
    assert!(said.out.contains("BAD  10, of which 0 in error, from QEMU"), "{}", said.out);
}

/// Each QEMU answers only after all of them have been asked.
#[test]
fn qmp_asks_a_hundred_guests_at_once() {
    let dom0 = Dom0::new(100);
    let all_are_asked = Arc::new(Barrier::new(100));
    for guest in 1..=100 {
        let all_are_asked = all_are_asked.clone();
        dom0.qemu(guest, move |stream, _| {
            let mut barrier = Some(&all_are_asked);
            converse(&stream, PV, |bytes| {
                // The first answer.
                if bytes != GREETING {
                    barrier.take().map(|barrier| barrier.wait());
                }
                let _ = (&stream).write_all(bytes);
            })
        });
    }
    let guests = dom0.guests(&["--interval", "2m", "--qmp-timeout", "1m"]);
    assert_eq!(guests.iter().filter(|domain| domain["vbds"] == 2).count(), 100);
}

/// QEMU serves one client at a time and queues few others. The daemon waits for its turn, and disconnects after the
/// replies.
#[test]
fn qmp_waits_for_other_clients_of_the_socket() {
    let dom0 = Dom0::new(1);
    let fd = net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    net::bind(&fd, &SocketAddrUnix::new(dom0.socket(1)).unwrap()).unwrap();
    // The queue holds one client, and the next is refused, as with QEMU.
    net::listen(&fd, 0).unwrap();
    serve(UnixListener::from(fd), well);
    let mut served = UnixStream::connect(dom0.socket(1)).unwrap();
    let mut byte = [0];
    served.read_exact(&mut byte).unwrap();
    let waiting = UnixStream::connect(dom0.socket(1)).unwrap();
    let arguments = ["--print", "json", "--interval", "20s", "--qmp-timeout", "10s"];
    let mut daemon = Daemon::start(&mut dom0.daemon(false, &arguments));
    let hold = thread::spawn(move || {
        thread::sleep(Duration::from_millis(700));
        drop((served, waiting));
    });
    let document: Value = serde_json::from_str(&daemon.wait_for_line()).unwrap();
    assert_eq!(document["domains"][1]["vbds"], 2);
    hold.join().unwrap();
    // The daemon still runs, but has released the socket.
    let mut other = UnixStream::connect(dom0.socket(1)).unwrap();
    other.set_read_timeout(Some(PATIENCE)).unwrap();
    other.read_exact(&mut byte).unwrap();
    assert!(daemon.try_wait().unwrap().is_none());
}

/// A disk that an HVM guest reaches in two ways is one disk; CD drives are omitted, whether empty or not.
#[test]
fn disks_emulated_and_pv_are_one_disk() {
    let dom0 = Dom0::new(3);
    for (guest, answers) in [(1, HVM), (2, HVM), (3, PV_CDROM)] {
        dom0.qemu(guest, move |stream, _| converse(&stream, answers, |bytes| drop((&stream).write_all(bytes))));
    }
    // The second guest's SCSI disk is served by the kernel, which does not count requests of the emulated one.
    let counts = [("oo_req", 1), ("rd_req", 2), ("wr_req", 3), ("rd_sect", 4), ("wr_sect", 5), ("f_req", 6)];
    dom0.device("vbd-2-2080", &counts);
    let guests = dom0.guests(&[]);
    let (hda, sdc, xvdb, xvdg) = (768, 8 << 8 | 2 << 4, 51728, 51808);
    for (domain, of_sdc) in [(&guests[0], 0), (&guests[1], 2)] {
        let read = [(hda, 1101), (sdc, of_sdc), (xvdb, 7), (xvdg, 40)].map(|(dev, rd)| (dev, Some(rd)));
        assert_eq!(disks(domain), Some(read.to_vec()));
    }
    let twin = json!({"dev": hda, "type": 0, "error": false, "oo": null, "rd": 1101, "wr": 111, "rsect": 1101, "wsect": 111,
        "rd_ns": 1_202_000_000, "wr_ns": 111_000_000, "flush": null, "errs": 0});
    assert_eq!(guests[0]["vbd"][0], twin);
    let kernels = json!({"dev": sdc, "type": 1, "error": false, "oo": 1, "rd": 2, "wr": 3, "rsect": 4, "wsect": 5,
        "rd_ns": null, "wr_ns": null, "flush": 6, "errs": null});
    assert_eq!(guests[1]["vbd"][1], kernels);
    assert_eq!(disks(&guests[2]), Some(vec![(51713, Some(0))]));
}

#[test]
fn disks_of_the_kernel_and_of_tapdisk() {
    let dom0 = Dom0::new(3);
    let counts = |n| [("oo_req", n), ("rd_req", n + 1), ("wr_req", n + 2), ("rd_sect", n + 3), ("wr_sect", n + 4)];
    dom0.device("vbd-1-51712", &counts(10));
    dom0.device("vbd-1-51728", &counts(20)[1..]);
    dom0.device("tap-2-51712", &counts(30));
    for name in ["vbd3-2-51728", "vbd3-2-51744", "vbd-9-51712", "qdisk-2-51776", "vif-1-0", "console-1-0"] {
        dom0.device(name, &[]);
    }
    let page = |name: &str, words: [u64; 12]| {
        let path = dom0.scratch.join("shm").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.resize(4096, 0);
        std::fs::write(path, bytes).unwrap();
    };
    page(&format!("td3-{}/vbd-2-51728", std::process::id()), [1, 2, 30, 29, 400, 5_000, 60, 59, 700, 8_000, 9, 0]);
    page("vbd3-3-51712/statistics", [0, 0, 2, 30, 29, 400, 5_000, 7, 60, 59, 700, 8_000]);
    let vbd = |dev,
               kind,
               [oo, rd, wr, rsect, wsect]: [u64; 5],
               rd_ns: Option<u64>,
               wr_ns: Option<u64>,
               errs: Option<u64>| {
        json!({"dev": dev, "type": kind, "error": false, "oo": oo, "rd": rd, "wr": wr, "rsect": rsect, "wsect": wsect,
               "rd_ns": rd_ns, "wr_ns": wr_ns, "flush": null, "errs": errs})
    };
    let error = |dev, kind| {
        json!({"dev": dev, "type": kind, "error": true, "oo": null, "rd": null, "wr": null, "rsect": null,
               "wsect": null, "rd_ns": null, "wr_ns": null, "flush": null, "errs": null})
    };
    let tapdisks = [2, 30, 60, 400, 700];
    let expected = [
        json!([vbd(51712, 1, [10, 11, 12, 13, 14], None, None, None), error(51728, 1)]),
        json!([
            vbd(51712, 2, [30, 31, 32, 33, 34], None, None, None),
            vbd(51728, 3, tapdisks, Some(5_000_000), Some(8_000_000), Some(9)),
            error(51744, 3)
        ]),
        json!([vbd(51712, 3, tapdisks, Some(5_000_000), Some(8_000_000), None)]),
    ];
    let guests: Vec<Value> = dom0.guests(&[]).iter().map(|domain| domain["vbd"].clone()).collect();
    assert_eq!(guests, expected);
}

#[test]
fn disks_of_the_kernel_have_their_flushes_as_a_detail() {
    let dom0 = Dom0::new(1);
    dom0.device(
        "vbd-1-51712",
        &[("oo_req", 1), ("rd_req", 2), ("wr_req", 3), ("rd_sect", 4), ("wr_sect", 5), ("f_req", 6)],
    );
    let sent = |detail: &[&str]| {
        let options = [&["--once", "--print", "statsd", "--disks", "backends"], detail].concat();
        let mut lines: Vec<String> = out_of(&mut dom0.daemon(false, &options)).lines().map(str::to_owned).collect();
        lines.retain(|line| line.contains(".g1.vbd"));
        lines.iter().map(|line| line.split_once(".g1.").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let columns = ["vbds:1|g", "vbd_oo:1|g", "vbd_rd:2|g", "vbd_wr:3|g", "vbd_rsect:4|g", "vbd_wsect:5|g"];
    assert_eq!(sent(&[]), columns);
    let detailed = sent(&["--detail", "vbds"]);
    assert!(detailed.contains(&"vbd.xvda.flush:6|g".to_owned()), "{detailed:?}");
}

/// "May not see" is not "is not there".
#[test]
#[ignore = "needs root, to mount a /proc that hides processes: make test-root"]
fn disks_of_tapdisks_that_proc_hides() {
    let dom0 = Dom0::new(1);
    let directory = dom0.scratch.join(format!("shm/td3-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let mut page = vec![0; 4096];
    page[0] = 1;
    page[16] = 30;
    std::fs::write(directory.join("vbd-1-51712"), page).unwrap();
    let mut command = unshared(&["--mount"], "sh");
    command.args(["-c", "mount -t proc -o hidepid=2,gid=999 proc /proc && exec \"$0\" \"$@\""]);
    let said = run(&mut behind(command, &dom0.daemon(false, &["--once", "--print", "json"])));
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["domains"][1]["vbd_rd"], 30, "{}", said.err);
    // Nor may root look into it without a capability.
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o0)).unwrap();
    let said = run(&mut dom0.daemon(false, &["--once", "--print", "json"]));
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["domains"][1]["vbds"], Value::Null, "{}", said.err);
    assert!(said.err.contains("cannot read disks from tapdisk3: /dev/shm/td3-"), "{}", said.err);
}

/// If the directory of QEMU's sockets cannot be read, disks are omitted: libxenstat would miss those of QEMU.
#[test]
fn qmp_directory_without_permission_omits_disks() {
    let dom0 = Dom0::new(1);
    let may_be = |mode| {
        std::fs::set_permissions(dom0.scratch.join("run"), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    may_be(0);
    let said = run(&mut dom0.daemon(true, &["--once", "--print", "json"]));
    let check = run(&mut dom0.daemon(true, &["--check", "--print", "json"]));
    let libxenstats = run(&mut dom0.daemon(true, &["--once", "--print", "json", "--disks", "libxenstat"]));
    may_be(0o700);
    let rd = |said: &Said| serde_json::from_str::<Value>(&said.out).unwrap()["domains"][1]["vbd_rd"].clone();
    assert_eq!((rd(&said), rd(&libxenstats)), (Value::Null, 77.into()), "{}{}", said.err, libxenstats.err);
    let why = "from QEMU: /run/xen: Permission denied (os error 13), let this user read it or use --disks libxenstat";
    assert!(said.err.contains(&format!("cannot read disks {why}: their metrics are omitted\n")), "{}", said.err);
    assert!(check.out.contains(&format!("disks        BAD  omitted: cannot be read {why}\n")), "{}", check.out);
}

/// libxenstat is the source where it is chosen, and by default where no QEMU or tapdisk is found.
#[test]
fn disks_source_is_chosen() {
    let reads = |dom0: &Dom0, who: &[&str]| {
        let arguments = [&["--once", "--print", "json"], who].concat();
        let document: Value = serde_json::from_str(&out_of(&mut dom0.daemon(true, &arguments))).unwrap();
        document["domains"][1]["vbd_rd"].clone()
    };
    let dom0 = Dom0::new(1);
    dom0.device("vbd-1-51712", &[("oo_req", 1), ("rd_req", 2), ("wr_req", 3), ("rd_sect", 4), ("wr_sect", 5)]);
    // Neither is a QMP socket of a guest.
    std::fs::write(dom0.socket(9), "").unwrap();
    UnixListener::bind(dom0.scratch.join("run/qmp-libxl-1")).unwrap();
    assert_eq!(reads(&dom0, &[]), 77);
    assert_eq!(reads(&dom0, &["--disks", "backends"]), 2);
    let line = |arguments: &[&str]| {
        let said = run(&mut dom0.daemon(true, &[&["--check", "--print", "json"], arguments].concat()));
        said.out.lines().find(|line| line.starts_with("disks")).unwrap().to_owned()
    };
    assert_eq!(line(&[]), "disks        ok   1, of which 0 in error, from libxenstat; xentop would show 1");
    dom0.qemu(1, well);
    assert_eq!(reads(&dom0, &[]), 2 + 482);
    assert_eq!(reads(&dom0, &["--disks", "libxenstat"]), 77);
    assert_eq!(line(&[]), "disks        ok   3, of which 0 in error, from QEMU, tapdisk3 and the kernel");
    // Nor does it ask libxenstat for disks to compare with, which would disturb QEMU: here libxenstat would hang.
    for disks in ["auto", "backends", "libxenstat"] {
        let said = run(&mut dom0.daemon(false, &["--check", "--print", "json", "--disks", disks]));
        assert!(said.out.contains("disks        ok   3, of which 0 in error, from QEMU"), "{}", said.out);
        assert_eq!(said.out.contains("--disks libxenstat has libxenstat ask it"), disks == "libxenstat");
    }
    let said = run(&mut dom0.daemon(true, &["--count", "3", "--print", "json", "--disks", "libxenstat"]));
    assert_eq!(said.err.matches("WARN  QEMU serves disks, and --disks libxenstat").count(), 1, "{}", said.err);
}

/// A QEMU does not answer for two polls: its guest's disks are omitted meanwhile, without zeros, and the log has one
/// line at the beginning and one at the end. The other guest's rates are sent all the time.
#[test]
fn qmp_silent_guest_is_omitted_and_returns() {
    let dom0 = Dom0::new(2);
    let (connections, polls) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (seen, others_polls) = (connections.clone(), polls.clone());
    dom0.qemu(1, move |stream, n| {
        seen.store(n + 1, Ordering::Relaxed);
        // The third poll's greeting comes at the fifth.
        while n == 2 && others_polls.load(Ordering::Relaxed) < 5 {
            thread::sleep(Duration::from_millis(1));
        }
        well(stream, n);
    });
    let seen = polls.clone();
    dom0.qemu(2, move |stream, n| {
        seen.store(n + 1, Ordering::Relaxed);
        well(stream, n);
    });
    let said = run(&mut dom0.clocked("1000s", &[&["--count", "8", "--interval", "2s"], &RATES[..]].concat()));
    assert_eq!((said.status, polls.load(Ordering::Relaxed)), (Some(0), 8), "{}", said.err);
    assert_eq!(connections.load(Ordering::Relaxed), 6, "one for the third to the fifth poll");
    let answered = answered_polls(&said.out).concat();
    let times = |line: &str| answered.iter().filter(|printed| **printed == line).count();
    for (line, polls) in [
        ("g1.vbds:2|g", 6),
        ("g2.vbds:2|g", 8),
        ("g1.vbd_rd:482|g", 6),
        ("g1.vbd.xvda.rd:321|g", 6),
        ("g1.vbd.xvda.type:0|g", 6),
        // Rates need the previous poll.
        ("g1.vbd_rd_per_sec:0|g", 4),
        ("g2.vbd_rd_per_sec:0|g", 7),
        ("g1.vbds:0|g", 0),
        ("xenmonitor.collector.vbd:1|g", 6),
        ("xenmonitor.collector.vbd:0|g", 2),
    ] {
        assert_eq!(times(line), polls, "{line}");
    }
    let logged = |text: &str| said.err.matches(text).count();
    assert_eq!(
        logged(
            "WARN  QEMU of g1 says nothing within 1s: it hangs, or is talking to another: the guest's disks are omitted"
        ),
        1,
        "{}",
        said.err
    );
    assert_eq!(logged("INFO  QEMU of g1 answers again"), 1, "{}", said.err);
    assert_eq!(logged("QEMU"), 2, "{}", said.err);
}

/// The mean time of the requests of an interval.
#[test]
fn disks_latencies_are_means_over_the_interval() {
    let dom0 = Dom0::new(1);
    dom0.qemu(1, |stream, n| {
        let mut answers: Value = serde_json::from_str(PV).unwrap();
        let stats = &mut answers["query-blockstats"][0]["stats"];
        for (key, by) in [
            ("rd_operations", 3),
            // Failed requests took time, too.
            ("failed_rd_operations", 1),
            ("rd_total_time_ns", 10_000_000),
        ] {
            stats[key] = (stats[key].as_u64().unwrap() + n as u64 * by).into();
        }
        converse(&stream, &answers.to_string(), |bytes| drop((&stream).write_all(bytes)));
    });
    let out = out_of(&mut dom0.daemon(
        false,
        &[
            "--count",
            "2",
            "--interval",
            "2s",
            "--print",
            "statsd",
            "--template",
            "{domain}.{metric}",
            "--detail",
            "vbds",
        ],
    ));
    let lines: Vec<&str> = out.lines().filter(|line| line.starts_with("g1.vbd.")).collect();
    for line in ["g1.vbd.xvda.rd_ms:2.5|g", "g1.vbd.xvda.errs:1|g", "g1.vbd.xvdb.errs:0|g"] {
        assert!(lines.contains(&line), "{line} is not in {lines:?}");
    }
    for absent in ["wr_ms", "xvdb.rd_ms", ".oo", ".flush"] {
        assert!(!lines.iter().any(|line| line.contains(absent)), "{absent} is in {lines:?}");
    }
}

/// A QEMU that is late at every other poll costs only its own guest the rates. On the shim's clock polls are nine
/// seconds apart, of which a tenth may be uncertain: the second of this QEMU is too much, delays by the load of the
/// machine are not.
#[test]
fn qmp_slow_guest_loses_only_its_own_rates() {
    let dom0 = Dom0::new(3);
    dom0.qemu(1, |stream, n| {
        converse(&stream, PV, |bytes| {
            // The last answer.
            if n % 2 == 1 && bytes.windows(16).any(|part| part == b"query-blockstats") {
                thread::sleep(Duration::from_secs(1));
            }
            let _ = (&stream).write_all(bytes);
        })
    });
    dom0.qemu(2, well);
    dom0.device("vbd-3-51712", &[("oo_req", 1), ("rd_req", 2), ("wr_req", 3), ("rd_sect", 4), ("wr_sect", 5)]);
    let arguments = [&["--count", "3", "--interval", "4s", "--qmp-timeout", "2s"], &RATES[..]].concat();
    let out = out_of(&mut dom0.clocked("5s", &arguments));
    let times = |line: &str| out.lines().filter(|printed| *printed == line).count();
    for (domain, disks, rates) in [("g1", 2, 0), ("g2", 2, 2), ("g3", 1, 2)] {
        assert_eq!(times(&format!("{domain}.vbds:{disks}|g")), 3, "{out}");
        assert_eq!(times(&format!("{domain}.vbd_rd_per_sec:0|g")), rates, "{domain}: {out}");
    }
}

/// The emulated disk of an HVM guest is unplugged when its PV driver starts: requests since then cannot be computed.
#[test]
fn disks_summed_of_other_parts_have_no_rates() {
    let (emulated, pv) = (("ide0-hd0", "#block1", 1000, 1), |rd| ("", "xvda-raw", rd, 1));
    let measured = |then: &[_], now: &[_]| {
        let dom0 = Dom0::new(1);
        let polls = [serving(then), serving(now)];
        dom0.qemu(1, move |stream, n| converse(&stream, &polls[n], |bytes| drop((&stream).write_all(bytes))));
        out_of(&mut dom0.clocked("1000s", &[&["--count", "2", "--interval", "2s"], &RATES[..]].concat()))
    };
    thread::scope(|scope| {
        let cases = [
            ("unplugged", vec![emulated, pv(0)], vec![pv(5000)], false),
            ("plugged", vec![pv(5)], vec![emulated, pv(5)], false),
            ("its PV driver comes", vec![emulated], vec![emulated, pv(5)], false),
            ("both go on", vec![emulated, pv(0)], vec![emulated, pv(0)], true),
            ("new, and the only one", vec![], vec![pv(5000)], false),
            ("the only one, and gone", vec![pv(5000)], vec![], false),
            ("another of its name", vec![("", "xvda-raw", 10, 5)], vec![("", "xvda-raw", 9, 500)], false),
        ]
        .map(|(what, then, now, rates)| (what, scope.spawn(move || measured(&then, &now)), rates));
        for (what, out, rates) in cases {
            let out = out.join().unwrap();
            assert_eq!(out.matches("g1.vbds:").count(), 2, "{out}");
            assert_eq!(!since(&out, "g1").is_empty(), rates, "{what}: {:?}", since(&out, "g1"));
        }
    });
}

/// QEMUs that send as much as they may, expensive to parse. Another answers when they are done, and its reply is read
/// before they disconnect.
#[test]
fn qmp_expensive_replies_do_not_cost_other_guests_their_disks() {
    let dom0 = Dom0::new(21);
    let [all_is_sent, all_is_read] = [(); 2].map(|()| Arc::new(Barrier::new(21)));
    for guest in 1..=20 {
        let (all_is_sent, all_is_read) = (all_is_sent.clone(), all_is_read.clone());
        dom0.qemu(guest, move |mut stream, _| {
            let rest = "{},".repeat(300_000);
            let dear = format!("{{\"id\": \"query-block\", \"return\": [{rest}{{}}]}}\r\n");
            let _ = stream.write_all(&[GREETING, dear.as_bytes()].concat());
            all_is_sent.wait();
            all_is_read.wait();
        });
    }
    dom0.qemu(21, move |stream, _| {
        all_is_sent.wait();
        converse(&stream, PV, |bytes| drop((&stream).write_all(bytes)));
        all_is_read.wait();
    });
    let arguments = ["--print", "json", "--interval", "2m", "--qmp-timeout", "1m"];
    let mut daemon = Daemon::start(&mut dom0.daemon(false, &arguments));
    let document: Value = serde_json::from_str(&daemon.wait_for_line()).unwrap();
    assert_eq!(document["domains"][21]["vbds"], 2);
    assert!(document["domains"][1]["vbds"].is_null());
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    assert!(peak.parse::<u32>().unwrap() < 200_000, "{peak} KiB");
}

/// A daemon that does not run until the timeout is over, as on a busy machine, reads the replies that came in time.
#[test]
fn qmp_replies_that_came_in_time_are_read_after_the_timeout() {
    let dom0 = Dom0::new(2);
    let (asked, is_asked) = mpsc::channel();
    let (stopped, is_stopped) = mpsc::channel::<()>();
    let (answered, is_answered) = mpsc::channel();
    dom0.qemu(1, move |stream, _| {
        let mut answers = 0;
        converse(&stream, PV, |bytes| {
            if bytes != GREETING {
                answers += 1;
            }
            // The last one.
            if answers == 4 {
                asked.send(()).unwrap();
                is_stopped.recv().unwrap();
            }
            let _ = (&stream).write_all(bytes);
            if answers == 4 {
                answered.send(()).unwrap();
            }
        })
    });
    // Does not answer, so that the poll lasts until the timeout.
    dom0.qemu(2, |stream, _| hang(stream));
    let arguments = ["--print", "json", "--interval", "20s", "--qmp-timeout", "1s"];
    let mut daemon = Daemon::start(&mut dom0.daemon(false, &arguments));
    is_asked.recv().unwrap();
    daemon.signal("STOP");
    stopped.send(()).unwrap();
    is_answered.recv().unwrap();
    thread::sleep(Duration::from_secs(1));
    daemon.signal("CONT");
    let document: Value = serde_json::from_str(&daemon.wait_for_line()).unwrap();
    assert_eq!((&document["domains"][1]["vbds"], &document["domains"][2]["vbds"]), (&2.into(), &Value::Null));
}

/// Those that were not asked are asked first next time, and are not reported as hanging.
#[test]
fn qmp_guests_not_asked_are_asked_first_next_time() {
    let dom0 = Dom0::new(258);
    // The kernel accepts the connection, and no reply comes.
    let _hang: Vec<UnixListener> = (1..=256).map(|guest| UnixListener::bind(dom0.socket(guest)).unwrap()).collect();
    dom0.qemu(257, well);
    dom0.qemu(258, well);
    let arguments = ["--count", "2", "--interval", "4s", "--qmp-timeout", "3s", "--print", "json"];
    let said = run(&mut dom0.daemon(false, &arguments));
    let disks = |line: &str| {
        let document: Value = serde_json::from_str(line).unwrap();
        [257, 258].map(|guest| document["domains"][guest]["vbds"].as_u64())
    };
    let polls: Vec<_> = said.out.lines().map(disks).collect();
    assert_eq!(polls, [[None; 2], [Some(2); 2]], "{}", said.err);
    let check = run(&mut dom0.daemon(true, &["--check", "--print", "json", "--qmp-timeout", "200ms"]));
    for guest in [257, 258] {
        assert!(check.out.contains(&format!("QEMU of g{guest} was not asked: ")), "{}", check.out);
    }
}

#[test]
fn qmp_needs_few_open_files() {
    let dom0 = Dom0::new(60);
    (1..=60).for_each(|guest| dom0.qemu(guest, well));
    let mut command = dom0.daemon(false, &["--once", "--print", "json", "--interval", "20s", "--qmp-timeout", "8s"]);
    let document: Value = serde_json::from_str(&out_of(command.env("FILES", "30"))).unwrap();
    let domains = document["domains"].as_array().unwrap();
    assert_eq!(domains.iter().filter(|domain| domain["vbds"] == 2).count(), 60);
}

/// A guest starts while libxenstat reads: its disks are not missed.
#[test]
fn qmp_finds_a_guest_that_starts_during_the_poll() {
    let dom0 = Dom0::new(0);
    dom0.qemu(1, well);
    let is_up = dom0.scratch.join("up");
    let scenario = format!(
        "[[domain]]\nid = 0\n[[domain]]\nid = 1\n[[domain]]\nid = 2\nfrom_poll = 1\n\
         [[fault]]\nat = 1\nstderr = \"busy\"\nwait_for = \"{}\"\n",
        is_up.display()
    );
    let mut daemon = Daemon::start(&mut dom0.on(&scenario, &["--interval", "2s", "--print", "json"]));
    let poll = |line: String| -> Value { serde_json::from_str(&line).unwrap() };
    assert_eq!(poll(daemon.wait_for_line())["domains"].as_array().unwrap().len(), 2);
    // During the second poll.
    daemon.wait_for_log("busy");
    dom0.qemu(2, well);
    std::fs::write(is_up, "").unwrap();
    assert_eq!(poll(daemon.wait_for_line())["domains"][2]["vbds"], 2);
}

/// If a guest's socket is not a socket, its disks are unknown, not 0.
#[test]
fn qmp_path_that_is_no_socket_omits_disks() {
    let dom0 = Dom0::new(6);
    dom0.qemu(5, well);
    std::fs::write(dom0.socket(1), "").unwrap();
    std::fs::create_dir(dom0.socket(2)).unwrap();
    std::os::unix::fs::symlink(dom0.socket(5), dom0.socket(3)).unwrap();
    assert!(Command::new("mkfifo").arg(dom0.socket(4)).status().unwrap().success());
    let disks: Vec<Option<u64>> = dom0.guests(&[]).iter().map(|domain| domain["vbds"].as_u64()).collect();
    assert_eq!(disks, [None, None, None, None, Some(2), Some(0)]);
    let said = run(&mut dom0.daemon(true, &["--check", "--print", "json"]));
    assert!(said.out.contains("QEMU of g4 cannot be asked: no socket is "), "{}", said.out);
}

/// Only libxenstat miscounts sectors.
#[test]
fn disks_own_counters_are_right_on_every_release() {
    let dom0 = Dom0::new(1);
    dom0.qemu(1, well);
    let said = run(&mut dom0.on(
        "[host]\nxen_version = \"4.14.2\"\n[[domain]]\nid = 0\n[[domain]]\nid = 1\n",
        &["--once", "--print", "json"],
    ));
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(document["domains"][1]["vbd_rsect"], 15376);
    assert!(!said.err.contains("miscounts"), "{}", said.err);
}
