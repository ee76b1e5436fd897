//! The command line: every flag, its variable, its default, and what is wrong with a bad one.
#![allow(rustdoc::broken_intra_doc_links)] // The comments on Options are its help: [PORT] is no link.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use glob::Pattern;
use log::LevelFilter;

use crate::cli::values::{count, max_datagram, pattern, spread, time, time_within};
use crate::cli::variables::with_variable;
use crate::collect::disks::Disks;
use crate::collect::poller::Vifs;
use crate::metrics::columns::GAUGES;
use crate::metrics::delta::NetView;
use crate::metrics::devices::Detail;
use crate::naming::scheme::Dialect;
use crate::naming::scheme::{Layout, Letters};
use crate::naming::tags::Tag;
use crate::naming::template::{Prefix, Template};
use crate::report::Print;
use crate::report::series::OnVanish;
use crate::report::table::Order;
use crate::statsd::destination::Destination;
use crate::statsd::pacing::DEFAULT_DATAGRAM;

/// Time between polls that are watched.
const WATCHED: Duration = Duration::from_secs(2);

/// Asks libxenstat about every Xen domain on a timer and sends xentop's columns to statsd as gauges.
///
/// Runs in dom0, as root. Each option can also be set by an environment variable: XENMONITOR_STATSD for --statsd, and
/// so on. The command line wins, and an empty variable is ignored.
#[derive(Parser, Debug, Clone)]
#[command(
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("XENMONITOR_BUILD"), ")"),
    max_term_width = 100,
    mut_args(with_variable),
    after_help = "\
Without --statsd, STATSD_HOST and STATSD_PORT name the server; without these DD_DOGSTATSD_URL,
or DD_AGENT_HOST and DD_DOGSTATSD_PORT. Without --prefix, STATSD_PREFIX is the prefix.
SIGHUP reopens libxenstat and the destination; SIGTERM and SIGINT end the program.
Exit status: 0 ended as asked, 1 could not do its work, 2 bad command line, 3 a poll was stuck."
)]
pub struct Options {
    /// Server to send to: udp://HOST[:PORT], IPv6 as udp://[::1]:8125, tcp://HOST[:PORT], or unix:///PATH for a
    /// datagram socket; may be given several times [default: udp://127.0.0.1:8125, none with --print]
    #[arg(long, value_name = "URL", value_delimiter = ',', help_heading = "Destination")]
    pub(super) statsd: Vec<Destination>,

