//! The licences of all crates that are compiled into the program, with their texts. A crate whose licence is not in
//! deny.toml's list fails the build.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

/// The licence files of a package.
pub struct Licences {
    /// Our own licence and the list of crates.
    pub copyright: String,
    /// The licence texts of all crates.
    pub texts: String,
}

struct Crate {
    name: String,
    licence: String,
    texts: Vec<String>,
}

/// Licences of the program as it is built for `target`. `has_rust_library`: [`rust_library`]'s file is installed too.
pub fn of_program(workspace: &Path, target: &str, has_rust_library: bool) -> Result<Licences, Box<dyn Error>> {
    let allowed = allowed(&fs::read_to_string(workspace.join("deny.toml"))?)?;
    let compiled_in = compiled_in(workspace, target)?;
    let metadata = cargo(workspace, &["metadata", "--format-version", "1", "--locked", "--filter-platform", target])?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let mut crates = Vec::new();
    for package in metadata["packages"].as_array().ok_or("cargo metadata lists no packages")? {
        let text = |key: &str| package[key].as_str().unwrap_or_default();
        // Only crates of this workspace have no source.
        if package["source"].is_null() || !compiled_in.contains(&format!("{} v{}", text("name"), text("version"))) {
            continue;
        }
        let name = format!("{} {}", text("name"), text("version"));
        let licence = text("license").to_owned();
        let terms = accept(&name, &licence, &allowed)?;
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
        copyright: copyright(&fs::read_to_string(workspace.join("LICENSE"))?, &crates, has_rust_library),
        texts: texts(&crates),
    })
}

/// The licence file of Rust's standard library. rustup's toolchains have it; those of distributions may not.
pub fn rust_library() -> Result<Option<PathBuf>, Box<dyn Error>> {
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let sysroot = output(Command::new(rustc).args(["--print", "sysroot"]))?;
    let file = Path::new(sysroot.trim_end()).join("share/doc/rust/COPYRIGHT-library.html");
    Ok(Some(file).filter(|file| file.is_file()))
}

/// Crates that are part of the program, as `NAME vVERSION`. Not part of it: build and test dependencies, procedural
/// macros.
fn compiled_in(workspace: &Path, target: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let tree = ["tree", "--locked", "-p", "xenmonitor", "-e", "normal,no-proc-macro", "--prefix", "none", "--target"];
    let tree = cargo(workspace, &[&tree[..], &[target, "--format", "{p}"]].concat())?;
    let name = |line: &str| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    Ok(tree.lines().filter(|line| !line.is_empty()).map(name).collect())
}

fn cargo(workspace: &Path, arguments: &[&str]) -> Result<String, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    output(Command::new(cargo).args(arguments).current_dir(workspace))
}

/// The standard output of a command that has to succeed.
fn output(command: &mut Command) -> Result<String, Box<dyn Error>> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn allowed(deny: &str) -> Result<Vec<String>, Box<dyn Error>> {
    let deny: toml::Table = deny.parse()?;
    let list = deny.get("licenses").and_then(|licenses| licenses.get("allow")).and_then(|allow| allow.as_array());
    let list = list.ok_or("deny.toml has no list of licenses to allow")?;
    Ok(list.iter().filter_map(|name| name.as_str()).map(str::to_owned).collect())
}

/// The licence expression of a crate; an error if none of its alternatives is allowed.
fn accept(name: &str, licence: &str, allowed: &[String]) -> Result<Expression, String> {
    let terms = Expression::parse_mode(licence, ParseMode::LAX)
        .map_err(|_| format!("{name}: '{licence}' is not a licence expression of SPDX"))?;
    // Exceptions are ignored: an exception only adds permissions.
    if terms.evaluate(|wanted| wanted.license.id().is_some_and(|id| allowed.iter().any(|name| name == id.name))) {
        return Ok(terms);
    }
    Err(format!(
        "{name}: its licence {licence} is not allowed, see deny.toml: use another crate, or allow the licence there"
    ))
}

/// The licence texts in the directory of a crate.
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

