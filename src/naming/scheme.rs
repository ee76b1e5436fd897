//! The options that names depend on, and which of them go together.

use std::error::Error;
use std::fmt;

use crate::naming::sanitize::{fold_case, sanitize};
use crate::naming::tags::{Tag, TagFormat};
use crate::naming::template::{Piece, Prefix, Template};

/// `--layout`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Every column, named as in xentop
    Xentop,
    /// The thirteen metrics of the XenMonitor script, under its names: XenVms.HOST.KEY.VM
    Legacy,
}

impl Layout {
    /// The template if there is no `--template`.
    pub fn template(self, tag_format: TagFormat) -> Template {
        let template = match (self, tag_format) {
            (Layout::Xentop, TagFormat::None) => "xen.{host}.{domain}.{metric}",
            (Layout::Xentop, _) => "xen.{metric}",
            (Layout::Legacy, _) => "XenVms.{host}.{metric}.{domain}",
        };
        template.parse().expect("the default templates are valid")
    }
}

/// `--names`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Charset {
    /// Unchanged, but with _ for characters that metric names cannot contain
    Plain,
    /// Also in lower case and with _ for -, for servers that do not tell these apart
    Strict,
}

impl Charset {
    /// The name in these characters.
    pub fn apply(self, name: String) -> String {
        if self == Charset::Strict { fold_case(&name) } else { name }
    }
}

/// The components that stand in place of a domain's in the names of the host's and this program's metrics. No domain
/// may have them.
pub const RESERVED: [&str; 2] = ["node", "xenmonitor"];

/// How everything is named.
pub struct Scheme<'a> {
    /// `--template`, or that of the layout.
    pub template: &'a Template,
    /// `--prefix`.
    pub prefix: Option<&'a Prefix>,
    /// This host's raw name.
    pub host: &'a str,
    /// `--layout`.
    pub layout: Layout,
    /// `--names`.
    pub charset: Charset,
    /// `--tag-format`.
    pub tag_format: TagFormat,
    /// `--tag-uuid`: whether a domain's UUID is a tag.
    pub tag_uuid: bool,
    /// `--tag`: tags of every metric.
    pub tags: &'a [Tag],
}

/// Why a scheme cannot be used. Its text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamingError {
    /// `--layout legacy` with tags, or with strict names.
    LegacyNames,
    /// `{host}` or `{domain}` in the template, though these are tags.
    HoleForTag,
    /// Neither `{domain}` in the template nor a tag for it.
    NoDomain,
    /// `--tag` or `--tag-uuid` without `--tag-format`.
    NoTagFormat(&'static str),
    /// A key of `--tag` that is given twice.
    TagTwice(String),
    /// The host's name, which has no letter and no digit.
    HostName(String),
    /// The fixed parts of a name leave too little for domain and metric.
    TooLong {
        /// Bytes of the fixed parts.
        fixed: usize,
        /// Bytes that the name and its tags may have.
        max: usize,
    },
}

impl fmt::Display for NamingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NamingError::LegacyNames => {
                f.write_str("--layout legacy has names of its own, which --tag-format and --names strict would change")
            }
            NamingError::HoleForTag => f.write_str(
                "with --tag-format host and domain are tags: leave {host}, {domain} and {uuid} out of --template",
            ),
            NamingError::NoDomain => f.write_str("{domain} is missing in --template: all domains would share one name"),
            NamingError::NoTagFormat(option) => write!(f, "{option} needs a --tag-format other than none"),
            NamingError::TagTwice(key) => write!(f, "--tag {key} is given twice"),
            NamingError::HostName(host) => {
                write!(f, "the host name {host:?} has no letter or digit: give another with --host")
            }
            NamingError::TooLong { fixed, max } => write!(
                f,
                "prefix, template, host name and tags take {fixed} of the {max} bytes that a metric's name may have, \
                 which leaves too little for domain and metric: shorten --prefix, --template, --host or --tag"
            ),
        }
    }
}

impl Error for NamingError {}

impl Scheme<'_> {
    /// Whether the names of metrics say which host they are from: by `{host}`, by a tag, or because the host's name is
    /// a component of the prefix or template.
    pub fn names_host(&self) -> bool {
        let of_host = |name: &str| fold_case(&sanitize(name.as_bytes()));
        let names = [of_host(self.host), of_host(self.host.split('.').next().unwrap_or_default())];
        let is_host = |component: &str| names.contains(&fold_case(component));
        self.tag_format != TagFormat::None
            || self.prefix.is_some_and(|prefix| prefix.to_string().split('.').any(is_host))
            || self.template.pieces().iter().any(|piece| match piece {
                Piece::Host => true,
                Piece::Literal(text) => text.split('.').any(is_host),
                Piece::Domain | Piece::Metric => false,
            })
    }

    /// Checks that its options go together.
    pub(super) fn check(&self) -> Result<(), NamingError> {
        let in_template = |hole| self.template.pieces().contains(&hole);
        let tagged = self.tag_format != TagFormat::None;
        if self.layout == Layout::Legacy && (tagged || self.charset == Charset::Strict) {
            return Err(NamingError::LegacyNames);
        }
        if tagged && (in_template(Piece::Host) || in_template(Piece::Domain)) {
            return Err(NamingError::HoleForTag);
        }
        if !tagged && !in_template(Piece::Domain) {
            return Err(NamingError::NoDomain);
        }
        for (is_set, option) in [(!self.tags.is_empty(), "--tag"), (self.tag_uuid, "--tag-uuid")] {
            if is_set && !tagged {
                return Err(NamingError::NoTagFormat(option));
            }
        }
        let mut keys: Vec<String> = self.tags.iter().map(|tag| fold_case(tag.key()).replace('.', "_")).collect();
        keys.sort_unstable();
        match keys.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(NamingError::TagTwice(pair[0].clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_and_without_the_host() {
        for (template, prefix, tag_format, names_host) in [
            ("xen.{host}.{domain}.{metric}", None, TagFormat::None, true),
            ("xen.{domain}.{metric}", None, TagFormat::None, false),
            ("{metric}", None, TagFormat::Graphite, true),
            ("xen.Xen-1.{domain}.{metric}", None, TagFormat::None, true),
            ("xen.xen_1_example_com.{domain}.{metric}", None, TagFormat::None, true),
            ("xen.xen-12.{domain}.{metric}", None, TagFormat::None, false),
            ("{domain}.{metric}", Some("dc1.xen-1"), TagFormat::None, true),
            ("{domain}.{metric}", Some("dc1"), TagFormat::None, false),
        ] {
            let template = &template.parse().unwrap();
            let prefix: Option<Prefix> = prefix.map(|prefix| prefix.parse().unwrap());
            let (layout, charset) = (Layout::Xentop, Charset::Plain);
            let host = "xen-1.example.com";
            let scheme = Scheme {
                template,
                prefix: prefix.as_ref(),
                host,
                layout,
                charset,
                tag_format,
                tag_uuid: false,
                tags: &[],
            };
            assert_eq!(scheme.names_host(), names_host, "{template:?} {prefix:?}");
        }
    }
}
