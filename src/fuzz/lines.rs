//! Lines and datagrams as every server can read them.

use std::collections::HashSet;

use crate::fuzz::input::{Input, is_plain, steers};
use crate::metrics::decimal::EXACT;
use crate::naming::namer::{MAX_NAME, MAX_TAGGED};
use crate::naming::tags::TagFormat;
use crate::statsd::batch::{Batch, BatchWriter};

/// One gauge after another: the length of its name in a byte, and its value in eight.
pub fn gauges(input: &[u8]) {
    let mut input = Input(input);
    let max_datagram = *input.of(&[512, 1432]);
    let mut writer = BatchWriter::new(max_datagram);
    let mut expected = Vec::new();
    while !input.0.is_empty() {
        let name = "n".repeat(1 + usize::from(input.byte() % 100));
        let value = f64::from_bits(input.raw());
        writer.gauge(&name, value);
        if value.abs() < EXACT {
            // One that does not round to 0 comes after a 0.
            if value <= -0.0005 {
                expected.push((name.clone(), 0.0));
            }
            expected.push((name, value));
        }
    }
    let batch = writer.take();
    are_whole(&batch, max_datagram);
    let sent: Vec<(String, f64)> = text(&batch)
        .lines()
        .map(|line| {
            let (name, value) = read(line, TagFormat::None);
            (name, value.parse().expect("a number"))
        })
        .collect();
    assert_eq!(sent.len(), expected.len(), "{sent:?} {expected:?}");
    for ((name, value), (expected_name, expected)) in sent.iter().zip(&expected) {
        // Half of the last decimal, and what an f64 of that size cannot hold.
        let off = 0.000_5 + expected.abs() * f64::EPSILON;
        assert!(name == expected_name && (value - expected).abs() <= off, "{value} for {expected}");
    }
    // A value with a sign is in the datagram of its 0.
    for n in 0..batch.datagrams() {
        let lines = String::from_utf8_lossy(batch.datagram(n));
        let mut before = "";
        for line in lines.lines() {
            let signed = line.split_once(":-").is_some_and(|(name, _)| before != format!("{name}:0|g"));
            assert!(!signed, "{lines}");
            before = line;
        }
    }
}

/// All lines.
pub fn text(batch: &Batch) -> &str {
    std::str::from_utf8(batch.text()).expect("UTF-8")
}

/// Datagrams are whole lines, are not longer than allowed, and together are the text.
pub fn are_whole(batch: &Batch, max_datagram: usize) {
    let mut all = Vec::new();
    for datagram in (0..batch.datagrams()).map(|n| batch.datagram(n)) {
        assert!(datagram.len() <= max_datagram && datagram.ends_with(b"\n"), "{}", String::from_utf8_lossy(datagram));
        all.extend_from_slice(datagram);
    }
    assert_eq!(all, batch.text());
}

/// Name (with tags) and value of a line that every server can read.
pub fn read(line: &str, tag_format: TagFormat) -> (String, String) {
    let (line_less_tags, mut tags) = match tag_format {
        TagFormat::Datadog => line.split_once("|#").expect("tags"),
        _ => (line, ""),
    };
    let (mut name, value) = line_less_tags.strip_suffix("|g").expect("a gauge").rsplit_once(':').expect("a value");
    let marks = match tag_format {
        TagFormat::None => None,
        TagFormat::Datadog => Some((',', ':')),
        TagFormat::Graphite => Some((';', '=')),
        TagFormat::Influx | TagFormat::SignalFx => Some((',', '=')),
    };
    let (begin, end) = match tag_format {
        TagFormat::Graphite => (";", ""),
        TagFormat::Influx => (",", ""),
        TagFormat::SignalFx => ("[", "]"),
        TagFormat::None | TagFormat::Datadog => ("", ""),
    };
    if !begin.is_empty() {
        (name, tags) = name.split_once(begin).expect("tags");
        tags = tags.strip_suffix(end).expect("their end");
    }
    let of = if marks.is_some() { MAX_TAGGED } else { MAX_NAME };
    assert!(name.len() + tags.len() <= of, "{line}");
    assert!(name.split('.').all(|part| !part.is_empty() && part.chars().all(is_plain)), "{line}");
    let mut keys = HashSet::new();
    for (tag, is) in marks.iter().flat_map(|(between, is)| tags.split(*between).map(move |tag| (tag, is))) {
        let (key, value) = tag.split_once(*is).expect("key and value");
        assert!(keys.insert(key) && ["host", "domain", "uuid", "device", "env"].contains(&key), "{line}");
        let ends = |c: char| c.is_whitespace() || ",|:=#;[]\\".contains(c) || steers(c);
        assert!(!value.is_empty() && !value.contains(ends) && !value.starts_with('~'), "{line}");
    }
    assert_eq!(keys.contains("host"), marks.is_some(), "{line}");

    let number = value.strip_prefix('-').unwrap_or(value);
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "1"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    assert!(are_digits(whole) && (whole == "0" || !whole.starts_with('0')) && whole.len() <= 16, "{line}");
    assert!(are_digits(decimals) && decimals.len() <= 3 && !decimals.ends_with('0'), "{line}");
    let name = if tags.is_empty() { name.to_owned() } else { format!("{name};{tags}") };
    (name, value.to_owned())
}
