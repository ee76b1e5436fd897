//! Full metric names: prefix, template and tags around host, domain, device and metric.

use crate::model::device::DeviceKind;
use crate::model::uuid::Uuid;
use crate::naming::name::{DomainName, Name, Parts};
use crate::naming::sanitize::sanitize;
use crate::naming::scheme::{NamingError, Scheme};
use crate::naming::tags::{self, Tags};
use crate::naming::template::{Identity, Piece};
use crate::naming::unique::{MIN_DOMAIN, Taken, UniqueNames};

/// Maximum bytes of a name without tags. collectd cuts longer names, so that two of them could become one.
pub const MAX_NAME: usize = 127;

/// Bytes of a name that are reserved for the metric. So a domain's name is cut alike in all its metrics.
pub const MAX_METRIC: usize = 40;

/// Maximum bytes of a name with its tags, so that a line fits into the smallest `--max-datagram`, 512 bytes.
pub const MAX_TAGGED: usize = 480;

/// Builds the metric names of a running daemon.
#[derive(Debug, Clone)]
pub struct Namer {
    /// The template, with prefix and host filled in.
    pieces: Vec<Piece>,
    /// The text before and after the metric in the names of the host's metrics: those have no domain component.
    around_metric: (String, String),
    tags: Option<Tags>,
    /// Whether a domain's UUID is a tag.
    tag_uuid: bool,
    domains: UniqueNames,
}

impl Namer {
    /// Fails if the options of the scheme contradict each other, or leave too few bytes for domains and metrics.
    pub fn new(scheme: &Scheme) -> Result<Self, NamingError> {
        scheme.check()?;
        let &Scheme { template, prefix, host, layout, charset, tag_format, tag_uuid, tags: constants } = scheme;
        let clean_host = sanitize(host.as_bytes());
        if !clean_host.contains(|c: char| c.is_ascii_alphanumeric()) {
            return Err(NamingError::HostName(host.to_owned()));
        }
        let prefix = prefix.map(|prefix| Piece::Literal(format!("{prefix}.")));
        let filled = |piece: &Piece| match piece {
            Piece::Host => Piece::Literal(charset.apply(clean_host.clone())),
            Piece::Literal(text) => Piece::Literal(charset.apply(text.clone())),
            other => other.clone(),
        };
        let pieces: Vec<Piece> = prefix.iter().chain(template.pieces()).map(filled).collect();
        let tags = Tags::new(tag_format, &charset.apply(tags::value(host.as_bytes())), constants);
        let tagged = tags.is_some();
        let identity = template.identity();
        let domains = UniqueNames { layout, charset, tagged, identity, host: host.to_owned(), budget: 0 };
        let mut namer = Self { around_metric: around_metric(&pieces), pieces, tags, tag_uuid, domains };
        let Names { before, after, tags } = namer.names(DomainName { name: "", uuid: None }, None);
        let uuid = if tag_uuid { ",uuid=".len() + Uuid::LENGTH } else { 0 };
        let fixed = before.len() + after.len() + tags.len() + uuid;
        let max = if tagged { MAX_TAGGED } else { MAX_NAME };
        // Tags have no length limit of their own; in a tag a domain's name has this one.
        namer.domains.budget = max.saturating_sub(fixed + MAX_METRIC).min(MAX_NAME);
        let min = if identity == Identity::Uuid { Uuid::LENGTH } else { MIN_DOMAIN };
        if namer.domains.budget < min {
            return Err(NamingError::TooLong { fixed, max });
        }
        Ok(namer)
    }

    /// What domains are named by.
    pub fn identity(&self) -> Identity {
        self.domains.identity
    }

    /// The UUID of a domain, if it is a tag.
    pub fn tag(&self, uuid: Option<Uuid>) -> Option<Uuid> {
        uuid.filter(|_| self.tag_uuid)
    }

    /// The unique name of each domain, see [`UniqueNames::assign`].
    pub fn domains(&self, domains: &[(&[u8], u32)], taken: Taken) -> Vec<String> {
        self.domains.assign(domains, taken)
    }

