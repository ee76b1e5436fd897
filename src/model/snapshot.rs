//! One reading of a host, as plain owned data.
//!
//! Names are libxenstat's without their prefix, units are its own: bytes, nanoseconds, counts since the domain or
//! device came up. A sentinel of libxenstat is an `Option` here. Values that are documented as libxenstat's may come
//! from another source, with the same meaning.

use std::time::{Duration, Instant};

use crate::model::uuid::Uuid;

/// The host and every domain on it, as of `xenstat_get_node`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// `xenstat_node_xen_version`, such as `4.17.7`.
    pub xen_version: String,
    /// `xenstat_node_tot_mem`: memory of the host in bytes.
    pub tot_mem: u64,
    /// `xenstat_node_free_mem`: bytes that belong to no domain.
    pub free_mem: u64,
    /// `xenstat_node_num_cpus`: physical CPUs.
    pub num_cpus: u32,
    /// `xenstat_node_cpu_hz`: nominal frequency; `None` where it is that of a timer.
    pub cpu_hz: Option<u64>,
    /// The physical CPUs; `None` if they were not requested, or could not be read.
    pub pcpus: Option<Pcpus>,
    /// How long domains were in which state; `None` if that was not requested, or could not be read.
    pub runstates: Option<Runstates>,
    /// What xenstore has of the memory of domains, by domid; of those for which it was requested and could be read.
    pub memory: Vec<(u32, Memory)>,
    /// By domid, which is libxenstat's order.
    pub domains: Vec<Domain>,
    /// Collectors that worked; anything else is unknown, not 0.
    pub collected: Collectors,
    /// VBDs come from their backends, not from libxenstat.
    pub own_disks: bool,
    /// libxenstat's `rd_sects` are garbage, and left out.
    pub miscounts_read_sectors: bool,
}

/// The physical CPUs. Not from libxenstat.
#[derive(Debug, Clone, PartialEq)]
pub struct Pcpus {
    /// `xc_getcpuinfo`: idle nanoseconds of each CPU, by its number; 0 while it is offline.
    pub idle_ns: Vec<u64>,
    /// When they were read.
    pub read: Moment,
}

impl Snapshot {
    /// The memory of a domain.
    pub fn memory_of(&self, domid: u32) -> Option<&Memory> {
        of_domain(&self.memory, domid)
    }
}

impl Runstates {
    /// That of a domain.
    pub fn of(&self, domid: u32) -> Option<&Runstate> {
        of_domain(&self.of_domains, domid)
    }
}

/// In a list by domid.
fn of_domain<T>(list: &[(u32, T)], domid: u32) -> Option<&T> {
    list.binary_search_by_key(&domid, |(id, _)| *id).ok().map(|place| &list[place].1)
}

/// When something was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// When reading began.
    pub at: Instant,
    /// How long it took.
    pub took: Duration,
}

impl Moment {
    /// The time of two readings whose results are combined.
    pub fn and(self, other: Self) -> Self {
        let at = self.at.min(other.at);
        Self { at, took: (self.at + self.took).max(other.at + other.took) - at }
    }
}

/// The parts of a reading that can be requested, and can fail, one by one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collectors {
    /// `XENSTAT_VCPU`: the vcpus. Their number is always known.
    pub vcpu: bool,
    /// `XENSTAT_NETWORK`: the VIFs.
    pub network: bool,
    /// `XENSTAT_VBD`: the VBDs. They may still be unknown for single domains.
    pub vbd: bool,
}

impl Collectors {
    /// Everything.
    pub const ALL: Self = Self { vcpu: true, network: true, vbd: true };

    /// Nothing but the domains themselves.
    pub const NONE: Self = Self { vcpu: false, network: false, vbd: false };
}

/// One domain; Domain-0 is one too.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Domain {
    /// `xenstat_domain_id`: unique among running domains, and new after every reboot.
    pub id: u32,
    /// `xenstat_domain_name`: any bytes but NUL. Untrusted.
    pub name: Box<[u8]>,
    /// The UUID of its VM, which stays the same over renames, reboots and migrations; `None` if it was not requested or
    /// is unknown. Not from libxenstat.
    pub uuid: Option<Uuid>,
    /// The six `xenstat_domain_*` predicates.
    pub state: State,
    /// `xenstat_domain_cpu_ns`: CPU time of all vcpus since the domain was built.
    pub cpu_ns: u64,
    /// `xenstat_domain_num_vcpus`: 0 while the domain is being built.
    pub num_vcpus: u32,
    /// `xenstat_domain_cur_mem`: bytes.
    pub cur_mem: u64,
    /// `xenstat_domain_max_mem`: bytes; `None` is Xen's "no limit".
    pub max_mem: Option<u64>,
    /// `xenstat_domain_ssid`: the security label's number.
    pub ssid: u32,
    /// By vcpu number.
    pub vcpus: Vec<Vcpu>,
    /// `xenstat_domain_network`.
    pub vifs: Vec<Vif>,
    /// `xenstat_domain_vbd`; `None` if they were not requested, or could not be read for this domain.
    pub vbds: Option<Vec<Vbd>>,
}

impl Domain {
    /// Whether it is being migrated: xl and libxl give its two halves such names for some seconds.
    pub fn is_migrating(&self) -> bool {
        self.name.ends_with(b"--incoming") || self.name.ends_with(b"--migratedaway")
    }
}

/// What xenstore has of a domain's memory, in KiB; `None` where there is no such number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// `memory/target`: what the balloon driver is asked to keep.
    pub target_k: Option<u64>,
    /// `memory/static-max`: the most that the domain was built for.
    pub static_max_k: Option<u64>,
    /// `data/meminfo_total`. The guest writes it, like those that follow: any number.
    pub guest_total_k: Option<u64>,
    /// `data/meminfo_free`.
    pub guest_free_k: Option<u64>,
    /// `memory/meminfo`, of Qubes.
    pub guest_used_k: Option<u64>,
}

