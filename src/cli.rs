//! The command line: every flag, its variable, its default, and what is wrong with a bad one.
#![allow(rustdoc::broken_intra_doc_links)] // The comments on Options are its help: [PORT] is no link.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use log::LevelFilter;

use crate::metrics;
use crate::naming::Template;
use crate::statsd::{DEFAULT_PORT, Destination};

/// Asks libxenstat about every Xen domain on a timer and sends xentop's columns to statsd as gauges.
///
/// Runs in dom0, as root. Each option can be set by the variable named with it; the command line wins.
#[derive(Parser, Debug, Clone)]
#[command(
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("XENMONITOR_BUILD"), ")"),
    max_term_width = 100,
    after_help = "\
Without --statsd, STATSD_HOST and STATSD_PORT name the server, and without --prefix STATSD_PREFIX the prefix.
SIGHUP opens libxenstat and the destination anew; SIGTERM and SIGINT end the program.
Exit status: 0 ended as asked, 1 could not do its work, 2 bad command line."
)]
pub struct Options {
    /// The server to send to: udp://HOST[:PORT] (IPv6: udp://[::1]:8125), or stdout: to print the lines
    /// [default: udp://127.0.0.1:8125, none with --print]
    #[arg(
        long,
        value_name = "URL",
        env = "XENMONITOR_STATSD",
        hide_env_values = true,
        help_heading = "What goes where"
    )]
    pub statsd: Option<Destination>,

    /// How often to poll and send: 500ms, 10s, 1m
    #[arg(
        long,
        value_name = "TIME",
        env = "XENMONITOR_INTERVAL",
        hide_env_values = true,
        default_value = "10s",
        value_parser = interval,
        help_heading = "What goes where"
    )]
    pub interval: Duration,

    /// End after that many polls
    #[arg(
        long,
        value_name = "N",
        env = "XENMONITOR_COUNT",
        hide_env_values = true,
        value_parser = clap::value_parser!(u64).range(1..),
        help_heading = "What goes where"
    )]
    pub count: Option<u64>,

    /// The same as --count 1; there is no CPU percentage in a single poll
    #[arg(
        long,
        env = "XENMONITOR_ONCE",
        hide_env_values = true,
        conflicts_with = "count",
        help_heading = "What goes where"
    )]
    pub once: bool,

    /// How a gauge is named, from {host}, {domain} and {metric} [default: xen.{host}.{domain}.{metric},
    /// with --layout xenmonitor XenVms.{host}.{metric}.{domain}]
    #[arg(long, value_name = "TEMPLATE", env = "XENMONITOR_TEMPLATE", hide_env_values = true, help_heading = "Names")]
    pub template: Option<Template>,

    /// Stands before every name, with a dot
    #[arg(long, value_name = "NAME", env = "XENMONITOR_PREFIX", hide_env_values = true, help_heading = "Names")]
    pub prefix: Option<String>,

    /// This host's name in the gauges [default: what the kernel says]
    #[arg(long, value_name = "NAME", env = "XENMONITOR_HOST", hide_env_values = true, help_heading = "Names")]
    pub host: Option<String>,

    /// Whose names the gauges bear
    #[arg(long, env = "XENMONITOR_LAYOUT", hide_env_values = true, default_value = "xentop", help_heading = "Names")]
    pub layout: Layout,

    /// Print every poll; then nothing is sent unless --statsd is given too
    #[arg(long, value_name = "WHAT", env = "XENMONITOR_PRINT", hide_env_values = true, help_heading = "Looking")]
    pub print: Option<Print>,

    /// How much to tell on stderr: off, error, warn, info, debug
    #[arg(
        long,
        value_name = "LEVEL",
        env = "XENMONITOR_LOG",
        hide_env_values = true,
        default_value = "info",
        help_heading = "Looking"
    )]
    pub log: LevelFilter,

    /// The libxenstat to load [default: the running Xen's own, else the newest found]
    #[arg(long, value_name = "FILE", env = "XENMONITOR_LIBXENSTAT", hide_env_values = true, help_heading = "Xen")]
    pub libxenstat: Option<PathBuf>,
}

/// `--print`.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// What `xentop -b -f` prints
    Table,
    /// One JSON document a poll, on one line
    Json,
    /// The lines as sent
    Statsd,
}

/// `--layout`.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Every column, by xentop's words
    Xentop,
    /// Paths of the XenMonitor script: XenVms.HOST.KEY.VM, its thirteen keys
    Xenmonitor,
}

impl From<Layout> for metrics::Layout {
    fn from(layout: Layout) -> Self {
        match layout {
            Layout::Xentop => metrics::Layout::Xentop,
            Layout::Xenmonitor => metrics::Layout::XenMonitor,
        }
    }
}