/// For a crate without licence texts: its authors, and the texts of SPDX for its licences.
fn standard(terms: &Expression, authors: &Value) -> Vec<String> {
    let authors: Vec<&str> = authors.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let authors = format!("The crate contains no licence text. Authors: {}\n", authors.join(", "));
    let texts = terms.requirements().filter_map(|wanted| wanted.req.license.id()).map(|id| id.text().to_owned());
    std::iter::once(authors).chain(texts).collect()
}

fn copyright(own: &str, crates: &[Crate], has_rust_library: bool) -> String {
    let rust_library = if has_rust_library {
        "The licences of Rust's standard library, which is compiled in too, are in rust-library.html.gz."
    } else {
        "Rust's standard library (MIT OR Apache-2.0) is compiled in too. The toolchain came without its licence texts."
    };
    let mut text = format!("xenmonitor\n\n{own}\n");
    text += &format!(
        "\
The program contains the crates below. Their licence texts are in third-party-licences.txt.gz beside this file.
{rust_library}
On Debian the text of Apache-2.0 is in /usr/share/common-licenses/Apache-2.0, too.
libxenstat is part of Xen. It is loaded at run time and is not part of this program.

"
    );
    for Crate { name, licence, .. } in crates {
        text += &format!("  {name:<32} {licence}\n");
    }
    text
}

/// Each text once, after the names of all crates that have it.
fn texts(crates: &[Crate]) -> String {
    let mut texts: BTreeMap<String, (&str, Vec<&str>)> = BTreeMap::new();
    for one in crates {
        for text in &one.texts {
            // The same text may have other line breaks and indentation.
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            texts.entry(words).or_insert((text, Vec::new())).1.push(&one.name);
        }
    }
    let mut all: Vec<_> = texts.into_values().collect();
    all.sort_by(|a, b| a.1.cmp(&b.1));
    let rule = "=".repeat(100);
    all.iter().map(|(text, names)| format!("{rule}\n{}\n{rule}\n\n{}\n\n", names.join(", "), text.trim())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_accepted_if_one_alternative_is_allowed() {
        let list: Vec<String> = ["MIT", "Apache-2.0"].map(str::to_owned).into();
        for good in ["MIT", "GPL-3.0-only OR MIT", "MIT/Apache-2.0", "Apache-2.0 WITH LLVM-exception"] {
            assert!(accept("c 1", good, &list).is_ok(), "{good}");
        }
        for (bad, line) in [
            ("GPL-3.0-only", "c 1: its licence GPL-3.0-only is not allowed, see deny.toml"),
            ("MIT AND GPL-3.0-only", "c 1: its licence MIT AND GPL-3.0-only is not allowed"),
            ("", "c 1: '' is not a licence expression of SPDX"),
            ("my own", "c 1: 'my own' is not a licence expression of SPDX"),
        ] {
            let error = accept("c 1", bad, &list).unwrap_err();
            assert!(error.starts_with(line), "{error}");
        }
    }

    #[test]
    fn licences_have_a_text_for_every_crate() {
        let licences = of_program(&crate::workspace(), "x86_64-unknown-linux-gnu", true).unwrap();
        for part in ["clap ", "rustix ", "libloading ", "cadence "] {
            assert!(licences.copyright.contains(&format!("\n  {part}")), "{part}");
            assert!(licences.texts.contains(part), "{part}");
        }
        // Dependencies of the build, of tests and of this generator are not part of the program.
        for other in ["bindgen ", "clap_mangen ", "proptest ", "syn "] {
            assert!(!licences.copyright.contains(&format!("\n  {other}")), "{other}");
        }
        for line in licences.copyright.lines().filter(|line| line.starts_with("  ")) {
            let name = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            assert!(licences.texts.contains(&name), "{name} has no text");
        }
    }

    #[test]
    fn licences_name_the_rust_library_file_only_if_it_is_installed() {
        for is_installed in [true, false] {
            let text = copyright("own licence", &[], is_installed);
            assert_eq!(text.contains("rust-library.html.gz"), is_installed, "{text}");
        }
    }
}