/// How long domains were in which state. Not from libxenstat.
#[derive(Debug, Clone, PartialEq)]
pub struct Runstates {
    /// By domid; of those for which it could be read.
    pub of_domains: Vec<(u32, Runstate)>,
    /// When they were read.
    pub read: Moment,
}

/// `xc_get_runstate_info`, which XenServer and XCP-ng have: how long a domain was in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Runstate {
    /// Changes of the state that Xen did not see.
    pub missed_changes: u32,
    /// Nanoseconds by `DOMAIN_RUNSTATE_*`: full run, full contention, concurrency hazard, blocked, partial run, partial
    /// contention.
    pub time_ns: [u64; 6],
}

/// The state of a domain. Several may be true: a paused domain may be blocked as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct State {
    pub running: bool,
    pub blocked: bool,
    pub paused: bool,
    pub shutdown: bool,
    pub crashed: bool,
    pub dying: bool,
}

/// One virtual CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vcpu {
    /// `xenstat_vcpu_online`.
    pub online: bool,
    /// `xenstat_vcpu_ns`: CPU time since the domain was built.
    pub ns: u64,
}

/// One virtual network interface, from dom0's perspective: what it transmits, the guest receives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Vif {
    /// `xenstat_network_id`: the guest's number for it, 0 for its `eth0`.
    pub id: u32,
    pub rbytes: u64,
    pub rpackets: u64,
    pub rerrs: u64,
    pub rdrop: u64,
    pub tbytes: u64,
    pub tpackets: u64,
    pub terrs: u64,
    pub tdrop: u64,
}

impl Vif {
    /// Adds the counters of the other interface of a card. An HVM guest's network card is two interfaces: netback's,
    /// and the tap of the emulated card, which the guest uses until its PV driver is loaded.
    pub fn add(&mut self, other: &Self) {
        for (own, other) in [
            (&mut self.rbytes, other.rbytes),
            (&mut self.rpackets, other.rpackets),
            (&mut self.rerrs, other.rerrs),
            (&mut self.rdrop, other.rdrop),
            (&mut self.tbytes, other.tbytes),
            (&mut self.tpackets, other.tpackets),
            (&mut self.terrs, other.terrs),
            (&mut self.tdrop, other.tdrop),
        ] {
            *own = own.saturating_add(other);
        }
    }
}

/// One virtual block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vbd {
    /// `xenstat_vbd_type`: 1 BlkBack, 2 BlkTap, 3 Tapdisk3, 0 QEMU's or another's.
    pub kind: u32,
    /// `xenstat_vbd_dev`: Xen's virtual device number, 51712 for `xvda`.
    pub dev: u32,
    /// What `counters` are the sum of.
    pub access: AccessPath,
    /// `None` if `xenstat_vbd_error` is set: libxenstat then returns another disk's counters.
    pub counters: Option<VbdCounters>,
    /// When they were read, if not from libxenstat.
    pub read: Option<Moment>,
}

/// How a guest reaches a disk. An HVM guest may have two paths to one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccessPath {
    /// Through a backend for its PV driver, the usual case.
    #[default]
    Pv,
    /// Through an emulated disk alone.
    Emulated,
    /// Through both.
    Both,
}

/// Requests and 512-byte sectors since the device was attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VbdCounters {
    /// `xenstat_vbd_oo_reqs`: requests that had to wait because the ring was full; QEMU counts none.
    pub oo_reqs: Option<u64>,
    /// `xenstat_vbd_rd_reqs`.
    pub rd_reqs: u64,
    /// `xenstat_vbd_wr_reqs`.
    pub wr_reqs: u64,
    /// `xenstat_vbd_rd_sects`; `None` in the releases where it is garbage.
    pub rd_sects: Option<u64>,
    /// `xenstat_vbd_wr_sects`.
    pub wr_sects: u64,
    /// How long reads took. Not from libxenstat, like the three that follow; `None` if the source does not know.
    pub rd_time: Option<Time>,
    /// How long writes took.
    pub wr_time: Option<Time>,
    /// Flushes of the disk's cache.
    pub flush_reqs: Option<u64>,
    /// Requests that failed.
    pub errs: Option<u64>,
}

impl VbdCounters {
    /// The counters of a backend and of the emulated disk beside it, which has no ring that could be full.
    pub fn sum(&self, emulated: &Self) -> Self {
        let both = |own: Option<u64>, emulated: Option<u64>| Some(own?.saturating_add(emulated?));
        let times = |own: Option<Time>, emulated: Option<Time>| {
            let (own, emulated) = (own?, emulated?);
            Some(Time { reqs: own.reqs.saturating_add(emulated.reqs), ns: own.ns.saturating_add(emulated.ns) })
        };
        Self {
            oo_reqs: self.oo_reqs,
            rd_reqs: self.rd_reqs.saturating_add(emulated.rd_reqs),
            wr_reqs: self.wr_reqs.saturating_add(emulated.wr_reqs),
            rd_sects: both(self.rd_sects, emulated.rd_sects),
            wr_sects: self.wr_sects.saturating_add(emulated.wr_sects),
            rd_time: times(self.rd_time, emulated.rd_time),
            wr_time: times(self.wr_time, emulated.wr_time),
            flush_reqs: both(self.flush_reqs, emulated.flush_reqs),
            errs: both(self.errs, emulated.errs),
        }
    }
}

/// Completed requests, and how long they took together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Time {
    pub reqs: u64,
    pub ns: u64,
}
