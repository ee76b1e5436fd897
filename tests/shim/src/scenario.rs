//! The scenario file: parsing, and the state of the host at one poll. No side effects.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::PathBuf;

use serde::Deserialize;

use crate::page;
use crate::value::{Amount, Counter, Errno, Hex, Moment, Polls, Vcpus};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    #[serde(default)]
    pub clock_step: Amount,
    #[serde(default)]
    pub clock_runs: bool,
    #[serde(default)]
    sparse_paging_bug: bool,
    #[serde(default)]
    pub host: Host,
    #[serde(default, rename = "domain")]
    domains: Vec<Domain>,
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
    #[serde(default, rename = "init_fault")]
    pub init_faults: Vec<Fault>,
    #[serde(default, rename = "control_open_fault")]
    pub control_open_faults: Vec<Fault>,
    #[serde(default, rename = "cpu_fault")]
    pub cpu_faults: Vec<Fault>,
    #[serde(default, rename = "runstate_fault")]
    pub runstate_faults: Vec<Fault>,
    pub store_log: Option<PathBuf>,
    #[serde(default)]
    pub store_restarts: Polls,
    #[serde(default, rename = "store_open_fault")]
    pub store_open_faults: Vec<Fault>,
    #[serde(default, rename = "store_fault")]
    pub store_faults: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Host {
    pub xen_version: CString,
    pub tot_mem: Counter,
    pub free_mem: Counter,
    /// What Xen itself uses: then free_mem is what it and the domains leave.
    pub xen_mem: Option<Counter>,
    pub cpus: u32,
    pub cpu_hz: Amount,
    /// Of each CPU in turn.
    pub idle_ns: Vec<Counter>,
    pub page_size: Amount,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    id: u32,
    /// With `count` the table stands for that number of domains.
    count: Option<u32>,
    #[serde(default = "one")]
    id_step: u32,
    name: Option<String>,
    name_hex: Option<Hex>,
    #[serde(default)]
    rename: Vec<Rename>,
    #[serde(default = "of_its_own")]
    vm: Vm,
    #[serde(default)]
    pub runstate: [Counter; 6],
    #[serde(default)]
    pub missed_changes: Counter,
    /// What else xenstore has below the domain's directory.
    #[serde(default)]
    store: BTreeMap<String, String>,
    #[serde(default = "blocked")]
    state: Vec<State>,
    #[serde(default)]
    state_cycle: Vec<Vec<State>>,
    #[serde(default)]
    pub cpu_ns: Counter,
    #[serde(default = "one_vcpu")]
    pub vcpus: Vcpus,
    #[serde(default = "half_a_gig")]
    pub cur_mem: Counter,
    pub max_mem: Option<Counter>,
    #[serde(default)]
    pub ssid: u32,
    #[serde(default, rename = "network")]
    pub networks: Vec<Network>,
    #[serde(default, rename = "vbd")]
    pub vbds: Vec<Vbd>,
    #[serde(default)]
    from_poll: u64,
    until_poll: Option<u64>,
}

