//! The columns are compared with those of the real xentop: both programs read the same scenario through the same shim,
//! and print the same table byte for byte, as long as names are ASCII.
//!
//! CPU(%) is exactly equal, because both measure time by the shim's clock, which advances by `clock_step` at each poll:
//! xentop resolves gettimeofday to the shim's, and xenmonitor has the shim's clock_gettime preloaded.

use std::path::Path;

use unicode_width::UnicodeWidthStr;

use crate::support::{Scratch, clean, on_the_shims_clock, out_of, run, scenario, shim, xenmonitor, xentop};

const POLLS: usize = 4;

/// The output of `xentop -b -f` on the shim, which prints nothing on stderr.
fn xentops(scenario: &Path) -> String {
    let mut command = clean(xentop());
    command.env("XENSTAT_SCENARIO", scenario).env("LD_LIBRARY_PATH", shim().parent().unwrap());
    let said = run(command.args(["-b", "-f", "-d", "0", "-i"]).arg(POLLS.to_string()));
    assert_eq!((said.status, said.err.as_str()), (Some(0), ""));
    said.out
}

fn ours(scenario: &Path) -> String {
    let mut command = xenmonitor(scenario);
    on_the_shims_clock(&mut command).arg("--count").arg(POLLS.to_string());
    out_of(command.args(["--print", "table", "--log", "off"]))
}

/// The polls of a table, each with header and rows.
fn polls(text: &str) -> Vec<Vec<&str>> {
    let mut polls: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("NAME  STATE ") {
            polls.push(Vec::new());
        }
        polls.last_mut().expect("a header first").push(line);
    }
    polls
}

/// xentop's row with `-` in place of the false `0.0` of a domain's first poll (fact 23).
fn without_first_percentage(row: &str, header: &str) -> String {
    let end = header.find("CPU(%)").unwrap() + "CPU(%)".len();
    assert_eq!(&row[end - 6..end], "   0.0", "a first CPU(%) of xentop's: {row}");
    format!("{}     -{}", &row[..end - 6], &row[end..])
}

/// xentop's row with its name padded by cells, as an intended difference: xentop pads by bytes, which shifts the row.
fn by_cells(row: &str) -> String {
    " ".repeat(row.len() - row.width()) + row
}

/// Compares the tables; returns the number of domains.
fn agree(scenario: &Path) -> usize {
    let (theirs, ours) = (xentops(scenario), ours(scenario));
    let (theirs, ours) = (polls(&theirs), polls(&ours));
    assert_eq!((theirs.len(), ours.len()), (POLLS, POLLS));
    for (n, (theirs, ours)) in theirs.iter().zip(&ours).enumerate() {
        assert_eq!(theirs.len(), ours.len(), "rows of poll {n}");
        assert_eq!(theirs[0], ours[0], "the header of poll {n}");
        for (theirs_row, ours_row) in theirs.iter().zip(ours).skip(1) {
            let expected = match n {
                0 => without_first_percentage(theirs_row, theirs[0]),
                _ => (*theirs_row).to_owned(),
            };
            assert_eq!(&by_cells(&expected), ours_row, "poll {n} of {}", scenario.display());
        }
    }
    ours[0].len() - 1
}

#[test]
fn xentop_table_of_an_ordinary_host_is_equal() {
    assert!(agree(&scenario("ordinary")) >= 4);
}

/// No memory limit, VBDs in error, domains without devices, every state.
#[test]
fn xentop_table_of_odd_domains_is_equal() {
    assert!(agree(&scenario("odd")) >= 4);
}

#[test]
fn xentop_table_of_300_domains_is_equal() {
    assert_eq!(agree(&scenario("many")), 301);
}

/// Names of up to 80 bytes, with spaces, dots and UTF-8.
#[test]
fn xentop_table_of_odd_names_is_equal() {
    assert!(agree(&scenario("names")) >= 4);
}

/// An intended difference, as the first CPU(%) is: xentop prints the control characters of a name.
#[test]
fn xentop_difference_hostile_name_is_escaped() {
    let scratch = Scratch::new();
    let hostile = "a\n\u{1b}[2Jz";
    let hex: String = hostile.bytes().map(|byte| format!("{byte:02x}")).collect();
    let scenario = scratch.file("s.toml", &format!("clock_step = \"1s\"\n[[domain]]\nid = 3\nname_hex = \"{hex}\"\n"));
    assert!(xentops(&scenario).contains(hostile), "xentop no longer prints names as they are: update the docs");
    let ours = ours(&scenario);
    assert!(ours.lines().count() == POLLS * 2 && ours.contains("a\\x0a\\x1b[2Jz --b---"), "{ours}");
}
