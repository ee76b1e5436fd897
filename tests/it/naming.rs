//! Hostile names of domains, in metrics and wherever else they are printed.

use std::collections::HashSet;

use crate::support::{Scratch, out_of, run, xenmonitor};

/// Names crafted to forge paths, inject lines and collide: every line follows the grammar, and every domain has its own
/// path.
#[test]
fn naming_prevents_forged_lines() {
    let names: &[&[u8]] = &[
        b"",
        b" ",
        b".",
        b"..",
        b"a.b",
        b"a b",
        b"a_b",
        b"A_B",
        b"a-b",
        b"x:1|c\nxen.xen1_example_com.Domain-0.mem_k",
        b"x|g",
        b"\x1b[2J",
        b"\xff\xfe",
        b"Domain-0",
        b"domain_0",
        b"cpu_sec",
        b"{domain}",
        b"%s%n",
        b"#tag,a=b;c@0.1",
        &[b'n'; 200],
        &[b'n'; 201],
        "\u{202e}evil".as_bytes(),
    ];
    let mut host = String::from("[[domain]]\nid = 0\nname = \"Domain-0\"\n");
    for (n, name) in names.iter().enumerate() {
        let hex: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        host += &format!("[[domain]]\nid = {}\nname_hex = \"{hex}\"\n", n + 1);
    }
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", &host);
    for layout in ["xentop", "legacy"] {
        let lines = out_of(xenmonitor(&scenario).args(["--once", "--print", "statsd", "--layout", layout]));
        let mut paths = HashSet::new();
        let of_domains = |line: &&str| !line.contains("com.node.") && !line.contains("com.xenmonitor.");
        for line in lines.lines().filter(of_domains) {
            let (path, value) = line.strip_suffix("|g").and_then(|line| line.split_once(':')).expect(line);
            assert!(value.bytes().all(|b| b.is_ascii_digit() || b == b'.'), "{line}");
            assert!(path.len() <= 127 && path.split('.').all(|part| !part.is_empty()), "{line}");
            assert!(path.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{line}");
            let levels = if layout == "xentop" { 4 + usize::from(path.contains(".state.")) } else { 4 };
            assert_eq!(path.split('.').count(), levels, "{line}");
            assert!(paths.insert(path.to_lowercase().replace('-', "_")), "twice: {line}");
        }
        assert!(
            lines.contains("xen1_example_com.Domain-0.mem_k:") || lines.contains(".MEM_k.Domain-0-xen1-example-com:")
        );
        let domains = paths.iter().filter(|path| path.split('.').any(|part| part == "mem_k")).count();
        assert_eq!(domains, names.len() + 1, "{layout}");
    }
}

/// Two names that look alike are not printed alike, wherever they are printed.
#[test]
fn names_show_their_invisible_characters() {
    let scratch = Scratch::new();
    let invisible = [
        '\u{ad}',
        '\u{34f}',
        '\u{61c}',
        '\u{115f}',
        '\u{17b4}',
        '\u{180b}',
        '\u{200b}',
        '\u{202e}',
        '\u{2069}',
        '\u{3164}',
        '\u{fe0f}',
        '\u{feff}',
        '\u{ffa0}',
        '\u{fff0}',
        '\u{1bca0}',
        '\u{1bca3}',
        '\u{1d173}',
        '\u{1d17a}',
        '\u{e0001}',
        '\u{e0100}',
    ];
    let domain = |(id, c): (usize, &char)| format!("[[domain]]\nid = {id}\nname = \"web{c}\"\n");
    let host: String = invisible.iter().enumerate().map(domain).collect();
    let scenario = scratch.file("s.toml", &host);
    let printed = |more: &[&str]| run(xenmonitor(&scenario).args(["--once", "--host", "h\u{1bca0}"]).args(more));
    let [table, json, tags] =
        ["table", "json", "statsd"].map(|what| printed(&["--print", what, "--tag-format", "datadog"]));
    for c in invisible {
        assert!(table.out.contains(&format!("web{}", c.escape_unicode())), "{c:?}: {}", table.out);
        let escaped: String = c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect();
        assert!(json.out.contains(&format!("web{escaped}\"")), "{escaped}: {}", json.out);
        for said in [&table, &json, &tags] {
            assert!(!said.out.contains(c) && !said.err.contains(c), "{c:?}: {}{}", said.out, said.err);
        }
    }
    assert!(table.err.contains("as host h\\u{1bca0}"), "{}", table.err);
    let said = run(xenmonitor(&scenario).env("XENMONITOR_\u{202e}\u{1bca0}", "1").args(["--once", "--print", "table"]));
    assert!(said.err.contains("variable XENMONITOR_\\u{202e}\\u{1bca0} (see --help)"), "{}", said.err);
}
