//! Unique names of domains: a VM's name affects only how its own metrics are called.
//!
//! A VM's name is chosen by anybody who may create VMs, and may have any byte but NUL: newlines, `:` and `|` would
//! inject lines into statsd, a dot another level into a path. Here each becomes a component of `[A-Za-z0-9_-]`, or a
//! tag that ends where it should, and no two domains share one.

use std::collections::{HashMap, HashSet};

use crate::model::device::DeviceKind;
use crate::naming::sanitize::{collapse, fold_case, hash, is_clean, sanitize, sanitize_legacy};
use crate::naming::scheme::{Charset, Layout, RESERVED};
use crate::naming::tags;
use crate::naming::template::Identity;

/// The least bytes for a domain's name: some of its characters, `_`, and eight digits of a hash.
pub const MIN_DOMAIN: usize = 16;

/// The raw name of the domain that is its host's own.
pub const DOMAIN_0: &[u8] = b"Domain-0";

/// How domains are named, and how long their names may be.
#[derive(Debug, Clone)]
pub struct UniqueNames {
    /// `--layout`.
    pub layout: Layout,
    /// `--names`.
    pub charset: Charset,
    /// Whether the names are tags.
    pub tagged: bool,
    /// What the raw names are.
    pub identity: Identity,
    /// This host's raw name.
    pub host: String,
    /// The most bytes of a domain's name.
    pub budget: usize,
}

/// Names that are not given out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taken<'a> {
    /// The names that the first domains hold and keep, none of which a server takes for another. The rest hold none.
    pub held: &'a [Option<&'a str>],
    /// The [views](UniqueNames::views) of the names of further domains, which keep them. Domain-0 is not new then: it
    /// goes before.
    pub others: &'a [String],
    /// Names whose series ended lately: neither they nor anything a server takes for them is given out.
    pub freed: &'a [&'a str],
}

