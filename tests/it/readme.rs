//! README and docs are checked against the code: tables of metrics and options, quoted log lines, names of tests.

use std::path::Path;
use xenmonitor::metrics::devices::{self, Detail};
use xenmonitor::metrics::{DOMAIN, Entry, host_catalogue};

use crate::support::{bare, clean, out_of, root, run, scenario, target, xenmonitor};

fn page(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn readme() -> String {
    page("README.md")
}

/// Fails, and prints the table, if the page has another.
fn has_table(name: &str, heading: &str, rows: impl Iterator<Item = String>) {
    let columns = heading.matches('|').count() - 1;
    let table: String = [format!("{heading}\n|{}\n", "---|".repeat(columns))].into_iter().chain(rows).collect();
    assert!(page(name).contains(&table), "{name} needs this table:\n{table}");
}

#[test]
fn readme_lists_domain_metrics() {
    let rows = DOMAIN.iter().map(|row| {
        let metric = &row.metric;
        format!("| `{}` | {} | {} | {} |\n", metric.name, row.xentop.unwrap_or("–"), metric.kind, metric.meaning)
    });
    has_table("README.md", "| metric | xentop | kind | value |", rows);
}

#[test]
fn docs_list_device_and_host_metrics() {
    let row = |(metric, kind, meaning): Entry| format!("| `{metric}` | {kind} | {meaning} |\n");
    let details = devices::catalogue(&[Detail::All, Detail::Runstates]).into_iter().map(row);
    has_table("docs/metrics.md", "| metric | kind | value |", details);
    has_table("docs/metrics.md", "| metric of the host | kind | value |", host_catalogue().into_iter().map(row));
}

#[test]
fn docs_describe_every_option() {
    let page = page("docs/options.md");
    let help = out_of(bare().arg("--help"));
    for word in help.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')) {
        if word.starts_with("--") && word.len() > 2 && !["--help", "--version"].contains(&word) {
            let named = |end| page.contains(&format!("`{word}{end}"));
            assert!(named('`') || named(' '), "{word} is not in docs/options.md");
        }
        if word.starts_with("STATSD_") || word.starts_with("DD_") {
            assert!(page.contains(word), "{word} is not in docs/options.md");
        }
    }
}

/// The commands of docs/servers.md. They may fail to reach a server.
#[test]
fn docs_commands_for_servers_are_valid() {
    let guide = std::fs::read_to_string(root().join("docs/servers.md")).unwrap();
    let blocks = guide.split("\n```sh\n").skip(1).flat_map(|block| block.split("```").next().unwrap().lines());
    let commands: Vec<&str> = blocks.filter_map(|line| line.strip_prefix("xenmonitor ")).collect();
    assert!(commands.len() >= 2, "{commands:?}");
    for command in commands {
        let options = command.replace("stats.example.com", "127.0.0.1");
        let said = run(xenmonitor(&scenario("demo")).arg("--check").args(options.split(' ')));
        assert!(said.out.contains("destination") && said.status < Some(2), "{command}: {}", said.err);
    }
}

/// Every file below a directory in this one.
fn files_below(top: &Path, directory: &str) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(top.join(directory)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.extend(files_below(top, &name));
        } else {
            files.push(name);
        }
    }
    files
}

/// All that is in our own source, where tests are; without the reasons why some are ignored.
fn sources() -> String {
    ["src", "tests/it"]
        .iter()
        .flat_map(|directory| files_below(root(), directory))
        .map(|file| page(&file).split_inclusive('\n').filter(|line| !line.starts_with("#[ignore")).collect::<String>())
        .collect()
}

/// Asserts that a row's last column names at least one test, and that these tests exist.
fn has_its_tests(row: &str, sources: &str) {
    let ours = row.trim_end_matches(" |").rsplit_once(" | ").unwrap().1;
    let words = ours.split('`').skip(1).step_by(2);
    let tests: Vec<&str> = words.filter(|word| word.contains('_') && !word.starts_with("xenstat_")).collect();
    assert!(!tests.is_empty(), "this has no test: {row}");
    for test in tests {
        let is = |indent| sources.contains(&format!("\n{indent}#[test]\n{indent}fn {test}("));
        assert!(is("") || is("    ") || is("        "), "there is no test {test}");
    }
}

/// docs/libxenstat.md names at least one test for each fact, and these tests exist.
#[test]
fn docs_facts_name_existing_tests() {
    let (facts, sources) = (page("docs/libxenstat.md"), sources());
    let number = |row: &str| row.strip_prefix("| ")?.split_once(" | ")?.0.parse().ok();
    let rows: Vec<(usize, &str)> = facts.lines().filter_map(|row| Some((number(row)?, row))).collect();
    assert!(rows.len() >= 28 && rows.iter().map(|(n, _)| *n).eq(1..=rows.len()), "every fact has a row");
    rows.iter().for_each(|(_, row)| has_its_tests(row, &sources));
}

