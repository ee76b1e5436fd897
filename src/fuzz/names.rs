//! What is called how: by strangers, who name VMs, and on the command line.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use super::{Input, is_plain, steers};
use crate::cli::config::Config;
use crate::cli::options::Options;
use crate::cli::usage_error::one_line;
use crate::model::device::DeviceKind;
use crate::model::text::printable;
use crate::naming::name::Name;
use crate::naming::paths::{MAX_METRIC, MAX_NAME, MAX_TAGGED, Paths, Scheme};
use crate::naming::sanitize::fold;
use crate::naming::scheme::Dialect;
use crate::naming::scheme::{Layout, Letters};
use crate::naming::tags::{self, Tag};
use crate::naming::template::{Prefix, Template};
use crate::statsd::destination::Destination;

/// The ways of naming that go together.
pub const WAYS: [(Layout, Letters, Dialect); 8] = [
    (Layout::Xentop, Letters::Plain, Dialect::None),
    (Layout::Xentop, Letters::Strict, Dialect::None),
    (Layout::XenMonitor, Letters::Plain, Dialect::None),
    (Layout::Xentop, Letters::Plain, Dialect::Graphite),
    (Layout::Xentop, Letters::Plain, Dialect::Datadog),
    (Layout::Xentop, Letters::Plain, Dialect::Influx),
    (Layout::Xentop, Letters::Plain, Dialect::SignalFx),
    (Layout::Xentop, Letters::Strict, Dialect::Graphite),
];

/// Names as they are by default in one of these ways.
pub fn named(host: &str, (layout, letters, dialect): (Layout, Letters, Dialect)) -> Paths {
    let template = &layout.template(dialect);
    Paths::new(&Scheme { template, prefix: None, host, layout, letters, dialect, constants: &[] }).expect("defaults")
}

/// A byte that says how to name, one that says how many of the names were left not long ago, and names that end in NUL,
/// the only byte that no name has. The first is Domain-0's.
pub fn names(input: &[u8]) {
    let mut input = Input(input);
    let (way, many) = (*input.of(&WAYS), input.byte() % 4);
    let mut raw = input.0.split(|&byte| byte == 0).take(40);
    let left: Vec<String> = raw.by_ref().take(many.into()).map(|name| String::from_utf8_lossy(name).into()).collect();
    let mut living: Vec<(&[u8], u32)> = raw.zip(0..).collect();
    let paths = named("xen1.example.com", way);
    // And one that is called what another comes to be called.
    let Some(called) = paths.domains(&living, &HashSet::new()).pop() else { return };
    living.push((called.as_bytes(), 1000));
    tell_apart(&paths, way.2, &living, usize::from(many));
    for (name, _) in &living {
        let (shown, tag) = (printable(name), tags::value(name));
        assert!(!shown.contains(steers), "{shown:?}");
        assert!(tag.len() <= 3 * name.len().max(1) && format!("k={tag}").parse::<Tag>().is_ok(), "{tag:?}");
    }
    // But for Domain-0, nobody is called what was left.
    let names = paths.domains(&living, &left.iter().map(String::as_str).collect());
    let is_left = |name: &&String| left.iter().any(|left| fold(left) == fold(name));
    assert_eq!(names.iter().skip(1).find(is_left), None, "of {left:?}");
    let distinct: HashSet<String> = names.iter().map(|name| fold(name)).collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}

/// Domains of any names come to be called by clean and short ones that no server takes for each other, whatever
/// order they are in; `turn` says in which else.
pub fn tell_apart(paths: &Paths, dialect: Dialect, living: &[(&[u8], u32)], turn: usize) {
    let by_domid = |living: &[(&[u8], u32)]| {
        let names = paths.domains(living, &HashSet::new());
        living.iter().map(|(_, domid)| *domid).zip(names).collect::<BTreeMap<u32, String>>()
    };
    let names = by_domid(living);
    let tagged = dialect != Dialect::None;
    let mut whole = Name::default();
    for name in names.values() {
        paths.write(&mut whole, name, None, &"m".repeat(MAX_METRIC));
        let of = if tagged { MAX_TAGGED } else { MAX_NAME };
        assert!(!name.is_empty() && whole.path.len() + whole.tags.len() <= of, "{whole:?}");
        if tagged {
            assert!(!name.contains(|c: char| ",|:=#;[]\\ ".contains(c) || c.is_control()), "{name:?}");
        } else {
            assert!(name.chars().all(is_plain), "{name:?}");
            assert!(whole.path.chars().all(|c| is_plain(c) || c == '.') && whole.tags.is_empty(), "{whole:?}");
        }
    }
    // As servers see them: one that folds them, npm's statsd with tags, and Datadog.
    let of_datadog = |name: &String| {
        let kept = |c: char| c.is_alphanumeric() || "-:./".contains(c);
        let text: String = name.to_lowercase().chars().map(|c| if kept(c) { c } else { '_' }).collect();
        text.split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
    };
    let of_npm = |name: &String| name.replace('/', "-").replace(|c: char| !is_plain(c) && c != '.', "");
    let mut views: Vec<Vec<String>> = vec![names.values().map(|name| fold(name)).collect()];
    if tagged {
        views.push(names.values().map(of_datadog).collect());
        views.push(names.values().map(of_npm).collect());
    }
    for seen in views {
        assert_eq!(seen.iter().collect::<HashSet<_>>().len(), living.len(), "{names:?} as {seen:?}");
    }
    let mut other = living.to_vec();
    other.rotate_left(turn % living.len());
    assert_eq!(by_domid(&other), names);
    other.reverse();
    assert_eq!(by_domid(&other), names);
}

