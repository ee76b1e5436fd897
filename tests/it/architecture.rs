//! The architecture that src/lib.rs describes: modules import only from those below them, and what is dangerous or
//! could be replaced has one place each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::support::root;

/// The modules of src/ and their floors. A module imports only from lower floors.
const FLOORS: [(&str, u32); 13] = [
    ("model", 1),
    ("logging", 1),
    ("backoff", 1),
    ("on_drop", 1),
    ("collect", 2),
    ("naming", 2),
    ("metrics", 3),
    ("statsd", 4),
    ("report", 5),
    ("cli", 6),
    ("daemon", 7),
    ("fuzz", 7),
    ("main", 8),
];

/// The module that tests everything else, and so may import it.
const TESTS_EVERYTHING: &str = "fuzz";

/// libxenstat, and below it one file for each C library that is loaded with it.
const C_LIBRARIES: [&str; 2] = ["collect/xenstat.rs", "collect/xenstat/"];

const SOCKETS: [&str; 6] = ["UdpSocket", "TcpStream", "TcpListener", "UnixDatagram", "UnixStream", "UnixListener"];

/// Words, and the only places where they may be used; in tests, too, or not.
const CONFINED: [(&[&str], &[&str], bool); 6] = [
    (&["unsafe"], &C_LIBRARIES, true),
    (&["xenstat_sys"], &C_LIBRARIES, true),
    (&["cadence"], &["statsd/batch.rs"], true),
    (&["signal_hook"], &["daemon/"], true),
    (&["clap"], &["cli/"], true),
    // The socket of the service manager, and those of QEMU.
    (&SOCKETS, &["statsd/", "daemon/systemd.rs", "collect/disks/qmp_client.rs"], false),
];

/// The derive that options need, which may stand at the enum itself.
const DERIVE: &str = "clap::ValueEnum";

const MAX_LINES: usize = 400;

/// Each file of src/ by its path there.
type Sources = BTreeMap<String, String>;

#[test]
fn architecture_holds() {
    let found = violations(&sources());
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn architecture_is_as_lib_rs_says() {
    let sources = sources();
    let top: BTreeSet<&str> = sources.keys().map(|path| path.split(['/', '.']).next().unwrap()).collect();
    let known: BTreeSet<&str> = FLOORS.iter().map(|(name, _)| *name).chain(["lib"]).collect();
    assert_eq!(top, known);
    let listed = sources["lib.rs"].lines().filter_map(|line| line.strip_prefix("//! - `")?.split('`').next());
    let listed: Vec<u32> = listed.map(|name| floor(name).unwrap_or_else(|| panic!("{name}"))).collect();
    assert!(listed.len() == FLOORS.len() - 1 && listed.is_sorted(), "{listed:?}");
}

/// Each rule, broken.
#[test]
fn architecture_violations_are_found() {
    for (files, expected) in [
        (&[("collect/vif.rs", "use crate::model::text;"), ("model/text.rs", "")][..], ""),
        (
            &[("model/text.rs", "use crate::collect::vif::Vif;"), ("collect/vif.rs", "")],
            "model/text.rs imports collect/vif.rs, which is not below it",
        ),
        (
            &[("naming/a.rs", "use crate::{backoff, collect::{b, b::C}};"), ("collect/b.rs", ""), ("backoff.rs", "")],
            "naming/a.rs imports collect/b.rs, which is not below it",
        ),
        (
            &[("report/a.rs", "fn f() { crate::daemon::b::g() }"), ("daemon/b.rs", "")],
            "report/a.rs imports daemon/b.rs, which is not below it",
        ),
        (&[("fuzz/a.rs", "use crate::daemon::b;"), ("daemon/b.rs", "")], ""),
        (&[("main.rs", "use xenmonitor::daemon::b::C;"), ("daemon/b.rs", "")], ""),
        // Not in comments, strings and tests.
        (
            &[
                ("model/a.rs", "// crate::cli::b\n/* crate::cli::b /* */ */ const A: &str = \"crate::cli::b\";"),
                ("model/c.rs", "const A: char = '\"';\n#[cfg(test)]\nmod tests {\n    use crate::cli::b;\n}"),
                ("cli/b.rs", ""),
            ],
            "",
        ),
        (
            &[
                ("metrics/a.rs", "use super::b::C;"),
                ("metrics/b.rs", "use crate::metrics::c;"),
                ("metrics/c.rs", "use crate::metrics::a::{self};"),
            ],
            "an import circle: metrics/a.rs, metrics/b.rs, metrics/c.rs",
        ),
        (
            &[("metrics/mod.rs", "pub mod a;\npub use a::A;"), ("metrics/a.rs", "use crate::metrics::B;")],
            "an import circle: metrics/a.rs, metrics/mod.rs",
        ),
        (
            &[("statsd/mod.rs", "mod a;\nfn f() { a::g() }"), ("statsd/a.rs", "use super::B;")],
            "an import circle: statsd/a.rs, statsd/mod.rs",
        ),
        (&[("naming/a.rs", "fn f<'a>() -> impl Iterator + use<'a> { g(); h() }")], ""),
        (&[("naming/a.rs", "fn f() { unsafe { g() } }")], "naming/a.rs uses unsafe"),
        (&[("naming/a.rs", "#[deny(unsafe_code)] fn f() {}")], ""),
        (&[("collect/vif.rs", "use xenstat_sys::raw;")], "collect/vif.rs uses xenstat_sys"),
        (&[("statsd/line.rs", "use cadence::MetricSink;")], "statsd/line.rs uses cadence"),
        (&[("cli/a.rs", "use signal_hook::consts;")], "cli/a.rs uses signal_hook"),
        (&[("naming/a.rs", "#[derive(clap::ValueEnum, Debug)] enum A {}")], ""),
        (&[("naming/a.rs", "use clap::Parser;")], "naming/a.rs uses clap"),
        (&[("report/a.rs", "use std::net::{SocketAddr, UdpSocket};")], "report/a.rs uses UdpSocket"),
        (&[("daemon/systemd.rs", "use std::os::unix::net::UnixDatagram;")], ""),
        (&[("model/a.rs", &"\n".repeat(401))], "model/a.rs has 401 lines before its tests"),
        (&[("model/a.rs", &("\n".repeat(400) + "#[cfg(test)]\nmod tests {\n\n\n}"))], ""),
        (
            &[("model/a.rs", &("#[cfg(test)]\nmod tests;\n".to_owned() + &"\n".repeat(399)))],
            "model/a.rs has 401 lines before its tests",
        ),
        (&[("other/a.rs", "")], "other/a.rs is in no known module"),
    ] {
        let sources = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        assert_eq!(violations(&sources).join("\n"), expected, "{files:?}");
    }
}

fn sources() -> Sources {
    fn read(directory: &Path, root: &Path, sources: &mut Sources) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, root, sources);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                sources.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let (mut sources, root) = (Sources::new(), root().join("src"));
    read(&root, &root, &mut sources);
    sources
}