/// `/local/domain/DOMID/vm` in xenstore.
#[derive(Deserialize)]
#[serde(untagged)]
enum Vm {
    /// This text.
    Text(String),
    /// One with a UUID made of the domid, as a toolstack would write; or none.
    Exists(bool),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rename {
    poll: u64,
    name: Option<String>,
    name_hex: Option<Hex>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    id: Option<u32>,
    pub rbytes: Counter,
    pub rpackets: Counter,
    pub rerrs: Counter,
    pub rdrop: Counter,
    pub tbytes: Counter,
    pub tpackets: Counter,
    pub terrs: Counter,
    pub tdrop: Counter,
    from_poll: u64,
    until_poll: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Vbd {
    #[serde(rename = "type", default = "one")]
    pub kind: u32,
    dev: Option<u32>,
    pub error: Polls,
    oo_reqs: Counter,
    rd_reqs: Counter,
    wr_reqs: Counter,
    rd_sects: Counter,
    wr_sects: Counter,
    from_poll: u64,
    until_poll: Option<u64>,
}

/// The numbers that a VBD in error inherits from the VBD before it.
#[derive(Clone, Copy, Default)]
pub struct VbdNumbers {
    pub oo_reqs: u64,
    pub rd_reqs: u64,
    pub wr_reqs: u64,
    pub rd_sects: u64,
    pub wr_sects: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    #[serde(default = "Polls::all")]
    pub at: Polls,
    if_asked: Vec<Flag>,
    pub fail: Option<Errno>,
    pub delay: Amount,
    pub wait_for: Option<PathBuf>,
    pub hang: bool,
    pub stderr: String,
    pub run: String,
    pub system_calls: Vec<i64>,
    pub empty: bool,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Dying = 1,
    Shutdown = 2,
    Blocked = 4,
    Crashed = 8,
    Paused = 16,
    Running = 32,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Flag {
    Vcpu = 1,
    Network = 2,
    XenVersion = 4,
    Vbd = 8,
}

/// A domain, in the order in which Xen lists domains.
pub struct Listed<'a> {
    pub id: u32,
    pub index: u64,
    pub domain: &'a Domain,
    /// Already listed on an earlier page.
    pub repeated: bool,
}

impl Scenario {
    /// Parses a scenario; an error begins with the line number, as in `12: unknown field`.
    pub fn parse(text: &str) -> Result<Scenario, String> {
        let scenario: Scenario = toml::from_str(text).map_err(|error| {
            let line = 1 + text[..error.span().map_or(0, |span| span.start)].matches('\n').count();
            format!("{line}: {}", error.message().replace('\n', " "))
        })?;
        let Scenario { init_faults, control_open_faults, cpu_faults, runstate_faults, .. } = &scenario;
        let of_xen = [init_faults, control_open_faults, cpu_faults, runstate_faults];
        let others = of_xen.into_iter().chain([&scenario.store_open_faults, &scenario.store_faults]);
        if others.flatten().any(|fault| fault.empty || !fault.if_asked.is_empty()) {
            return Err(" `empty` and `if_asked` are for a [[fault]], of xenstat_get_node".into());
        }
        for Domain { id, name, name_hex, rename, .. } in &scenario.domains {
            let names = rename.iter().map(|rename| (&rename.name, &rename.name_hex)).chain([(name, name_hex)]);
            for (name, hex) in names {
                let nul = name.as_ref().is_some_and(|name| name.contains('\0'))
                    || hex.as_ref().is_some_and(|hex| hex.0.contains(&0));
                if nul || (name.is_some() && hex.is_some()) {
                    return Err(format!(" domain {id}: a name is `name` or `name_hex`, and holds no NUL"));
                }
            }
        }
        Ok(scenario)
    }

    /// The domains of one poll by domid, in pages of 256 as the hypervisor returns them.
    pub fn list(&self, poll: u64) -> Vec<Listed<'_>> {
        const PAGE: usize = 256;
        let mut domains = Vec::new();
        for domain in self.domains.iter().filter(|domain| alive(poll, domain.from_poll, domain.until_poll)) {
            domains.extend((0..domain.count.unwrap_or(1)).map(|index| {
                let id = domain.id.wrapping_add(index.wrapping_mul(domain.id_step));
                Listed { id, index: index.into(), domain, repeated: false }
            }));
        }
        domains.sort_by_key(|domain| domain.id);
        if !self.sparse_paging_bug {
            return domains;
        }
        // Once it has N domains libxenstat requests the page that starts at domid N, whatever their domids.
        let (mut paged, mut seen) = (Vec::new(), 0);
        loop {
            let first = domains.partition_point(|domain| (domain.id as usize) < paged.len());
            let end = domains.len().min(first + PAGE);
            let page = (first..end).map(|place| Listed { repeated: place < seen, ..domains[place] });
            paged.extend(page);
            seen = seen.max(end);
            if end - first < PAGE {
                return paged;
            }
        }
    }
}

impl Domain {
    /// The name at a poll, with the final NUL.
    pub fn name_at(&self, id: u32, now: Moment) -> Vec<u8> {
        let renamed = self.rename.iter().filter(|rename| rename.poll <= now.poll).max_by_key(|rename| rename.poll);
        let (name, hex) = match renamed {
            Some(rename) => (&rename.name, &rename.name_hex),
            None => (&self.name, &self.name_hex),
        };
        let mut bytes = match (name, hex) {
            (_, Some(hex)) => hex.0.clone(),
            (Some(name), _) if self.count.is_some() => name.replace("{i}", &now.index.to_string()).into_bytes(),
            (Some(name), _) => name.clone().into_bytes(),
            (None, None) => format!("dom{id}").into_bytes(),
        };
        bytes.push(0);
        bytes
    }