    /// All that servers may take these names of domains for, see [`UniqueNames::views`].
    pub fn views<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        self.domains.views(names)
    }

    /// Replaces `name` by the full name of a metric of the host itself or of this program.
    pub fn write_host(&self, name: &mut Name, group: &str, device: Option<(&str, &str)>, metric: &str) {
        name.clear();
        name.path.extend([&self.around_metric.0, group, "."]);
        match device {
            None => {}
            Some((kind, _)) if self.tags.is_some() => name.path.extend([kind, "s."]),
            Some((kind, device)) => name.path.extend([kind, ".", device, "."]),
        }
        name.path.extend([metric, &self.around_metric.1]);
        if let Some(tags) = &self.tags {
            tags.write(name, None, device.map(|(_, device)| device));
        }
    }

    /// The full names of the metrics of a domain, or of one of its devices. `domain` comes from
    /// [`domains`](Self::domains).
    pub fn names(&self, domain: DomainName, device: Option<(DeviceKind, &str)>) -> Names {
        let domain = DomainName { uuid: domain.uuid.filter(|_| self.tag_uuid), ..domain };
        let is_metric = |piece: &Piece| *piece == Piece::Metric;
        let metric = self.pieces.iter().position(is_metric).expect("a template has a metric");
        let path = |pieces: &[Piece]| -> String {
            let text = pieces.iter().map(|piece| match piece {
                Piece::Literal(text) => text,
                Piece::Domain => domain.name,
                Piece::Metric | Piece::Host => unreachable!("filled in by Namer::new, and only one metric"),
            });
            text.collect()
        };
        let mut before = path(&self.pieces[..metric]);
        match device {
            None => {}
            // `vbds.rd`, because a server that replaces dots by `_` would take `vbd.rd` for `vbd_rd`, the sum.
            Some((kind, _)) if self.tags.is_some() => before.extend([kind.as_str(), "s."]),
            Some((kind, device)) => before.extend([kind.as_str(), ".", device, "."]),
        }
        let mut after = Name { path: path(&self.pieces[metric + 1..]), ..Name::default() };
        if let Some(tags) = &self.tags {
            tags.write(&mut after, Some(domain), device.map(|(_, device)| device));
        }
        Names { before: before.into(), after: after.path.into(), tags: after.tags.into() }
    }
}

/// The full names of the metrics of one domain or device: the text around the metric. A thousand domains' names, spelled
/// out, would be a megabyte that every poll reads.
#[derive(Default)]
pub struct Names {
    before: Box<str>,
    after: Box<str>,
    tags: Box<str>,
}

impl Names {
    /// The text, to be borrowed.
    pub fn parts(&self) -> Parts<'_> {
        Parts { before: &self.before, after: &self.after, tags: &self.tags }
    }
}

