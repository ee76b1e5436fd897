//! The objects that the C side holds pointers to, and how a node is filled from a scenario.

use std::ffi::CString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::AcqRel, Ordering::Release};

use crate::abi::{XENSTAT_NETWORK, XENSTAT_VBD, XENSTAT_VCPU};
use crate::misuse::{Magic, Object, die};
use crate::page;
use crate::scenario::{Listed, Scenario, VbdNumbers};
use crate::value::{Counter, Moment, Vcpus};

macro_rules! objects {
    ($($type:ty: $name:literal, $magic:literal;)*) => {$(
        // SAFETY: the struct below is repr(C), and `magic` is its first field.
        unsafe impl Object for $type {
            const NAME: &str = $name;
            const LIVE: u64 = u64::from_le_bytes(*$magic);
        }
    )*};
}

objects! {
    Handle: "handle", b"xshandle";
    Node: "node", b"xsnode__";
    Domain: "domain", b"xsdomain";
    Vcpu: "vcpu", b"xsvcpu__";
    Network: "network", b"xsnetwrk";
    Vbd: "vbd", b"xsvbd___";
}

#[repr(C)]
pub struct Handle {
    pub magic: Magic,
    pub scenario: Scenario,
    /// Empty until a node was read with XENSTAT_XEN_VERSION, as in the real library.
    pub xen_version: OnceLock<CString>,
    /// Nodes of this handle that are not freed yet.
    pub nodes: AtomicUsize,
    /// Whether the latest call returned NULL.
    pub failed: AtomicBool,
    in_call: AtomicBool,
}

impl Handle {
    pub fn new(scenario: Scenario) -> Handle {
        Handle {
            magic: Magic::of::<Handle>(),
            scenario,
            xen_version: OnceLock::new(),
            nodes: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            in_call: AtomicBool::new(false),
        }
    }

    /// Marks the handle as used by one call: libxenstat is not thread-safe.
    pub fn enter(&self, function: &str) -> InCall<'_> {
        if self.in_call.swap(true, AcqRel) {
            die(format_args!("{function}: another thread is inside a call with the same handle"));
        }
        InCall(self)
    }
}

pub struct InCall<'a>(&'a Handle);

impl Drop for InCall<'_> {
    fn drop(&mut self) {
        self.0.in_call.store(false, Release);
    }
}

#[repr(C)]
pub struct Node {
    magic: Magic,
    /// Outlives the node: `xenstat_uninit` aborts while a node is alive.
    pub handle: *const Handle,
    pub tot_mem: u64,
    pub free_mem: u64,
    pub num_cpus: u32,
    pub cpu_hz: u64,
    pub domains: Vec<Domain>,
}

#[repr(C)]
pub struct Domain {
    magic: Magic,
    pub id: u32,
    pub state: u32,
    pub ssid: u32,
    pub num_vcpus: u32,
    /// With its final NUL.
    pub name: Vec<u8>,
    pub cpu_ns: u64,
    pub cur_mem: u64,
    pub max_mem: u64,
    /// `None` if the node was read without XENSTAT_VCPU.
    pub vcpus: Option<Vec<Vcpu>>,
    pub networks: Vec<Network>,
    pub vbds: Vec<Vbd>,
}

#[repr(C)]
pub struct Vcpu {
    magic: Magic,
    pub online: bool,
    pub ns: u64,
}

#[repr(C)]
pub struct Network {
    magic: Magic,
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

#[repr(C)]
pub struct Vbd {
    magic: Magic,
    pub kind: u32,
    pub dev: u32,
    pub error: bool,
    pub numbers: VbdNumbers,
}

impl Node {
    pub fn read(handle: &Handle, flags: u32, now: Moment, empty: bool) -> Node {
        let scenario = &handle.scenario;
        let listed = if empty { Vec::new() } else { scenario.list(now.poll) };
        let mut last_vbd = VbdNumbers::default();
        let domains: Vec<Domain> =
            listed.iter().map(|listed| Domain::read(listed, flags, now, &mut last_vbd)).collect();
        let tot_mem = memory(&scenario.host.tot_mem, now);
        let used = domains.iter().map(|domain| domain.cur_mem).sum::<u64>();
        Node {
            magic: Magic::of::<Node>(),
            handle,
            tot_mem,
            free_mem: match &scenario.host.xen_mem {
                Some(xen) => tot_mem.saturating_sub(used).saturating_sub(memory(xen, now)),
                None => memory(&scenario.host.free_mem, now),
            },
            num_cpus: scenario.host.cpus,
            cpu_hz: scenario.host.cpu_hz.0,
            domains,
        }
    }

