//! The command line options. Each has an environment variable.
#![allow(rustdoc::broken_intra_doc_links)] // The comments on Options are its help: [PORT] is no link.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{BoolishValueParser, EnumValueParser, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use glob::Pattern;
use log::LevelFilter;

use crate::cli::values::{LogFilter, LogFilterParser, Trimmed, count, pattern, spread, time, time_within};
use crate::cli::variables::with_variable;
use crate::collect::disks::DiskSource;
use crate::collect::vif::VifSource;
use crate::metrics::DOMAIN;
use crate::metrics::delta::NetView;
use crate::metrics::devices::Detail;
use crate::naming::scheme::{Charset, Layout};
use crate::naming::tags::{Tag, TagFormat};
use crate::naming::template::{Prefix, Template};
use crate::report::Print;
use crate::report::selection::OnVanish;
use crate::report::table::Order;
use crate::statsd::datagrams::MaxDatagram;
use crate::statsd::destination::Destination;

/// The interval of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// The order of `--watch`: the busiest first.
const WATCH_SORT: &str = "cpu_percent";

/// The end of `--help`. Each paragraph is a section of the man page.
const DETAILS: &str = "\
Exit codes: 0 success, 1 runtime failure, 2 usage error, 3 poll timed out. Failures print a one-line reason.

Signals: SIGHUP reopens libxenstat and the destinations. SIGTERM and SIGINT stop the program with exit code 0; if \
it was started from a terminal, so does SIGHUP.

Environment: Each option has a variable, such as XENMONITOR_STATSD for --statsd; for a flag its value is 1 or 0. The \
command line wins, and an empty variable is ignored. Without --statsd the server is read from STATSD_HOST and \
STATSD_PORT, or else from DD_DOGSTATSD_URL, or else from DD_AGENT_HOST and DD_DOGSTATSD_PORT. Without --prefix the \
prefix is read from STATSD_PREFIX.";

/// Sends xentop's metrics of every Xen domain to statsd.
///
/// Runs in dom0 as root. Polls libxenstat, the library behind xentop, and sends every column of xentop as a gauge; it
/// can also print them or show a live table.
#[derive(Parser, Debug, Clone)]
#[command(
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("XENMONITOR_BUILD"), ")"),
    max_term_width = 100,
    mut_args(with_variable),
    after_help = "See --help or xenmonitor(8) for details, exit codes, signals and environment variables.",
    after_long_help = DETAILS
)]
pub struct Options {
    /// Destination of the metrics [default: udp://127.0.0.1:8125; none with --print or --watch]
    ///
    /// udp://HOST[:PORT], IPv6 as udp://[::1]:8125, tcp://HOST[:PORT], or unix:///PATH for a datagram socket.
    /// Repeatable; commas separate several values.
    #[arg(long, value_name = "URL", value_delimiter = ',', help_heading = "Destination")]
    pub(super) statsd: Vec<Destination>,

    /// Largest datagram, 512 to 8932 [default: auto]
    ///
    /// auto: 3700 to a server on this host, else what the path takes, but at most 1432. collectd reads no more than
    /// 4095, brubeck as little as 512.
    #[arg(long, value_name = "BYTES", default_value_t = MaxDatagram::Auto, help_heading = "Destination")]
    pub(super) max_datagram: MaxDatagram,

