//! clap's errors in one line.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::options::Options;
use crate::cli::variables::variable_of;

/// Whether it is no error but the text of `--help` or `--version`.
pub fn is_help(error: &clap::Error) -> bool {
    matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion)
}

/// The error without the usage text, and with the variable that the value was read from, if it was.
pub fn one_line(error: &clap::Error, arguments: &[OsString]) -> String {
    let text = error.to_string();
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = lines.collect::<Vec<_>>().join("; ").replace("; [", " [");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return format!("{line}; see xenmonitor --help");
    };
    let option = argument.split(' ').next().unwrap_or_default();
    let typed = arguments.iter().any(|typed| typed.to_string_lossy().split('=').next() == Some(option));
    let is_option = Options::command().get_arguments().any(|known| known.get_long() == option.strip_prefix("--"));
    if typed || !is_option { line.to_owned() } else { format!("{line}; it comes from {}", variable_of(option)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> = std::iter::once(&"xenmonitor").chain(arguments).map(Into::into).collect();
        one_line(&Options::read(&arguments, |_| None).unwrap_err(), &arguments)
    }

    #[test]
    fn cli_errors_name_a_variable_only_if_it_is_the_source() {
        for (arguments, end) in [
            (&["--interval", "x"][..], "10s or 1m"),
            (&["--interval=x"], "10s or 1m"),
            (&["two words"], "unexpected argument 'two words' found"),
            (&["a=--b"], "unexpected argument 'a=--b' found"),
            (&["-\u{e9}"], "unexpected argument '-\u{e9}' found"),
            (&["-xy"], "unexpected argument '-x' found"),
        ] {
            let line = error(arguments);
            assert!(line.ends_with(end), "{arguments:?}: {line}");
        }
    }

    #[test]
    fn values_out_of_range() {
        for (arguments, end) in [
            (&["--max-datagram", "511"][..], "not auto, nor a number of bytes from 512 to 8932"),
            (&["--max-datagram", "64k"], "not auto, nor a number of bytes from 512 to 8932"),
            (&["--spread", "1"], "not a fraction from 0 to 0.9"),
            (&["--spread", "-0.1"], "not a fraction from 0 to 0.9"),
            (&["--spread", "nan"], "not a fraction from 0 to 0.9"),
            (&["--resolve-every", "10ms"], "too short: at least 1s"),
            (&["--poll-timeout", "25h"], "too long: at most 1d"),
            (&["--qmp-timeout", "61s"], "too long: at most 1m"),
            (&["--jitter", "-1s"], "not a time: write it like 500ms, 10s or 1m"),
        ] {
            let line = error(arguments);
            assert!(line.ends_with(end), "{line}");
        }
    }

    #[test]
    fn usage_errors_are_one_line() {
        for (arguments, line) in [
            (
                &["--intervall", "1s"][..],
                "unexpected argument '--intervall' found; tip: a similar argument exists: '--interval'",
            ),
            (&["--interval", "0"], "invalid value '0' for '--interval <TIME>': too short: at least 10ms"),
            (
                &["--interval", "-1s"],
                "invalid value '-1s' for '--interval <TIME>': not a time: write it like 500ms, 10s or 1m",
            ),
            (&["--count=0"], "invalid value '0' for '--count <N>': not a number of polls, which is 1 or more"),
            (
                &["--template", "xen.{domain}"],
                "invalid value 'xen.{domain}' for '--template <TEMPLATE>': {metric} is missing: all metrics would share one name",
            ),
            (
                &["--prefix", ".a"],
                "invalid value '.a' for '--prefix <NAME>': a component before, between or after dots is empty",
            ),
        ] {
            assert_eq!(error(arguments), line);
        }
    }
}
