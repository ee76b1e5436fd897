//! Whole names of gauges: prefix, template and tags around what stands for host, domain and metric. None exceeds
//! [`MAX_NAME`], or with tags what a line has room for.

use std::collections::HashSet;

use crate::model::device::DeviceKind;
use crate::naming::name::{Name, Parts, nth};
use crate::naming::sanitize::{component, fold};
use crate::naming::scheme::Dialect;
use crate::naming::scheme::{Layout, Letters};
use crate::naming::tags::{self, Tag, Tags};
use crate::naming::template::{Piece, Prefix, Template};
use crate::naming::unique::{MIN_DOMAIN, Naming};

/// collectd cuts a name at 127 bytes, and then two series are one.
pub const MAX_NAME: usize = 127;

/// Room kept for the metric, so that a domain has the same component in all its gauges.
pub const MAX_METRIC: usize = 40;

/// With tags name and tags together are no longer, so that a line fits the smallest datagram, of 512 bytes.
pub const MAX_TAGGED: usize = 480;

/// How everything is to be named: `--template`, `--prefix`, `--host`, `--layout`, `--names`, `--tag-format`, `--tag`.
pub struct Scheme<'a> {
    /// Where host, domain and metric stand in a name.
    pub template: &'a Template,
    /// What stands before it.
    pub prefix: Option<&'a Prefix>,
    /// This host's raw name.
    pub host: &'a str,
    /// Whose names.
    pub layout: Layout,
    /// Which letters.
    pub letters: Letters,
    /// How tags are written, if at all.
    pub dialect: Dialect,
    /// Tags of every gauge.
    pub constants: &'a [Tag],
}

impl Scheme<'_> {
    /// What cannot be had together.
    fn check(&self) -> Result<(), String> {
        let in_template = |hole| self.template.pieces().contains(&hole);
        let tagged = self.dialect != Dialect::None;
        if self.layout == Layout::XenMonitor && (tagged || self.letters == Letters::Strict) {
            return Err(
                "--layout legacy has names of its own, which --tag-format and --names strict would change".into()
            );
        }
        if tagged && (in_template(Piece::Host) || in_template(Piece::Domain)) {
            return Err(
                "with --tag-format host and domain are tags: leave {host} and {domain} out of --template".into()
            );
        }
        if !tagged && !in_template(Piece::Domain) {
            return Err("{domain} is missing in --template: all domains would share one name".into());
        }
        if !tagged && !self.constants.is_empty() {
            return Err("--tag needs a dialect to be written in: give --tag-format, which --help explains".into());
        }
        let mut keys: Vec<String> = self.constants.iter().map(|tag| fold(tag.key()).replace('.', "_")).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("--tag {} is given twice", pair[0])),
            None => Ok(()),
        }
    }
}

/// A scheme made ready: what a running daemon names its gauges by.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Template with prefix and host filled in.
    pieces: Vec<Piece>,
    /// What stands around the metric in the host's own gauges, which have no component for a domain.
    around_metric: (String, String),
    tags: Option<Tags>,
    naming: Naming,
}

impl Paths {
    /// Fails, with one line, on what cannot be had together, on a host without a name to tell it by, and when so
    /// much room is spoken for that no domain could be told from another.
    pub fn new(scheme: &Scheme) -> Result<Self, String> {
        scheme.check()?;
        let &Scheme { template, prefix, host, layout, letters, dialect, constants } = scheme;
        let clean_host = component(host.as_bytes());
        if !clean_host.contains(|c: char| c.is_ascii_alphanumeric()) {
            return Err(format!(
                "{host:?} is no name for this host, as it has no letter or digit: give it another with --host"
            ));
        }
        let prefix = prefix.map(|prefix| Piece::Literal(format!("{prefix}.")));
        let filled = |piece: &Piece| match piece {
            Piece::Host => Piece::Literal(letters.spell(clean_host.clone())),
            Piece::Literal(text) => Piece::Literal(letters.spell(text.clone())),
            other => other.clone(),
        };
        let pieces: Vec<Piece> = prefix.iter().chain(template.pieces()).map(filled).collect();
        let tags = Tags::new(dialect, &letters.spell(tags::value(host.as_bytes())), constants);
        let naming = Naming { layout, letters, tagged: tags.is_some(), host: host.to_owned(), budget: 0 };
        let mut paths = Self { around_metric: around_metric(&pieces), pieces, tags, naming };
        let mut shortest = Name::default();
        paths.write(&mut shortest, "", None, "");
        let fixed = shortest.path.len() + shortest.tags.len();
        let whole = if paths.naming.tagged { MAX_TAGGED } else { MAX_NAME };
        // As a tag too a name is cut somewhere.
        paths.naming.budget = whole.saturating_sub(fixed + MAX_METRIC).min(MAX_NAME);
        if paths.naming.budget < MIN_DOMAIN {
            return Err(format!(
                "prefix, template, host name and tags take {fixed} bytes of the {whole} there are for a gauge's name, \
                 and leave too little for domain and metric: shorten --prefix, --template, --host or --tag"
            ));
        }
        Ok(paths)
    }

