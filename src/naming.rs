//! Gauge names that no VM name can bend.
//!
//! A VM's name is chosen by whoever may create VMs and may hold any byte but NUL: newlines, `:` and `|`
//! would inject lines into statsd, a dot another level into a path. Here every component becomes
//! `[A-Za-z0-9_-]`, no two living domains share one, and no whole name exceeds [`MAX_NAME`].

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::host::RESERVED;
use crate::template::{Piece, Prefix, Template, is_clean};

/// collectd cuts a name at 127 bytes, and then two series are one.
pub const MAX_NAME: usize = 127;

/// Room kept for the metric, so that a domain has the same component in all its gauges.
pub const MAX_METRIC: usize = 40;

/// The least room for a domain: some of its name, `_` and eight digits of hash.
const MIN_DOMAIN: usize = 16;

/// Whose names the gauges and domains bear.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Every column, by xentop's words
    Xentop,
    /// The thirteen gauges of the XenMonitor script, at its paths: XenVms.HOST.KEY.VM
    #[value(name = "xenmonitor")]
    XenMonitor,
}

impl Layout {
    /// Where its gauges are unless `--template` says otherwise.
    pub fn template(self) -> Template {
        let template = match self {
            Layout::Xentop => "xen.{host}.{domain}.{metric}",
            Layout::XenMonitor => "XenVms.{host}.{metric}.{domain}",
        };
        template.parse().expect("the default templates are good")
    }
}

/// A template with its prefix and host filled in: what a running daemon names its gauges by.
#[derive(Debug, Clone)]
pub struct Paths {
    pieces: Vec<Piece>,
    /// What stands around the metric in the host's own gauges, which have no component for a domain.
    around_metric: (String, String),
    host: String,
    layout: Layout,
    /// Bytes left for the domain component.
    budget: usize,
}

impl Paths {
    /// Fails on a host without a name to tell it by, and when so much of [`MAX_NAME`] is spoken for that no domain could be told from another.
    pub fn new(template: &Template, prefix: Option<&Prefix>, host: &str, layout: Layout) -> Result<Self, String> {
        let mut pieces = Vec::new();
        pieces.extend(prefix.map(|prefix| Piece::Literal(format!("{prefix}."))));
        let clean_host = component(host.as_bytes());
        if !clean_host.contains(|c: char| c.is_ascii_alphanumeric()) {
            return Err(format!("{host:?} is no name for this host: give it one with --host"));
        }
        for piece in template.pieces() {
            pieces.push(match piece {
                Piece::Host => Piece::Literal(clean_host.clone()),
                other => other.clone(),
            });
        }
        let fixed: usize =
            pieces.iter().map(|piece| if let Piece::Literal(text) = piece { text.len() } else { 0 }).sum();
        let budget = MAX_NAME.saturating_sub(fixed + MAX_METRIC);
        if budget < MIN_DOMAIN {
            return Err(format!(
                "prefix, template and host name take {fixed} bytes of the {MAX_NAME} a gauge name may have; \
                 {} is the most that leaves room for domain and metric: shorten --prefix, --template or --host",
                MAX_NAME - MAX_METRIC - MIN_DOMAIN
            ));
        }
        Ok(Self { around_metric: around_metric(&pieces), pieces, host: host.to_owned(), layout, budget })
    }

    /// The whole name of one gauge of the host itself or of this program, written over `path`.
    pub fn write_host(&self, path: &mut String, group: &str, metric: &str) {
        path.clear();
        path.extend([&self.around_metric.0, group, ".", metric, &self.around_metric.1]);
    }

    /// The whole name of one gauge, written over `path`. `domain` comes from [`domains`](Self::domains).
    pub fn write(&self, path: &mut String, domain: &str, metric: &str) {
        path.clear();
        for piece in &self.pieces {
            path.push_str(match piece {
                Piece::Literal(text) => text,
                Piece::Domain => domain,
                Piece::Metric => metric,
                Piece::Host => unreachable!("filled in by Paths::new"),
            });
        }
    }

