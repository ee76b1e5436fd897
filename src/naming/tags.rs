//! Tags beside the name, in the formats that statsd servers know: host, domain and device of a metric.
//!
//! A tag may have characters that a path may not, so names stand in it as they are, but for characters that would end
//! the tag or the line, control a terminal, or be trimmed by a server.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::model::text::is_invisible;
use crate::model::uuid::Uuid;
use crate::naming::name::{DomainName, Name};

/// `--tag-format`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagFormat {
    /// Host, domain and device in the name, which every server understands
    None,
    /// DogStatsD: xen.mem_k:5|g|#host:h,domain:d
    Datadog,
    /// Graphite: xen.mem_k;host=h;domain=d:5|g
    Graphite,
    /// InfluxDB, Telegraf: xen.mem_k,host=h,domain=d:5|g
    Influx,
    /// SignalFX: xen.mem_k[host=h,domain=d]:5|g
    #[value(name = "signalfx")]
    SignalFx,
}

/// The keys of our own tags.
const OWN: [&str; 4] = ["host", "domain", "uuid", "device"];

/// Graphite's key for the metric's own name.
const GRAPHITES: &str = "name";

/// A `--tag key=value`, which every metric has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    key: String,
    value: String,
}

/// Why a `--tag` is invalid. Its text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TagError {
    /// There is no `=`.
    NoValue,
    EmptyValue,
    /// Its key does not start with a letter.
    KeyStart,
    KeyCharacter(char),
    ValueCharacter(char),
    /// A key of our own tags.
    OwnKey(String),
}

impl fmt::Display for TagError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TagError::NoValue => f.write_str("not a tag: write it like env=prod"),
            TagError::EmptyValue => f.write_str("its value is empty"),
            TagError::KeyStart => f.write_str("its key does not start with a letter"),
            TagError::KeyCharacter(c) => {
                write!(f, "invalid character {c:?} in its key: use letters, digits, '_', '-' and '.'")
            }
            TagError::ValueCharacter(c) => write!(f, "invalid character {c:?} in its value"),
            TagError::OwnKey(key) => write!(f, "the tag '{key}' is one of xenmonitor's own"),
        }
    }
}

impl Error for TagError {}

impl FromStr for Tag {
    type Err = TagError;

    /// Nothing is replaced: the admin chose the text.
    fn from_str(text: &str) -> Result<Self, TagError> {
        let (key, value) = text.split_once('=').ok_or(TagError::NoValue)?;
        let is_invalid = |c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c));
        if !key.starts_with(|c: char| c.is_ascii_alphabetic()) {
            return Err(TagError::KeyStart);
        }
        if let Some(c) = key.chars().find(|&c| is_invalid(c)) {
            return Err(TagError::KeyCharacter(c));
        }
        if OWN.iter().chain([&GRAPHITES]).any(|own| own.eq_ignore_ascii_case(key)) {
            return Err(TagError::OwnKey(key.to_owned()));
        }
        match value.chars().enumerate().find(|&(place, c)| !is_allowed(place, c)) {
            Some((_, c)) => Err(TagError::ValueCharacter(c)),
            None if value.is_empty() => Err(TagError::EmptyValue),
            None => Ok(Self { key: key.to_owned(), value: value.to_owned() }),
        }
    }
}

