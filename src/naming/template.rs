//! How the user wants gauges named: `--template` and `--prefix`, and what is wrong with a bad one.

use crate::naming::sanitize::is_clean;
use std::fmt;

/// How a path is laid out: literal text with holes for host, domain and metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pieces: Vec<Piece>,
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

impl std::str::FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, hole)) = rest.split_once('{') {
            let Some((name, tail)) = hole.split_once('}') else {
                return Err(format!("'{{{hole}' has no closing brace"));
            };
            pieces.push(Piece::Literal(literal_text(literal)?));
            pieces.push(match name {
                "host" => Piece::Host,
                "domain" => Piece::Domain,
                "metric" => Piece::Metric,
                _ => return Err(format!("{{{name}}} is none of {{host}}, {{domain}}, {{metric}}")),
            });
            rest = tail;
        }
        pieces.push(Piece::Literal(literal_text(rest)?));
        pieces.retain(|piece| *piece != Piece::Literal(String::new()));
        let count = |hole| pieces.iter().filter(|piece| **piece == hole).count();
        // Whether there has to be a {domain}, `Paths::new` knows: it may stand in a tag.
        if count(Piece::Metric) == 0 {
            return Err("{metric} is missing: all gauges would share one name".into());
        }
        for (hole, name) in [(Piece::Metric, "{metric}"), (Piece::Domain, "{domain}")] {
            if count(hole) > 1 {
                return Err(format!("{name} appears more than once"));
            }
        }
        let template = Self { pieces };
        check_dots(&template.sample())?;
        Ok(template)
    }
}

impl Template {
    /// Its parts, in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// A path with every hole filled with something no literal can hold.
    fn sample(&self) -> String {
        let text = |piece: &Piece| if let Piece::Literal(text) = piece { text.clone() } else { "{}".into() };
        self.pieces.iter().map(text).collect()
    }
}

/// No empty component, and no two holes in one: what fills one could pass for part of the other.
fn check_dots(sample: &str) -> Result<(), String> {
    match sample.split('.').map(|component| (component.is_empty(), component.matches("{}").count())).max() {
        Some((true, _)) => Err("a component before, between or after dots is empty".into()),
        Some((_, holes)) if holes > 1 => Err("between two {holes} there has to be a '.'".into()),
        _ => Ok(()),
    }
}

/// What stands before every name: components and dots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix(String);

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Prefix {
    type Err = String;

    /// A dot at the end may be there or not; other clients' `STATSD_PREFIX` often has one.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = literal_text(text.strip_suffix('.').unwrap_or(text))?;
        check_dots(&text)?;
        Ok(Self(text))
    }
}

/// Literal text of a path: components and the dots between them.
fn literal_text(text: &str) -> Result<String, String> {
    match text.chars().find(|&c| !(c == '.' || is_clean(c))) {
        None => Ok(text.to_owned()),
        Some(c) => Err(format!("{c:?} cannot stand in a gauge name; letters, digits, '_', '-', '.' can")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_templates() {
        for (template, complaint) in [
            ("xen.{host}.{domain}", "{metric} is missing: all gauges would share one name"),
            ("{domain}.{domain}.{metric}", "{domain} appears more than once"),
            ("{domain}.{metric}.{metric}", "{metric} appears more than once"),
            ("{domain}.{metric}.{uuid}", "{uuid} is none of {host}, {domain}, {metric}"),
            ("{domain}.{metric", "'{metric' has no closing brace"),
            ("a b.{domain}.{metric}", "' ' cannot stand in a gauge name; letters, digits, '_', '-', '.' can"),
            ("{domain}..{metric}", "a component before, between or after dots is empty"),
            ("{domain}.{metric}.", "a component before, between or after dots is empty"),
            ("{host}-{domain}.{metric}", "between two {holes} there has to be a '.'"),
            ("{domain}_{metric}", "between two {holes} there has to be a '.'"),
        ] {
            assert_eq!(template.parse::<Template>().unwrap_err(), complaint, "{template}");
        }
    }

    #[test]
    fn bad_prefixes() {
        for prefix in ["", ".", ".a", "a..b", "a|b", "a b"] {
            assert!(prefix.parse::<Prefix>().is_err(), "{prefix}");
        }
    }
}
