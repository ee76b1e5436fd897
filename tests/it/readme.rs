//! The README is the contract: what it lists is what the code has.

use xenmonitor::metrics::GAUGES;

use crate::support::{bare, out_of, root};

fn readme() -> String {
    std::fs::read_to_string(root().join("README.md")).unwrap()
}

#[test]
fn its_table_is_the_vocabulary() {
    let mut table = String::from("| gauge | xentop | | value | with `--layout xenmonitor` |\n|---|---|---|---|---|\n");
    for gauge in GAUGES {
        let kind = if gauge.cumulative { "counts up" } else { "now" };
        let old = gauge.xenmonitor.map_or("–".to_owned(), |name| format!("`{name}`"));
        table += &format!("| `{}` | {} | {kind} | {} | {old} |\n", gauge.name, gauge.xentop, gauge.meaning);
    }
    assert!(readme().contains(&table), "the README has another table than this:\n{table}");
}

#[test]
fn it_names_every_option() {
    let readme = readme();
    let help = out_of(bare().arg("--help"));
    for word in help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')) {
        if word.starts_with("--") && word.len() > 2 && !["--help", "--version"].contains(&word) {
            assert!(readme.contains(&format!("`{word}")), "{word} is not in the README");
        }
        if word.starts_with("STATSD_") {
            assert!(readme.contains(word), "{word} is not in the README");
        }
    }
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