    /// `/local/domain/DOMID/vm` in xenstore. As with xl, Domain-0 has none unless it is given.
    fn vm_at(&self, id: u32) -> Option<String> {
        match &self.vm {
            Vm::Text(text) => Some(text.clone()),
            Vm::Exists(exists) => (*exists && id != 0).then(|| format!("/vm/00000000-0000-4000-8000-{id:012x}")),
        }
    }

    /// What xenstore has at a key below `/local/domain/DOMID`.
    pub fn store_at(&self, id: u32, key: &str) -> Option<String> {
        if key == "vm" { self.vm_at(id) } else { self.store.get(key).cloned() }
    }

    pub fn state_at(&self, poll: u64) -> u32 {
        let states = match self.state_cycle.len() {
            0 => &self.state,
            length => &self.state_cycle[(poll % length as u64) as usize],
        };
        states.iter().fold(0, |bits, state| bits | *state as u32)
    }
}

impl Network {
    pub fn is_alive(&self, poll: u64) -> bool {
        alive(poll, self.from_poll, self.until_poll)
    }

    pub fn id_at(&self, place: usize) -> u32 {
        self.id.unwrap_or(place as u32)
    }
}

impl Vbd {
    pub fn is_alive(&self, poll: u64) -> bool {
        alive(poll, self.from_poll, self.until_poll)
    }

    /// The default is xvda, xvdb, ...
    pub fn dev_at(&self, place: usize) -> u32 {
        self.dev.unwrap_or(51712 + 16 * place as u32)
    }

    pub fn numbers_at(&self, now: Moment) -> VbdNumbers {
        VbdNumbers {
            oo_reqs: self.oo_reqs.at(now),
            rd_reqs: self.rd_reqs.at(now),
            wr_reqs: self.wr_reqs.at(now),
            rd_sects: self.rd_sects.at(now),
            wr_sects: self.wr_sects.at(now),
        }
    }
}

fn alive(poll: u64, from: u64, until: Option<u64>) -> bool {
    from <= poll && until.is_none_or(|until| poll < until)
}

impl Fault {
    /// Whether it applies to a call with these flags: always, or if one of `if_asked` is among them.
    pub fn concerns(&self, flags: u32) -> bool {
        self.if_asked.is_empty() || self.if_asked.iter().any(|flag| flags & *flag as u32 != 0)
    }
}

impl State {
    pub fn within(self, states: u32) -> u32 {
        (states & self as u32 != 0).into()
    }
}

impl Default for Host {
    fn default() -> Host {
        Host {
            xen_version: c"4.17.0".into(),
            tot_mem: Counter::of(64 << 30),
            free_mem: Counter::of(16 << 30),
            xen_mem: None,
            cpus: 16,
            cpu_hz: Amount(2_400_000_000),
            idle_ns: vec![Counter::rising(3_600_000_000_000, 500_000_000)],
            page_size: Amount(page::XC_PAGE_SIZE),
        }
    }
}

fn of_its_own() -> Vm {
    Vm::Exists(true)
}

fn one() -> u32 {
    1
}

fn one_vcpu() -> Vcpus {
    Vcpus::Alike(1)
}

fn blocked() -> Vec<State> {
    vec![State::Blocked]
}

fn half_a_gig() -> Counter {
    Counter::of(512 << 20)
}

#[cfg(test)]
#[path = "scenario_tests.rs"]
mod tests;
