//! What the options amount to: the settings of each part of the program, checked together. All that can be wrong with
//! them is found here, before anything is started.

use std::error::Error;
use std::ffi::OsString;
use std::time::Duration;
use std::{fmt, fs, io};

use crate::cli::options::Options;
use crate::cli::values::LogFilter;
use crate::collect::poller::Sources;
use crate::metrics::devices::Detail;
use crate::metrics::filter::Filter;
use crate::naming::namer::Namer;
use crate::naming::scheme::{Layout, NamingError, Scheme};
use crate::naming::template::{Identity, Prefix};
use crate::report::selection::{OnVanish, Selection};
use crate::report::{self, Print, TableSettings};
use crate::statsd::destination::{DEFAULT_PORT, Destination};
use crate::statsd::pacing::Timing;
use crate::statsd::{self};

/// The largest datagram that collectd reads whole.
const MAX_COLLECTD_DATAGRAM: usize = 4095;

/// Two hosts may send a domain's metrics by the same names. Zeros from the host that it left would then be taken for
/// values from the other.
const NO_HOST_IN_NAMES: &str = "metric names do not contain this host: hosts share the names of their own metrics, and no \
    zeros are sent when a domain or device disappears, as the domain may run on another host (to send them: --on-vanish \
    zero)";

/// The settings of each part of the program.
#[derive(Debug)]
pub struct Config {
    /// Only check that everything needed is available.
    pub check: bool,
    /// Drop no privileges.
    pub keep_privileges: bool,
    /// What is logged.
    pub log: LogFilter,
    /// When to poll.
    pub polls: Polls,
    /// Where readings come from.
    pub sources: Sources,
    /// What is made of them.
    pub report: report::Settings,
    /// How gauges are delivered.
    pub statsd: statsd::Settings,
    /// To be logged at the start: settings that are valid, but may not do what is wanted.
    pub warnings: Vec<String>,
}

/// When to poll, and when to stop.
#[derive(Debug, Clone)]
pub struct Polls {
    /// Time between two polls.
    pub interval: Duration,
    /// Poll at multiples of the interval by the wall clock.
    pub align: bool,
    /// Polls are later by up to this, which depends on the host's name.
    pub jitter: Duration,
    /// How many polls to make; `None` for no limit.
    pub count: Option<u64>,
    /// No poll may take longer.
    pub timeout: Option<Duration>,
    /// Whether to retry if the first poll fails because Xen or libxenstat is not available yet.
    pub wait_for_xen: bool,
}

/// Why options cannot be used together, or on this host. Its text is one line.
#[derive(Debug)]
pub enum ConfigError {
    /// A variable that other programs use too has a bad value. What it is called, with its value where there is one.
    Variable(String, Box<dyn Error + Send + Sync>),
    /// `--jitter` and `--interval`.
    Jitter(Duration, Duration),
    /// `--watch` and a `--print` that is no table.
    WatchedPrint,
    /// `--layout legacy` and `--detail`.
    LegacyDetail,
    /// Names of gauges cannot be made of these options.
    Naming(NamingError),
    /// The kernel's name for this host cannot be read.
    HostName(io::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Variable(name, error) => write!(f, "{name}: {error}"),
            ConfigError::Jitter(jitter, interval) => {
                write!(f, "a --jitter of {jitter:?} is longer than the --interval of {interval:?}")
            }
            ConfigError::WatchedPrint => f.write_str("--watch shows a table: leave out --print, or use --print table"),
            ConfigError::LegacyDetail => f.write_str("--layout legacy has no metrics of --detail"),
            ConfigError::Naming(error) => error.fmt(f),
            ConfigError::HostName(error) => {
                write!(f, "cannot read the host name ({error}): set it with --host")
            }
        }
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ConfigError::Variable(_, error) => Some(&**error),
            ConfigError::Naming(error) => Some(error),
            ConfigError::HostName(error) => Some(error),
            ConfigError::Jitter(..) | ConfigError::WatchedPrint | ConfigError::LegacyDetail => None,
        }
    }
}

