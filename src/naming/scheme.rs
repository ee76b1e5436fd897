//! The choices that names depend on: `--layout`, `--names`, `--tag-format`, and the components that are reserved.

use crate::naming::sanitize::fold;
use crate::naming::template::Template;

/// Whose names the gauges and domains bear.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Every column, named as in xentop
    Xentop,
    /// The thirteen gauges of the XenMonitor script, at its paths: XenVms.HOST.KEY.VM
    #[value(name = "legacy")]
    XenMonitor,
}

impl Layout {
    /// Where its gauges are unless `--template` says otherwise.
    pub fn template(self, dialect: Dialect) -> Template {
        let template = match (self, dialect) {
            (Layout::Xentop, Dialect::None) => "xen.{host}.{domain}.{metric}",
            (Layout::Xentop, _) => "xen.{metric}",
            (Layout::XenMonitor, _) => "XenVms.{host}.{metric}.{domain}",
        };
        template.parse().expect("the default templates are good")
    }
}

/// `--names`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Letters {
    /// As they are, but for characters that a name cannot have
    Plain,
    /// Lower case, and '_' for '-': for servers that fold them
    Strict,
}

impl Letters {
    /// The same in these letters.
    pub fn spell(self, name: String) -> String {
        if self == Letters::Strict { fold(&name) } else { name }
    }
}

/// `--tag-format`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Host, domain and device in the name, which every server understands
    None,
    /// DogStatsD: xen.mem_k:5|g|#host:h,domain:d
    Datadog,
    /// Graphite: xen.mem_k;host=h;domain=d:5|g
    Graphite,
    /// InfluxDB, Telegraf: xen.mem_k,host=h,domain=d:5|g
    Influx,
    /// SignalFX: xen.mem_k[host=h,domain=d]:5|g
    #[value(name = "signalfx")]
    SignalFx,
}

/// The components that stand in a domain's place, so that no domain may bear them.
pub const RESERVED: [&str; 2] = ["node", "xenmonitor"];
