//! Whose work is compiled into the program, and on which terms: every crate with the texts it comes with. One whose
//! licence is not in deny.toml's list ends the build.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

/// What goes into the packages.
pub struct Licences {
    /// Our own licence and the list of crates.
    pub copyright: String,
    /// The texts of all licences of all crates.
    pub texts: String,
}

struct Crate {
    name: String,
    licence: String,
    texts: Vec<String>,
}

/// Licences of what the program is made of when built for `target`.
pub fn of_the_program(workspace: &Path, target: &str) -> Result<Licences, Box<dyn Error>> {
    let allowed = allowed(&fs::read_to_string(workspace.join("deny.toml"))?)?;
    let compiled_in = compiled_in(workspace, target)?;
    let metadata = cargo(workspace, &["metadata", "--format-version", "1", "--locked", "--filter-platform", target])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let mut crates = Vec::new();
    for package in metadata["packages"].as_array().ok_or("cargo metadata lists no packages")? {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        // What has no source is our own.
        if package["source"].is_null() || !compiled_in.contains(&format!("{} v{}", text("name"), text("version"))) {
            continue;
        }
        let name = format!("{} {}", text("name"), text("version"));
        let licence = text("license").to_owned();
        let terms = judge(&name, &licence, &allowed)?;
        let mut texts = files(Path::new(text("manifest_path")).parent().ok_or("a manifest without a directory")?)?;
        if texts.is_empty() {
            texts = standard(&terms, &package["authors"]);
        }
        crates.push(Crate { name, licence, texts });
    }
    let own = compiled_in.iter().filter(|name| name.starts_with("xen")).count();
    if crates.len() + own != compiled_in.len() {
        return Err(format!("of {} crates only {} are known to cargo metadata", compiled_in.len(), crates.len()).into());
    }
    crates.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Licences {
        copyright: copyright(&fs::read_to_string(workspace.join("LICENSE"))?, &crates),
        texts: texts(&crates),
    })
}

/// Crates that end up in the program, as `NAME vVERSION`: neither what only builds or tests nor procedural macros.
fn compiled_in(workspace: &Path, target: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let tree = ["tree", "--locked", "-p", "xenmonitor", "-e", "normal,no-proc-macro", "--prefix", "none", "--target"];
    let tree = cargo(workspace, &[&tree[..], &[target, "--format", "{p}"]].concat())?;
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(tree.lines().filter(|line| !line.is_empty()).map(name).collect())
}

fn cargo(workspace: &Path, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo).args(arguments).current_dir(workspace).output()?;
    if !output.status.success() {
        return Err(format!("cargo {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn allowed(deny: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let deny: toml::Table = deny.parse()?;
    let list = deny.get("licenses").and_then(|licenses| licenses.get("allow")).and_then(|allow| allow.as_array());
    let list = list.ok_or("deny.toml has no list of licenses to allow")?;
    Ok(list.iter().filter_map(|name| name.as_str()).map(str::to_owned).collect())
}

/// The terms that a crate can be had on; an error where none of its choices is allowed.
fn judge(name: &str, licence: &str, allowed: &[String]) -> Result<Expression, String> {
    let terms = Expression::parse_mode(licence, ParseMode::LAX)
        .map_err(|_| format!("{name}: '{licence}' is no licence that SPDX knows"))?;
    // What an exception adds to a licence only permits more.
    if terms.evaluate(|wanted| wanted.license.id().is_some_and(|id| allowed.iter().any(|name| name == id.name))) {
        return Ok(terms);
    }
    Err(format!("{name}: its licence {licence} is not allowed, see deny.toml: take another crate, or allow it there"))
}

/// The texts that a crate comes with.
fn files(directory: &Path) -> Result<Vec<String>, Box<dyn Error>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        if ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"]
            .iter()
            .any(|word| name.starts_with(word))
            && path.is_file()
        {
            files.insert(name, fs::read_to_string(&path)?);
        }
    }
    Ok(files.into_values().collect())
}

/// For a crate that comes without: its authors, and the texts of its terms as SPDX has them.
fn standard(terms: &Expression, authors: &Value) -> Vec<String> {
    let authors: Vec<&str> = authors.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let authors = format!("The crate comes without a text. Authors: {}\n", authors.join(", "));
    let texts = terms.requirements().filter_map(|wanted| wanted.req.license.id()).map(|id| id.text().to_owned());
    std::iter::once(authors).chain(texts).collect()
}

fn copyright(own: &str, crates: &[Crate]) -> String {
    let mut text = format!("xenmonitor\n\n{own}\n");
    text += "\
The program has these crates compiled in. Their texts are in third-party-licences.txt beside this file, and
those of Rust's own library in rust-library.html; Debian has that of Apache-2.0 in /usr/share/common-licenses/Apache-2.0
too. libxenstat, which is Xen's, is loaded at run time and is no part of it.

";
    for Crate { name, licence, .. } in crates {
        text += &format!("  {name:<32} {licence}\n");
    }
    text
}

/// Each text once, below the names of all crates that have it.
fn texts(crates: &[Crate]) -> String {
    let mut whose: BTreeMap<String, (&str, Vec<&str>)> = BTreeMap::new();
    for of in crates {
        for text in &of.texts {
            // Line breaks and indents differ where the words do not.
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            whose.entry(words).or_insert((text, Vec::new())).1.push(&of.name);
        }
    }
    let mut all: Vec<_> = whose.into_values().collect();
    all.sort_by(|a, b| a.1.cmp(&b.1));
    let rule = "=".repeat(100);
    all.iter().map(|(text, names)| format!("{rule}\n{}\n{rule}\n\n{}\n\n", names.join(", "), text.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_choice_that_is_allowed_is_enough() {
        let list: Vec<String> = ["MIT", "Apache-2.0"].map(str::to_owned).into();
        for good in ["MIT", "GPL-3.0-only OR MIT", "MIT/Apache-2.0", "Apache-2.0 WITH LLVM-exception"] {
            assert!(judge("c 1", good, &list).is_ok(), "{good}");
        }
        for (bad, line) in [
            ("GPL-3.0-only", "c 1: its licence GPL-3.0-only is not allowed, see deny.toml"),
            ("MIT AND GPL-3.0-only", "c 1: its licence MIT AND GPL-3.0-only is not allowed"),
            ("", "c 1: '' is no licence that SPDX knows"),
            ("my own", "c 1: 'my own' is no licence that SPDX knows"),
        ] {
            let said = judge("c 1", bad, &list).unwrap_err();
            assert!(said.starts_with(line), "{said}");
        }
    }

    #[test]
    fn every_crate_of_the_program_has_a_text() {
        let licences = of_the_program(&crate::workspace(), "x86_64-unknown-linux-gnu").unwrap();
        for part in ["clap ", "rustix ", "libloading ", "cadence "] {
            assert!(licences.copyright.contains(&format!("\n  {part}")), "{part}");
            assert!(licences.texts.contains(part), "{part}");
        }
        // What only builds, tests or writes papers is no part of the program.
        for other in ["bindgen ", "clap_mangen ", "proptest ", "syn "] {
            assert!(!licences.copyright.contains(&format!("\n  {other}")), "{other}");
        }
        for line in licences.copyright.lines().filter(|line| line.starts_with("  ")) {
            let name = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            assert!(licences.texts.contains(&name), "{name} has no text");
        }
    }
}
