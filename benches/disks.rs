//! How long a poll takes in which QEMUs are asked for disks: by us, and by the real libxenstat, on the same
//! made-up guests. `cargo bench --bench disks`; as root, or where users may have namespaces.
//!
//! libxenstat runs over stand-ins for the two libraries that talk to Xen (tests/libraries/xen.c); what it does with
//! QEMU is its own. What is compared is the daemon's own `xenmonitor.poll_ms`.

mod stand_ins;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use stand_ins::{Scratch, in_namespaces, median, out_of};

const POLLS: usize = 5;

fn main() {
    // As `cargo test --benches` calls it.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let scratch = Scratch::new();
    stand_ins::compile(&scratch);
    println!("median of {POLLS} polls; each guest has two disks, and its QEMU takes so long for each answer");
    println!("guests  answer   |  ours: ms  disks  |  libxenstat: ms  disks  |  libxenstat / ours");
    for guests in [1, 10, 100] {
        for answer in [2500, 20_000].map(Duration::from_micros) {
            let run = scratch.join(format!("run-{guests}-{}", answer.as_millis()));
            std::fs::create_dir(&run).unwrap();
            (1..=guests).for_each(|guest| qemu(&run.join(format!("qmp-libxenstat-{guest}")), answer));
            let of = |who: &[&str]| poll(&scratch, &run, guests, who);
            let (ours, our_disks) = of(&["--disks", "backends"]);
            let (theirs, their_disks) = of(&["--disks", "libxenstat"]);
            println!(
                "{guests:6}  {answer:>6.1?}   |  {ours:8.1}  {our_disks:5}  |  {theirs:14.1}  {their_disks:5}  |  {:17.1}",
                theirs / ours
            );
        }
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
fn poll(scratch: &Scratch, run: &Path, guests: u32, who: &[&str]) -> (f64, f64) {
    let mut command = in_namespaces(scratch, &[], "");
    command.args(who);
    command.args(["--count", &(POLLS + 1).to_string(), "--interval", "500ms", "--print", "statsd"]);
    command.args(["--template", "{domain}.{metric}", "--host", "h", "--log", "error"]);
    command.env("RUN", run).env("XEN_HOST", stand_ins::guests(scratch, guests));
    let lines = out_of(&mut command);
    let values = |metric: &str| -> Vec<f64> {
        lines.lines().filter_map(|line| line.split_once(metric)?.1.strip_suffix("|g")?.parse().ok()).collect()
    };
    let mut polls = values("xenmonitor.poll_ms:");
    polls.remove(0);
    let disks: Vec<f64> = values(".vbds:");
    (median(polls), disks.iter().rev().take(guests as usize + 1).sum())
}
