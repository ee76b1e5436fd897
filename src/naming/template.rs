//! `--template` and `--prefix`.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use crate::naming::sanitize::is_clean;

/// A path: literal text with holes for host, domain and metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
    identity: Identity,
}

/// What a domain is called by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// `{domain}`, or the tag: its name.
    Name,
    /// `{uuid}`: the UUID of its VM.
    Uuid,
}

/// A part of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Piece {
    Literal(String),
    Host,
    Domain,
    Metric,
}

/// Why a template or prefix is invalid. Its text is one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// The rest of the text, from a `{` on that is never closed.
    NoClosingBrace(String),
    /// A hole of another name.
    UnknownHole(String),
    /// There is no `{metric}`.
    NoMetric,
    /// A hole that appears more than once.
    HoleTwice(&'static str),
    /// Both `{domain}` and `{uuid}`.
    TwoIdentities,
    /// Nothing before, between or after dots.
    EmptyComponent,
    /// Two holes in one component.
    AdjacentHoles,
    /// A character that no name may have.
    Character(char),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TemplateError::NoClosingBrace(rest) => write!(f, "'{rest}' has no closing brace"),
            TemplateError::UnknownHole(name) => {
                write!(f, "{{{name}}} is none of {{host}}, {{domain}}, {{uuid}}, {{metric}}")
            }
            TemplateError::NoMetric => f.write_str("{metric} is missing: all metrics would share one name"),
            TemplateError::HoleTwice(name) => write!(f, "{{{name}}} appears more than once"),
            TemplateError::TwoIdentities => {
                f.write_str("{domain} and {uuid} both stand for the domain: use one of them")
            }
            TemplateError::EmptyComponent => f.write_str("a component before, between or after dots is empty"),
            TemplateError::AdjacentHoles => f.write_str("there must be a '.' between two {holes}"),
            TemplateError::Character(c) => {
                write!(f, "invalid character {c:?}: use letters, digits, '_', '-' and '.'")
            }
        }
    }
}

impl Error for TemplateError {}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let (mut pieces, mut identities) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some((literal, hole)) = rest.split_once('{') {
            let Some((name, tail)) = hole.split_once('}') else {
                return Err(TemplateError::NoClosingBrace(format!("{{{hole}")));
            };
            pieces.push(Piece::Literal(literal_text(literal)?));
            pieces.push(match name {
                "host" => Piece::Host,
                "domain" | "uuid" => Piece::Domain,
                "metric" => Piece::Metric,
                _ => return Err(TemplateError::UnknownHole(name.to_owned())),
            });
            match name {
                "domain" => identities.push((Identity::Name, "domain")),
                "uuid" => identities.push((Identity::Uuid, "uuid")),
                _ => {}
            }
            rest = tail;
        }
        pieces.push(Piece::Literal(literal_text(rest)?));
        pieces.retain(|piece| *piece != Piece::Literal(String::new()));
        let count = |hole| pieces.iter().filter(|piece| **piece == hole).count();
        // `Scheme::check` knows whether {domain} is needed: it may be a tag.
        if count(Piece::Metric) == 0 {
            return Err(TemplateError::NoMetric);
        }
        if count(Piece::Metric) > 1 {
            return Err(TemplateError::HoleTwice("metric"));
        }
        let identity = match identities[..] {
            [] => Identity::Name,
            [(identity, _)] => identity,
            [(one, name), (other, _), ..] if one == other => return Err(TemplateError::HoleTwice(name)),
            _ => return Err(TemplateError::TwoIdentities),
        };
        let template = Self { pieces, identity };
        check_dots(&template.sample())?;
        Ok(template)
    }
}

impl Template {
    /// Its parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// What stands in place of [`Piece::Domain`].
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// A path whose holes are filled with text that no literal can have.
    fn sample(&self) -> String {
        let text = |piece: &Piece| if let Piece::Literal(text) = piece { text.clone() } else { "{}".into() };
        self.pieces.iter().map(text).collect()
    }
}

/// Checks that no component is empty, and that none has two holes: the text of one could pass for part of the other.
fn check_dots(sample: &str) -> Result<(), TemplateError> {
    match sample.split('.').map(|component| (component.is_empty(), component.matches("{}").count())).max() {
        Some((true, _)) => Err(TemplateError::EmptyComponent),
        Some((_, holes)) if holes > 1 => Err(TemplateError::AdjacentHoles),
        _ => Ok(()),
    }
}

/// The start of every name: components and dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Prefix {
    type Err = TemplateError;

    /// A dot at the end is optional, as in the `STATSD_PREFIX` of other clients.
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        let text = literal_text(text.strip_suffix('.').unwrap_or(text))?;
        check_dots(&text)?;
        Ok(Self(text))
    }
}

fn literal_text(text: &str) -> Result<String, TemplateError> {
    match text.chars().find(|&c| !(c == '.' || is_clean(c))) {
        None => Ok(text.to_owned()),
        Some(c) => Err(TemplateError::Character(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_templates() {
        for (template, text) in [
            ("xen.{host}.{domain}", "{metric} is missing: all metrics would share one name"),
            ("{domain}.{domain}.{metric}", "{domain} appears more than once"),
            ("{domain}.{metric}.{metric}", "{metric} appears more than once"),
            ("{domain}.{metric}.{vm}", "{vm} is none of {host}, {domain}, {uuid}, {metric}"),
            ("{uuid}.{uuid}.{metric}", "{uuid} appears more than once"),
            ("{domain}.{uuid}.{metric}", "{domain} and {uuid} both stand for the domain: use one of them"),
            ("{domain}.{metric", "'{metric' has no closing brace"),
            ("a b.{domain}.{metric}", "invalid character ' ': use letters, digits, '_', '-' and '.'"),
            ("{domain}..{metric}", "a component before, between or after dots is empty"),
            ("{domain}.{metric}.", "a component before, between or after dots is empty"),
            ("{host}-{domain}.{metric}", "there must be a '.' between two {holes}"),
            ("{uuid}_{metric}", "there must be a '.' between two {holes}"),
        ] {
            assert_eq!(template.parse::<Template>().unwrap_err().to_string(), text, "{template}");
        }
    }

    #[test]
    fn invalid_prefixes() {
        for prefix in ["", ".", ".a", "a..b", "a|b", "a b"] {
            assert!(prefix.parse::<Prefix>().is_err(), "{prefix}");
        }
    }
}