/// A line for each rule that is broken.
fn violations(sources: &Sources) -> Vec<String> {
    let modules: BTreeMap<Vec<String>, &str> = sources.keys().map(|path| (module_of(path), path.as_str())).collect();
    let (mut found, mut imports) = (Vec::new(), BTreeMap::new());
    for (path, text) in sources {
        let module = module_of(path);
        let Some(floor_here) = floor(&module[0]).or((module[0] == "lib").then_some(u32::MAX)) else {
            found.push(format!("{path} is in no known module"));
            continue;
        };
        let lines = before_tests(path, text).lines().count();
        if lines > MAX_LINES {
            found.push(format!("{path} has {lines} lines before its tests"));
        }
        let code = code(text);
        for (words, places, in_tests) in CONFINED {
            let code = if in_tests { &code[..] } else { before_tests(path, &code) }.replace(DERIVE, "");
            let used = tokens(&code).into_iter().find(|token| words.contains(token));
            if let Some(word) = used.filter(|_| !places.iter().any(|place| path.starts_with(place))) {
                found.push(format!("{path} uses {word}"));
            }
        }
        let imported = imported(before_tests(path, &code), &module, path, &modules);
        for other in &imported {
            let theirs = &module_of(other)[0];
            let is_below = floor(theirs).is_some_and(|floor| floor < floor_here) || *theirs == module[0];
            if !is_below && module[0] != TESTS_EVERYTHING {
                found.push(format!("{path} imports {other}, which is not below it"));
            }
        }
        imports.insert(path.as_str(), imported);
    }
    found.extend(circle(&imports));
    found
}

fn floor(module: &str) -> Option<u32> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// `["collect", "disks", "qmp"]` of `collect/disks/qmp.rs`, `["collect"]` of `collect/mod.rs`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap();
    path.strip_suffix("/mod").unwrap_or(path).split('/').map(str::to_owned).collect()
}

/// The code that is not for tests. A file tests.rs is all for tests.
fn before_tests<'a>(path: &str, text: &'a str) -> &'a str {
    if path.ends_with("/tests.rs") { "" } else { text.split("#[cfg(test)]\nmod tests {").next().unwrap() }
}

