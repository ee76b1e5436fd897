//! Hostile names of VMs, and any options: templates, URLs, command lines.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fmt::Display;
use std::os::unix::ffi::OsStringExt;

use crate::cli::config::Config;
use crate::cli::options::Options;
use crate::cli::usage_error::one_line;
use crate::fuzz::input::{Input, is_plain, steers};
use crate::model::device::DeviceKind;
use crate::model::text::printable;
use crate::naming::name::{DomainName, Name};
use crate::naming::namer::{MAX_METRIC, MAX_NAME, MAX_TAGGED, Namer};
use crate::naming::sanitize::fold_case;
use crate::naming::scheme::{Charset, Layout, Scheme};
use crate::naming::tags::{self, Tag, TagFormat};
use crate::naming::template::{Prefix, Template};
use crate::naming::unique::Taken;
use crate::statsd::destination::Destination;

/// The combinations of naming options that are valid.
pub const WAYS: [(Layout, Charset, TagFormat); 8] = [
    (Layout::Xentop, Charset::Plain, TagFormat::None),
    (Layout::Xentop, Charset::Strict, TagFormat::None),
    (Layout::Legacy, Charset::Plain, TagFormat::None),
    (Layout::Xentop, Charset::Plain, TagFormat::Graphite),
    (Layout::Xentop, Charset::Plain, TagFormat::Datadog),
    (Layout::Xentop, Charset::Plain, TagFormat::Influx),
    (Layout::Xentop, Charset::Plain, TagFormat::SignalFx),
    (Layout::Xentop, Charset::Strict, TagFormat::Graphite),
];

/// Names by the default template.
pub fn named(host: &str, (layout, charset, tag_format): (Layout, Charset, TagFormat)) -> Namer {
    let template = &layout.template(tag_format);
    Namer::new(&Scheme { template, prefix: None, host, layout, charset, tag_format, tag_uuid: false, tags: &[] })
        .expect("defaults")
}

/// A byte that selects naming options, one that says how many names were freed lately, and names that end in NUL, the
/// only byte that no name has. The first is Domain-0's.
pub fn names(input: &[u8]) {
    let mut input = Input(input);
    let (way, many) = (*input.of(&WAYS), input.byte() % 4);
    let mut raw = input.0.split(|&byte| byte == 0).take(40);
    let freed: Vec<String> = raw.by_ref().take(many.into()).map(|name| String::from_utf8_lossy(name).into()).collect();
    let mut domains: Vec<(&[u8], u32)> = raw.zip(0..).collect();
    let namer = named("xen1.example.com", way);
    // And one that already has the name that another gets.
    let Some(name) = namer.domains(&domains, Taken::default()).pop() else { return };
    domains.push((name.as_bytes(), 1000));
    assert_distinct(&namer, way.2, &domains, usize::from(many));
    for (name, _) in &domains {
        let (shown, tag) = (printable(name), tags::value(name));
        assert!(!shown.contains(steers), "{shown:?}");
        assert!(tag.len() <= 3 * name.len().max(1) && format!("k={tag}").parse::<Tag>().is_ok(), "{tag:?}");
    }
    // No domain but Domain-0 gets a freed name.
    let freed_names: Vec<&str> = freed.iter().map(String::as_str).collect();
    let names = namer.domains(&domains, Taken { freed: &freed_names, ..Taken::default() });
    let is_freed = |name: &&String| freed.iter().any(|freed| fold_case(freed) == fold_case(name));
    assert_eq!(names.iter().skip(1).find(is_freed), None, "of {freed:?}");
    let distinct: HashSet<String> = names.iter().map(|name| fold_case(name)).collect();
    assert_eq!(distinct.len(), names.len(), "{names:?}");
}

/// Domains of any names get clean and short ones that no server takes for each other, whatever their order: as given,
/// rotated by `turn`, or reversed.
pub fn assert_distinct(namer: &Namer, tag_format: TagFormat, domains: &[(&[u8], u32)], turn: usize) {
    let by_domid = |domains: &[(&[u8], u32)]| {
        let names = namer.domains(domains, Taken::default());
        domains.iter().map(|(_, domid)| *domid).zip(names).collect::<BTreeMap<u32, String>>()
    };
    let names = by_domid(domains);
    let tagged = tag_format != TagFormat::None;
    for name in names.values() {
        let longest = "m".repeat(MAX_METRIC);
        let whole = namer.names(DomainName { name, uuid: None }, None).parts().name(&longest);
        let max = if tagged { MAX_TAGGED } else { MAX_NAME };
        assert!(!name.is_empty() && whole.path.len() + whole.tags.len() <= max, "{whole:?}");
        if tagged {
            assert!(!name.contains(|c: char| ",|:=#;[]\\ ".contains(c) || c.is_control()), "{name:?}");
        } else {
            assert!(name.chars().all(is_plain), "{name:?}");
            assert!(whole.path.chars().all(|c| is_plain(c) || c == '.') && whole.tags.is_empty(), "{whole:?}");
        }
    }
    no_server_confuses(names.values(), tagged);
    // The first ones were there before: they keep their names, but for Domain-0's, and all are still distinct.
    let (old, _) = domains.split_at(turn % domains.len());
    let held = namer.domains(old, Taken::default());
    let kept: Vec<Option<&str>> = held.iter().map(|name| Some(&**name)).collect();
    let later = namer.domains(domains, Taken { held: &kept, ..Taken::default() });
    no_server_confuses(later.iter(), tagged);
    if old.iter().any(|(_, domid)| *domid == 0) || domains.iter().all(|(_, domid)| *domid != 0) {
        assert_eq!(later[..old.len()], held);
        // The others need not be listed.
        let others = namer.views(held.iter().map(String::as_str));
        let new = namer.domains(&domains[old.len()..], Taken { others: &others, ..Taken::default() });
        assert_eq!(later[old.len()..], new);
    }
    let mut other = domains.to_vec();
    other.rotate_left(turn % domains.len());
    assert_eq!(by_domid(&other), names);
    other.reverse();
    assert_eq!(by_domid(&other), names);
}

