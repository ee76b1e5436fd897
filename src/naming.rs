//! Gauge names that no VM name can bend.
//!
//! A VM's name is chosen by whoever may create VMs and may hold any byte but NUL: newlines, `:` and `|`
//! would inject lines into statsd, a dot another level into a path. Here every component becomes
//! `[A-Za-z0-9_-]`, no two living domains share one, and no whole name exceeds [`MAX_NAME`].

use std::collections::HashMap;
use std::fmt;

/// collectd cuts a name at 127 bytes, and then two series are one.
pub const MAX_NAME: usize = 127;

/// Room kept for the metric, so that a domain has the same component in all its gauges.
pub const MAX_METRIC: usize = 40;

/// The least room for a domain: some of its name, `_` and eight digits of hash.
const MIN_DOMAIN: usize = 16;

/// How a path is laid out: literal text with holes for host, domain and metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Host,
    Domain,
    Metric,
}

/// What is wrong with a template or prefix; one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTemplate(String);

impl fmt::Display for BadTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadTemplate {}

impl std::str::FromStr for Template {
    type Err = BadTemplate;

    fn from_str(text: &str) -> Result<Self, BadTemplate> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, hole)) = rest.split_once('{') {
            let Some((name, tail)) = hole.split_once('}') else {
                return Err(BadTemplate(format!("'{{{hole}' has no closing brace")));
            };
            pieces.push(Piece::Literal(literal_text(literal)?));
            pieces.push(match name {
                "host" => Piece::Host,
                "domain" => Piece::Domain,
                "metric" => Piece::Metric,
                _ => return Err(BadTemplate(format!("{{{name}}} is none of {{host}}, {{domain}}, {{metric}}"))),
            });
            rest = tail;
        }
        pieces.push(Piece::Literal(literal_text(rest)?));
        pieces.retain(|piece| *piece != Piece::Literal(String::new()));
        for (hole, name, else_what) in [
            (Piece::Metric, "{metric}", "all gauges would share one name"),
            (Piece::Domain, "{domain}", "all domains would share one name"),
        ] {
            match pieces.iter().filter(|piece| **piece == hole).count() {
                1 => {}
                0 => return Err(BadTemplate(format!("{name} is missing: {else_what}"))),
                _ => return Err(BadTemplate(format!("{name} stands there more than once"))),
            }
        }
        let template = Self { pieces };
        let (sample, between) = template.sample();
        if sample.split('.').any(str::is_empty) {
            return Err(BadTemplate("a component between two dots is empty".into()));
        }
        if !between.contains('.') {
            return Err(BadTemplate(
                "{domain} and {metric} need a '.' between them, or one could run into the other".into(),
            ));
        }
        Ok(template)
    }
}

impl Template {
    /// A path with every hole filled, and its part from domain to metric or the other way round.
    fn sample(&self) -> (String, String) {
        let (mut path, mut ends) = (String::new(), Vec::new());
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => path.push_str(text),
                Piece::Host => path.push('h'),
                Piece::Domain | Piece::Metric => {
                    ends.push(path.len());
                    path.push('x');
                }
            }
        }
        let between = path[ends[0]..ends[1]].to_owned();
        (path, between)
    }
}

/// Literal text of a path: components and the dots between them.
fn literal_text(text: &str) -> Result<String, BadTemplate> {
    match text.chars().find(|&c| !(c == '.' || is_clean(c))) {
        None => Ok(text.to_owned()),
        Some(c) => Err(BadTemplate(format!("{c:?} cannot stand in a gauge name; letters, digits, '_', '-', '.' can"))),
    }
}

/// A template with its prefix and host filled in: what a running daemon names its gauges by.
#[derive(Debug, Clone)]
pub struct Paths {
    pieces: Vec<Piece>,
    host: String,
    style: Style,
    /// Bytes left for the domain component.
    budget: usize,
}

/// How components are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Everything outside `[A-Za-z0-9_-]` becomes `_`.
    Plain,
    /// As the XenMonitor script spelled them: a VM's dots become `-`, and Domain-0 carries the host's name.
    XenMonitor,
}

