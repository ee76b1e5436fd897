//! `--print table`.

use std::process::Stdio;

use crate::support::{Scratch, out_of, scenario, xenmonitor};

#[test]
fn stdout_closed_by_the_reader_is_success() {
    let mut child = xenmonitor(&scenario("demo"))
        .args(["--interval", "20ms", "--print", "table"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A name's row is not shifted by characters of two cells or none.
#[test]
fn table_rows_are_aligned_by_cells() {
    let scratch = Scratch::new();
    // The cells that a terminal gives them.
    let names = [
        ("web", 3),
        ("Z\u{fc}rich", 6),
        ("\u{43f}\u{440}\u{43e}\u{434}", 4),
        ("\u{6771}\u{4eac}", 4),
        ("e\u{301}a", 2),
    ];
    let domain = |(id, (name, _)): (usize, &(&str, usize))| format!("[[domain]]\nid = {id}\nname = \"{name}\"\n");
    let host: String = names.iter().enumerate().map(domain).collect();
    let table = out_of(xenmonitor(&scratch.file("s.toml", &host)).args(["--once", "--print", "table"]));
    let header = table.lines().next().unwrap();
    for (name, cells) in names {
        let row = table.lines().find(|row| row.contains(name)).unwrap_or_else(|| panic!("{name} is not in {table}"));
        let (before, rest) = row.split_once(name).unwrap();
        assert_eq!((before.chars().count() + cells, before.trim()), (10, ""), "{name}: {table}");
        assert_eq!(rest.len(), header.len() - 10, "{name}: {table}");
    }
}