impl Tag {
    /// The text before the `=`.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Any bytes as a tag's value, never empty.
pub fn value(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let value: String = text.chars().enumerate().map(|(place, c)| if is_allowed(place, c) { c } else { '_' }).collect();
    if value.is_empty() { "_".into() } else { value }
}

/// Whether a value may have this character at this place; Graphite allows no `~` at the start.
fn is_allowed(place: usize, c: char) -> bool {
    let ends = c.is_whitespace() || ",|:=#;[]\\".contains(c);
    !(ends || is_invisible(c) || c == char::REPLACEMENT_CHARACTER || (place == 0 && c == '~'))
}

/// The tags of a running daemon.
#[derive(Debug, Clone)]
pub struct Tags {
    delimiters: Delimiters,
    /// Whether they follow the value rather than the name.
    after_value: bool,
    host: String,
    constants: Vec<Tag>,
}

/// What a format has before the first tag, between key and value, before each further tag, and at the end.
type Delimiters = [&'static str; 4];

impl Tags {
    /// `None` if there are no tags. `host` is a [`value`].
    pub fn new(format: TagFormat, host: &str, constants: &[Tag]) -> Option<Self> {
        let (after_value, delimiters) = match format {
            TagFormat::None => return None,
            TagFormat::Datadog => (true, ["|#", ":", ",", ""]),
            TagFormat::Graphite => (false, [";", "=", ";", ""]),
            TagFormat::Influx => (false, [",", "=", ",", ""]),
            TagFormat::SignalFx => (false, ["[", "=", ",", "]"]),
        };
        Some(Self { delimiters, after_value, host: host.to_owned(), constants: constants.to_vec() })
    }

    /// Adds the tags to a name whose path is written: host, the domain's if it has one, device if it has one, and the
    /// constant ones.
    pub fn write(&self, name: &mut Name, domain: Option<DomainName>, device: Option<&str>) {
        let Self { delimiters: [first, equals, further, end], .. } = self;
        let out = if self.after_value { &mut name.tags } else { &mut name.path };
        let own = OWN.into_iter().zip([
            Some(&*self.host),
            domain.map(|domain| domain.name),
            domain.and_then(|domain| domain.uuid).map(Uuid::as_str),
            device,
        ]);
        let own = own.filter_map(|(key, value)| Some((key, value?)));
        let constants = self.constants.iter().map(|tag| (&*tag.key, &*tag.value));
        let mut before = first;
        for (key, value) in own.chain(constants) {
            out.extend([before, key, equals, value]);
            before = further;
        }
        out.push_str(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_values_end_no_tag_and_no_line() {
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
    fn constant_tags() {
        for good in ["env=prod", "rack=7/b", "dc.name=z\u{fc}rich"] {
            assert!(good.parse::<Tag>().is_ok(), "{good}");
        }
        for (bad, text) in [
            ("prod", "not a tag: write it like env=prod"),
            ("=x", "its key does not start with a letter"),
            ("1=x", "its key does not start with a letter"),
            ("a:b=x", "invalid character ':' in its key: use letters, digits, '_', '-' and '.'"),
            ("name=x", "the tag 'name' is one of xenmonitor's own"),
            ("Domain=x", "the tag 'Domain' is one of xenmonitor's own"),
            ("uuid=x", "the tag 'uuid' is one of xenmonitor's own"),
            ("env=", "its value is empty"),
            ("env=a b", "invalid character ' ' in its value"),
            ("env=a=b", "invalid character '=' in its value"),
            ("env=~a", "invalid character '~' in its value"),
        ] {
            assert_eq!(bad.parse::<Tag>().unwrap_err().to_string(), text, "{bad}");
        }
    }

    #[test]
    fn tag_formats() {
        let constants = ["env=prod".parse().unwrap()];
        let uuid = Uuid::parse(b"c9a5f0e2-0b7d-4c1e-9f3a-1d2e3f405162").unwrap();
        for (format, with_device, without) in [
            (TagFormat::Datadog, "n:5|g|#host:h,domain:d,device:xvda,env:prod", "n:5|g|#host:h,env:prod"),
            (TagFormat::Graphite, "n;host=h;domain=d;device=xvda;env=prod:5|g", "n;host=h;env=prod:5|g"),
            (TagFormat::Influx, "n,host=h,domain=d,device=xvda,env=prod:5|g", "n,host=h,env=prod:5|g"),
            (TagFormat::SignalFx, "n[host=h,domain=d,device=xvda,env=prod]:5|g", "n[host=h,env=prod]:5|g"),
            (
                TagFormat::Graphite,
                "n;host=h;domain=d;uuid=c9a5f0e2-0b7d-4c1e-9f3a-1d2e3f405162;device=xvda;env=prod:5|g",
                "n;host=h;env=prod:5|g",
            ),
        ] {
            let tags = Tags::new(format, "h", &constants);
            let domain = DomainName { name: "d", uuid: with_device.contains("uuid").then_some(&uuid) };
            for (domain, device, expected) in [(Some(domain), Some("xvda"), with_device), (None, None, without)] {
                let mut name = Name { path: "n".into(), ..Name::default() };
                tags.iter().for_each(|tags| tags.write(&mut name, domain, device));
                assert_eq!(name.line(5), expected);
            }
        }
    }
}
