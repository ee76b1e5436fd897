//! The README is the contract: what it lists is what the code has.

use xenmonitor::metrics::{GAUGES, Kind};

use crate::support::{bare, out_of, root};

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

#[test]
fn its_table_is_the_vocabulary() {
    let mut table = String::from("| gauge | xentop | | value | with `--layout xenmonitor` |\n|---|---|---|---|---|\n");
    for gauge in GAUGES {
        let kind = in_words(gauge.kind);
        let old = gauge.xenmonitor.map_or("–".to_owned(), |name| format!("`{name}`"));
        table += &format!("| `{}` | {} | {kind} | {} | {old} |\n", gauge.name, gauge.xentop, gauge.meaning);
    }
    assert!(readme().contains(&table), "the README has another table than this:\n{table}");
}

#[test]
fn its_second_table_is_the_details() {
    let mut table = String::from("| gauge | | value |\n|---|---|---|\n");
    for (metric, kind, meaning) in xenmonitor::detail::vocabulary() {
        table += &format!("| `{metric}` | {} | {meaning} |\n", in_words(kind));
    }
    assert!(readme().contains(&table), "the README has another table than this:\n{table}");
}

#[test]
fn its_third_table_is_the_host() {
    let mut table = String::from("| gauge of the host | | value |\n|---|---|---|\n");
    for (metric, kind, meaning) in xenmonitor::host::vocabulary() {
        table += &format!("| `{metric}` | {} | {meaning} |\n", in_words(kind));
    }
    assert!(readme().contains(&table), "the README has another table than this:\n{table}");
}

fn in_words(kind: Kind) -> &'static str {
    match kind {
        Kind::CountsUp => "counts up",
        Kind::Now => "now",
        Kind::Since => "since the last poll",
    }
}

#[test]
fn it_names_every_option() {
    let readme = readme();
    let help = out_of(bare().arg("--help"));
    for word in help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')) {
        if word.starts_with("--") && word.len() > 2 && !["--help", "--version"].contains(&word) {
            assert!(readme.contains(&format!("`{word}")), "{word} is not in the README");
        }
        if word.starts_with("STATSD_") || word.starts_with("DD_") {
            assert!(readme.contains(word), "{word} is not in the README");
        }
    }
}

/// docs/libxenstat.md names the test that shows each thing; a test of that name there has to be.
#[test]
fn the_tests_that_the_facts_name_exist() {
    let facts = std::fs::read_to_string(root().join("docs/libxenstat.md")).unwrap();
    let mut sources = String::new();
    for directory in ["src", "tests/it"] {
        for entry in std::fs::read_dir(root().join(directory)).unwrap() {
            sources += &std::fs::read_to_string(entry.unwrap().path()).unwrap();
        }
    }
    // In the last column; the one before is about C.
    let ours: String = facts.lines().filter_map(|line| Some(line.strip_suffix(" |")?.rsplit_once(" | ")?.1)).collect();
    let words = ours.split('`').skip(1).step_by(2);
    let tests: Vec<&str> = words
        .filter(|word| word.contains('_') && word.chars().all(|c| c.is_ascii_lowercase() || "_0123456789".contains(c)))
        .collect();
    assert!(tests.len() > 15, "{tests:?}");
    for test in tests {
        assert!(
            sources.contains(&format!("#[test]\nfn {test}()"))
                || sources.contains(&format!("#[test]\n    fn {test}()")),
            "{test}"
        );
    }
    let numbers = (1..=28).filter(|n| !facts.contains(&format!("\n| {n} | ")));
    assert_eq!(numbers.count(), 0, "every fact has a row");
}

#[test]
fn its_make_targets_exist() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let readme = readme();
    let targets: Vec<&str> = readme
        .split("make ")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_lowercase()).next().unwrap())
        .collect();
    assert!(targets.contains(&"demo") && targets.contains(&"test"));
    for target in targets.iter().filter(|target| !target.is_empty()) {
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
    }
}