#[test]
fn docs_faults_name_existing_tests() {
    let (faults, sources) = (page("docs/reliability.md"), sources());
    let rows: Vec<&str> = faults.lines().filter(|row| row.starts_with("| ") && !row.starts_with("| fault |")).collect();
    assert!(rows.len() >= 20, "{}", rows.len());
    rows.iter().for_each(|row| has_its_tests(row, &sources));
}

/// Old and new name of each column of xentop.
#[test]
fn migration_page_has_every_column() {
    let page = page("docs/from-xenmonitor.md");
    for row in DOMAIN {
        let Some(column) = row.xentop.filter(|column| *column != "STATE") else { continue };
        let old = row.legacy.map_or("–".into(), |old| format!("`XenVms.HOST.{old}.VM`"));
        let start = format!("| {old} | `xen.HOST.VM.{}`", row.metric.name);
        let line = page.lines().find(|line| line.starts_with(&start)).unwrap_or_else(|| panic!("no row {start}"));
        assert!(line.ends_with(&format!(" | {column} |")), "{line}");
    }
}

/// The log lines that the page quotes are in the source.
#[test]
fn docs_troubleshooting_quotes_real_messages() {
    let page = page("docs/troubleshooting.md");
    let sources: String = sources().split_whitespace().collect::<Vec<_>>().join(" ").replace("\\ ", "");
    let rows =
        page.lines().skip_while(|line| !line.starts_with("| words ")).skip(2).take_while(|line| !line.is_empty());
    let mut quoted = 0;
    for row in rows {
        let words = row.split('`').nth(1).unwrap();
        let parts = words.split('…').map(str::trim).filter(|part| !part.is_empty());
        parts.for_each(|part| assert!(sources.contains(part), "nothing says {part:?}"));
        quoted += 1;
    }
    assert!(quoted > 10);
}

/// Each `make TARGET` in the documentation exists, and each target of `make help` is documented.
#[test]
fn docs_make_targets_exist() {
    let read = |file: &str| std::fs::read_to_string(root().join(file)).unwrap();
    let makefile = read("Makefile") + &read("packaging/rules.mk");
    let mut documents = readme() + &read("CONTRIBUTING.md");
    for entry in std::fs::read_dir(root().join("docs")).unwrap() {
        documents += &std::fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
    }
    let all = documents.clone()
        + &read(".github/workflows/ci.yml")
        + &read(".github/workflows/weekly.yml")
        + &read(".ci/run");
    // As a command, not as words of a sentence.
    let is_command =
        |before: &str| ["`", "\n", "&& ", "run: ", "sudo ", "PATH\" "].iter().any(|end| before.ends_with(end));
    let commands = all.match_indices("make ").filter(|(at, _)| is_command(&all[..*at]));
    let target = |(at, make): (usize, &str)| {
        all[at + make.len()..].split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).next().unwrap().to_owned()
    };
    let targets: Vec<String> = commands.map(target).filter(|target| !target.is_empty()).collect();
    assert!(targets.len() > 20, "{targets:?}");
    for target in targets {
        assert!(makefile.contains(&format!("\n{target}:")), "make {target}");
    }
    let helped = makefile.lines().filter(|line| line.contains(": ") && line.contains(" ## "));
    for target in helped.map(|line| line.split(':').next().unwrap()).filter(|target| *target != "help") {
        assert!(documents.contains(&format!("make {target}")), "make {target} is not documented");
    }
}

/// The anchor that a page's reader gets for a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

/// Each link to a file, or to a heading of it, of these pages below a directory. Their number.
fn links_lead_somewhere(directory: &Path, pages: &[String]) -> usize {
    let mut links = 0;
    for name in pages.iter().filter(|name| name.ends_with(".md")) {
        let at = directory.join(name);
        let text = std::fs::read_to_string(&at).unwrap();
        let targets = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        for link in targets.filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path = if file.is_empty() { at.clone() } else { at.parent().unwrap().join(file) };
            assert!(path.exists(), "{name}: nothing is at {link}");
            let has_it = |page: String| page.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
            assert!(
                heading.is_empty() || has_it(std::fs::read_to_string(path).unwrap()),
                "{name}: no heading is at {link}"
            );
            links += 1;
        }
    }
    links
}

#[test]
fn docs_links_lead_to_files_and_headings() {
    let directories = ["docs", "findings", "packaging", "tests/shim", "xenstat-sys"];
    let mut pages: Vec<String> = directories.iter().flat_map(|name| files_below(root(), name)).collect();
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(str::to_owned));
    let links = links_lead_somewhere(root(), &pages);
    assert!(links > 50, "{links}");
}

/// Where fewer files are.
#[test]
fn docs_links_lead_to_files_when_installed() {
    let documentation = target().join("documentation");
    out_of(clean("make").arg("documentation").current_dir(root()).env_remove("MAKEFLAGS"));
    let links = links_lead_somewhere(&documentation, &files_below(&documentation, ""));
    assert!(links > 50, "{links}");
}