    /// What stands for each of the living domains, see [`Naming::domains`].
    pub fn domains(&self, living: &[(&[u8], u32)], left: &HashSet<&str>) -> Vec<String> {
        self.naming.domains(living, left)
    }

    /// The whole name of one gauge of the host itself or of this program, written over `name`.
    pub fn write_host(&self, name: &mut Name, group: &str, metric: &str) {
        name.clear();
        name.path.extend([&self.around_metric.0, group, ".", metric, &self.around_metric.1]);
        if let Some(tags) = &self.tags {
            tags.write(name, None, None);
        }
    }

    /// The whole names of some gauges of one domain, none of a device's. `domain` comes from [`domains`](Self::domains).
    pub fn names<'a>(&self, domain: &str, metrics: impl Iterator<Item = &'a str>) -> Names {
        let (mut name, mut names) = (Name::default(), Names::default());
        for metric in metrics {
            self.write(&mut name, domain, None, metric);
            names.paths.push_str(&name.path);
            names.ends.push(names.paths.len());
        }
        names.paths.shrink_to_fit();
        names.ends.shrink_to_fit();
        names.tags = name.tags;
        names
    }

    /// The whole name of one gauge, written over `name`. `domain` comes from [`domains`](Self::domains).
    pub fn write(&self, name: &mut Name, domain: &str, device: Option<(DeviceKind, &str)>, metric: &str) {
        name.clear();
        for piece in &self.pieces {
            match (piece, device) {
                (Piece::Literal(text), _) => name.path.push_str(text),
                (Piece::Domain, _) => name.path.push_str(domain),
                (Piece::Metric, None) => name.path.push_str(metric),
                // `vbds`, not `vbd`: to a server that turns dots to `_` `vbd_rd` is the sum over all disks.
                (Piece::Metric, Some((kind, _))) if self.tags.is_some() => {
                    name.path.extend([kind.as_str(), "s.", metric]);
                }
                (Piece::Metric, Some((kind, device))) => name.path.extend([kind.as_str(), ".", device, ".", metric]),
                (Piece::Host, _) => unreachable!("filled in by Paths::new"),
            }
        }
        if let Some(tags) = &self.tags {
            tags.write(name, Some(domain), device.map(|(_, device)| device));
        }
    }
}

/// The whole names of some gauges of one domain, which differ but in their paths.
#[derive(Default)]
pub struct Names {
    /// One after another.
    paths: String,
    /// Where each ends.
    ends: Vec<usize>,
    tags: String,
}

impl Names {
    /// That of the `n`-th.
    pub fn get(&self, n: usize) -> Parts<'_> {
        Parts { path: &self.paths[nth(&self.ends, n)], tags: &self.tags }
    }
}