impl Config {
    /// Checks everything that can be wrong with the options. `env` reads the environment.
    pub fn resolve(options: Options, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, ConfigError> {
        let variable = |name: &str| {
            let value = env(name).filter(|value| !value.is_empty());
            value.map(|value| value.to_string_lossy().into_owned())
        };
        let print = match options.print {
            Some(Print::Json | Print::Statsd) if options.watch => return Err(ConfigError::WatchedPrint),
            _ if options.watch => Some(Print::Table),
            print => print,
        };
        let destinations = destinations(options.statsd, print.is_some(), variable)?;
        if options.jitter > options.interval {
            return Err(ConfigError::Jitter(options.jitter, options.interval));
        }
        let max_datagram = options.max_datagram;
        let mut warnings = Vec::new();
        if max_datagram.longest() > MAX_COLLECTD_DATAGRAM && destinations.iter().any(Destination::is_lossy) {
            warnings.push(format!(
                "--max-datagram exceeds the {MAX_COLLECTD_DATAGRAM} bytes of a datagram that collectd reads"
            ));
        }
        let prefix = prefix(options.prefix, variable)?;
        let sends_names = !destinations.is_empty() || matches!(print, Some(Print::Json | Print::Statsd));
        let host = match options.host {
            Some(host) => host,
            None => {
                let host = host_name()?;
                if sends_names && is_placeholder(&host) {
                    warnings.push(format!(
                        "this host is called '{host}', as other hosts may be, which would share the names of its \
                         metrics: set another with --host"
                    ));
                }
                host
            }
        };
        if options.layout == Layout::Legacy && !options.detail.is_empty() {
            return Err(ConfigError::LegacyDetail);
        }
        let scheme = Scheme {
            template: &options.template.unwrap_or_else(|| options.layout.template(options.tag_format)),
            prefix: prefix.as_ref(),
            host: &host,
            layout: options.layout,
            charset: options.names,
            tag_format: options.tag_format,
            tag_uuid: options.tag_uuid,
            tags: &options.tag,
        };
        let namer = Namer::new(&scheme).map_err(ConfigError::Naming)?;
        let on_vanish = options.on_vanish.unwrap_or_else(|| {
            if scheme.names_host() {
                return OnVanish::Zero;
            }
            if sends_names {
                warnings.push(NO_HOST_IN_NAMES.to_owned());
            }
            OnVanish::Keep
        });
        // xentop reads vcpus, and so omits a domain whose vcpus are gone (fact 12); the table does as xentop.
        let vcpus = Detail::Vcpus.is_among(&options.detail) || matches!(print, Some(Print::Json | Print::Table));
        let flushes = Detail::Vbds.is_among(&options.detail) || matches!(print, Some(Print::Json)) || options.watch;
        let pcpus = Detail::Pcpus.is_among(&options.detail);
        let runstates = Detail::Runstates.is_among(&options.detail);
        let memory = Detail::Memory.is_among(&options.detail);
        let uuids = namer.identity() == Identity::Uuid || options.tag_uuid || matches!(print, Some(Print::Json));
        let selection = Selection {
            namer,
            layout: options.layout,
            details: options.detail,
            filter: Filter::new(&options.include, &options.exclude, &options.metrics, &options.no_metrics),
            on_vanish,
            net_view: options.net_view,
        };
        let count = if options.once { Some(1) } else { options.count };
        Ok(Self {
            check: options.check,
            keep_privileges: options.keep_privileges,
            log: options.log,
            polls: Polls {
                interval: options.interval,
                align: options.align,
                // With a count somebody waits for the polls.
                jitter: if count.is_some() && !options.align { Duration::ZERO } else { options.jitter },
                count,
                timeout: options.poll_timeout,
                wait_for_xen: options.wait_for_xen,
            },
            sources: Sources {
                libxenstat: options.libxenstat,
                vcpus,
                pcpus,
                runstates,
                uuids,
                memory,
                vifs: options.vifs,
                disks: options.disks,
                flushes,
                // Half an interval is left for the rest, so that no poll is skipped because of QEMU.
                qmp_timeout: options.qmp_timeout.min(options.interval / 2),
            },
            report: report::Settings {
                host,
                selection,
                print,
                table: TableSettings { watch: options.watch, order: options.sort, dom0_first: options.dom0_first },
            },
            statsd: statsd::Settings {
                destinations,
                timing: Timing {
                    interval: options.interval,
                    spread: options.spread,
                    resolve_every: options.resolve_every,
                },
                max_datagram,
            },
            warnings,
        })
    }
}

/// Where to send, if anywhere. Without `--statsd` the variables of other clients are used: those of statsd's, or if
/// none of them is set those of Datadog's.
fn destinations(
    statsd: Vec<Destination>,
    prints: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Vec<Destination>, ConfigError> {
    if !statsd.is_empty() || prints {
        return Ok(statsd);
    }
    let [of_statsd, of_datadog] = [("STATSD_HOST", "STATSD_PORT"), ("DD_AGENT_HOST", "DD_DOGSTATSD_PORT")];
    let has_statsd = variable(of_statsd.0).is_some() || variable(of_statsd.1).is_some();
    if let Some(url) = variable("DD_DOGSTATSD_URL").filter(|_| !has_statsd) {
        let destination = match url.parse::<Destination>() {
            Ok(destination) if !destination.is_stream() => Ok(vec![destination]),
            Ok(_) => Err("unsupported scheme: use udp://, unix:// or unixgram://".into()),
            Err(error) => Err(error.into()),
        };
        return destination.map_err(|error| ConfigError::Variable(format!("DD_DOGSTATSD_URL '{url}'"), error));
    }
    let (host, port) = if has_statsd { of_statsd } else { of_datadog };
    let destination = Destination::udp(
        &variable(host).unwrap_or_else(|| "127.0.0.1".into()),
        &variable(port).unwrap_or_else(|| DEFAULT_PORT.to_string()),
    );
    match destination {
        Ok(destination) => Ok(vec![destination]),
        Err(error) => Err(ConfigError::Variable(format!("{host} and {port}"), error.into())),
    }
}

/// `--prefix`, or else STATSD_PREFIX.
fn prefix(prefix: Option<Prefix>, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Prefix>, ConfigError> {
    match (prefix, variable("STATSD_PREFIX")) {
        (None, Some(prefix)) => match prefix.parse::<Prefix>() {
            Ok(prefix) => Ok(Some(prefix)),
            Err(error) => Err(ConfigError::Variable(format!("STATSD_PREFIX '{prefix}'"), error.into())),
        },
        (prefix, _) => Ok(prefix),
    }
}

/// What the kernel calls this host.
fn host_name() -> Result<String, ConfigError> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").map_err(ConfigError::HostName)?;
    Ok(name.trim().to_owned())
}

/// Whether this is what hosts are called whose name was never set.
fn is_placeholder(host: &str) -> bool {
    ["localhost", "localhost.localdomain", "(none)"].contains(&host.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::name::DomainName;

    type Environment<'a> = &'a [(&'a str, &'a str)];

    fn config(arguments: &[&str], environment: Environment) -> Result<Config, String> {
        let options = Options::read(["xenmonitor", "--host", "xen1"].iter().chain(arguments), |_| None).unwrap();
        let env = |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Config::resolve(options, env).map_err(|error| error.to_string())
    }

    /// The table that is watched shows each disk's, after a key.
    #[test]
    fn flushes_are_read_where_they_may_be_shown() {
        for (arguments, flushes) in [
            (&["--detail", "vcpus,vifs,rates"][..], false),
            (&["--print", "table"], false),
            (&["--detail", "vbds"], true),
            (&["--detail", "all"], true),
            (&["--print", "json"], true),
            (&["--watch"], true),
        ] {
            assert_eq!(config(arguments, &[]).unwrap().sources.flushes, flushes, "{arguments:?}");
        }
    }

    #[test]
    fn destinations_from_option_and_environment() {
        type Case<'a> = (&'a [&'a str], Environment<'a>, Result<&'a [&'a str], &'a str>);
        let cases: &[Case] = &[
            (&[], &[], Ok(&["udp://127.0.0.1:8125"])),
            (&[], &[("STATSD_HOST", "stats"), ("STATSD_PORT", "9")], Ok(&["udp://stats:9"])),
            (&[], &[("STATSD_HOST", "")], Ok(&["udp://127.0.0.1:8125"])),
            (&[], &[("STATSD_HOST", "::1")], Ok(&["udp://[::1]:8125"])),
            (&[], &[("STATSD_HOST", "[::1]")], Ok(&["udp://[::1]:8125"])),
            (&["--statsd", "udp://h"], &[("STATSD_HOST", "stats")], Ok(&["udp://h:8125"])),
            (
                &["--statsd", "udp://h", "--statsd", "unix:///s,tcp://h"],
                &[],
                Ok(&["udp://h:8125", "unix:///s", "tcp://h:8125"]),
            ),
            (&["--print", "table"], &[("STATSD_HOST", "stats")], Ok(&[])),
            (&["--watch"], &[("STATSD_HOST", "stats")], Ok(&[])),
            (&["--print", "table", "--statsd", "udp://h"], &[], Ok(&["udp://h:8125"])),
            (&[], &[("DD_AGENT_HOST", "agent")], Ok(&["udp://agent:8125"])),
            (&[], &[("DD_AGENT_HOST", "::1"), ("DD_DOGSTATSD_PORT", "9")], Ok(&["udp://[::1]:9"])),
            (&[], &[("DD_DOGSTATSD_PORT", "9")], Ok(&["udp://127.0.0.1:9"])),
            (&[], &[("DD_DOGSTATSD_URL", "udp://agent"), ("DD_AGENT_HOST", "other")], Ok(&["udp://agent:8125"])),
            (&[], &[("DD_DOGSTATSD_URL", "unixgram:///run/dd")], Ok(&["unix:///run/dd"])),
            (&[], &[("DD_DOGSTATSD_URL", "udp://agent"), ("STATSD_PORT", "9")], Ok(&["udp://127.0.0.1:9"])),
            (
                &[],
                &[("STATSD_PORT", "x")],
                Err("STATSD_HOST and STATSD_PORT: invalid port 'x': must be from 1 to 65535"),
            ),
            (
                &[],
                &[("STATSD_HOST", "a:99")],
                Err("STATSD_HOST and STATSD_PORT: invalid character ':' in the host name"),
            ),
            (
                &[],
                &[("DD_AGENT_HOST", "a:99")],
                Err("DD_AGENT_HOST and DD_DOGSTATSD_PORT: invalid character ':' in the host name"),
            ),
            (&[], &[("DD_DOGSTATSD_URL", "udp://")], Err("DD_DOGSTATSD_URL 'udp://': no host given")),
            (
                &[],
                &[("DD_DOGSTATSD_URL", "tcp://h")],
                Err("DD_DOGSTATSD_URL 'tcp://h': unsupported scheme: use udp://, unix:// or unixgram://"),
            ),
        ];
        for (arguments, environment, expected) in cases {
            let found = config(arguments, environment).map(|config| config.statsd.destinations);
            let found = found.map(|found| found.iter().map(ToString::to_string).collect::<Vec<_>>());
            let expected = expected.map(|urls| urls.iter().map(|&url| url.to_owned()).collect::<Vec<_>>());
            assert_eq!(found, expected.map_err(str::to_owned), "{arguments:?} {environment:?}");
        }
    }

    #[test]
    fn lists_may_have_blanks() {
        for (spaced, plain) in [
            (&["--include", "web*, db*"][..], &["--include", "web*,db*"][..]),
            (&["--exclude", " a ,b"], &["--exclude", "a,b"]),
            (&["--metrics", "cpu_*, node.*"], &["--metrics", "cpu_*,node.*"]),
            (&["--no-metrics", "cpu_*, node.*"], &["--no-metrics", "cpu_*,node.*"]),
            (&["--detail", "vbds, vifs"], &["--detail", "vbds,vifs"]),
            (&["--tag-format", "influx", "--tag", "a=1, b=2"], &["--tag-format", "influx", "--tag", "a=1,b=2"]),
            (&["--statsd", "udp://a, udp://b"], &["--statsd", "udp://a,udp://b"]),
        ] {
            let debug = |arguments| format!("{:?}", config(arguments, &[]).unwrap());
            assert_eq!(debug(spaced), debug(plain), "{spaced:?}");
        }
    }

    #[test]
    fn conflicts() {
        for (arguments, environment, line) in [
            (&["--jitter", "11s"][..], &[][..], "a --jitter of 11s is longer than the --interval of 10s"),
            (&["--watch", "--print", "json"], &[], "--watch shows a table: leave out --print, or use --print table"),
            (&["--layout", "legacy", "--detail", "vbds"], &[], "--layout legacy has no metrics of --detail"),
            (&[], &[("STATSD_PREFIX", ".a")], "STATSD_PREFIX '.a': a component before, between or after dots is empty"),
            (&["--tag-uuid"], &[], "--tag-uuid needs a --tag-format other than none"),
            (&["--template", "{metric}"], &[], "{domain} is missing in --template: all domains would share one name"),
        ] {
            assert_eq!(config(arguments, environment).unwrap_err(), line, "{arguments:?} {environment:?}");
        }
    }

    #[test]
    fn prefix_from_option_and_environment() {
        for (arguments, prefix, name) in [
            (&[][..], "", "xen.xen1.web.cpu_sec"),
            (&[], "dc1.", "dc1.xen.xen1.web.cpu_sec"),
            (&["--prefix", "a.b"], "dc1", "a.b.xen.xen1.web.cpu_sec"),
        ] {
            let config = config(arguments, &[("STATSD_PREFIX", prefix)]).unwrap();
            let names = config.report.selection.namer.names(DomainName { name: "web", uuid: None }, None);
            assert_eq!(names.parts().name("cpu_sec").path, name, "{arguments:?} {prefix}");
        }
    }

    /// With a count somebody waits for the polls, so that they are not put off without need.
    #[test]
    fn jitter_is_for_daemons() {
        for (arguments, seconds) in [
            (&["--jitter", "10s"][..], 10),
            (&["--jitter", "10s", "--count", "2"], 0),
            (&["--jitter", "10s", "--once"], 0),
            (&["--jitter", "10s", "--count", "2", "--align"], 10),
        ] {
            let polls = config(arguments, &[]).unwrap().polls;
            assert_eq!(polls.jitter.as_secs(), seconds, "{arguments:?}");
        }
    }

    #[test]
    fn limits_by_the_interval() {
        for (arguments, milliseconds) in [(&[][..], 1000), (&["--interval", "500ms"], 250), (&["--once"], 1000)] {
            let timeout = config(arguments, &[]).unwrap().sources.qmp_timeout;
            assert_eq!(timeout.as_millis(), milliseconds, "{arguments:?}");
        }
        for (arguments, count) in [(&["--count", "3", "--once"][..], Some(1)), (&["--count", "3"], Some(3))] {
            assert_eq!(config(arguments, &[]).unwrap().polls.count, count, "{arguments:?}");
        }
    }

    #[test]
    fn datagrams_too_large_for_collectd_are_warned_of() {
        for (arguments, warnings) in [
            (&["--max-datagram", "4096"][..], 1),
            (&["--max-datagram", "4095"], 0),
            (&["--max-datagram", "4096", "--statsd", "tcp://h"], 0),
            (&["--max-datagram", "4096", "--print", "table"], 0),
        ] {
            assert_eq!(config(arguments, &[]).unwrap().warnings.len(), warnings, "{arguments:?}");
        }
    }
}