impl Options {
    /// Where to send, if anywhere. `variable` reads the environment: the `STATSD_*` that other clients know
    /// speak where `--statsd` does not.
    pub fn destination(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Destination>, String> {
        if self.statsd.is_some() || self.print.is_some() {
            return Ok(self.statsd.clone());
        }
        let host = variable("STATSD_HOST").unwrap_or_else(|| "127.0.0.1".into());
        let port = variable("STATSD_PORT").unwrap_or_else(|| DEFAULT_PORT.to_string());
        let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
        let url = format!("udp://{host}:{port}");
        url.parse().map(Some).map_err(|bad| format!("STATSD_HOST and STATSD_PORT make '{url}': {bad}"))
    }

    /// What stands before every name, if anything.
    pub fn prefix(&self, variable: impl Fn(&str) -> Option<String>) -> Option<String> {
        self.prefix.clone().or_else(|| variable("STATSD_PREFIX"))
    }

    /// `--template`, or the layout's own.
    pub fn template(&self) -> Template {
        let default = match self.layout {
            Layout::Xentop => "xen.{host}.{domain}.{metric}",
            Layout::Xenmonitor => "XenVms.{host}.{metric}.{domain}",
        };
        self.template.clone().unwrap_or_else(|| default.parse().expect("the default templates are good"))
    }

    /// How many polls to make, if not polls without end.
    pub fn count(&self) -> Option<u64> {
        if self.once { Some(1) } else { self.count }
    }
}

/// A span of time; a bare number counts seconds.
fn interval(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            humantime::parse_duration(text).map_err(|_| "not a time: write it like 500ms, 10s or 1m".to_owned())?
        }
    };
    match time {
        time if time < Duration::from_millis(10) => Err("too short: at least 10ms".into()),
        time if time > Duration::from_secs(86_400) => Err("too long: at most 1d".into()),
        time => Ok(time),
    }
}

/// clap's complaint as one line; its hints stay, its usage text goes.
pub fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information"));
    let line = lines.collect::<Vec<_>>().join("; ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        let arguments = std::iter::once("xenmonitor").chain(arguments.iter().copied());
        Options::try_parse_from(arguments).map_err(|error| one_line(&error))
    }

    #[test]
    fn every_option_has_a_variable_of_its_name() {
        Options::command().debug_assert();
        for argument in Options::command().get_arguments() {
            let long = argument.get_long().unwrap();
            if long != "help" && long != "version" {
                let variable = format!("XENMONITOR_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(variable.as_str()));
            }
        }
    }

    #[test]
    fn intervals() {
        for (text, milliseconds) in [("500ms", 500), ("10s", 10_000), ("1m", 60_000), ("2", 2000), ("1m 30s", 90_000)] {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["0", "0s", "1ms", "2d", "", "-1s", "ten", "10 parsecs"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn destinations_from_flag_and_environment() {
        type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], Result<Option<&'a str>, &'a str>);
        let cases: &[Case] = &[
            (&[], &[], Ok(Some("udp://127.0.0.1:8125"))),
            (&[], &[("STATSD_HOST", "stats"), ("STATSD_PORT", "9")], Ok(Some("udp://stats:9"))),
            (&[], &[("STATSD_HOST", "::1")], Ok(Some("udp://[::1]:8125"))),
            (&["--statsd", "udp://h"], &[("STATSD_HOST", "stats")], Ok(Some("udp://h:8125"))),
            (&["--print", "table"], &[("STATSD_HOST", "stats")], Ok(None)),
            (&["--print", "table", "--statsd", "udp://h"], &[], Ok(Some("udp://h:8125"))),
            (&[], &[("STATSD_PORT", "x")], Err("STATSD_HOST and STATSD_PORT make 'udp://127.0.0.1:x'")),
        ];
        for (arguments, environment, expected) in cases {
            let variable =
                |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            let destination = options(arguments).unwrap().destination(variable);
            match (destination, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.map(|d| d.to_string()).as_deref(), *expected),
                (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{found}"),
                (found, _) => panic!("{arguments:?} {environment:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn complaints_are_one_line() {
        for (arguments, line) in [
            (
                &["--intervall", "1s"][..],
                "unexpected argument '--intervall' found; tip: a similar argument exists: '--interval'",
            ),
            (&["--interval", "0"], "invalid value '0' for '--interval <TIME>': too short: at least 10ms"),
            (&["--once", "--count", "2"], "the argument '--once' cannot be used with '--count <N>'"),
            (
                &["--template", "xen.{domain}"],
                "invalid value 'xen.{domain}' for '--template <TEMPLATE>': {metric} is missing: all gauges would share one name",
            ),
        ] {
            assert_eq!(options(arguments).unwrap_err(), line);
        }
    }
}