/// What stands before and behind the metric in a path less the component that holds the domain.
fn around_metric(pieces: &[Piece]) -> (String, String) {
    let text = |piece: &Piece| match piece {
        Piece::Literal(text) => text.clone(),
        Piece::Metric => "{metric}".into(),
        Piece::Domain | Piece::Host => "{domain}".into(),
    };
    let path: String = pieces.iter().map(text).collect();
    let kept: Vec<&str> = path.split('.').filter(|component| !component.contains("{domain}")).collect();
    let kept = kept.join(".");
    let (before, behind) = kept.split_once("{metric}").expect("a template has a metric");
    (before.to_owned(), behind.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fuzz::{named, tell_apart};

    /// Four ways of naming that differ in what stands for a domain.
    const WAYS: [(Layout, Letters, Dialect); 4] = [
        (Layout::Xentop, Letters::Plain, Dialect::None),
        (Layout::Xentop, Letters::Strict, Dialect::None),
        (Layout::XenMonitor, Letters::Plain, Dialect::None),
        (Layout::Xentop, Letters::Plain, Dialect::Graphite),
    ];

    /// Names by a template alone.
    fn by_template(template: &str, prefix: Option<&str>, host: &str) -> Result<Paths, String> {
        let prefix: Option<Prefix> = prefix.map(|prefix| prefix.parse().unwrap());
        Paths::new(&Scheme {
            template: &template.parse().unwrap(),
            prefix: prefix.as_ref(),
            host,
            layout: Layout::Xentop,
            letters: Letters::Plain,
            dialect: Dialect::None,
            constants: &[],
        })
    }

    fn whole(paths: &Paths, domain: &str, device: Option<(DeviceKind, &str)>, metric: &str) -> String {
        let mut name = Name::default();
        paths.write(&mut name, domain, device, metric);
        if device.is_none() {
            let names = paths.names(domain, ["cpu_sec", metric, "ssid"].into_iter());
            assert_eq!(names.get(1), name.parts());
        }
        name.parts().line(5)
    }

    fn domains(paths: &Paths, living: &[(&str, u32)]) -> Vec<String> {
        let living: Vec<(&[u8], u32)> = living.iter().map(|&(name, id)| (name.as_bytes(), id)).collect();
        paths.domains(&living, &HashSet::new())
    }

    /// Names as strangers would choose them: near each other in every way there is, or any bytes at all.
    fn names() -> impl Strategy<Value = (Dialect, Paths, Vec<(Vec<u8>, u32)>)> {
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
        let way = prop::sample::select(WAYS.to_vec());
        (way, prop::collection::vec(name, 1..12)).prop_map(|(way, names)| {
            let paths = named("xen1.example.com", way);
            let mut living: Vec<(Vec<u8>, u32)> = names.into_iter().zip(0..).collect();
            // And one that is called what another comes to be called.
            let borrowed: Vec<(&[u8], u32)> = living.iter().map(|(name, domid)| (&**name, *domid)).collect();
            let called = paths.domains(&borrowed, &HashSet::new()).pop().unwrap();
            living.push((called.into_bytes(), 1000));
            (way.2, paths, living)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_names_at_all((dialect, paths, living) in names(), turn in 0..12_usize) {
            let living: Vec<(&[u8], u32)> = living.iter().map(|(name, domid)| (&**name, *domid)).collect();
            tell_apart(&paths, dialect, &living, turn);
        }
    }

    /// 10 000 in the everyday suite; `make test-names` asks for a million.
    fn cases() -> u32 {
        std::env::var("NAMING_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
    }

    #[test]
    fn templates() {
        let write = |template: &str, prefix| {
            let paths = by_template(template, prefix, "xen1.example.com").unwrap();
            whole(&paths, "web", None, "state.running").strip_suffix(":5|g").unwrap().to_owned()
        };
        let write_host = |template: &str| {
            let mut name = Name::default();
            by_template(template, None, "h").unwrap().write_host(&mut name, "node", "cpus");
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
            (WAYS[1], "xen.xen_1_example_com.web_1.NET-TX_k:5|g"),
            (WAYS[2], "XenVms.Xen-1_example_com.NET-TX_k.web_1:5|g"),
        ] {
            assert_eq!(whole(&named("Xen-1.example.com", way), "web_1", None, "NET-TX_k"), line);
        }
        for (template, host, complaint) in [
            ("xen.{host}.{domain}.{metric}", "h".repeat(70), "shorten --prefix, --template, --host or --tag"),
            ("xen.{host}.{metric}", "h".into(), "{domain} is missing in --template: all domains would share one name"),
            (
                "{domain}.{metric}",
                "---".into(),
                "\"---\" is no name for this host, as it has no letter or digit: give it another with --host",
            ),
        ] {
            let error = by_template(template, None, &host).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn tagged_names() {
        let scheme = |dialect, constants: &[&str]| {
            let constants: Vec<Tag> = constants.iter().map(|tag| tag.parse().unwrap()).collect();
            let (layout, letters) = (Layout::Xentop, Letters::Plain);
            let (template, host) = (&layout.template(dialect), "xen1.example.com");
            Paths::new(&Scheme { template, prefix: None, host, layout, letters, dialect, constants: &constants })
        };
        let tagged = scheme(Dialect::Datadog, &["env=prod", "rack=7/b"]).unwrap();
        assert_eq!(
            whole(&tagged, "build_server", Some((DeviceKind::Vbd, "xvda")), "rd"),
            "xen.vbds.rd:5|g|#host:xen1.example.com,domain:build_server,device:xvda,env:prod,rack:7/b"
        );
        let mut name = Name::default();
        tagged.write_host(&mut name, "xenmonitor", "collector.vbd");
        assert_eq!(
            (&*name.path, &*name.tags),
            ("xen.xenmonitor.collector.vbd", "|#host:xen1.example.com,env:prod,rack:7/b")
        );
        for (living, names) in [
            // As they are; a VM may be called as the host's own gauges are.
            (&[("web.1", 1), ("z\u{fc}rich", 2), ("node", 3)][..], &["web.1", "z\u{fc}rich", "node"][..]),
            (&[("a b", 1), ("a:b", 2)], &["a_b_e2bca18b", "a_b_e2c18079"]),
            // What servers make of them does not make them another's: npm's statsd leaves letters out, Datadog `_`.
            (&[("we\u{e9}b", 1), ("web", 2)], &["we\u{e9}b_0fed40b9", "web"]),
            (&[("we\u{e9}b", 1), ("we_b", 2)], &["we\u{e9}b_0fed40b9", "we_b"]),
            (&[("x_y", 1), ("x__y", 2), ("x_y ", 3)], &["x_y_c0cade9a", "x__y_0d7def90", "x_y__02d9b0ad"]),
            (&[("\u{65e5}\u{672c}", 1)], &["\u{65e5}\u{672c}_b4ceb0a4"]),
        ] {
            assert_eq!(domains(&tagged, living), names, "{living:?}");
        }
        for (dialect, constants, complaint) in [
            (Dialect::None, &["env=prod"][..], "--tag needs a dialect to be written in"),
            (Dialect::Influx, &["a=1", "b=1", "B=2"], "--tag b is given twice"),
            (Dialect::Influx, &[&format!("a={}", "1".repeat(400))], "shorten --prefix, --template, --host or --tag"),
        ] {
            let error = scheme(dialect, constants).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn whole_names_fit() {
        let long = "n".repeat(300);
        let living = [(long.as_bytes(), 1), (&long.as_bytes()[..299], 2)];
        let paths = named("xen1.example.com", WAYS[0]);
        let names = paths.domains(&living, &HashSet::new());
        assert_ne!(names[0], names[1]);
        for name in &names {
            assert_eq!(whole(&paths, name, None, &"m".repeat(MAX_METRIC)).len(), MAX_NAME + ":5|g".len());
        }
        // A line with as many and long tags as there may be fits the smallest datagram.
        let scheme = |length: usize| {
            let constants = [format!("a={}", "1".repeat(length)).parse().unwrap()];
            let (layout, letters, dialect) = (Layout::Xentop, Letters::Plain, Dialect::SignalFx);
            let (template, host) = (&layout.template(dialect), "h");
            Paths::new(&Scheme { template, prefix: None, host, layout, letters, dialect, constants: &constants })
        };
        let longest = (0..MAX_TAGGED).rev().find_map(|length| scheme(length).ok()).unwrap();
        let (name, mut of_disk) = (&domains(&longest, &[(&long, 1)])[0], Name::default());
        let device = "x".repeat(MAX_METRIC - "vbd..rd".len());
        longest.write(&mut of_disk, name, Some((DeviceKind::Vbd, &device)), "rd");
        let line = of_disk.parts().line(9_007_199_254_740_991);
        assert!((490..512).contains(&line.len()), "{} bytes: {line}", line.len());
        // Cut between letters, not in one.
        let tagged = named("h", (Layout::Xentop, Letters::Plain, Dialect::Influx));
        for long in ["n".repeat(200), "\u{20ac}".repeat(100), "\u{1f600}".repeat(40)] {
            let name = &domains(&tagged, &[(&long, 1)])[0];
            assert!((MAX_NAME - 3..=MAX_NAME).contains(&name.len()) && long.starts_with(&name[..96]), "{name}");
        }
    }
}
