//! How long a poll takes in which QEMUs are asked for disks: by us, and by the real libxenstat, on the same
//! made-up guests. `cargo bench --bench disks`; as root, or where users may have namespaces.
//!
//! libxenstat runs over stand-ins for the two libraries that talk to Xen (xen.c); what it does with QEMU is its
//! own. What is compared is the daemon's own `xenmonitor.poll_ms`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

const POLLS: usize = 5;

fn main() {
    // As `cargo test --benches` calls it.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let scratch = std::env::temp_dir().join(format!("xenmonitor-bench-{}", std::process::id()));
    std::fs::create_dir_all(scratch.join("lib")).unwrap();
    std::fs::create_dir(scratch.join("dev")).unwrap();
    stand_ins(&scratch.join("lib"));
    println!("median of {POLLS} polls; each guest has two disks, and its QEMU takes so long for each answer");
    println!("guests  answer   |  ours: ms  disks  |  libxenstat: ms  disks  |  libxenstat / ours");
    for guests in [1, 10, 100] {
        for answer in [2500, 20_000].map(Duration::from_micros) {
            let run = scratch.join(format!("run-{guests}-{}", answer.as_millis()));
            std::fs::create_dir(&run).unwrap();
            (1..=guests).for_each(|guest| qemu(&run.join(format!("qmp-libxenstat-{guest}")), answer));
            let of = |who: &[&str]| poll(&scratch, &run, guests, who);
            let (ours, our_disks) = of(&["--disks", "kernel"]);
            let (theirs, their_disks) = of(&["--disks", "libxenstat"]);
            println!(
                "{guests:6}  {answer:>6.1?}   |  {ours:8.1}  {our_disks:5}  |  {theirs:14.1}  {their_disks:5}  |  {:17.1}",
                theirs / ours
            );
        }
    }
    let _ = std::fs::remove_dir_all(&scratch);
}

/// Compiles xen.c as both libraries, with the versions of symbols that libxenstat asks for.
fn stand_ins(into: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/xen.c");
    let version = out_of(Command::new("pkg-config").args(["--modversion", "xenstat"]));
    let release = version.trim().rsplit_once('.').unwrap().0.to_owned();
    for (library, version) in [
        (format!("libxenctrl.so.{release}"), format!("VERS_{release}.0")),
        ("libxenstore.so.4".into(), "VERS_4.0".into()),
    ] {
        let map = into.join("version.map");
        std::fs::write(&map, format!("{version} {{ global: x*; }};\n")).unwrap();
        let script = format!("-Wl,-soname,{library},--version-script={}", map.display());
        out_of(
            Command::new("cc")
                .args(["-shared", "-fPIC", "-O1", "-w", &script, "-o"])
                .arg(into.join(&library))
                .arg(&source),
        );
    }
}

/// A QEMU that has the replies of a real one, each after `answer`.
fn qemu(socket: &Path, answer: Duration) {
    let listener = UnixListener::bind(socket).unwrap();
    let answers: serde_json::Value = serde_json::from_str(include_str!("../tests/qmp/pv.json")).unwrap();
    let answers: HashMap<String, String> =
        answers.as_object().unwrap().iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
    let serve = move |mut stream: UnixStream| -> std::io::Result<()> {
        stream.write_all(b"{\"QMP\": {\"version\": {\"qemu\": {\"major\": 7}}, \"capabilities\": []}}\r\n")?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut text = String::new();
        loop {
            // libxenstat ends its questions without a newline, which QEMU does not need.
            let bytes = reader.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            text += &String::from_utf8_lossy(bytes);
            let read = bytes.len();
            reader.consume(read);
            let mut questions = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
            let mut asked = Vec::new();
            while let Some(Ok(question)) = questions.next() {
                asked.push(question);
            }
            let rest = questions.byte_offset();
            text.drain(..rest);
            for question in asked {
                thread::sleep(answer);
                let told = question["execute"].as_str().and_then(|name| answers.get(name)).map_or("{}", String::as_str);
                let id = question.get("id").map_or(String::new(), |id| format!(", \"id\": {id}"));
                stream.write_all(format!("{{\"return\": {told}{id}}}\r\n").as_bytes())?;
            }
        }
    };
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(serve(stream))));
}

/// The median of the daemon's `poll_ms`, and how many disks it told at the last poll.
fn poll(scratch: &Path, run: &Path, guests: u32, who: &[&str]) -> (f64, f64) {
    // Of /dev/xen/privcmd only is looked whether it opens.
    let script = "mount -t tmpfs none /run && mkdir /run/xen && mount --bind \"$RUN\" /run/xen && \
                  mount -t tmpfs none /sys/bus && mkdir -p /sys/bus/xen-backend/devices && \
                  mount -t tmpfs none \"$DEV\" && mkdir \"$DEV/xen\" \"$DEV/shm\" && \
                  touch \"$DEV/null\" \"$DEV/xen/privcmd\" && mount --bind /dev/null \"$DEV/null\" && \
                  mount --rbind \"$DEV\" /dev && exec \"$0\" \"$@\"";
    let mut command = Command::new("unshare");
    command.arg("--mount").args((!am_root()).then_some("--map-root-user")).args(["sh", "-c", script]);
    command.arg(env!("CARGO_BIN_EXE_xenmonitor")).args(who);
    command.args(["--count", &(POLLS + 1).to_string(), "--interval", "500ms", "--print", "statsd"]);
    command.args(["--template", "{domain}.{metric}", "--host", "h", "--log", "error"]);
    command
        .env("LD_LIBRARY_PATH", scratch.join("lib"))
        .env("RUN", run)
        .env("DEV", scratch.join("dev"))
        .env("XEN_GUESTS", guests.to_string());
    let lines = out_of(&mut command);
    let values = |metric: &str| -> Vec<f64> {
        lines.lines().filter_map(|line| line.split_once(metric)?.1.strip_suffix("|g")?.parse().ok()).collect()
    };
    let mut polls = values("xenmonitor.poll_ms:");
    polls.remove(0);
    polls.sort_by(f64::total_cmp);
    let disks: Vec<f64> = values(".vbds:");
    (polls[polls.len() / 2], disks.iter().rev().take(guests as usize + 1).sum())
}

fn am_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn out_of(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