impl Paths {
    /// Fails when so much of [`MAX_NAME`] is spoken for that no domain could be told from another.
    pub fn new(template: &Template, prefix: Option<&str>, host: &str, style: Style) -> Result<Self, BadTemplate> {
        let mut pieces = Vec::new();
        if let Some(prefix) = prefix.map(|prefix| prefix.trim_end_matches('.')).filter(|prefix| !prefix.is_empty()) {
            pieces.push(Piece::Literal(literal_text(prefix)? + "."));
        }
        let clean_host = component(host.as_bytes());
        for piece in &template.pieces {
            pieces.push(match piece {
                Piece::Host => Piece::Literal(clean_host.clone()),
                other => other.clone(),
            });
        }
        let fixed: usize =
            pieces.iter().map(|piece| if let Piece::Literal(text) = piece { text.len() } else { 0 }).sum();
        let budget = MAX_NAME.saturating_sub(fixed + MAX_METRIC);
        if budget < MIN_DOMAIN {
            return Err(BadTemplate(format!(
                "prefix, template and host name take {fixed} bytes of the {MAX_NAME} a gauge name may have; \
                 {} is the most that leaves room for domain and metric: shorten --prefix, --template or --host",
                MAX_NAME - MAX_METRIC - MIN_DOMAIN
            )));
        }
        Ok(Self { pieces, host: host.to_owned(), style, budget })
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

    /// One path component for each of a host's living domains, given as (raw name, domid) in any order.
    ///
    /// A domain alone in its spelling keeps it. Where several would share one, even one that only a
    /// case-folding server takes for the same, the one whose raw name is already clean keeps it and every
    /// other carries `_` and eight digits of a hash of its raw name; where that is still shared, as by two
    /// domains of one name, the domid too. A name made to look like another's hashed one moves both away.
    pub fn domains(&self, living: &[(&[u8], u32)]) -> Vec<String> {
        let mut tries = vec![0; living.len()];
        let mut names: Vec<String> = living.iter().map(|&(raw, domid)| self.attempt(raw, domid, 0)).collect();
        loop {
            let mut sharers: HashMap<String, Vec<usize>> = HashMap::with_capacity(names.len());
            for (i, name) in names.iter().enumerate() {
                sharers.entry(fold(name)).or_default().push(i);
            }
            let mut settled = true;
            for sharers in sharers.into_values().filter(|sharers| sharers.len() > 1) {
                let keeper = self.keeper(&sharers, living, &tries);
                for i in sharers.into_iter().filter(|&i| Some(i) != keeper) {
                    settled = false;
                    tries[i] += 1;
                    names[i] = self.attempt(living[i].0, living[i].1, tries[i]);
                }
            }
            // Ends: from the third attempt on a name closes with domid and number, which no two share.
            if settled {
                return names;
            }
        }
    }

    /// A domain's n-th choice of a name, of at most `budget` bytes.
    fn attempt(&self, raw: &[u8], domid: u32, n: u32) -> String {
        let spelled = self.spell(raw, domid);
        let suffix = match n {
            0 if spelled.len() <= self.budget => return spelled,
            0 | 1 => format!("_{:08x}", hash(raw)),
            2 => format!("_{:08x}_{domid}", hash(raw)),
            _ => format!("_{:08x}_{domid}_{n}", hash(raw)),
        };
        let room = self.budget.saturating_sub(suffix.len()).min(spelled.len());
        format!("{}{suffix}", &spelled[..room])
    }

    /// Who of those that share a first choice may keep it: the one with the best claim, if it is one alone.
    fn keeper(&self, sharers: &[usize], living: &[(&[u8], u32)], tries: &[u32]) -> Option<usize> {
        if sharers.iter().any(|&i| tries[i] > 0) {
            return None;
        }
        let claim = |i: &usize| match living[*i] {
            (_, 0) => 3,
            (raw, domid) if raw != self.spell(raw, domid).as_bytes() => 0,
            (raw, _) if raw != fold(&String::from_utf8_lossy(raw)).as_bytes() => 1,
            _ => 2,
        };
        let best = sharers.iter().map(claim).max().filter(|&claim| claim > 0)?;
        let mut best = sharers.iter().filter(|i| claim(i) == best);
        best.next().copied().filter(|_| best.next().is_none())
    }

    fn spell(&self, raw: &[u8], domid: u32) -> String {
        match self.style {
            Style::Plain => component(raw),
            Style::XenMonitor if domid == 0 && raw == b"Domain-0" => {
                format!("Domain-0-{}", dashed(self.host.as_bytes()))
            }
            Style::XenMonitor => dashed(raw),
        }
    }
}

/// Any bytes as one clean component, never empty.
pub fn component(raw: &[u8]) -> String {
    if raw.is_empty() {
        return "_".into();
    }
    String::from_utf8_lossy(raw).chars().map(|c| if is_clean(c) { c } else { '_' }).collect()
}

fn dashed(raw: &[u8]) -> String {
    let dashed: Vec<u8> = raw.iter().map(|&byte| if byte == b'.' { b'-' } else { byte }).collect();
    component(&dashed)
}

fn is_clean(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

/// What a server that folds case and dashes makes of a component.
fn fold(name: &str) -> String {
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
    use super::*;

    fn paths(style: Style) -> Paths {
        let template = match style {
            Style::Plain => "xen.{host}.{domain}.{metric}",
            Style::XenMonitor => "XenVms.{host}.{metric}.{domain}",
        };
        Paths::new(&template.parse().unwrap(), None, "xen1.example.com", style).unwrap()
    }

    fn domains(style: Style, living: &[(&str, u32)]) -> Vec<String> {
        let living: Vec<(&[u8], u32)> = living.iter().map(|&(name, id)| (name.as_bytes(), id)).collect();
        paths(style).domains(&living)
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
            // Domain-0 cannot be pushed aside.
            (&[("Domain-0", 0), ("domain_0", 7)], &["Domain-0", "domain_0_32c457ca"]),
            (&[("Domain-0", 8), ("Domain-0", 0)], &["Domain-0_925606ec", "Domain-0"]),
        ] {
            assert_eq!(domains(Style::Plain, living), names, "{living:?}");
        }
    }

    #[test]
    fn xenmonitors_spelling() {
        let living = [("Domain-0", 0), ("web.example", 1), ("build server", 2), ("Domain-0-xen1-example-com", 3)];
        assert_eq!(
            domains(Style::XenMonitor, &living)[..3],
            ["Domain-0-xen1-example-com", "web-example", "build_server"]
        );
        let mut path = String::new();
        paths(Style::XenMonitor).write(&mut path, "web-example", "NET-TX_k");
        assert_eq!(path, "XenVms.xen1_example_com.NET-TX_k.web-example");
    }

    #[test]
    fn whole_names_fit() {
        let long = "n".repeat(300);
        let living = [(long.as_bytes(), 1), (&long.as_bytes()[..299], 2)];
        let paths = paths(Style::Plain);
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
        let write = |template: &str, prefix| {
            let mut path = String::new();
            let paths = Paths::new(&template.parse().unwrap(), prefix, "xen1.example.com", Style::Plain);
            paths.unwrap().write(&mut path, "web", "state.running");
            path
        };
        assert_eq!(write("xen.{host}.{domain}.{metric}", None), "xen.xen1_example_com.web.state.running");
        assert_eq!(write("{metric}.{domain}", Some("dc1.rack-2.")), "dc1.rack-2.state.running.web");
        for (template, complaint) in [
            ("xen.{host}.{domain}", "{metric} is missing: all gauges would share one name"),
            ("{metric}", "{domain} is missing: all domains would share one name"),
            ("{domain}.{metric}.{metric}", "{metric} stands there more than once"),
            ("{domain}.{metric}.{uuid}", "{uuid} is none of {host}, {domain}, {metric}"),
            ("{domain}.{metric", "'{metric' has no closing brace"),
            ("a b.{domain}.{metric}", "' ' cannot stand in a gauge name; letters, digits, '_', '-', '.' can"),
            ("{domain}..{metric}", "a component between two dots is empty"),
            ("{domain}_{metric}", "{domain} and {metric} need a '.' between them, or one could run into the other"),
        ] {
            assert_eq!(template.parse::<Template>().unwrap_err().to_string(), complaint, "{template}");
        }
        let template: Template = "xen.{host}.{domain}.{metric}".parse().unwrap();
        assert!(Paths::new(&template, Some("a|b"), "h", Style::Plain).is_err());
        let error = Paths::new(&template, None, &"h".repeat(70), Style::Plain).unwrap_err().to_string();
        assert!(error.contains("shorten --prefix, --template or --host"), "{error}");
    }
}