impl UniqueNames {
    /// The name of each of a host's domains, as component or tag. They are given as (raw name, domid) in any order, no
    /// domid twice.
    ///
    /// A domain that holds a name keeps it. Only Domain-0 goes before.
    ///
    /// If several others would get one name, even one that only a server takes for the same, the domain whose raw name
    /// is clean keeps it; of several clean ones that differ the one with the lowest domid, which is the oldest. Each
    /// other gets `_` and eight digits of a hash of its raw name, and if that name is shared too, as by two domains of
    /// the same raw name, the domid. A name made to look like another's hashed one moves both.
    pub fn assign(&self, domains: &[(&[u8], u32)], Taken { held, others, freed }: Taken) -> Vec<String> {
        let is_others = |view: &String| others.binary_search(view).is_ok();
        let freed: HashSet<String> = freed.iter().flat_map(|name| self.server_views(name)).collect();
        let choose = |i: usize, attempt: &mut u32| loop {
            let name = self.candidate(domains, i, *attempt);
            if domains[i].1 == 0 || !self.server_views(&name).any(|view| freed.contains(&view)) {
                return name;
            }
            *attempt += 1;
        };
        let of_dom0 = (0..domains.len()).filter(|&i| domains[i].1 == 0).map(|i| self.candidate(domains, i, 0));
        let of_dom0: HashSet<String> = of_dom0.flat_map(|name| self.server_views(&name).collect::<Vec<_>>()).collect();
        let held: Vec<Option<&str>> = (0..domains.len())
            .map(|i| {
                let name = held.get(i).copied().flatten().filter(|_| domains[i].1 != 0)?;
                (!self.server_views(name).any(|view| of_dom0.contains(&view))).then_some(name)
            })
            .collect();
        let is_fixed = |i: usize| domains[i].1 == 0 || held[i].is_some();
        let mut attempts = vec![0; domains.len()];
        let mut names: Vec<String> =
            (0..domains.len()).map(|i| held[i].map_or_else(|| choose(i, &mut attempts[i]), str::to_owned)).collect();
        let mut contenders: HashMap<String, Vec<usize>> = HashMap::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            self.server_views(name).for_each(|view| contenders.entry(view).or_default().push(i));
        }
        // The owner of each name as servers see it; `None` if it is contested and no domain may keep it. That does not
        // depend on the order of `domains`.
        let mut owners: HashMap<String, Option<usize>> = HashMap::with_capacity(names.len());
        let mut losers: HashSet<usize> = HashSet::new();
        for (view, contenders) in contenders {
            let fixed = contenders.iter().copied().find(|&i| is_fixed(i));
            let winner = fixed.or_else(|| self.winner(&contenders, domains, &attempts)).filter(|_| !is_others(&view));
            losers.extend(contenders.iter().filter(|&&i| Some(i) != winner));
            owners.insert(view, winner);
        }
        owners.values_mut().for_each(|owner| *owner = owner.filter(|owner| !losers.contains(owner)));
        let mut moving: Vec<usize> = losers.into_iter().collect();
        // This ends: from the third attempt on a name ends with domid and attempt, as no other does.
        while let Some(i) = moving.pop() {
            attempts[i] += 1;
            names[i] = choose(i, &mut attempts[i]);
            let views: Vec<String> = self.server_views(&names[i]).collect();
            let owner = |view| owners.get(view).copied().or_else(|| is_others(view).then_some(None));
            let taken: Vec<Option<usize>> = views.iter().filter_map(owner).collect();
            let evicted: HashSet<usize> = taken.iter().flatten().copied().filter(|&i| !is_fixed(i)).collect();
            for owner in evicted {
                moving.push(owner);
                owners.extend(self.server_views(&names[owner]).map(|view| (view, None)));
            }
            for view in views {
                owners.entry(view).or_insert(taken.is_empty().then_some(i));
            }
            if !taken.is_empty() {
                moving.push(i);
            }
        }
        names
    }

    /// The name that a domain gets at its n-th attempt, of at most `budget` bytes.
    fn candidate(&self, domains: &[(&[u8], u32)], i: usize, n: u32) -> String {
        let (raw, domid) = domains[i];
        let spelled = self.spell_for_layout(raw, domid);
        let suffix = match n {
            0 if spelled.len() <= self.budget && !self.is_reserved(&spelled) => return spelled,
            0 | 1 => format!("_{:08x}", hash(raw)),
            2 => format!("_{:08x}_{domid}", hash(raw)),
            3..100 => format!("_{:08x}_{domid}_{n}", hash(raw)),
            // Only if a domid is there twice after all.
            _ => format!("_{:08x}_{domid}_{n}_{i}", hash(raw)),
        };
        let length = self.budget.saturating_sub(suffix.len()).min(spelled.len());
        let length = (0..=length).rev().find(|&length| spelled.is_char_boundary(length)).unwrap_or_default();
        format!("{}{suffix}", &spelled[..length])
    }

    /// The contender that may keep a name: the one whose raw name is clean; of several, the one with the lowest domid.
    /// None of several with the same raw name may keep it, because nothing tells which had it first.
    fn winner(&self, contenders: &[usize], domains: &[(&[u8], u32)], attempts: &[u32]) -> Option<usize> {
        if let &[alone] = contenders {
            return Some(alone);
        }
        // A tag may have letters beyond ASCII, but not every server keeps them.
        let is_clean = |i: usize| {
            let (raw, domid) = domains[i];
            attempts[i] == 0 && raw.is_ascii() && raw == self.spell_for_layout(raw, domid).as_bytes()
        };
        let shares = |i: usize| contenders.iter().any(|&other| other != i && domains[other].0 == domains[i].0);
        let clean = contenders.iter().copied().filter(|&i| is_clean(i) && !shares(i));
        clean.min_by_key(|&i| domains[i].1)
    }

    /// Whether no domain may have this name: the host's own metrics have it; or a server that turns dots to `_` would
    /// take it for a device of another domain; or a server that drops unknown characters would leave nothing of it.
    fn is_reserved(&self, spelled: &str) -> bool {
        let folded = fold_case(spelled);
        match self.layout {
            Layout::Legacy => false,
            Layout::Xentop if self.tagged => !spelled.contains(|c: char| c.is_ascii_alphanumeric()),
            Layout::Xentop if self.charset == Charset::Strict && looks_like_device(&folded) => true,
            Layout::Xentop => RESERVED.contains(&folded.as_str()),
        }
    }

    fn spell_for_layout(&self, raw: &[u8], domid: u32) -> String {
        self.charset.apply(match self.layout {
            Layout::Xentop if self.tagged => tags::value(raw),
            // Its UUID is that of all hosts, or it has none.
            Layout::Xentop if self.identity == Identity::Uuid && domid == 0 && raw == DOMAIN_0 => {
                format!("Domain-0-{}", sanitize(self.host.as_bytes()))
            }
            Layout::Xentop => sanitize(raw),
            Layout::Legacy if domid == 0 && raw == DOMAIN_0 => {
                format!("Domain-0-{}", sanitize_legacy(self.host.as_bytes()))
            }
            Layout::Legacy => sanitize_legacy(raw),
        })
    }

    /// All that servers may take these names for, sorted.
    pub fn views<'a>(&self, names: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut views: Vec<String> = names.flat_map(|name| self.server_views(name)).collect();
        views.sort_unstable();
        views
    }

    /// What servers may take this name for. Most fold it. Of a tag npm's statsd drops all but these characters; Datadog
    /// keeps other letters, folds them too, and drops some `_`.
    fn server_views(&self, name: &str) -> impl Iterator<Item = String> {
        let is_known = |c: &char| is_clean(*c) || "./".contains(*c);
        let of_tag = || {
            let thinned: String = name.chars().filter(is_known).collect();
            [&*thinned, name, &name.to_lowercase()].map(|name| collapse(&fold_case(name)))
        };
        let mut views = if self.tagged { of_tag().to_vec() } else { vec![fold_case(name)] };
        views.dedup();
        views.into_iter()
    }
}

