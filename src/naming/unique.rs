//! What stands for a domain in the names of its gauges, so that no VM's name can bend them.
//!
//! A VM's name is chosen by whoever may create VMs and may hold any byte but NUL: newlines, `:` and `|`
//! would inject lines into statsd, a dot another level into a path. Here every one becomes a component of
//! `[A-Za-z0-9_-]`, or a tag that ends where it should, and no two living domains share one.

use crate::naming::sanitize::component;
use crate::naming::sanitize::dashed;
use crate::naming::sanitize::fold;
use crate::naming::sanitize::hash;
use crate::naming::sanitize::squeeze;
use crate::naming::scheme::Layout;
use crate::naming::scheme::Letters;
use std::collections::{HashMap, HashSet};

use crate::naming::sanitize::is_clean;
use crate::naming::scheme::RESERVED;
use crate::naming::tags::{self};

/// The least room for a domain: some of its name, `_` and eight digits of hash.
pub const MIN_DOMAIN: usize = 16;

/// What stands before a device in its metrics, as a server has it that turns dots to `_`.
const KINDS: [&str; 3] = ["_vcpu_", "_vif_", "_vbd_"];

/// How domains are spelled, and how much room each has.
#[derive(Debug, Clone)]
pub struct Naming {
    /// Whose names.
    pub layout: Layout,
    /// Which letters.
    pub letters: Letters,
    /// Whether they stand in tags.
    pub tagged: bool,
    /// This host's raw name.
    pub host: String,
    /// The most bytes for a domain.
    pub budget: usize,
}

