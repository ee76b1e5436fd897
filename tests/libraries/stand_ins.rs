//! Compiles xen.c as libxenctrl and libxenstore, the two libraries through which libxenstat reaches Xen.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Compiles both into `into`, with the SONAMEs and symbol versions that `libxenstat` needs and the headers of its
/// release, which are in `headers` or where the compiler looks by itself.
pub fn compile(libxenstat: &Path, headers: Option<&Path>, into: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/libraries/xen.c");
    let libraries = needed(libxenstat);
    assert_eq!(libraries.len(), 2, "{} needs {libraries:?}", libxenstat.display());
    for (library, version) in libraries {
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(into.join(&library)).arg(&source);
        compiler.arg(format!("-Wl,-soname,{library}"));
        compiler.args(headers.map(|headers| format!("-I{}", headers.display())));
        if let Some(version) = version {
            let map = into.join("version.map");
            std::fs::write(&map, format!("{version} {{ global: x*; }};\n")).unwrap();
            compiler.arg(format!("-Wl,--version-script={}", map.display()));
        }
        output(&mut compiler);
    }
}

/// The libraries of Xen that a libxenstat needs, each with its symbol version if it has one.
pub fn needed(libxenstat: &Path) -> BTreeMap<String, Option<String>> {
    let mut readelf = Command::new("readelf");
    readelf.args(["--wide", "--dynamic", "--version-info"]).arg(libxenstat).env("LC_ALL", "C");
    let text = output(&mut readelf);
    let mut libraries = BTreeMap::new();
    for line in text.lines().filter(|line| line.contains("(NEEDED)")) {
        let name = line.split_once('[').unwrap().1.trim_end_matches(']');
        if name.starts_with("libxen") {
            libraries.insert(name.to_owned(), None);
        }
    }
    let word_after = |line: &str, label: &str| Some(line.split_once(label)?.1.split_whitespace().next()?.to_owned());
    let mut file = String::new();
    for line in text.lines().skip_while(|line| !line.starts_with("Version needs section")) {
        if let Some(name) = word_after(line, "File: ") {
            file = name;
        } else if let (Some(version), Some(library)) = (word_after(line, "Name: "), libraries.get_mut(&file)) {
            *library = Some(version);
        }
    }
    libraries
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