/// The source without comments, and without the contents of strings and characters.
fn code(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some(c) = rest.chars().next() {
        let is_in_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let hashes = rest
            .trim_start_matches(['b', 'c'])
            .strip_prefix('r')
            .map(|raw| raw.len() - raw.trim_start_matches('#').len());
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment(rest)
        } else if let Some(hashes) =
            hashes.filter(|_| !is_in_word && rest.trim_start_matches(['b', 'c', 'r', '#']).starts_with('"'))
        {
            let start = rest.find('"').unwrap() + 1;
            let end = format!("\"{}", "#".repeat(hashes));
            start + rest[start..].find(&end).unwrap() + end.len()
        } else if c == '"' {
            1 + literal(&rest[1..], '"')
        } else if rest.starts_with("'\\") || (c == '\'' && rest.chars().nth(2) == Some('\'')) {
            1 + literal(&rest[1..], '\'')
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        rest = &rest[length..];
    }
    code
}

/// The length of a comment, in which there may be others.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    loop {
        match &text[at..] {
            rest if rest.starts_with("/*") => (depth, at) = (depth + 1, at + 2),
            rest if rest.starts_with("*/") => (depth, at) = (depth - 1, at + 2),
            rest => at += rest.chars().next().expect("the end of a comment").len_utf8(),
        }
        if depth == 0 {
            return at;
        }
    }
}

/// The length of what is left of a literal, with its end.
fn literal(text: &str, end: char) -> usize {
    let mut is_escaped = false;
    let at = text.find(|c| {
        let is_end = c == end && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    });
    at.expect("the end of a literal") + 1
}

/// Words, `::`, and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let (mut tokens, mut rest) = (Vec::new(), code.trim_start());
    while let Some(c) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = match rest.find(|c| !is_word(c)).unwrap_or(rest.len()) {
            0 if rest.starts_with("::") => 2,
            0 => c.len_utf8(),
            length => length,
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// The files that this one imports: those of `use`, and of paths in the code.
fn imported<'a>(
    code: &str,
    module: &[String],
    path: &str,
    modules: &BTreeMap<Vec<String>, &'a str>,
) -> BTreeSet<&'a str> {
    let (tokens, mut paths) = (tokens(code), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let is_child = || modules.contains_key(&[module, &[tokens[at].to_owned()]].concat());
        let starts_path = tokens.get(at + 1) == Some(&"::")
            && (["crate", "super", "self", "xenmonitor"].contains(&tokens[at]) || is_child());
        // `use<'a>` in a type imports nothing.
        if tokens[at] == "use" && tokens.get(at + 1) != Some(&"<") {
            at = tree(&tokens, at + 1, &[], &mut paths);
        } else if starts_path {
            let mut path = vec![tokens[at]];
            while tokens.get(at + 1) == Some(&"::") && tokens.get(at + 2).is_some_and(|word| *word != "<") {
                path.push(tokens[at + 2]);
                at += 2;
            }
            paths.push(path);
        }
        at += 1;
    }
    let files = paths.into_iter().filter_map(|names| {
        let parent = &module[..module.len() - 1];
        let (start, names) = match names[0] {
            "crate" | "xenmonitor" => (&[][..], &names[1..]),
            "self" => (module, &names[1..]),
            "super" => (parent, &names[1..]),
            // A module below this one, or another crate.
            _ => (module, &names[..]),
        };
        let names: Vec<String> = start.iter().cloned().chain(names.iter().map(|&name| name.to_owned())).collect();
        let longest = (start.len().max(1)..=names.len()).rev().find_map(|length| modules.get(&names[..length]));
        longest.copied().filter(|file| *file != path)
    });
    files.collect()
}

/// Reads what follows `use`: a path, or several in braces. Returns where it ends.
fn tree<'a>(tokens: &[&'a str], mut at: usize, prefix: &[&'a str], paths: &mut Vec<Vec<&'a str>>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at).copied() {
            Some("{") => {
                at += 1;
                while tokens[at] != "}" {
                    at = tree(tokens, at, &path, paths);
                    at += usize::from(tokens[at] == ",");
                }
                return at + 1;
            }
            Some("as") => at += 2,
            Some(";" | "," | "}") | None => {
                paths.push(path);
                return at;
            }
            Some("::" | "*") => at += 1,
            Some(name) => {
                path.push(name);
                at += 1;
            }
        }
    }
}

/// The first circle of imports.
fn circle(imports: &BTreeMap<&str, BTreeSet<&str>>) -> Option<String> {
    fn search<'a>(
        file: &'a str,
        imports: &BTreeMap<&'a str, BTreeSet<&'a str>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<String> {
        if let Some(start) = way.iter().position(|before| *before == file) {
            return Some(format!("an import circle: {}", way[start..].join(", ")));
        }
        if done.contains(file) {
            return None;
        }
        way.push(file);
        let found = imports.get(file).into_iter().flatten().find_map(|next| search(next, imports, way, done));
        way.pop();
        done.insert(file);
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|file| search(file, imports, &mut Vec::new(), &mut done))
}