    /// Spread the datagrams of a poll over this fraction of the interval, 0 to 0.9 [default: 0.5]
    ///
    /// A UDP server loses what does not fit into its receive buffer. 0 sends all datagrams at once.
    #[arg(
        long,
        value_name = "FRACTION",
        default_value = "0.5",
        allow_hyphen_values = true,
        value_parser = spread,
        help_heading = "Destination"
    )]
    pub(super) spread: f64,

    /// Resolve the server's name again after this time, 1s to 1d [default: 1m]
    ///
    /// A UDP socket is replaced as often, in case the server has moved behind NAT.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1m",
        allow_hyphen_values = true,
        value_parser = time_within("1s", "1d"),
        help_heading = "Destination"
    )]
    pub(super) resolve_every: Duration,

    /// Time between polls, 10ms to 1d [default: 10s]
    ///
    /// Such as 500ms, 10s or 1m; a bare number is seconds. With --watch the default is 2s.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        allow_hyphen_values = true,
        value_parser = time_within("10ms", "1d"),
        help_heading = "Time"
    )]
    pub(super) interval: Duration,

    /// Poll at multiples of the interval by the wall clock
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Time")]
    pub(super) align: bool,

    /// Delay polls by a time from 0 to TIME that depends on the host name [default: 0s]
    ///
    /// So that many hosts do not send at the same moment; on one host the delay is always the same. At most the
    /// interval. With --count or --once it has no effect unless --align is given.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "0s",
        allow_hyphen_values = true,
        value_parser = time,
        help_heading = "Time"
    )]
    pub(super) jitter: Duration,

    /// Exit after N polls [default: never]
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Time")]
    pub(super) count: Option<u64>,

    /// Same as --count 1
    ///
    /// If both are given, the last one wins. A single poll has no CPU percentages.
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Time")]
    pub(super) once: bool,

    /// Exit with code 3 if a poll takes longer than TIME, 1s to 1d [default: never]
    ///
    /// For supervisors that restart a program that has exited. With systemd use the unit's watchdog instead.
    #[arg(
        long,
        value_name = "TIME",
        allow_hyphen_values = true,
        value_parser = time_within("1s", "1d"),
        help_heading = "Time"
    )]
    pub(super) poll_timeout: Option<Duration>,

    /// Metrics beyond xentop's columns [default: none]
    ///
    /// Repeatable; commas separate several values.
    #[arg(long, value_name = "LIST", value_parser = Trimmed(EnumValueParser::<Detail>::new()), value_delimiter = ',',
          help_heading = "Metrics")]
    pub(super) detail: Vec<Detail>,

    /// Report only domains whose names match, such as web* [default: all]
    ///
    /// Repeatable; commas separate several values.
    #[arg(long, value_name = "GLOB", value_parser = Trimmed(pattern), value_delimiter = ',', help_heading = "Metrics")]
    pub(super) include: Vec<Pattern>,

    /// Omit domains whose names match [default: none]
    ///
    /// Repeatable; commas separate several values.
    #[arg(long, value_name = "GLOB", value_parser = Trimmed(pattern), value_delimiter = ',', help_heading = "Metrics")]
    pub(super) exclude: Vec<Pattern>,

    /// Send only metrics that match, such as cpu_* or node.* [default: all]
    ///
    /// Repeatable; commas separate several values. The table shows only columns that match.
    #[arg(long, value_name = "GLOB", value_parser = Trimmed(pattern), value_delimiter = ',', help_heading = "Metrics")]
    pub(super) metrics: Vec<Pattern>,

    /// Omit metrics that match [default: none]
    ///
    /// Repeatable; commas separate several values.
    #[arg(long, value_name = "GLOB", value_parser = Trimmed(pattern), value_delimiter = ',', help_heading = "Metrics")]
    pub(super) no_metrics: Vec<Pattern>,

    /// Handling of gauges whose domain or device disappears [default: zero]
    ///
    /// The default is keep if the names of metrics do not contain the host: another host that runs the domain now may
    /// send the same names.
    #[arg(long, value_name = "ACTION", help_heading = "Metrics")]
    pub(super) on_vanish: Option<OnVanish>,

    /// Name of each metric [default: xen.{host}.{domain}.{metric}]
    ///
    /// Made of {host}, {domain} or {uuid}, and {metric}. The default is xen.{metric} with --tag-format, and
    /// XenVms.{host}.{metric}.{domain} with --layout legacy.
    #[arg(long, value_name = "TEMPLATE", help_heading = "Names")]
    pub(super) template: Option<Template>,

    /// Prefix of every name, followed by a dot [default: none]
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub(super) prefix: Option<Prefix>,

    /// Name of this host in the metrics [default: the kernel's host name]
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub(super) host: Option<String>,

    /// Metrics to send, and their names [default: xentop]
    #[arg(long, default_value = "xentop", help_heading = "Names")]
    pub(super) layout: Layout,

    /// Character set for host and domain names, prefix and template [default: plain]
    #[arg(long, value_name = "CHARSET", default_value = "plain", help_heading = "Names")]
    pub(super) names: Charset,

    /// Send host, domain and device as tags in this format [default: none]
    #[arg(long, value_name = "FORMAT", default_value = "none", help_heading = "Names")]
    pub(super) tag_format: TagFormat,

    /// Add the UUID of a domain as a tag
    ///
    /// Needs --tag-format. UUIDs are read from xenstore.
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Names")]
    pub(super) tag_uuid: bool,

    /// Tag of every metric, such as env=prod [default: none]
    ///
    /// Needs --tag-format. Repeatable; commas separate several values.
    #[arg(long, value_name = "KEY=VALUE", value_parser = Trimmed(Tag::from_str), value_delimiter = ',', help_heading = "Names")]
    pub(super) tag: Vec<Tag>,

    /// Check that everything needed is available, and exit
    ///
    /// Checks libxenstat, each of its collectors and each server. Exits with code 0 if all are available, else with 1.
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Output")]
    pub(super) check: bool,

    /// Print each poll to standard output
    ///
    /// Sends nothing unless --statsd is given.
    #[arg(long, value_name = "FORMAT", help_heading = "Output")]
    pub(super) print: Option<Print>,

    /// Show a live table, as xentop does, until q or Ctrl-C
    ///
    /// Sends nothing unless --statsd is given. Updated every 2 seconds unless --interval is given. Keys: arrows, PgUp,
    /// PgDn, Home and End scroll; s or < and > sort by another column; c switches between rates and xentop's counters;
    /// n, b and v show each network, disk and vcpu; p pauses; Ctrl-L redraws; q quits. Running domains are green, paused
    /// or shut down ones yellow, crashed or dying ones red.
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Output")]
    pub(super) watch: bool,

    /// Sort the table by a metric in descending order, or by name [default: name]
    ///
    /// With --watch the default is cpu_percent.
    #[arg(
        long,
        value_name = "METRIC",
        default_value = "name",
        hide_possible_values = true,
        value_parser = sort_keys().map(|key| order(&key)),
        help_heading = "Output"
    )]
    pub(super) sort: Order,

    /// Put Domain-0 at the top of the table
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Output")]
    pub(super) dom0_first: bool,

    /// What to log to standard error [default: info]
    ///
    /// A level, and levels for single modules: info,xenmonitor::statsd=debug. With --watch the default is warn.
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = LogFilterParser, help_heading = "Output")]
    pub(super) log: LogFilter,

    /// Where to read network interfaces from [default: kernel]
    #[arg(long, value_name = "SOURCE", default_value = "kernel", help_heading = "Xen")]
    pub(super) vifs: VifSource,

    /// Where to read disks from [default: auto]
    #[arg(long, value_name = "SOURCE", default_value = "auto", help_heading = "Xen")]
    pub(super) disks: DiskSource,

    /// How long to wait for replies of QEMU, 1ms to 1m [default: 1s]
    ///
    /// The QEMUs of all guests are queried at once. At most half the interval.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1s",
        allow_hyphen_values = true,
        value_parser = time_within("1ms", "1m"),
        help_heading = "Xen"
    )]
    pub(super) qmp_timeout: Duration,

    /// Perspective of nettx, netrx and vif.* [default: dom0]
    #[arg(long, value_name = "PERSPECTIVE", default_value = "dom0", help_heading = "Xen")]
    pub(super) net_view: NetView,

    /// Wait for Xen and libxenstat at start-up instead of exiting with code 1
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Xen")]
    pub(super) wait_for_xen: bool,

    /// Keep capabilities, and install no system call filter
    ///
    /// See docs/privileges.md.
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Xen")]
    pub(super) keep_privileges: bool,

    /// libxenstat to load [default: the running Xen's, else the newest found]
    ///
    /// A path, or a name that the dynamic loader finds.
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
            options.interval = if defaulted("interval") { WATCH_INTERVAL } else { options.interval };
            options.log = if defaulted("log") { LevelFilter::Warn.into() } else { options.log };
            options.sort = if defaulted("sort") { order(WATCH_SORT) } else { options.sort };
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
    let columns = DOMAIN.iter().filter(|row| row.xentop != Some("STATE"));
    PossibleValuesParser::new(std::iter::once("name").chain(columns.map(|row| row.metric.name)))
}

fn order(key: &str) -> Order {
    DOMAIN.iter().find(|row| row.metric.name == key).map_or(Order::Name, |row| Order::Metric(&row.metric))
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
    fn cli_every_option_has_a_variable_of_its_name() {
        Options::command().debug_assert();
        for argument in Options::command().get_arguments() {
            let long = argument.get_long().unwrap();
            if long != "help" && long != "version" {
                assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(&*variable_of(long)));
            }
            // The help texts repeat the defaults, which clap does not print.
            let help = argument.get_help().unwrap_or_default().to_string();
            for default in argument.get_default_values().iter().filter(|_| argument.get_action().takes_values()) {
                let text = format!("[default: {}", default.to_string_lossy());
                assert!(help.contains(&text), "{long}: {text} is not in {help}");
            }
        }
    }

    #[test]
    fn unknown_variables_are_found() {
        let names = ["HOME", "XENMONITOR_STATSD", "XENMONITOR_INTERVALL", "XENMONITOR_", "XENMONITOR_POLL_TIMEOUT"];
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
            assert_eq!((options.interval.as_secs(), options.log), (seconds, log.into()), "{arguments:?}");
        }
    }
}
