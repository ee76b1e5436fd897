//! Tags beside the name: which host, domain and device a gauge tells of, in the dialects that statsd servers know.
//!
//! A tag may hold what a path component may not, so names stand in it as they are, but for what would end the
//! tag or the line, steer a terminal, or be trimmed by a server.

use crate::naming::scheme::Dialect;
use std::str::FromStr;

use crate::model::text::is_invisible;
use crate::naming::name::Name;

/// The keys that are ours.
const OWN: [&str; 3] = ["host", "domain", "device"];

/// The key that Graphite has for the gauge's own name.
const GRAPHITES: &str = "name";

/// A `--tag key=value`, which every gauge carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    key: String,
    value: String,
}

impl FromStr for Tag {
    type Err = String;

    /// What would have to be altered is refused: it is the admin's own.
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("not a tag: write it like env=prod")?;
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
        if !key.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err("its key does not begin with a letter".into());
        }
        if let Some(c) = key.chars().find(|&c| odd(c)) {
            return Err(format!("{c:?} cannot stand in a tag's key; letters, digits, '_', '-', '.' can"));
        }
        if OWN.iter().chain([&GRAPHITES]).any(|own| own.eq_ignore_ascii_case(key)) {
            return Err(format!("every gauge has a tag '{key}' already"));
        }
        match value.chars().enumerate().find(|&(place, c)| !fits(place, c)) {
            Some((_, c)) => Err(format!("{c:?} cannot stand in a tag's value")),
            None if value.is_empty() => Err("its value is empty".into()),
            None => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
        }
    }
}

impl Tag {
    /// What stands before the `=`.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Any bytes as a tag's value, never empty.
pub fn value(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let value: String = text.chars().enumerate().map(|(place, c)| if fits(place, c) { c } else { '_' }).collect();
    if value.is_empty() { "_".into() } else { value }
}

/// Whether a value may have this there; Graphite knows none that begins with `~`.
fn fits(place: usize, c: char) -> bool {
    let ends = c.is_whitespace() || ",|:=#;[]\\".contains(c);
    !(ends || is_invisible(c) || c == char::REPLACEMENT_CHARACTER || (place == 0 && c == '~'))
}

/// What a running daemon tags its gauges with.
#[derive(Debug, Clone)]
pub struct Tags {
    marks: Marks,
    /// Whether they stand behind the value and not in front of it.
    behind: bool,
    host: String,
    constants: Vec<Tag>,
}

/// What a dialect writes before the first tag, between key and value, before each further tag, and at the end.
type Marks = [&'static str; 4];

impl Tags {
    /// `None` where there are to be none. `host` is a [`value`].
    pub fn new(dialect: Dialect, host: &str, constants: &[Tag]) -> Option<Self> {
        let (behind, marks) = match dialect {
            Dialect::None => return None,
            Dialect::Datadog => (true, ["|#", ":", ",", ""]),
            Dialect::Graphite => (false, [";", "=", ";", ""]),
            Dialect::Influx => (false, [",", "=", ",", ""]),
            Dialect::SignalFx => (false, ["[", "=", ",", "]"]),
        };
        Some(Self { marks, behind, host: host.to_owned(), constants: constants.to_vec() })
    }

    /// Adds the tags to a name that has its path: those of the host, and of domain and device where it has them.
    pub fn write(&self, name: &mut Name, domain: Option<&str>, device: Option<&str>) {
        let Self { marks: [first, is, further, end], .. } = self;
        let out = if self.behind { &mut name.tags } else { &mut name.path };
        let own = OWN.into_iter().zip([Some(&*self.host), domain, device]);
        let own = own.filter_map(|(key, value)| Some((key, value?)));
        let constants = self.constants.iter().map(|tag| (&*tag.key, &*tag.value));
        let mut before = first;
        for (key, value) in own.chain(constants) {
            out.extend([before, key, is, value]);
            before = further;
        }
        out.push_str(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_end_no_tag_and_no_line() {
        for (raw, clean) in [
            (&b"web.1"[..], "web.1"),
            (b"", "_"),
            ("z\u{fc}rich".as_bytes(), "z\u{fc}rich"),
            (b"a b\tc\xff", "a_b_c_"),
            (b"a,b|c:d=e#f;g[h]i\\j", "a_b_c_d_e_f_g_h_i_j"),
            (b"x\n\x1b[2J", "x___2J"),
            ("\u{202e}\u{85}\u{a0}\u{2028}".as_bytes(), "____"),
            (b"~home~", "_home~"),
        ] {
            assert_eq!(value(raw), clean, "{raw:?}");
        }
    }

    #[test]
    fn constants() {
        for good in ["env=prod", "rack=7/b", "dc.name=z\u{fc}rich"] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for (bad, complaint) in [
            ("prod", "not a tag: write it like env=prod"),
            ("=x", "its key does not begin with a letter"),
            ("1=x", "its key does not begin with a letter"),
            ("a:b=x", "':' cannot stand in a tag's key; letters, digits, '_', '-', '.' can"),
            ("name=x", "every gauge has a tag 'name' already"),
            ("Domain=x", "every gauge has a tag 'Domain' already"),
            ("env=", "its value is empty"),
            ("env=a b", "' ' cannot stand in a tag's value"),
            ("env=a=b", "'=' cannot stand in a tag's value"),
            ("env=~a", "'~' cannot stand in a tag's value"),
        ] {
            assert_eq!(bad.parse::<Tag>().unwrap_err(), complaint, "{bad}");
        }
    }

    #[test]
    fn dialects() {
        let constants = ["env=prod".parse().unwrap()];
        for (dialect, with_device, without) in [
            (Dialect::Datadog, "n:5|g|#host:h,domain:d,device:xvda,env:prod", "n:5|g|#host:h,env:prod"),
            (Dialect::Graphite, "n;host=h;domain=d;device=xvda;env=prod:5|g", "n;host=h;env=prod:5|g"),
            (Dialect::Influx, "n,host=h,domain=d,device=xvda,env=prod:5|g", "n,host=h,env=prod:5|g"),
            (Dialect::SignalFx, "n[host=h,domain=d,device=xvda,env=prod]:5|g", "n[host=h,env=prod]:5|g"),
        ] {
            let tags = Tags::new(dialect, "h", &constants);
            for (domain, device, expected) in [(Some("d"), Some("xvda"), with_device), (None, None, without)] {
                let mut name = Name { path: "n".into(), ..Name::default() };
                tags.iter().for_each(|tags| tags.write(&mut name, domain, device));
                assert_eq!(name.parts().line(5), expected);
            }
        }
    }
}