/// Whether a kind of device stands between two `_`, as in `web_vcpu_0`.
fn looks_like_device(folded: &str) -> bool {
    let mut parts = folded.split('_').skip(1).peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_some() && DeviceKind::ALL.iter().any(|kind| kind.as_str() == part) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    fn unique_names(layout: Layout) -> UniqueNames {
        let host = "xen1.example.com".into();
        UniqueNames { layout, charset: Charset::Plain, tagged: false, identity: Identity::Name, host, budget: 60 }
    }

    fn assign(names: &UniqueNames, domains: &[(&str, u32)]) -> Vec<String> {
        let domains: Vec<(&[u8], u32)> = domains.iter().map(|&(name, id)| (name.as_bytes(), id)).collect();
        names.assign(&domains, Taken::default())
    }

    #[test]
    fn unique_names_of_domains_that_share_a_spelling() {
        for (domains, names) in [
            (&[("web", 1), ("db", 2)][..], &["web", "db"][..]),
            // The clean one keeps the name, in either order.
            (&[("web 1", 1), ("web_1", 2)], &["web_1_6f761bb8", "web_1"]),
            (&[("web_1", 2), ("web 1", 1)], &["web_1", "web_1_6f761bb8"]),
            // The same to a server that folds case and dashes.
            (&[("web", 1), ("WEB", 2)], &["web", "WEB_9390a188"]),
            // Of several clean ones the one with the lower domid, whatever its case.
            (&[("Web", 1), ("WEB", 2)], &["Web", "WEB_9390a188"]),
            (&[("web", 9), ("WEB", 2)], &["web_16d2ffe8", "WEB"]),
            (&[("web", 1), ("WEB", 7), ("web", 9)], &["web_16d2ffe8_1", "WEB", "web_16d2ffe8_9"]),
            // One name twice.
            (&[("web", 5), ("web", 9)], &["web_16d2ffe8_5", "web_16d2ffe8_9"]),
            // A name made to look like another's hashed one: nobody gets it.
            (
                &[("web 1", 1), ("web_1", 2), ("web_1_6f761bb8", 3)],
                &["web_1_6f761bb8_1", "web_1", "web_1_6f761bb8_d14ae3a3"],
            ),
            // The host's own metrics have these.
            (&[("node", 1), ("Xenmonitor", 2)], &["node_eda95917", "Xenmonitor_20d664e8"]),
            // Domain-0 keeps its name.
            (&[("Domain-0", 0), ("domain_0", 7)], &["Domain-0", "domain_0_32c457ca"]),
            (&[("Domain-0", 8), ("Domain-0", 0)], &["Domain-0_925606ec", "Domain-0"]),
        ] {
            assert_eq!(assign(&unique_names(Layout::Xentop), domains), names, "{domains:?}");
        }
    }

    #[test]
    fn unique_names_avoid_freed_ones() {
        for (tagged, name, freed, expected) in [
            (false, "web", "db", "web"),
            (false, "web", "web", "web_16d2ffe8"),
            (false, "WEB", "web", "WEB_9390a188"),
            (false, "web-1", "web_1", "web-1_6f33e031"),
            (false, "Domain-0", "domain_0", "Domain-0_925606ec"),
            (true, "we\u{e9}b", "web", "we\u{e9}b_0fed40b9"),
            (true, "web.1", "web_1", "web.1"),
        ] {
            let names = UniqueNames { tagged, ..unique_names(Layout::Xentop) };
            let assigned = names.assign(&[(name.as_bytes(), 7)], Taken { freed: &[freed], ..Taken::default() });
            assert_eq!(assigned, [expected], "{name} after {freed}");
        }
        let names = unique_names(Layout::Xentop);
        let freed = Taken { freed: &["domain_0"], ..Taken::default() };
        assert_eq!(names.assign(&[(b"Domain-0", 0)], freed), ["Domain-0"]);
    }

    #[test]
    fn unique_names_are_kept_by_their_holders() {
        let hashed = "web_1_6f761bb8";
        for (domains, held, expected) in [
            // A newcomer has the suffix, whatever its case, its domid, and however clean.
            (&[("DB01", 5), ("db01", 3)][..], &[Some("DB01"), None][..], &["DB01", "db01_51c853cf"][..]),
            (&[("web", 5), ("web", 9)], &[Some("web"), None], &["web", "web_16d2ffe8"]),
            (&[("web 1", 5), ("web_1", 9)], &[Some("web_1"), None], &["web_1", "web_1_6d04544f"]),
            // So has the one that was second when the first has gone.
            (&[("web_1", 9)], &[Some("web_1_6d04544f")], &["web_1_6d04544f"]),
            // A name like another's hashed one, which came later, or earlier.
            (&[("web 1", 1), (hashed, 3)], &[Some(hashed), None], &[hashed, "web_1_6f761bb8_d14ae3a3"]),
            (&[(hashed, 3), ("web_1", 2), ("web 1", 1)], &[Some(hashed)], &[hashed, "web_1", "web_1_6f761bb8_1"]),
            // Domain-0 keeps its own, even if it comes later.
            (&[("domain_0", 7), ("Domain-0", 0)], &[Some("domain_0"), None], &["domain_0_32c457ca", "Domain-0"]),
        ] {
            let raw: Vec<(&[u8], u32)> = domains.iter().map(|&(name, id)| (name.as_bytes(), id)).collect();
            let names = unique_names(Layout::Xentop).assign(&raw, Taken { held, ..Taken::default() });
            assert_eq!(names, expected, "{domains:?}");
        }
    }

    #[test]
    fn domain_0_keeps_its_name() {
        // With the hash of `domain.0` as the host's name, `domain.0` is moved to Domain-0's own name.
        let host = format!("{:08x}", hash(b"domain.0"));
        let names = UniqueNames { host: host.clone(), ..unique_names(Layout::Legacy) };
        let names = names.assign(&[(b"Domain-0", 0), (b"domain.0", 5), (b"domain-0", 6)], Taken::default());
        assert_eq!(names[0], format!("Domain-0-{host}"));
        assert_eq!(names[1], format!("domain-0_{host}_5"));
    }

    /// Each name is the one that the name before it is moved to; and a list with the same domid many times.
    #[test]
    fn unique_names_of_chains_and_repeats_terminate() {
        let names = unique_names(Layout::Xentop);
        let mut chain = vec![b"a_".to_vec(), b"a!".to_vec()];
        for _ in 0..20_000 {
            let moved = names.candidate(&[(chain.last().unwrap(), 1)], 0, 1);
            chain.push(moved.into_bytes());
        }
        let domains: Vec<(&[u8], u32)> = chain.iter().zip(1..).map(|(name, domid)| (name.as_slice(), domid)).collect();
        let distinct = |names: Vec<String>| names.iter().map(|name| fold_case(name)).collect::<HashSet<_>>().len();
        assert_eq!(distinct(names.assign(&domains, Taken::default())), domains.len());
        assert_eq!(distinct(names.assign(&[(&b"web"[..], 1); 300], Taken::default())), 300);
    }

    #[test]
    fn unique_names_do_not_depend_on_the_order() {
        let hashed = format!("a_b_{:08x}", hash(b"a b"));
        let raw = ["a b", "a_b", "a-b", "A b", "a.b", &hashed, "a b", "Domain-0", "domain_0", "DOMAIN-0", "c"];
        let domains: Vec<(&[u8], u32)> =
            raw.iter().zip([9, 8, 7, 6, 5, 4, 3, 0, 2, 1, 10]).map(|(n, d)| (n.as_bytes(), d)).collect();
        let names = |domains: &[(&[u8], u32)]| {
            let names = unique_names(Layout::Xentop).assign(domains, Taken::default());
            domains.iter().map(|(_, domid)| *domid).zip(names).collect::<BTreeMap<u32, String>>()
        };
        let expected = names(&domains);
        for start in 0..domains.len() {
            let mut other = domains.clone();
            other.rotate_left(start);
            assert_eq!(names(&other), expected);
            other.reverse();
            assert_eq!(names(&other), expected);
        }
    }

    #[test]
    fn unique_names_of_the_legacy_layout() {
        let domains = [("Domain-0", 0), ("web.example", 1), ("build server", 2), ("Domain-0-xen1-example-com", 3)];
        assert_eq!(
            assign(&unique_names(Layout::Legacy), &domains)[..3],
            ["Domain-0-xen1-example-com", "web-example", "build_server"]
        );
    }

    #[test]
    fn unique_names_of_the_strict_charset() {
        let strict = UniqueNames { charset: Charset::Strict, ..unique_names(Layout::Xentop) };
        let names = assign(&strict, &[("Domain-0", 0), ("Web-1", 1), ("web_1", 2), ("d\u{e9}j\u{e0}", 3)]);
        assert_eq!(names, ["domain_0", "web_1_5d5fb36b", "web_1", "d_j_"]);
        // A server that turns dots to `_` would take `web_vcpu_0.cpu_sec` for `web.vcpu.0.cpu_sec`.
        assert_eq!(assign(&strict, &[("web_VCPU-0", 1)]), ["web_vcpu_0_91215405"]);
    }
}