    /// Invalidates every pointer into the node, and overwrites the names.
    pub fn kill(&mut self) {
        self.magic.kill();
        for domain in &mut self.domains {
            domain.magic.kill();
            let length = domain.name.len() - 1;
            domain.name[..length].fill(b'!');
            domain.vcpus.iter_mut().flatten().for_each(|vcpu| vcpu.magic.kill());
            domain.networks.iter_mut().for_each(|network| network.magic.kill());
            domain.vbds.iter_mut().for_each(|vbd| vbd.magic.kill());
        }
    }
}

fn memory(counter: &Counter, now: Moment) -> u64 {
    page::as_libxenstat_has_it(counter.at(now))
}

impl Domain {
    fn read(listed: &Listed, flags: u32, now: Moment, last_vbd: &mut VbdNumbers) -> Domain {
        let now = Moment { index: listed.index, ..now };
        let source = listed.domain;
        let cpu_ns = source.cpu_ns.at(now);
        let cur_mem = memory(&source.cur_mem, now);
        let mut domain = Domain {
            magic: Magic::of::<Domain>(),
            id: listed.id,
            state: source.state_at(now.poll),
            ssid: source.ssid,
            num_vcpus: source.vcpus.count(),
            name: source.name_at(listed.id, now),
            cpu_ns,
            cur_mem,
            max_mem: source.max_mem.map_or(cur_mem, |counter| memory(&counter, now)),
            vcpus: None,
            networks: Vec::new(),
            vbds: Vec::new(),
        };
        if flags & XENSTAT_VCPU != 0 {
            let vcpu = |online, ns| Vcpu { magic: Magic::of::<Vcpu>(), online, ns };
            domain.vcpus = Some(match &source.vcpus {
                Vcpus::Alike(count) => (0..*count).map(|_| vcpu(true, cpu_ns / u64::from(*count))).collect(),
                Vcpus::Each(list) => list.iter().map(|each| vcpu(each.online, each.ns.at(now))).collect(),
            });
        }
        // The real library attaches devices to the first domain with their domid.
        if flags & XENSTAT_NETWORK != 0 && !listed.repeated {
            let present = source.networks.iter().enumerate().filter(|(_, network)| network.is_alive(now.poll));
            domain.networks.extend(present.map(|(place, network)| Network {
                magic: Magic::of::<Network>(),
                id: network.id_at(place),
                rbytes: network.rbytes.at(now),
                rpackets: network.rpackets.at(now),
                rerrs: network.rerrs.at(now),
                rdrop: network.rdrop.at(now),
                tbytes: network.tbytes.at(now),
                tpackets: network.tpackets.at(now),
                terrs: network.terrs.at(now),
                tdrop: network.tdrop.at(now),
            }));
        }
        if flags & XENSTAT_VBD != 0 && !listed.repeated {
            for (place, vbd) in source.vbds.iter().enumerate().filter(|(_, vbd)| vbd.is_alive(now.poll)) {
                let error = vbd.error.contains(now.poll);
                if !error {
                    *last_vbd = vbd.numbers_at(now);
                }
                domain.vbds.push(Vbd {
                    magic: Magic::of::<Vbd>(),
                    kind: vbd.kind,
                    dev: vbd.dev_at(place),
                    error,
                    // In error it has the numbers of the VBD before it, as in the real library.
                    numbers: *last_vbd,
                });
            }
        }
        domain
    }
}