    /// One path component for each of a host's living domains, given as (raw name, domid) in any order, no
    /// domid twice.
    ///
    /// A domain alone in its spelling keeps it. Where several would share one, even one that only a
    /// case-folding server takes for the same, the one whose raw name is already clean keeps it and every
    /// other carries `_` and eight digits of a hash of its raw name; where that is still shared, as by two
    /// domains of one name, the domid too. A name made to look like another's hashed one moves both away.
    pub fn domains(&self, living: &[(&[u8], u32)]) -> Vec<String> {
        let mut names: Vec<String> = (0..living.len()).map(|i| self.attempt(living, i, 0)).collect();
        let mut attempts = vec![0; living.len()];
        let mut sharers: HashMap<String, Vec<usize>> = HashMap::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            sharers.entry(fold(name)).or_default().push(i);
        }
        let mut moving: Vec<usize> = Vec::new();
        // Who has each name; `None` where several have come to it. As it counts only who came to a name and
        // not when, the outcome does not depend on the order of `living`.
        let mut holders: HashMap<String, Option<usize>> = HashMap::with_capacity(names.len());
        for (name, sharers) in sharers {
            let keeper = self.keeper(&sharers, living);
            moving.extend(sharers.iter().filter(|&&i| Some(i) != keeper));
            holders.insert(name, keeper);
        }
        // Ends: from the third attempt on a name closes with domid and attempt, which no other does.
        while let Some(i) = moving.pop() {
            attempts[i] += 1;
            names[i] = self.attempt(living, i, attempts[i]);
            match holders.entry(fold(&names[i])) {
                Entry::Vacant(free) => drop(free.insert(Some(i))),
                Entry::Occupied(mut taken) => {
                    moving.push(i);
                    // Domain-0 alone stays where it is.
                    if taken.get().is_some_and(|holder| living[holder].1 != 0) {
                        moving.extend(taken.insert(None));
                    }
                }
            }
        }
        names
    }

    /// A domain's n-th choice of a name, of at most `budget` bytes.
    fn attempt(&self, living: &[(&[u8], u32)], i: usize, n: u32) -> String {
        let (raw, domid) = living[i];
        let spelled = self.spell(raw, domid);
        let suffix = match n {
            0 if spelled.len() <= self.budget && !self.is_reserved(&spelled) => return spelled,
            0 | 1 => format!("_{:08x}", hash(raw)),
            2 => format!("_{:08x}_{domid}", hash(raw)),
            3..100 => format!("_{:08x}_{domid}_{n}", hash(raw)),
            // Only where a domid comes twice after all.
            _ => format!("_{:08x}_{domid}_{n}_{i}", hash(raw)),
        };
        let room = self.budget.saturating_sub(suffix.len()).min(spelled.len());
        format!("{}{suffix}", &spelled[..room])
    }

    /// Who of those that share a first choice may keep it: the one with the best claim, if it is one alone.
    fn keeper(&self, sharers: &[usize], living: &[(&[u8], u32)]) -> Option<usize> {
        let claim = |i: &usize| match living[*i] {
            (_, 0) => 3,
            (raw, domid) if raw != self.spell(raw, domid).as_bytes() => 0,
            (raw, _) if raw != fold(&String::from_utf8_lossy(raw)).as_bytes() => 1,
            _ => 2,
        };
        if let &[alone] = sharers {
            return Some(alone);
        }
        let best = sharers.iter().map(claim).max().filter(|&claim| claim > 0)?;
        let mut best = sharers.iter().filter(|i| claim(i) == best);
        best.next().copied().filter(|_| best.next().is_none())
    }

    /// Whether the host's own gauges would stand there.
    fn is_reserved(&self, spelled: &str) -> bool {
        self.layout == Layout::Xentop && RESERVED.contains(&fold(spelled).as_str())
    }

    fn spell(&self, raw: &[u8], domid: u32) -> String {
        match self.layout {
            Layout::Xentop => component(raw),
            Layout::XenMonitor if domid == 0 && raw == b"Domain-0" => {
                format!("Domain-0-{}", dashed(self.host.as_bytes()))
            }
            Layout::XenMonitor => dashed(raw),
        }
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

/// Any bytes as one clean component, never empty.
fn component(raw: &[u8]) -> String {
    if raw.is_empty() {
        return "_".into();
    }
    String::from_utf8_lossy(raw).chars().map(|c| if is_clean(c) { c } else { '_' }).collect()
}

fn dashed(raw: &[u8]) -> String {
    let dashed: Vec<u8> = raw.iter().map(|&byte| if byte == b'.' { b'-' } else { byte }).collect();
    component(&dashed)
}

/// What a server that folds case and dashes makes of a component.
pub fn fold(name: &str) -> String {
    name.to_ascii_lowercase().replace('-', "_")
}

/// FNV-1a, folded to 32 bits: the same on every host and in every release.
fn hash(raw: &[u8]) -> u32 {
    let hash = raw
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash >> 32) as u32 ^ hash as u32
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    fn paths(layout: Layout) -> Paths {
        Paths::new(&layout.template(), None, "xen1.example.com", layout).unwrap()
    }

    fn domains(layout: Layout, living: &[(&str, u32)]) -> Vec<String> {
        let living: Vec<(&[u8], u32)> = living.iter().map(|&(name, id)| (name.as_bytes(), id)).collect();
        paths(layout).domains(&living)
    }

    #[test]
    fn components_are_clean_and_never_empty() {
        for (raw, clean) in [
            (&b"web01"[..], "web01"),
            (b"", "_"),
            (b"build server", "build_server"),
            (b"a.b/c:d|e@f#g,h=i;j[k]l", "a_b_c_d_e_f_g_h_i_j_k_l"),
            (b"x\n\x1b[31mevil:1|g", "x___31mevil_1_g"),
            ("z\u{fc}rich".as_bytes(), "z_rich"),
            (b"\xff\xfe", "__"),
            (b"Keeps-Case_0", "Keeps-Case_0"),
        ] {
            assert_eq!(component(raw), clean, "{raw:?}");
        }
    }

    #[test]
    fn who_shares_a_spelling_is_told_apart() {
        for (living, names) in [
            (&[("web", 1), ("db", 2)][..], &["web", "db"][..]),
            // The clean one keeps it, in either order.
            (&[("web 1", 1), ("web_1", 2)], &["web_1_6f761bb8", "web_1"]),
            (&[("web_1", 2), ("web 1", 1)], &["web_1", "web_1_6f761bb8"]),
            // Same for a server that folds case and dashes.
            (&[("web", 1), ("WEB", 2)], &["web", "WEB_9390a188"]),
            (&[("Web", 1), ("WEB", 2)], &["Web_92812a48", "WEB_9390a188"]),
            // One name twice.
            (&[("web", 5), ("web", 9)], &["web_16d2ffe8_5", "web_16d2ffe8_9"]),
            // A name made to look like another's hashed one: nobody gets that one.
            (
                &[("web 1", 1), ("web_1", 2), ("web_1_6f761bb8", 3)],
                &["web_1_6f761bb8_1", "web_1", "web_1_6f761bb8_d14ae3a3"],
            ),
            // Where the host's own gauges are.
            (&[("node", 1), ("Xenmonitor", 2)], &["node_eda95917", "Xenmonitor_20d664e8"]),
            // Domain-0 cannot be pushed aside.
            (&[("Domain-0", 0), ("domain_0", 7)], &["Domain-0", "domain_0_32c457ca"]),
            (&[("Domain-0", 8), ("Domain-0", 0)], &["Domain-0_925606ec", "Domain-0"]),
        ] {
            assert_eq!(domains(Layout::Xentop, living), names, "{living:?}");
        }
    }

    #[test]
    fn domain_0_stays_whatever_the_others_are_called() {
        // The hash of `domain.0`, as a host's name: `domain.0` comes to Domain-0's own name.
        let host = format!("{:08x}", hash(b"domain.0"));
        let layout = Layout::XenMonitor;
        let paths = Paths::new(&layout.template(), None, &host, layout).unwrap();
        let names = paths.domains(&[(b"Domain-0", 0), (b"domain.0", 5), (b"domain-0", 6)]);
        assert_eq!(names[0], format!("Domain-0-{host}"));
        assert_eq!(names[1], format!("domain-0_{host}_5"));
    }

    /// Each name is what the one before it moves to; and one list with the same domid twice.
    #[test]
    fn chains_and_repeats_come_to_an_end() {
        let paths = paths(Layout::Xentop);
        let mut chain = vec![b"a_".to_vec(), b"a!".to_vec()];
        for _ in 0..20_000 {
            let moved = paths.attempt(&[(chain.last().unwrap(), 1)], 0, 1);
            chain.push(moved.into_bytes());
        }
        let living: Vec<(&[u8], u32)> = chain.iter().zip(1..).map(|(name, domid)| (name.as_slice(), domid)).collect();
        let distinct = |names: Vec<String>| names.iter().map(|name| fold(name)).collect::<HashSet<_>>().len();
        assert_eq!(distinct(paths.domains(&living)), living.len());
        assert_eq!(distinct(paths.domains(&[(&b"web"[..], 1); 300])), 300);
    }

    /// Names as strangers would choose them: near each other in every way there is, or any bytes at all.
    fn names() -> impl Strategy<Value = Vec<(Vec<u8>, u32)>> {
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
            b"node",
            b"Domain-0",
            b"_7ca2d3c4",
            b"_1",
        ]);
        let near = prop::collection::vec(near, 0..4).prop_map(|parts| parts.concat());
        let any = prop::collection::vec(1..=255_u8, 0..200);
        let name = prop_oneof![4 => near, 1 => any];
        prop::collection::vec(name, 1..12).prop_map(|names| {
            let mut living: Vec<(Vec<u8>, u32)> = names.into_iter().zip(0..).collect();
            // And one that is called what another comes to be called.
            let borrowed: Vec<(&[u8], u32)> = living.iter().map(|(name, domid)| (&**name, *domid)).collect();
            let called = paths(Layout::Xentop).domains(&borrowed).pop().unwrap();
            living.push((called.into_bytes(), 1000));
            living
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_names_at_all(living in names(), turn in any::<prop::sample::Index>()) {
            for layout in [Layout::Xentop, Layout::XenMonitor] {
                let paths = paths(layout);
                let named = |living: &[(Vec<u8>, u32)]| {
                    let borrowed: Vec<(&[u8], u32)> = living.iter().map(|(name, domid)| (&**name, *domid)).collect();
                    let names = paths.domains(&borrowed);
                    living.iter().map(|(_, domid)| *domid).zip(names).collect::<BTreeMap<u32, String>>()
                };
                let names = named(&living);
                let mut path = String::new();
                for name in names.values() {
                    paths.write(&mut path, name, &"m".repeat(MAX_METRIC));
                    prop_assert!(path.len() <= MAX_NAME && !name.is_empty(), "{path}");
                    prop_assert!(name.chars().all(is_clean), "{name}");
                }
                let folded: HashSet<String> = names.values().map(|name| fold(name)).collect();
                prop_assert_eq!(folded.len(), living.len(), "{:?}", names);

                let mut other = living.clone();
                other.rotate_left(turn.index(living.len()));
                prop_assert_eq!(&named(&other), &names);
                other.reverse();
                prop_assert_eq!(&named(&other), &names);
            }
        }
    }

    /// 10 000 in the everyday suite; `make test-names` asks for a million.
    fn cases() -> u32 {
        std::env::var("NAMING_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(10_000)
    }

    #[test]
    fn the_order_of_the_living_does_not_matter() {
        let hashed = format!("a_b_{:08x}", hash(b"a b"));
        let raw = ["a b", "a_b", "a-b", "A b", "a.b", &hashed, "a b", "Domain-0", "domain_0", "DOMAIN-0", "c"];
        let living: Vec<(&[u8], u32)> =
            raw.iter().zip([9, 8, 7, 6, 5, 4, 3, 0, 2, 1, 10]).map(|(n, d)| (n.as_bytes(), d)).collect();
        let names = |living: &[(&[u8], u32)]| {
            let by_domid = living.iter().map(|(_, domid)| *domid).zip(paths(Layout::Xentop).domains(living));
            by_domid.collect::<BTreeMap<u32, String>>()
        };
        let expected = names(&living);
        for start in 0..living.len() {
            let mut other = living.clone();
            other.rotate_left(start);
            assert_eq!(names(&other), expected);
            other.reverse();
            assert_eq!(names(&other), expected);
        }
    }

    #[test]
    fn xenmonitors_spelling() {
        let living = [("Domain-0", 0), ("web.example", 1), ("build server", 2), ("Domain-0-xen1-example-com", 3)];
        assert_eq!(
            domains(Layout::XenMonitor, &living)[..3],
            ["Domain-0-xen1-example-com", "web-example", "build_server"]
        );
        let mut path = String::new();
        paths(Layout::XenMonitor).write(&mut path, "web-example", "NET-TX_k");
        assert_eq!(path, "XenVms.xen1_example_com.NET-TX_k.web-example");
    }

    #[test]
    fn whole_names_fit() {
        let long = "n".repeat(300);
        let living = [(long.as_bytes(), 1), (&long.as_bytes()[..299], 2)];
        let paths = paths(Layout::Xentop);
        let names = paths.domains(&living);
        assert_ne!(names[0], names[1]);
        for name in &names {
            let mut path = String::new();
            paths.write(&mut path, name, &"m".repeat(MAX_METRIC));
            assert_eq!(path.len(), MAX_NAME);
        }
    }

    #[test]
    fn templates() {
        let write = |template: &str, prefix: Option<&str>| {
            let mut path = String::new();
            let prefix: Option<Prefix> = prefix.map(|prefix| prefix.parse().unwrap());
            let paths = Paths::new(&template.parse().unwrap(), prefix.as_ref(), "xen1.example.com", Layout::Xentop);
            paths.unwrap().write(&mut path, "web", "state.running");
            path
        };
        let write_host = |template: &str| {
            let mut path = String::new();
            let paths = Paths::new(&template.parse().unwrap(), None, "h", Layout::Xentop).unwrap();
            paths.write_host(&mut path, "node", "cpus");
            path
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
        let template: Template = "xen.{host}.{domain}.{metric}".parse().unwrap();
        let error = Paths::new(&template, None, &"h".repeat(70), Layout::Xentop).unwrap_err();
        assert!(error.contains("shorten --prefix, --template or --host"), "{error}");
    }
}