/// Asserts that servers see as many names: one that folds them, npm's statsd with tags, and Datadog.
fn no_server_confuses<'a>(names: impl Iterator<Item = &'a String> + Clone, tagged: bool) {
    let of_datadog = |name: &String| {
        let kept = |c: char| c.is_alphanumeric() || "-:./".contains(c);
        let text: String = name.to_lowercase().chars().map(|c| if kept(c) { c } else { '_' }).collect();
        text.split('_').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_")
    };
    let of_npm = |name: &String| name.replace('/', "-").replace(|c: char| !is_plain(c) && c != '.', "");
    let mut views: Vec<Vec<String>> = vec![names.clone().map(|name| fold_case(name)).collect()];
    if tagged {
        views.push(names.clone().map(of_datadog).collect());
        views.push(names.clone().map(of_npm).collect());
    }
    for view in views {
        assert_eq!(
            view.iter().collect::<HashSet<_>>().len(),
            view.len(),
            "{:?} as {view:?}",
            names.clone().collect::<Vec<_>>()
        );
    }
}

/// A byte that selects naming options, then lines: template, prefix, host, and tags of every metric.
pub fn templates(input: &[u8]) {
    let mut input = Input(input);
    let (layout, charset, tag_format) = *input.of(&WAYS);
    let text = String::from_utf8_lossy(input.0);
    let mut lines = text.split('\n');
    let mut line = || lines.next().unwrap_or_default();
    let (template, prefix, host) = (line(), line(), line());
    let template = match template {
        "" => layout.template(tag_format),
        template => match template.parse::<Template>() {
            Ok(template) => template,
            Err(error) => return is_message(&error),
        },
    };
    let prefix = prefix.parse::<Prefix>().inspect_err(is_message).ok();
    let tags: Vec<Tag> = lines.filter_map(|tag| tag.parse().inspect_err(is_message).ok()).collect();
    let prefix = prefix.as_ref();
    let namer = match Namer::new(&Scheme {
        template: &template,
        prefix,
        host,
        layout,
        charset,
        tag_format,
        tag_uuid: false,
        tags: &tags,
    }) {
        Ok(namer) => namer,
        Err(error) => return is_message(&error),
    };
    let domains: [(&[u8], u32); 4] = [(b"Domain-0", 0), (b"a", 1), (b"b.a", 2), (b"A", 3)];
    assert_distinct(&namer, tag_format, &domains, 1);
    // All metrics of all domains and of the host have names of their own.
    let (mut seen, mut name) = (HashSet::new(), Name::default());
    let mut add = |name: &Name| {
        let path = name.path.split([';', ',', '[']).next().unwrap_or_default();
        assert!(path.split('.').all(|part| !part.is_empty()), "{name:?}");
        assert!(seen.insert(fold_case(&format!("{}{}", name.path, name.tags))), "{name:?} twice");
    };
    for domain in namer.domains(&domains, Taken::default()) {
        for (device, metric) in [
            (None, "vcpus"),
            (None, "state.running"),
            (Some((DeviceKind::Vbd, "xvda")), "rd"),
            (Some((DeviceKind::Vbd, "xvdb")), "rd"),
            (Some((DeviceKind::Vcpu, "0")), "online"),
        ] {
            add(&namer.names(DomainName { name: &domain, uuid: None }, device).parts().name(metric));
        }
    }
    for (group, device, metric) in [
        ("node", None, "cpus"),
        ("node", None, "domains"),
        ("xenmonitor", None, "domains"),
        ("node", Some(("pcpu", "0")), "percent"),
        ("node", Some(("pcpu", "1")), "percent"),
    ] {
        namer.write_host(&mut name, group, device, metric);
        add(&name);
    }
}

/// A URL is printed as it was read, or refused.
pub fn urls(input: &[u8]) {
    let url = String::from_utf8_lossy(input);
    match url.parse::<Destination>() {
        Ok(destination) => is_printed_as_read(&destination),
        Err(error) => is_message(&error),
    }
    if let Some((host, port)) = url.split_once('\n') {
        match Destination::udp(host, port) {
            Ok(destination) => is_printed_as_read(&destination),
            Err(error) => is_message(&error),
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
                assert!((512..=8932).contains(&statsd.max_datagram.longest()) && !sources.qmp_timeout.is_zero());
                assert!(statsd.timing.window() < polls.interval && polls.jitter <= polls.interval);
                assert!(polls.count != Some(0));
            }
            Err(error) => is_message(&error),
        },
        Err(error) => {
            // Help has many lines, and is no error.
            if error.use_stderr() {
                let line = one_line(&error, &arguments);
                assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
            }
        }
    }
}

/// One line of our own words; `main` escapes what was typed.
fn is_message(error: &impl Display) {
    let line = error.to_string();
    assert!(line.trim().len() > 10, "{line:?}");
}