    /// Most bytes in a datagram, from 512 to 8932; 3700 suits a server on this host [default: 1432]
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = DEFAULT_DATAGRAM,
        hide_default_value = true,
        value_parser = max_datagram,
        help_heading = "Destination"
    )]
    pub(super) max_datagram: u16,

    /// Spread the datagrams of a poll over this part of the interval, from 0 to 0.9 [default: 0.5]
    #[arg(
        long,
        value_name = "PART",
        default_value = "0.5",
        hide_default_value = true,
        allow_hyphen_values = true,
        value_parser = spread,
        help_heading = "Destination"
    )]
    pub(super) spread: f64,

    /// Look up the server's name again after this time, from 1s to 1d [default: 1m]
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1m",
        hide_default_value = true,
        allow_hyphen_values = true,
        value_parser = time_within("1s", "1d"),
        help_heading = "Destination"
    )]
    pub(super) resolve_every: Duration,

    /// Time between polls, from 10ms to 1d, such as 500ms, 10s, 1m [default: 10s]
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        hide_default_value = true,
        allow_hyphen_values = true,
        value_parser = time_within("10ms", "1d"),
        help_heading = "Time"
    )]
    pub(super) interval: Duration,

    /// Poll at multiples of the interval by the wall clock
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Time")]
    pub(super) align: bool,

    /// Poll later by a part of TIME that depends on the host's name, so that not all hosts send at once; at most the
    /// interval [default: 0s]
    #[arg(
        long,
        value_name = "TIME",
        default_value = "0s",
        hide_default_value = true,
        allow_hyphen_values = true,
        value_parser = time,
        help_heading = "Time"
    )]
    pub(super) jitter: Duration,

    /// End after N polls [default: never]
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Time")]
    pub(super) count: Option<u64>,

    /// Same as --count 1 (given both, the last one holds); a single poll has no CPU percentages
    #[arg(
        long,
        value_parser = BoolishValueParser::new(),
        help_heading = "Time"
    )]
    pub(super) once: bool,

    /// End with status 3 when a poll takes longer than this, from 1s to 1d, so that a supervisor can restart xenmonitor
    /// [default: never]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time_within("1s", "1d"), help_heading = "Time")]
    pub(super) max_stuck: Option<Duration>,

    /// Gauges beyond xentop's columns, as a comma list [default: nothing]
    #[arg(long, value_name = "WHAT", value_delimiter = ',', help_heading = "Gauges")]
    pub(super) detail: Vec<Detail>,

    /// Report only domains whose name fits the pattern, such as web*; may be given several times [default: all]
    #[arg(long, value_name = "GLOB", value_parser = pattern, value_delimiter = ',', help_heading = "Gauges")]
    pub(super) include: Vec<Pattern>,

    /// Report no domains whose name fits the pattern; may be given several times [default: nothing]
    #[arg(long, value_name = "GLOB", value_parser = pattern, value_delimiter = ',', help_heading = "Gauges")]
    pub(super) exclude: Vec<Pattern>,

    /// Send only gauges that fit the pattern, such as cpu_* or node.*; may be given several times [default: all]
    #[arg(long, value_name = "GLOB", value_parser = pattern, value_delimiter = ',', help_heading = "Gauges")]
    pub(super) metrics: Vec<Pattern>,

    /// Send no gauges that fit the pattern; may be given several times [default: nothing]
    #[arg(long, value_name = "GLOB", value_parser = pattern, value_delimiter = ',', help_heading = "Gauges")]
    pub(super) no_metrics: Vec<Pattern>,

    /// What to do about gauges of domains and devices that are gone [default: zero]
    #[arg(long, value_name = "WHAT", default_value = "zero", hide_default_value = true, help_heading = "Gauges")]
    pub(super) on_vanish: OnVanish,

    /// Name of each gauge, made from {host}, {domain} and {metric} [default: xen.{host}.{domain}.{metric},
    /// with --tags xen.{metric}, with --layout xenmonitor XenVms.{host}.{metric}.{domain}]
    #[arg(long, value_name = "TEMPLATE", help_heading = "Names")]
    pub(super) template: Option<Template>,

    /// What comes before every name, followed by a dot [default: nothing]
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub(super) prefix: Option<Prefix>,

    /// Name of this host in the gauges [default: what the kernel says]
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub(super) host: Option<String>,

    /// Which names to use [default: xentop]
    #[arg(long, default_value = "xentop", hide_default_value = true, help_heading = "Names")]
    pub(super) layout: Layout,

    /// How to spell the prefix, the template, and names of hosts and domains [default: plain]
    #[arg(long, value_name = "LETTERS", default_value = "plain", hide_default_value = true, help_heading = "Names")]
    pub(super) names: Letters,

    /// Put host, domain and device into tags, in the dialect of the server [default: none]
    #[arg(long, value_name = "DIALECT", default_value = "none", hide_default_value = true, help_heading = "Names")]
    pub(super) tags: Dialect,

    /// Add this tag to every gauge, such as env=prod; may be given several times [default: nothing]
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', help_heading = "Names")]
    pub(super) tag: Vec<Tag>,

    /// Check that everything xenmonitor needs is there, and end: status 0 if it is, else 1
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Output")]
    pub(super) check: bool,

    /// Print every poll; then nothing is sent unless --statsd is given too
    #[arg(long, value_name = "WHAT", help_heading = "Output")]
    pub(super) print: Option<Print>,

    /// Show a live table, as xentop does, until q or Ctrl-C; every 2 seconds unless --interval says otherwise. Green
    /// domains run, yellow ones are paused or shut down, red ones crashed or dying
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Output")]
    pub(super) watch: bool,

    /// Sort the table by a gauge, the largest first, or by name [default: name]
    #[arg(
        long,
        value_name = "GAUGE",
        default_value = "name",
        hide_default_value = true,
        hide_possible_values = true,
        value_parser = sort_keys().map(|key| order(&key)),
        help_heading = "Output"
    )]
    pub(super) sort: Order,

    /// Put Domain-0 on top of the table
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Output")]
    pub(super) dom0_first: bool,

    /// What to log on stderr [default: info]
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "info",
        hide_default_value = true,
        ignore_case = true,
        value_parser = PossibleValuesParser::new(["off", "error", "warn", "info", "debug"])
            .map(|level| level.parse::<LevelFilter>().expect("these are the logger's own words")),
        help_heading = "Output"
    )]
    pub(super) log: LevelFilter,

    /// Where to read network interfaces from [default: auto]
    #[arg(long, value_name = "WHO", default_value = "auto", hide_default_value = true, help_heading = "Xen")]
    pub(super) vifs: Vifs,

    /// Where to read disks from [default: auto]
    #[arg(long, value_name = "WHO", default_value = "auto", hide_default_value = true, help_heading = "Xen")]
    pub(super) disks: Disks,

    /// How long to wait for the guests' QEMUs, which are all asked at once; at most half the interval [default: 1s]
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1s",
        hide_default_value = true,
        allow_hyphen_values = true,
        value_parser = time_within("1ms", "1m"),
        help_heading = "Xen"
    )]
    pub(super) qmp_timeout: Duration,

    /// Whose view of networks nettx and netrx show [default: dom0]
    #[arg(long, value_name = "WHOSE", default_value = "dom0", hide_default_value = true, help_heading = "Xen")]
    pub(super) net_view: NetView,

    /// At the start, wait for Xen and libxenstat if they are not there yet
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Xen")]
    pub(super) wait_for_xen: bool,

    /// Give up neither capabilities nor system calls, see docs/privileges.md
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Xen")]
    pub(super) keep_privileges: bool,

    /// libxenstat to load [default: the running Xen's own, else the newest found]
    #[arg(long, value_name = "FILE", help_heading = "Xen")]
    pub(super) libxenstat: Option<PathBuf>,
}