/// A byte that says how to name, then lines: template, prefix, host, and tags of every gauge.
pub fn templates(input: &[u8]) {
    let mut input = Input(input);
    let (layout, letters, dialect) = *input.of(&WAYS);
    let text = String::from_utf8_lossy(input.0);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (template, prefix, host) = (line(), line(), line());
    let template = match template {
        "" => layout.template(dialect),
        template => match template.parse::<Template>() {
            Ok(template) => template,
            Err(complaint) => return is_told(&complaint),
        },
    };
    let prefix: Option<Prefix> = match prefix.parse::<Prefix>() {
        Ok(prefix) => Some(prefix),
        Err(complaint) => {
            is_told(&complaint);
            None
        }
    };
    let constants: Vec<Tag> = lines.filter_map(|tag| tag.parse().map_err(|bad: String| is_told(&bad)).ok()).collect();
    let scheme =
        Scheme { template: &template, prefix: prefix.as_ref(), host, layout, letters, dialect, constants: &constants };
    let paths = match Paths::new(&scheme) {
        Ok(paths) => paths,
        Err(complaint) => return is_told(&complaint),
    };
    let living: [(&[u8], u32); 4] = [(b"Domain-0", 0), (b"a", 1), (b"b.a", 2), (b"A", 3)];
    tell_apart(&paths, dialect, &living, 1);
    // No two gauges of whatever domain, or of the host, are one.
    let (mut seen, mut name) = (HashSet::new(), Name::default());
    let mut add = |name: &Name| {
        let path = name.path.split([';', ',', '[']).next().unwrap_or_default();
        assert!(path.split('.').all(|part| !part.is_empty()), "{name:?}");
        assert!(seen.insert(fold(&format!("{}{}", name.path, name.tags))), "{name:?} twice");
    };
    for domain in paths.domains(&living, &HashSet::new()) {
        for (device, metric) in [
            (None, "vcpus"),
            (None, "state.running"),
            (Some((DeviceKind::Vbd, "xvda")), "rd"),
            (Some((DeviceKind::Vbd, "xvdb")), "rd"),
            (Some((DeviceKind::Vcpu, "0")), "online"),
        ] {
            paths.write(&mut name, &domain, device, metric);
            add(&name);
        }
    }
    for (group, metric) in [("node", "cpus"), ("node", "domains"), ("xenmonitor", "domains")] {
        paths.write_host(&mut name, group, metric);
        add(&name);
    }
}

/// A URL is taken for what it says when it is printed, or refused.
pub fn urls(input: &[u8]) {
    let url = String::from_utf8_lossy(input);
    match url.parse::<Destination>() {
        Ok(destination) => is_printed_as_read(&destination),
        Err(error) => is_told(&error.to_string()),
    }
    if let Some((host, port)) = url.split_once('\n') {
        match Destination::udp(host, port) {
            Ok(destination) => is_printed_as_read(&destination),
            Err(error) => is_told(&error.to_string()),
        }
    }
}

fn is_printed_as_read(destination: &Destination) {
    assert_eq!(destination.to_string().parse::<Destination>().ok().as_ref(), Some(destination));
}

/// A command line, each argument of which ends in NUL.
pub fn options(input: &[u8]) {
    let typed = input.split(|&byte| byte == 0).take(16).map(|word| OsString::from_vec(word.to_vec()));
    let arguments: Vec<OsString> = std::iter::once("xenmonitor".into()).chain(typed).collect();
    match Options::read(&arguments, |_| None) {
        Ok(options) => match Config::resolve(options, |_| None) {
            Ok(Config { polls, sources, statsd, .. }) => {
                assert!((512..=8932).contains(&statsd.max_datagram) && !sources.qmp_timeout.is_zero());
                assert!(statsd.timing.window() < polls.interval && polls.jitter <= polls.interval);
                assert!(polls.count != Some(0));
            }
            Err(error) => is_told(&error.to_string()),
        },
        Err(error) => {
            // Help is many lines, and no complaint.
            if error.use_stderr() {
                let complaint = one_line(&error, &arguments);
                assert!(!complaint.is_empty() && !complaint.contains('\n'), "{complaint:?}");
            }
        }
    }
}

/// In words of ours; `main` escapes what was typed.
fn is_told(complaint: &str) {
    assert!(complaint.trim().len() > 10, "{complaint:?}");
}
