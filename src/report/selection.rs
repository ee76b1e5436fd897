//! Which metrics are sent, and by which names.

use crate::metrics::delta::{NetView, Sample};
use crate::metrics::devices::Detail;
use crate::metrics::domain::DOMAIN;
use crate::metrics::filter::Filter;
use crate::model::device::DeviceKind;
use crate::model::snapshot::{Domain, Snapshot};
use crate::naming::name::DomainName;
use crate::naming::namer::Namer;
use crate::naming::scheme::Layout;
use crate::naming::template::Identity;
use crate::naming::unique::{DOMAIN_0, Taken};
use crate::statsd::batch::BatchWriter;
use crate::statsd::datagrams::NETWORK_DATAGRAM;

/// `--on-vanish`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnVanish {
    /// Send 0 for gauges and intervals at three polls, then stop; keep counters
    Zero,
    /// Keep the last values
    Keep,
}

/// Which metrics are sent, and by which names.
#[derive(Debug)]
pub struct Selection {
    /// Makes whole names.
    pub namer: Namer,
    /// `--layout`.
    pub layout: Layout,
    /// `--detail`.
    pub details: Vec<Detail>,
    /// Which domains and metrics.
    pub filter: Filter,
    /// `--on-vanish`.
    pub on_vanish: OnVanish,
    /// `--net-view`.
    pub net_view: NetView,
}

impl Selection {
    /// What identifies a domain, whatever its domid: its raw name, or with `{uuid}` its UUID. `None` while that is
    /// unknown, or another domain is the VM, as during a migration.
    pub fn identity<'a>(&self, domain: &'a Domain) -> Option<&'a [u8]> {
        match self.namer.identity() {
            Identity::Name => Some(&domain.name),
            Identity::Uuid if domain.is_migrating() => None,
            Identity::Uuid => {
                let of_dom0 = (domain.id == 0).then_some(DOMAIN_0);
                domain.uuid.as_ref().map(|uuid| uuid.as_str().as_bytes()).or(of_dom0)
            }
        }
    }

    /// The name in metrics of each domain: the one that it holds, or one that cannot be confused with a reserved one nor
    /// with a view of the `others`; none without an identity.
    pub fn metric_names(
        &self,
        domains: &[&Domain],
        held: &[Option<&str>],
        others: &[String],
        reserved: &[&str],
    ) -> Vec<String> {
        let (mut named, mut holds) = (Vec::new(), Vec::new());
        for (domain, held) in domains.iter().zip(held.iter().copied().chain(std::iter::repeat(None))) {
            if let Some(identity) = self.identity(domain) {
                named.push((identity, domain.id));
                holds.push(held);
            }
        }
        let mut names = self.namer.domains(&named, Taken { held: &holds, others, freed: reserved }).into_iter();
        let name = |domain: &&Domain| self.identity(domain).and_then(|_| names.next()).unwrap_or_default();
        domains.iter().map(name).collect()
    }

    /// Whether a domain is selected, is not being migrated, and has a name in metrics.
    pub fn has_metrics(&self, domain: &Domain, metric_name: &str) -> bool {
        self.filter.domain(&domain.name) && !domain.is_migrating() && !metric_name.is_empty()
    }

    /// Whether a detail passes the filter. `joined` is a buffer.
    pub fn has_detail(&self, device: Option<(DeviceKind, &str)>, metric: &str, joined: &mut String) -> bool {
        match device {
            Some((kind, device)) => self.filter.metric(&[kind.as_str(), device, metric], joined),
            None => self.filter.metric(&[metric], joined),
        }
    }

    /// One line as it would be sent: the CPU time of the last domain, as a rule a guest.
    pub fn example(&self, node: &Snapshot) -> Option<String> {
        let row = DOMAIN.iter().find(|row| row.metric.name == "cpu_sec")?;
        let metric = row.name_in(self.layout).filter(|metric| self.filter.metric(&[metric], &mut String::new()))?;
        let domains: Vec<&Domain> = node.domains.iter().collect();
        let mut domains = domains.iter().zip(self.metric_names(&domains, &[], &[], &[]));
        let (domain, metric_name) = domains.rfind(|(domain, name)| self.has_metrics(domain, name))?;
        let value = row.value_in(self.layout, &Sample::new(domain, node, None, None, self.net_view))?;
        let mut statsd = BatchWriter::new(NETWORK_DATAGRAM);
        let domain_name = DomainName { name: &metric_name, uuid: domain.uuid.as_ref() };
        statsd.names(self.namer.names(domain_name, None).parts());
        statsd.gauge(metric, value);
        Some(String::from_utf8_lossy(statsd.take().text()).trim_end().to_owned())
    }
}