/// The text before and after the metric in a path, without the component that has the domain.
fn around_metric(pieces: &[Piece]) -> (String, String) {
    let text = |piece: &Piece| match piece {
        Piece::Literal(text) => text.clone(),
        Piece::Metric => "{metric}".into(),
        Piece::Domain | Piece::Host => "{domain}".into(),
    };
    let path: String = pieces.iter().map(text).collect();
    let kept: Vec<&str> = path.split('.').filter(|component| !component.contains("{domain}")).collect();
    let kept = kept.join(".");
    let (before, after) = kept.split_once("{metric}").expect("a template has a metric");
    (before.to_owned(), after.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::names::{assert_distinct, named};
    use crate::naming::scheme::{Charset, Layout};
    use crate::naming::tags::{Tag, TagFormat};
    use crate::naming::template::Prefix;

    /// Four naming schemes that differ in the names of domains.
    const SCHEMES: [(Layout, Charset, TagFormat); 4] = [
        (Layout::Xentop, Charset::Plain, TagFormat::None),
        (Layout::Xentop, Charset::Strict, TagFormat::None),
        (Layout::Legacy, Charset::Plain, TagFormat::None),
        (Layout::Xentop, Charset::Plain, TagFormat::Graphite),
    ];

    fn by_template(template: &str, prefix: Option<&str>, host: &str) -> Result<Namer, NamingError> {
        let prefix: Option<Prefix> = prefix.map(|prefix| prefix.parse().unwrap());
        Namer::new(&Scheme {
            template: &template.parse().unwrap(),
            prefix: prefix.as_ref(),
            host,
            layout: Layout::Xentop,
            charset: Charset::Plain,
            tag_format: TagFormat::None,
            tag_uuid: false,
            tags: &[],
        })
    }

    fn whole(namer: &Namer, domain: &str, device: Option<(DeviceKind, &str)>, metric: &str) -> String {
        namer.names(DomainName { name: domain, uuid: None }, device).parts().name(metric).line(5)
    }

    fn names_of(namer: &Namer, domains: &[(&str, u32)]) -> Vec<String> {
        let domains: Vec<(&[u8], u32)> = domains.iter().map(|&(name, id)| (name.as_bytes(), id)).collect();
        namer.domains(&domains, Taken::default())
    }

    /// Hostile names: near each other in every way there is, or any bytes at all.
    fn names() -> impl Strategy<Value = (TagFormat, Namer, Vec<(Vec<u8>, u32)>)> {
        let near = prop::sample::select(vec![
            &b"a"[..],
            b"A",
            b"_",
            b"-",
            b".",
            b" ",
            b"\n",
            b":",
            b"|",
            b"\xff",
            "\u{e9}".as_bytes(),
            b"/",
            b"node",
            b"Domain-0",
            b"_7ca2d3c4",
            b"_1",
        ]);
        let near = prop::collection::vec(near, 0..4).prop_map(|parts| parts.concat());
        let any = prop::collection::vec(1..=255_u8, 0..200);
        let name = prop_oneof![4 => near, 1 => any];
        let way = prop::sample::select(SCHEMES.to_vec());
        (way, prop::collection::vec(name, 1..12)).prop_map(|(way, names)| {
            let namer = named("xen1.example.com", way);
            let mut domains: Vec<(Vec<u8>, u32)> = names.into_iter().zip(0..).collect();
            // And one that already has the name that another gets.
            let borrowed: Vec<(&[u8], u32)> = domains.iter().map(|(name, domid)| (&**name, *domid)).collect();
            let called = namer.domains(&borrowed, Taken::default()).pop().unwrap();
            domains.push((called.into_bytes(), 1000));
            (way.2, namer, domains)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_names_are_made_distinct((tag_format, namer, domains) in names(), turn in 0..12_usize) {
            let domains: Vec<(&[u8], u32)> = domains.iter().map(|(name, domid)| (&**name, *domid)).collect();
            assert_distinct(&namer, tag_format, &domains, turn);
        }
    }

    /// 10 000 in the everyday suite; `make test-names` asks for a million.
    fn cases() -> u32 {
        std::env::var("NAMING_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
    }

    #[test]
    fn names_by_template() {
        let write = |template: &str, prefix| {
            let namer = by_template(template, prefix, "xen1.example.com").unwrap();
            whole(&namer, "web", None, "state.running").strip_suffix(":5|g").unwrap().to_owned()
        };
        let write_host = |template: &str| {
            let mut name = Name::default();
            by_template(template, None, "h").unwrap().write_host(&mut name, "node", None, "cpus");
            name.path
        };
        for (template, path) in [
            ("xen.{host}.{domain}.{metric}", "xen.h.node.cpus"),
            ("{domain}.{metric}", "node.cpus"),
            ("{metric}.{domain}", "node.cpus"),
            ("a.{metric}.x-{domain}-y", "a.node.cpus"),
            ("a.x-{domain}-y.b.{metric}.c", "a.b.node.cpus.c"),
            ("XenVms.{host}.{metric}.vm.{domain}", "XenVms.h.node.cpus.vm"),
        ] {
            assert_eq!(write_host(template), path, "{template}");
        }
        assert_eq!(write("xen.{host}.{domain}.{metric}", None), "xen.xen1_example_com.web.state.running");
        assert_eq!(write("{metric}.{domain}", Some("dc1.rack-2.")), "dc1.rack-2.state.running.web");
        for (way, line) in [
            (SCHEMES[1], "xen.xen_1_example_com.web_1.NET-TX_k:5|g"),
            (SCHEMES[2], "XenVms.Xen-1_example_com.NET-TX_k.web_1:5|g"),
        ] {
            assert_eq!(whole(&named("Xen-1.example.com", way), "web_1", None, "NET-TX_k"), line);
        }
        for (template, host, text) in [
            ("xen.{host}.{domain}.{metric}", "h".repeat(70), "shorten --prefix, --template, --host or --tag"),
            ("xen.{host}.{metric}", "h".into(), "{domain} is missing in --template: all domains would share one name"),
            (
                "{domain}.{metric}",
                "---".into(),
                "the host name \"---\" has no letter or digit: give another with --host",
            ),
        ] {
            let error = by_template(template, None, &host).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn naming_with_tags() {
        let namer = |tag_format, tags: &[&str]| {
            let tags: Vec<Tag> = tags.iter().map(|tag| tag.parse().unwrap()).collect();
            let (layout, charset) = (Layout::Xentop, Charset::Plain);
            let (template, host) = (&layout.template(tag_format), "xen1.example.com");
            Namer::new(&Scheme {
                template,
                prefix: None,
                host,
                layout,
                charset,
                tag_format,
                tag_uuid: false,
                tags: &tags,
            })
        };
        let tagged = namer(TagFormat::Datadog, &["env=prod", "rack=7/b"]).unwrap();
        assert_eq!(
            whole(&tagged, "build_server", Some((DeviceKind::Vbd, "xvda")), "rd"),
            "xen.vbds.rd:5|g|#host:xen1.example.com,domain:build_server,device:xvda,env:prod,rack:7/b"
        );
        let mut name = Name::default();
        tagged.write_host(&mut name, "xenmonitor", None, "collector.vbd");
        assert_eq!(
            (&*name.path, &*name.tags),
            ("xen.xenmonitor.collector.vbd", "|#host:xen1.example.com,env:prod,rack:7/b")
        );
        for (domains, names) in [
            // As they are; a VM may have the name of the host's own metrics.
            (&[("web.1", 1), ("z\u{fc}rich", 2), ("node", 3)][..], &["web.1", "z\u{fc}rich", "node"][..]),
            (&[("a b", 1), ("a:b", 2)], &["a_b_e2bca18b", "a_b_e2c18079"]),
            // Servers do not take them for another's: npm's statsd drops letters, Datadog `_`.
            (&[("we\u{e9}b", 1), ("web", 2)], &["we\u{e9}b_0fed40b9", "web"]),
            (&[("we\u{e9}b", 1), ("we_b", 2)], &["we\u{e9}b_0fed40b9", "we_b"]),
            (&[("x_y", 1), ("x__y", 2), ("x_y ", 3)], &["x_y", "x__y_0d7def90", "x_y__02d9b0ad"]),
            (&[("\u{65e5}\u{672c}", 1)], &["\u{65e5}\u{672c}_b4ceb0a4"]),
        ] {
            assert_eq!(names_of(&tagged, domains), names, "{domains:?}");
        }
        for (tag_format, tags, text) in [
            (TagFormat::None, &["env=prod"][..], "--tag needs a --tag-format other than none"),
            (TagFormat::Influx, &["a=1", "b=1", "B=2"], "--tag b is given twice"),
            (TagFormat::Influx, &[&format!("a={}", "1".repeat(400))], "shorten --prefix, --template, --host or --tag"),
        ] {
            let error = namer(tag_format, tags).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        }
    }

    #[test]
    fn naming_paths_fit_the_length_limit() {
        let long = "n".repeat(300);
        let domains = [(long.as_bytes(), 1), (&long.as_bytes()[..299], 2)];
        let namer = named("xen1.example.com", SCHEMES[0]);
        let names = namer.domains(&domains, Taken::default());
        assert_ne!(names[0], names[1]);
        for name in &names {
            assert_eq!(whole(&namer, name, None, &"m".repeat(MAX_METRIC)).len(), MAX_NAME + ":5|g".len());
        }
        // A line with the longest tags there may be fits into the smallest datagram.
        let tagged = |length: usize| {
            let tags = [format!("a={}", "1".repeat(length)).parse().unwrap()];
            let (layout, charset, tag_format) = (Layout::Xentop, Charset::Plain, TagFormat::SignalFx);
            let (template, host) = (&layout.template(tag_format), "h");
            Namer::new(&Scheme {
                template,
                prefix: None,
                host,
                layout,
                charset,
                tag_format,
                tag_uuid: false,
                tags: &tags,
            })
        };
        let longest = (0..MAX_TAGGED).rev().find_map(|length| tagged(length).ok()).unwrap();
        let name = &names_of(&longest, &[(&long, 1)])[0];
        let device = "x".repeat(MAX_METRIC - "vbd..rd".len());
        let of_disk = longest.names(DomainName { name, uuid: None }, Some((DeviceKind::Vbd, &device)));
        let line = of_disk.parts().name("rd").line(9_007_199_254_740_991);
        assert!((490..512).contains(&line.len()), "{} bytes: {line}", line.len());
        // Cut between characters.
        let tagged = named("h", (Layout::Xentop, Charset::Plain, TagFormat::Influx));
        for long in ["n".repeat(200), "\u{20ac}".repeat(100), "\u{1f600}".repeat(40)] {
            let name = &names_of(&tagged, &[(&long, 1)])[0];
            assert!((MAX_NAME - 3..=MAX_NAME).contains(&name.len()) && long.starts_with(&name[..96]), "{name}");
        }
    }
}
