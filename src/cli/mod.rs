//! The command line: every flag, its variable, its default, and what is wrong with a bad one.
#![allow(rustdoc::broken_intra_doc_links)] // The comments on Options are its help: [PORT] is no link.

mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{BoolishValueParser, PossibleValuesParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use glob::Pattern;
use log::LevelFilter;

use crate::collect::disks::Disks;
use crate::collect::poller::Vifs;
use crate::metrics::columns::GAUGES;
use crate::metrics::delta::NetView;
use crate::metrics::devices::Detail;
use crate::metrics::filter::Choice;
use crate::naming::scheme::Dialect;
use crate::naming::scheme::{Layout, Letters};
use crate::naming::tags::Tag;
use crate::naming::template::{Prefix, Template};
use crate::report::Print;
use crate::report::series::OnVanish;
use crate::report::table::Order;
use crate::statsd::destination::{DEFAULT_PORT, Destination};
use crate::statsd::pacing::{Timing, USUAL};
use values::{count, max_datagram, pattern, spread, time, time_within};

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
    /// Server to send to: udp://HOST[:PORT], IPv6 as udp://[::1]:8125, tcp://HOST[:PORT], unix:///PATH for a
    /// datagram socket, or stdout: to print the lines; may be given several times [default: udp://127.0.0.1:8125,
    /// none with --print]
    #[arg(long, value_name = "URL", value_delimiter = ',', help_heading = "Destination")]
    statsd: Vec<Destination>,

    /// Most bytes in a datagram, from 512 to 8932; 3700 suits a server on this host [default: 1432]
    #[arg(
        long,
        value_name = "BYTES",
        default_value_t = USUAL,
        hide_default_value = true,
        value_parser = max_datagram,
        help_heading = "Destination"
    )]
    max_datagram: u16,

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
    spread: f64,

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
    resolve_every: Duration,

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
    pub interval: Duration,

    /// Poll at multiples of the interval by the wall clock
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Time")]
    pub align: bool,

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
    jitter: Duration,

    /// End after N polls [default: never]
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Time")]
    count: Option<u64>,

    /// Same as --count 1 (given both, the last one holds); a single poll has no CPU percentages
    #[arg(
        long,
        value_parser = BoolishValueParser::new(),
        help_heading = "Time"
    )]
    once: bool,

    /// End with status 3 when a poll takes longer than this, from 1s to 1d, so that a supervisor can restart xenmonitor
    /// [default: never]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time_within("1s", "1d"), help_heading = "Time")]
    pub max_stuck: Option<Duration>,

    /// Gauges beyond xentop's columns, as a comma list [default: nothing]
    #[arg(long, value_name = "WHAT", value_delimiter = ',', help_heading = "Gauges")]
    pub detail: Vec<Detail>,

    /// Report only domains whose name fits the pattern, such as web*; may be given several times [default: all]
    #[arg(long, value_name = "GLOB", value_parser = pattern, value_delimiter = ',', help_heading = "Gauges")]
    include: Vec<Pattern>,

    /// Report no domains whose name fits the pattern; may be given several times [default: nothing]
    #[arg(long, value_name = "GLOB", value_parser = pattern, value_delimiter = ',', help_heading = "Gauges")]
    exclude: Vec<Pattern>,

    /// Send only gauges that fit the pattern, such as cpu_* or node.*; may be given several times [default: all]
    #[arg(long, value_name = "GLOB", value_parser = pattern, value_delimiter = ',', help_heading = "Gauges")]
    metrics: Vec<Pattern>,

    /// Send no gauges that fit the pattern; may be given several times [default: nothing]
    #[arg(long, value_name = "GLOB", value_parser = pattern, value_delimiter = ',', help_heading = "Gauges")]
    no_metrics: Vec<Pattern>,

    /// What to do about gauges of domains and devices that are gone [default: zero]
    #[arg(long, value_name = "WHAT", default_value = "zero", hide_default_value = true, help_heading = "Gauges")]
    pub on_vanish: OnVanish,

    /// Name of each gauge, made from {host}, {domain} and {metric} [default: xen.{host}.{domain}.{metric},
    /// with --tags xen.{metric}, with --layout xenmonitor XenVms.{host}.{metric}.{domain}]
    #[arg(long, value_name = "TEMPLATE", help_heading = "Names")]
    template: Option<Template>,

    /// What comes before every name, followed by a dot [default: nothing]
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    prefix: Option<Prefix>,

    /// Name of this host in the gauges [default: what the kernel says]
    #[arg(long, value_name = "NAME", help_heading = "Names")]
    pub host: Option<String>,

    /// Which names to use [default: xentop]
    #[arg(long, default_value = "xentop", hide_default_value = true, help_heading = "Names")]
    pub layout: Layout,

    /// How to spell the prefix, the template, and names of hosts and domains [default: plain]
    #[arg(long, value_name = "LETTERS", default_value = "plain", hide_default_value = true, help_heading = "Names")]
    pub names: Letters,

    /// Put host, domain and device into tags, in the dialect of the server [default: none]
    #[arg(long, value_name = "DIALECT", default_value = "none", hide_default_value = true, help_heading = "Names")]
    pub tags: Dialect,

    /// Add this tag to every gauge, such as env=prod; may be given several times [default: nothing]
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',', help_heading = "Names")]
    pub tag: Vec<Tag>,

    /// Check that everything xenmonitor needs is there, and end: status 0 if it is, else 1
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Output")]
    pub check: bool,

    /// Print every poll; then nothing is sent unless --statsd is given too
    #[arg(long, value_name = "WHAT", help_heading = "Output")]
    pub print: Option<Print>,

    /// Show a live table, as xentop does, until q or Ctrl-C; every 2 seconds unless --interval says otherwise. Green
    /// domains run, yellow ones are paused or shut down, red ones crashed or dying
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Output")]
    pub watch: bool,

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
    pub sort: Order,

    /// Put Domain-0 on top of the table
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Output")]
    pub dom0_first: bool,

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
    pub log: LevelFilter,

    /// Where to read network interfaces from [default: auto]
    #[arg(long, value_name = "WHO", default_value = "auto", hide_default_value = true, help_heading = "Xen")]
    pub vifs: Vifs,

    /// Where to read disks from [default: auto]
    #[arg(long, value_name = "WHO", default_value = "auto", hide_default_value = true, help_heading = "Xen")]
    pub disks: Disks,

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
    qmp_timeout: Duration,

    /// Whose view of networks nettx and netrx show [default: dom0]
    #[arg(long, value_name = "WHOSE", default_value = "dom0", hide_default_value = true, help_heading = "Xen")]
    pub net_view: NetView,

    /// At the start, wait for Xen and libxenstat if they are not there yet
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Xen")]
    pub wait_for_xen: bool,

    /// Give up neither capabilities nor system calls, see docs/privileges.md
    #[arg(long, value_parser = BoolishValueParser::new(), help_heading = "Xen")]
    pub keep_privileges: bool,

    /// libxenstat to load [default: the running Xen's own, else the newest found]
    #[arg(long, value_name = "FILE", help_heading = "Xen")]
    pub libxenstat: Option<PathBuf>,
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
                _ => {
                    let words = "--watch shows the table: no other --print";
                    return Err(Options::command().error(ErrorKind::ArgumentConflict, words));
                }
            }
        }
        if options.watch {
            options.print = Some(Print::Table);
            options.interval = if defaulted("interval") { WATCHED } else { options.interval };
            options.log = if defaulted("log") { LevelFilter::Warn } else { options.log };
        }
        // And what is typed last over what is typed before.
        options.once &= !typed("count") || (typed("once") && matches.index_of("once") > matches.index_of("count"));
        Ok(options)
    }

    /// Where to send, if anywhere. The variables that other clients know speak where `--statsd` does not: those of
    /// statsd's, and where there are none, of Datadog's.
    pub fn destinations(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Vec<Destination>, String> {
        if !self.statsd.is_empty() || self.print.is_some() {
            return Ok(self.statsd.clone());
        }
        let [of_statsd, of_datadog] = [("STATSD_HOST", "STATSD_PORT"), ("DD_AGENT_HOST", "DD_DOGSTATSD_PORT")];
        let statsd = variable(of_statsd.0).is_some() || variable(of_statsd.1).is_some();
        if let Some(url) = variable("DD_DOGSTATSD_URL").filter(|_| !statsd) {
            return match url.parse() {
                Ok(destination @ (Destination::Udp(_) | Destination::Unix(_))) => Ok(vec![destination]),
                Ok(_) => Err(format!("DD_DOGSTATSD_URL '{url}': udp://, unix:// and unixgram:// are understood")),
                Err(bad) => Err(format!("DD_DOGSTATSD_URL '{url}': {bad}")),
            };
        }
        let (host, port) = if statsd { of_statsd } else { of_datadog };
        let destination = Destination::udp(
            &variable(host).unwrap_or_else(|| "127.0.0.1".into()),
            &variable(port).unwrap_or_else(|| DEFAULT_PORT.to_string()),
        );
        destination.map(|destination| vec![destination]).map_err(|bad| format!("{host} and {port}: {bad}"))
    }

    /// How large datagrams may be.
    pub fn max_datagram(&self) -> usize {
        self.max_datagram.into()
    }

    /// When they are sent.
    pub fn timing(&self) -> Timing {
        Timing { interval: self.interval, spread: self.spread, resolve_every: self.resolve_every }
    }

    /// The most by which polls are made later.
    pub fn jitter(&self) -> Result<Duration, String> {
        match self.jitter {
            jitter if jitter <= self.interval => Ok(jitter),
            jitter => Err(format!("a --jitter of {jitter:?} is longer than the --interval of {:?}", self.interval)),
        }
    }

    /// What stands before every name, if anything.
    pub fn prefix(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Prefix>, String> {
        match (&self.prefix, variable("STATSD_PREFIX")) {
            (None, Some(prefix)) => prefix.parse().map(Some).map_err(|bad| format!("STATSD_PREFIX '{prefix}': {bad}")),
            (prefix, _) => Ok(prefix.clone()),
        }
    }

    /// `--template`, or what goes with the layout and tags.
    pub fn template(&self) -> Template {
        self.template.clone().unwrap_or_else(|| self.layout.template(self.tags))
    }

    /// How long the QEMUs have to answer. Half an interval is left for the rest, so that no poll is skipped for them.
    pub fn qmp_timeout(&self) -> Duration {
        self.qmp_timeout.min(self.interval / 2)
    }

    /// What is told at all.
    pub fn choice(&self) -> Choice {
        Choice::new(&self.include, &self.exclude, &self.metrics, &self.no_metrics)
    }

    /// How many polls to make, if not polls without end.
    pub fn count(&self) -> Option<u64> {
        if self.once { Some(1) } else { self.count }
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

/// clap's complaint as one line: its hints stay, its usage text goes, and where the value came from the
/// environment the variable is named.
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
    // An argument that is none of ours may be anything.
    let ours = Options::command().get_arguments().any(|ours| ours.get_long() == option.strip_prefix("--"));
    if typed || !ours { line.to_owned() } else { format!("{line}; it comes from {}", variable_of(option)) }
}

/// Those of these variables that look like ours and are not, as when an option's name is misspelt.
pub fn unknown_variables(names: impl Iterator<Item = OsString>) -> Vec<String> {
    let ours = Options::command();
    let is_ours = |name: &str| ours.get_arguments().any(|argument| argument.get_env().is_some_and(|env| env == name));
    let mut unknown: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("XENMONITOR_") && !is_ours(name))
        .collect();
    unknown.sort();
    unknown
}

/// Lets an option be set by the variable of its name.
fn with_variable(argument: clap::Arg) -> clap::Arg {
    match argument.get_long().map(variable_of) {
        Some(variable) => argument.env(variable).hide_env(true),
        None => argument,
    }
}

fn variable_of(option: &str) -> String {
    format!("XENMONITOR_{}", option.trim_start_matches('-').to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Environment<'a> = &'a [(&'a str, &'a str)];

    fn options(arguments: &[&str], environment: Environment) -> Result<Options, String> {
        let arguments: Vec<OsString> = std::iter::once(&"xenmonitor").chain(arguments).map(Into::into).collect();
        let variable = |name: &str| look_up(environment, name).map(Into::into);
        Options::read(&arguments, variable).map_err(|error| one_line(&error, &arguments))
    }

    fn look_up(environment: Environment, name: &str) -> Option<String> {
        environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
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
    fn what_is_watched() {
        for (arguments, expected) in [
            (&["--watch"][..], Ok((true, Some(Print::Table), 2))),
            (&["--watch", "--interval", "5s"], Ok((true, Some(Print::Table), 5))),
            (&["--watch", "--print", "table"], Ok((true, Some(Print::Table), 2))),
            (&["--watch", "--print", "json"], Err(())),
        ] {
            let found = options(arguments, &[]).map_err(drop);
            let found = found.map(|options| (options.watch, options.print, options.interval.as_secs()));
            assert_eq!(found, expected, "{arguments:?}");
        }
    }

    #[test]
    fn misspelt_variables_are_found() {
        let names = ["HOME", "XENMONITOR_STATSD", "XENMONITOR_INTERVALL", "XENMONITOR_", "XENMONITOR_MAX_STUCK"];
        let unknown = unknown_variables(names.iter().map(OsString::from));
        assert_eq!(unknown, ["XENMONITOR_", "XENMONITOR_INTERVALL"]);
    }

    #[test]
    fn counts() {
        for (arguments, count) in [
            (&[][..], None),
            (&["--count", "3"], Some(3)),
            (&["--once"], Some(1)),
            (&["--count", "3", "--once"], Some(1)),
            (&["--once", "--count", "3"], Some(3)),
        ] {
            assert_eq!(options(arguments, &[]).unwrap().count(), count, "{arguments:?}");
        }
    }

    #[test]
    fn no_variable_is_blamed_for_what_was_typed() {
        for (arguments, end) in [
            (&["--interval", "x"][..], "10s or 1m"),
            (&["--interval=x"], "10s or 1m"),
            (&["two words"], "unexpected argument 'two words' found"),
            (&["a=--b"], "unexpected argument 'a=--b' found"),
            (&["-\u{e9}"], "unexpected argument '-\u{e9}' found"),
            (&["-xy"], "unexpected argument '-x' found"),
        ] {
            let complaint = options(arguments, &[]).unwrap_err();
            assert!(complaint.ends_with(end), "{arguments:?}: {complaint}");
        }
    }

    #[test]
    fn destinations_from_flag_and_environment() {
        type Case<'a> = (&'a [&'a str], Environment<'a>, Result<&'a [&'a str], &'a str>);
        let cases: &[Case] = &[
            (&[], &[], Ok(&["udp://127.0.0.1:8125"])),
            (&[], &[("STATSD_HOST", "stats"), ("STATSD_PORT", "9")], Ok(&["udp://stats:9"])),
            (&[], &[("STATSD_HOST", "::1")], Ok(&["udp://[::1]:8125"])),
            (&[], &[("STATSD_HOST", "[::1]")], Ok(&["udp://[::1]:8125"])),
            (&["--statsd", "udp://h"], &[("STATSD_HOST", "stats")], Ok(&["udp://h:8125"])),
            (
                &["--statsd", "udp://h", "--statsd", "unix:///s,stdout:"],
                &[],
                Ok(&["udp://h:8125", "unix:///s", "stdout:"]),
            ),
            (&["--print", "table"], &[("STATSD_HOST", "stats")], Ok(&[])),
            (&["--print", "table", "--statsd", "udp://h"], &[], Ok(&["udp://h:8125"])),
            (&[], &[("DD_AGENT_HOST", "agent")], Ok(&["udp://agent:8125"])),
            (&[], &[("DD_AGENT_HOST", "::1"), ("DD_DOGSTATSD_PORT", "9")], Ok(&["udp://[::1]:9"])),
            (&[], &[("DD_DOGSTATSD_PORT", "9")], Ok(&["udp://127.0.0.1:9"])),
            (&[], &[("DD_DOGSTATSD_URL", "udp://agent"), ("DD_AGENT_HOST", "other")], Ok(&["udp://agent:8125"])),
            (&[], &[("DD_DOGSTATSD_URL", "unixgram:///run/dd")], Ok(&["unix:///run/dd"])),
            (&[], &[("DD_DOGSTATSD_URL", "udp://agent"), ("STATSD_PORT", "9")], Ok(&["udp://127.0.0.1:9"])),
            (&[], &[("STATSD_PORT", "x")], Err("STATSD_HOST and STATSD_PORT: 'x' is not a port from 1 to 65535")),
            (&[], &[("STATSD_HOST", "a:99")], Err("STATSD_HOST and STATSD_PORT: ':' cannot stand in a host name")),
            (
                &[],
                &[("DD_AGENT_HOST", "a:99")],
                Err("DD_AGENT_HOST and DD_DOGSTATSD_PORT: ':' cannot stand in a host name"),
            ),
            (&[], &[("DD_DOGSTATSD_URL", "udp://")], Err("DD_DOGSTATSD_URL 'udp://': no host is named")),
            (
                &[],
                &[("DD_DOGSTATSD_URL", "tcp://h")],
                Err("DD_DOGSTATSD_URL 'tcp://h': udp://, unix:// and unixgram:// are understood"),
            ),
        ];
        for (arguments, environment, expected) in cases {
            let found = options(arguments, &[]).unwrap().destinations(|name| look_up(environment, name));
            let found = found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>());
            let expected = expected.map(|urls| urls.iter().map(|&url| url.to_owned()).collect::<Vec<_>>());
            assert_eq!(found, expected.map_err(str::to_owned), "{arguments:?} {environment:?}");
        }
    }

    #[test]
    fn sizes_and_times() {
        for (arguments, line) in [
            (&["--max-datagram", "511"][..], "not a number of bytes from 512 to 8932"),
            (&["--max-datagram", "64k"], "not a number of bytes from 512 to 8932"),
            (&["--spread", "1"], "not a part of the interval from 0 to 0.9"),
            (&["--spread", "-0.1"], "not a part of the interval from 0 to 0.9"),
            (&["--spread", "nan"], "not a part of the interval from 0 to 0.9"),
            (&["--resolve-every", "10ms"], "too short: at least 1s"),
            (&["--max-stuck", "25h"], "too long: at most 1d"),
            (&["--qmp-timeout", "61s"], "too long: at most 1m"),
            (&["--jitter", "-1s"], "not a time: write it like 500ms, 10s or 1m"),
        ] {
            let said = options(arguments, &[]).unwrap_err();
            assert!(said.ends_with(line), "{said}");
        }
        let options = |arguments: &[&str]| options(arguments, &[]).unwrap();
        assert_eq!(options(&["--jitter", "10s"]).jitter(), Ok(Duration::from_secs(10)));
        let said = options(&["--jitter", "11s"]).jitter();
        assert_eq!(said, Err("a --jitter of 11s is longer than the --interval of 10s".into()));
    }

    #[test]
    fn complaints_are_one_line() {
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
                "invalid value 'xen.{domain}' for '--template <TEMPLATE>': {metric} is missing: all gauges would share one name",
            ),
            (
                &["--prefix", ".a"],
                "invalid value '.a' for '--prefix <NAME>': a component before, between or after dots is empty",
            ),
        ] {
            assert_eq!(options(arguments, &[]).unwrap_err(), line);
        }
    }
}
