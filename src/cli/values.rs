//! Parsers of the values of options. Their errors are short phrases, which clap puts after the option and its value.

use std::ffi::OsStr;
use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command};
use glob::Pattern;
use log::LevelFilter;

/// `--count`.
pub fn count(text: &str) -> Result<u64, &'static str> {
    text.parse().ok().filter(|&count| count > 0).ok_or("not a number of polls, which is 1 or more")
}

/// A duration; a bare number is seconds.
pub fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.or_else(|| humantime::parse_duration(text).ok());
    time.ok_or_else(|| "not a time: write it like 500ms, 10s or 1m".into())
}

/// A duration from `least` to `most`, which are written the same way.
pub fn time_within(least: &'static str, most: &'static str) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text: &str| match time(text)? {
        short if short < time(least)? => Err(format!("too short: at least {least}")),
        long if long > time(most)? => Err(format!("too long: at most {most}")),
        time => Ok(time),
    }
}

/// A glob, as shells have them.
pub fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| {
        let hint = if text.contains('[') { "; to match [ write [[]" } else { "" };
        format!("not a pattern: {}{hint}", error.msg)
    })
}

/// Parses a value of a comma-separated list, around which there may be blanks.
#[derive(Debug, Clone)]
pub struct Trimmed<P>(pub P);

impl<P: TypedValueParser> TypedValueParser for Trimmed<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<P::Value, clap::Error> {
        let trimmed = value.to_str().map_or(value, |text| OsStr::new(text.trim()));
        self.0.parse_ref(command, arg, trimmed)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        self.0.possible_values()
    }
}

/// `--spread`.
pub fn spread(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|fraction| (0.0..=0.9).contains(fraction)).ok_or("not a fraction from 0 to 0.9")
}

/// `--log`: directives of env_logger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFilter {
    /// For all modules that are not listed.
    pub level: LevelFilter,
    /// For single modules, such as `xenmonitor::statsd`, and the modules in them.
    pub modules: Vec<(String, LevelFilter)>,
}

impl From<LevelFilter> for LogFilter {
    fn from(level: LevelFilter) -> Self {
        Self { level, modules: Vec::new() }
    }
}

/// The levels, as the logger spells them. Nothing is logged at another.
const LEVELS: [&str; 5] = ["off", "error", "warn", "info", "debug"];

/// `info`, or `info,xenmonitor::statsd=debug`.
fn log_filter(text: &str) -> Result<LogFilter, String> {
    let mut filter = LogFilter::from(LevelFilter::Info);
    for directive in text.split(',').map(str::trim) {
        let (module, level) =
            directive.split_once('=').map_or((None, directive), |(module, level)| (Some(module), level));
        let known = LEVELS.iter().find(|known| known.eq_ignore_ascii_case(level)).and_then(|level| level.parse().ok());
        match (module, known) {
            (None, Some(level)) => filter.level = level,
            (Some(module), Some(level)) if module.split("::").next() == Some("xenmonitor") => {
                filter.modules.push((module.to_owned(), level));
            }
            (Some(module), Some(_)) => return Err(format!("'{module}' is not a module of xenmonitor")),
            (_, None) => return Err(format!("'{level}' is not a level: use {}", LEVELS.join(", "))),
        }
    }
    Ok(filter)
}

/// Parses `--log`; shells complete the levels.
#[derive(Debug, Clone)]
pub struct LogFilterParser;

impl TypedValueParser for LogFilterParser {
    type Value = LogFilter;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<LogFilter, clap::Error> {
        log_filter.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(LEVELS.into_iter().map(PossibleValue::new)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let interval = time_within("10ms", "1d");
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m", 60_000),
            ("2", 2000),
            ("0.5", 500),
            ("1m 30s", 90_000),
            ("10ms", 10),
            ("1d", 86_400_000),
        ] {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["0", "0s", "9ms", "86401", "2d", "", "-1s", "-1", "nan", "inf", "ten", "10 parsecs"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn log_filters() {
        use LevelFilter::{Debug, Info, Off, Warn};
        for (text, level, modules) in [
            ("WARN", Warn, &[][..]),
            ("info,xenmonitor::statsd=debug", Info, &[("xenmonitor::statsd", Debug)]),
            ("xenmonitor::collect=Debug, off", Off, &[("xenmonitor::collect", Debug)]),
            ("xenmonitor=debug", Info, &[("xenmonitor", Debug)]),
        ] {
            let modules = modules.iter().map(|(module, level)| ((*module).to_owned(), *level)).collect();
            assert_eq!(log_filter(text), Ok(LogFilter { level, modules }), "{text}");
        }
        for (text, error) in [
            ("", "'' is not a level: use off, error, warn, info, debug"),
            ("trace", "'trace' is not a level: use off, error, warn, info, debug"),
            ("info,", "'' is not a level: use off, error, warn, info, debug"),
            ("xenmonitor::statsd", "'xenmonitor::statsd' is not a level: use off, error, warn, info, debug"),
            ("statsd=debug", "'statsd' is not a module of xenmonitor"),
        ] {
            assert_eq!(log_filter(text), Err(error.into()), "{text}");
        }
    }
}