impl Options {
    /// Reads the command line and, through `variable`, the environment.
    pub fn read<I>(arguments: I, variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item: Into<OsString> + Clone>,
    {
        // clap takes an empty variable for an empty value; files of defaults have them for "not set".
        let command = Options::command().mut_args(|argument| {
            let name = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            match name.and_then(|name| variable(&name)) {
                Some(value) if value.is_empty() => argument.env(None::<&str>),
                _ => argument,
            }
        });
        let matches = command.try_get_matches_from(arguments)?;
        let mut options = Options::from_arg_matches(&matches)?;
        let typed = |name| ArgMatches::value_source(&matches, name) == Some(ValueSource::CommandLine);
        let defaulted = |name| ArgMatches::value_source(&matches, name) == Some(ValueSource::DefaultValue);
        // What is typed wins over variables.
        if options.watch && options.print.is_some_and(|print| print != Print::Table) {
            match (typed("watch"), typed("print")) {
                (true, false) => options.print = None,
                (false, true) => options.watch = false,
                _ => {}
            }
        }
        if options.watch {
            options.interval = if defaulted("interval") { WATCHED } else { options.interval };
            options.log = if defaulted("log") { LevelFilter::Warn } else { options.log };
        }
        // And what is typed last over what is typed before.
        options.once &= !typed("count") || (typed("once") && matches.index_of("once") > matches.index_of("count"));
        Ok(options)
    }

    /// Those of these variables that look like ours and are not, as when an option's name is misspelt.
    pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
        let ours = Self::command();
        let is_ours =
            |name: &str| ours.get_arguments().any(|argument| argument.get_env().is_some_and(|env| env == name));
        let mut unknown: Vec<String> = names
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| name.starts_with("XENMONITOR_") && !is_ours(name))
            .collect();
        unknown.sort();
        unknown
    }
}

/// What a table can be sorted by.
fn sort_keys() -> PossibleValuesParser {
    let columns = GAUGES.iter().filter(|gauge| gauge.xentop != "STATE");
    PossibleValuesParser::new(std::iter::once("name").chain(columns.map(|gauge| gauge.name)))
}

fn order(key: &str) -> Order {
    GAUGES.iter().find(|gauge| gauge.name == key).map_or(Order::Name, Order::Gauge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::variables::variable_of;

    // That what is typed wins over variables is tested in tests/it/bad_input.rs: clap reads the process's environment.
    fn read(arguments: &[&str]) -> Options {
        Options::read(std::iter::once(&"xenmonitor").chain(arguments), |_| None).unwrap()
    }

    #[test]
    fn every_option_has_a_variable_of_its_name() {
        Options::command().debug_assert();
        for argument in Options::command().get_arguments() {
            let long = argument.get_long().unwrap();
            if long != "help" && long != "version" {
                assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(&*variable_of(long)));
            }
            // The help says it in words of its own.
            let help = argument.get_help().unwrap_or_default().to_string();
            for default in argument.get_default_values().iter().filter(|_| argument.get_action().takes_values()) {
                let said = format!("[default: {}", default.to_string_lossy());
                assert!(help.contains(&said), "{long}: {said} is not in {help}");
            }
        }
    }

    #[test]
    fn unknown_variables_are_found() {
        let names = ["HOME", "XENMONITOR_STATSD", "XENMONITOR_INTERVALL", "XENMONITOR_", "XENMONITOR_MAX_STUCK"];
        let unknown = Options::unknown_variables(names.iter().map(OsString::from));
        assert_eq!(unknown, ["XENMONITOR_", "XENMONITOR_INTERVALL"]);
    }

    #[test]
    fn the_last_of_count_and_once_wins() {
        for (arguments, once) in [
            (&["--count", "3"][..], false),
            (&["--once"], true),
            (&["--count", "3", "--once"], true),
            (&["--once", "--count", "3"], false),
        ] {
            assert_eq!(read(arguments).once, once, "{arguments:?}");
        }
    }

    #[test]
    fn defaults_with_watch() {
        for (arguments, seconds, log) in [
            (&[][..], 10, LevelFilter::Info),
            (&["--watch"], 2, LevelFilter::Warn),
            (&["--watch", "--interval", "5s", "--log", "debug"], 5, LevelFilter::Debug),
        ] {
            let options = read(arguments);
            assert_eq!((options.interval.as_secs(), options.log), (seconds, log), "{arguments:?}");
        }
    }
}