impl Naming {
    /// What stands for each of a host's living domains in its names, as component or tag. They are given as
    /// (raw name, domid) in any order, no domid twice.
    ///
    /// A domain alone in its spelling keeps it. Where several would share one, even one that only a
    /// case-folding server takes for the same, the one whose raw name is already clean keeps it and every
    /// other carries `_` and eight digits of a hash of its raw name; where that is still shared, as by two
    /// domains of one name, the domid too. A name made to look like another's hashed one moves both away.
    ///
    /// `left` are names that were left not long ago: until servers have heard of their end, nobody is called so, or
    /// what one would take for it.
    pub fn domains(&self, living: &[(&[u8], u32)], left: &HashSet<&str>) -> Vec<String> {
        let left: HashSet<String> = left.iter().flat_map(|name| self.seen_as(name)).collect();
        let choose = |i: usize, attempt: &mut u32| loop {
            let name = self.attempt(living, i, *attempt);
            if living[i].1 == 0 || !self.seen_as(&name).any(|seen| left.contains(&seen)) {
                return name;
            }
            *attempt += 1;
        };
        let mut attempts = vec![0; living.len()];
        let mut names: Vec<String> = attempts.iter_mut().enumerate().map(|(i, attempt)| choose(i, attempt)).collect();
        let mut sharers: HashMap<String, Vec<usize>> = HashMap::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            self.seen_as(name).for_each(|seen| sharers.entry(seen).or_default().push(i));
        }
        // Who has each name as servers see it; `None` where several have come to it. As it counts only who came
        // to a name and not when, the outcome does not depend on the order of `living`.
        let mut holders: HashMap<String, Option<usize>> = HashMap::with_capacity(names.len());
        let mut movers: HashSet<usize> = HashSet::new();
        for (seen, sharers) in sharers {
            let keeper = self.keeper(&sharers, living, &attempts);
            movers.extend(sharers.iter().filter(|&&i| Some(i) != keeper));
            holders.insert(seen, keeper);
        }
        holders.values_mut().for_each(|holder| *holder = holder.filter(|holder| !movers.contains(holder)));
        let mut moving: Vec<usize> = movers.into_iter().collect();
        // Ends: from the third attempt on a name closes with domid and attempt, which no other does.
        while let Some(i) = moving.pop() {
            attempts[i] += 1;
            names[i] = choose(i, &mut attempts[i]);
            let seen: Vec<String> = self.seen_as(&names[i]).collect();
            let taken: Vec<Option<usize>> = seen.iter().filter_map(|seen| holders.get(seen).copied()).collect();
            // Domain-0 alone stays where it is.
            let evicted: HashSet<usize> = taken.iter().flatten().copied().filter(|&i| living[i].1 != 0).collect();
            for holder in evicted {
                moving.push(holder);
                holders.extend(self.seen_as(&names[holder]).map(|seen| (seen, None)));
            }
            for seen in seen {
                holders.entry(seen).or_insert(taken.is_empty().then_some(i));
            }
            if !taken.is_empty() {
                moving.push(i);
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
        let room = (0..=room).rev().find(|&room| spelled.is_char_boundary(room)).unwrap_or_default();
        format!("{}{suffix}", &spelled[..room])
    }

    /// Who of those that share a first choice may keep it: the one with the best claim, if it is one alone.
    fn keeper(&self, sharers: &[usize], living: &[(&[u8], u32)], attempts: &[u32]) -> Option<usize> {
        let claim = |i: &usize| match living[*i] {
            (_, 0) => 3,
            _ if attempts[*i] > 0 => 0,
            // Letters beyond ASCII are clean in a tag, but no server is sure to keep them.
            (raw, domid) if raw != self.spell(raw, domid).as_bytes() || !raw.is_ascii() => 0,
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

    /// Whether nobody may be called so: it is where the host's own gauges stand; or, to a server that turns dots
    /// to `_`, a device's of another domain; or nothing at all to one that drops what it does not know.
    fn is_reserved(&self, spelled: &str) -> bool {
        let folded = fold(spelled);
        match self.layout {
            Layout::XenMonitor => false,
            Layout::Xentop if self.tagged => !spelled.contains(|c: char| c.is_ascii_alphanumeric()),
            Layout::Xentop if self.letters == Letters::Strict && KINDS.iter().any(|kind| folded.contains(kind)) => true,
            Layout::Xentop => RESERVED.contains(&folded.as_str()),
        }
    }

    fn spell(&self, raw: &[u8], domid: u32) -> String {
        self.letters.spell(match self.layout {
            Layout::Xentop if self.tagged => tags::value(raw),
            Layout::Xentop => component(raw),
            Layout::XenMonitor if domid == 0 && raw == b"Domain-0" => {
                format!("Domain-0-{}", dashed(self.host.as_bytes()))
            }
            Layout::XenMonitor => dashed(raw),
        })
    }

    /// What servers may take this name for. Most fold it; of a tag npm's statsd leaves out all but these, and
    /// Datadog keeps other letters, folds them too, and drops some `_`.
    fn seen_as(&self, name: &str) -> impl Iterator<Item = String> {
        let known = |c: &char| is_clean(*c) || "./".contains(*c);
        let in_tags = || {
            let thinned: String = name.chars().filter(known).collect();
            [&*thinned, name, &name.to_lowercase()].map(|name| squeeze(&fold(name)))
        };
        let mut seen = if self.tagged { in_tags().to_vec() } else { vec![fold(name)] };
        seen.dedup();
        seen.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;

    fn naming(layout: Layout) -> Naming {
        let host = "xen1.example.com".into();
        Naming { layout, letters: Letters::Plain, tagged: false, host, budget: 60 }
    }

    fn domains(layout: Layout, living: &[(&str, u32)]) -> Vec<String> {
        domains_of(&naming(layout), living)
    }

    fn domains_of(naming: &Naming, living: &[(&str, u32)]) -> Vec<String> {
        let living: Vec<(&[u8], u32)> = living.iter().map(|&(name, id)| (name.as_bytes(), id)).collect();
        naming.domains(&living, &HashSet::new())
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
    fn names_that_were_left_not_long_ago() {
        for (tagged, name, left, called) in [
            (false, "web", "db", "web"),
            (false, "web", "web", "web_16d2ffe8"),
            (false, "WEB", "web", "WEB_9390a188"),
            (false, "web-1", "web_1", "web-1_6f33e031"),
            (false, "Domain-0", "domain_0", "Domain-0_925606ec"),
            (true, "we\u{e9}b", "web", "we\u{e9}b_0fed40b9"),
            (true, "web.1", "web_1", "web.1"),
        ] {
            let naming = Naming { tagged, ..naming(Layout::Xentop) };
            assert_eq!(
                naming.domains(&[(name.as_bytes(), 7)], &HashSet::from([left])),
                [called],
                "{name} after {left}"
            );
        }
        assert_eq!(naming(Layout::Xentop).domains(&[(b"Domain-0", 0)], &HashSet::from(["domain_0"])), ["Domain-0"]);
    }

    #[test]
    fn domain_0_stays_whatever_the_others_are_called() {
        // The hash of `domain.0`, as a host's name: `domain.0` comes to Domain-0's own name.
        let host = format!("{:08x}", hash(b"domain.0"));
        let naming = Naming { host: host.clone(), ..naming(Layout::XenMonitor) };
        let names = naming.domains(&[(b"Domain-0", 0), (b"domain.0", 5), (b"domain-0", 6)], &HashSet::new());
        assert_eq!(names[0], format!("Domain-0-{host}"));
        assert_eq!(names[1], format!("domain-0_{host}_5"));
    }

    /// Each name is what the one before it moves to; and one list with the same domid twice.
    #[test]
    fn chains_and_repeats_come_to_an_end() {
        let naming = naming(Layout::Xentop);
        let mut chain = vec![b"a_".to_vec(), b"a!".to_vec()];
        for _ in 0..20_000 {
            let moved = naming.attempt(&[(chain.last().unwrap(), 1)], 0, 1);
            chain.push(moved.into_bytes());
        }
        let living: Vec<(&[u8], u32)> = chain.iter().zip(1..).map(|(name, domid)| (name.as_slice(), domid)).collect();
        let distinct = |names: Vec<String>| names.iter().map(|name| fold(name)).collect::<HashSet<_>>().len();
        assert_eq!(distinct(naming.domains(&living, &HashSet::new())), living.len());
        assert_eq!(distinct(naming.domains(&[(&b"web"[..], 1); 300], &HashSet::new())), 300);
    }

    #[test]
    fn the_order_of_the_living_does_not_matter() {
        let hashed = format!("a_b_{:08x}", hash(b"a b"));
        let raw = ["a b", "a_b", "a-b", "A b", "a.b", &hashed, "a b", "Domain-0", "domain_0", "DOMAIN-0", "c"];
        let living: Vec<(&[u8], u32)> =
            raw.iter().zip([9, 8, 7, 6, 5, 4, 3, 0, 2, 1, 10]).map(|(n, d)| (n.as_bytes(), d)).collect();
        let names = |living: &[(&[u8], u32)]| {
            let by_domid =
                living.iter().map(|(_, domid)| *domid).zip(naming(Layout::Xentop).domains(living, &HashSet::new()));
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
    }

    #[test]
    fn strict_names() {
        let strict = Naming { letters: Letters::Strict, ..naming(Layout::Xentop) };
        let names = domains_of(&strict, &[("Domain-0", 0), ("Web-1", 1), ("web_1", 2), ("d\u{e9}j\u{e0}", 3)]);
        assert_eq!(names, ["domain_0", "web_1_5d5fb36b", "web_1", "d_j_"]);
        // `web_vcpu_0.cpu_sec` would be `web.vcpu.0.cpu_sec` to a server that turns dots to `_`.
        assert_eq!(domains_of(&strict, &[("web_VCPU-0", 1)]), ["web_vcpu_0_91215405"]);
    }
}
