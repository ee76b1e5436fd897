//! A libxenstat for tests: the C ABI of `xenstat.h` over a scenario file, with checks for misuse of the API. Beside it
//! stand-ins for a few functions of libxenctrl and libxenstore, on which the real one is built.
//!
//! `README.md` beside this crate documents the scenario file; `make shim` links the shared library.

#![allow(unsafe_code, reason = "a C library: its callers pass raw pointers")]
#![allow(missing_docs, clippy::missing_safety_doc, reason = "the contract of the functions is xenstat.h")]

mod clock;
mod control;
mod misuse;
mod node;
mod page;
mod scenario;
mod store;
mod value;

#[allow(dead_code, non_camel_case_types, clippy::all)]
#[allow(improper_ctypes, reason = "to C these types are opaque")]
mod abi {
    include!(concat!(env!("OUT_DIR"), "/abi.rs"));
}

use std::ffi::{c_char, c_long, c_uint, c_ulonglong};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};
use std::thread::sleep;
use std::time::Duration;
use std::{env, fs, io, ptr};

use abi::XENSTAT_XEN_VERSION;
use misuse::{Quarantine, die, live};
use node::{Domain, Handle, Network, Node, Vbd, Vcpu};
use scenario::{Fault, Scenario, State};
use value::Moment;

static INITS: AtomicU64 = AtomicU64::new(0);
/// The kernel's monotonic clock at the first init, from which `per_second` counts.
static FIRST_INIT: OnceLock<i64> = OnceLock::new();
static FREED_NODES: Quarantine<Node, 4> = Quarantine::new();
static FREED_HANDLES: Quarantine<Handle, 16> = Quarantine::new();

/// Reads the scenario again each time, so that a test can change it and have its program reopen the library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xenstat_init() -> *mut Handle {
    let init = INITS.fetch_add(1, Relaxed);
    FIRST_INIT.get_or_init(|| clock::real_ns(libc::CLOCK_MONOTONIC));
    let Some(scenario) = read_scenario() else { return ptr::null_mut() };
    clock::set_step(scenario.clock_step.0, scenario.clock_runs);
    page::set_size(scenario.host.page_size.0);
    if apply(scenario.init_faults.iter().filter(|fault| fault.at.contains(init))).fails {
        return ptr::null_mut();
    }
    Box::into_raw(Box::new(Handle::new(scenario)))
}

/// `None`, with errno, if this process may open no more files: then the real library returns no handle either.
fn read_scenario() -> Option<Scenario> {
    let Some(path) = env::var_os("XENSTAT_SCENARIO").map(PathBuf::from) else {
        die("no scenario: set XENSTAT_SCENARIO to the path of one, such as tests/shim/scenarios/demo.toml");
    };
    match fs::read_to_string(&path) {
        Ok(text) => Some(Scenario::parse(&text).unwrap_or_else(|why| die(format_args!("{}:{why}", path.display())))),
        Err(why) if why.raw_os_error() == Some(libc::EMFILE) => None,
        Err(why) => die(format_args!("{}: {why}", path.display())),
    }
}

/// How the faults of a call end it.
struct Outcome {
    fails: bool,
    empty: bool,
}

/// Applies faults: prints, waits, and sets errno if the call fails.
fn apply<'a>(faults: impl Iterator<Item = &'a Fault>) -> Outcome {
    let mut outcome = Outcome { fails: false, empty: false };
    for fault in faults {
        if !fault.stderr.is_empty() {
            misuse::print_line(&fault.stderr);
        }
        if !fault.run.is_empty() {
            match Command::new(&fault.run).status() {
                Ok(status) => misuse::print_line(format_args!("{}: {status}", fault.run)),
                Err(error) => misuse::print_line(format_args!("{}: {error}", fault.run)),
            }
        }
        let process = std::process::id();
        for &number in &fault.system_calls {
            // SAFETY: no argument is an address in this process; the scenario is responsible for the rest.
            let result = unsafe { libc::syscall(number as c_long, 0, 0, 0, 0, 0, 0) };
            if std::process::id() != process {
                // SAFETY: _exit takes any status.
                unsafe { libc::_exit(0) };
            }
            match result {
                -1 => misuse::print_line(format_args!("system call {number}: {}", io::Error::last_os_error())),
                _ => misuse::print_line(format_args!("system call {number}: done")),
            }
        }
        clock::spend(fault.delay.0);
        while fault.wait_for.as_ref().is_some_and(|path| !path.exists()) {
            sleep(Duration::from_millis(1));
        }
        if fault.hang {
            loop {
                sleep(Duration::from_secs(3600));
            }
        }
        if let Some(errno) = &fault.fail {
            // SAFETY: the address of this thread's errno.
            let location = unsafe { libc::__errno_location() };
            // SAFETY: as above; it may always be written to.
            unsafe { *location = errno.0 };
            outcome.fails = true;
        }
        outcome.empty |= fault.empty;
    }
    outcome
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn xenstat_uninit(handle: *mut Handle) {
    if handle.is_null() {
        return;
    }
    // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
    let alive = unsafe { live(handle, "xenstat_uninit") };
    let in_call = alive.enter("xenstat_uninit");
    match alive.nodes.load(Acquire) {
        0 => drop(in_call),
        nodes => die(format_args!("xenstat_uninit: {nodes} node(s) of this handle have not been freed")),
    }
    // SAFETY: live, so it came from xenstat_init, and no other call uses it.
    unsafe { &mut *handle }.magic.kill();
    // SAFETY: xenstat_init made it with Box::into_raw; the caller gives it up.
    unsafe { FREED_HANDLES.add(handle) };
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn xenstat_get_node(handle: *mut Handle, flags: c_uint) -> *mut Node {
    // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
    let handle = unsafe { live(handle, "xenstat_get_node") };
    let _in_call = handle.enter("xenstat_get_node");
    let scenario = &handle.scenario;
    let poll = clock::begin_poll();

    let due = scenario.faults.iter().filter(|fault| fault.at.contains(poll) && fault.concerns(flags));
    let outcome = apply(due);
    if handle.failed.swap(outcome.fails, AcqRel) {
        die("xenstat_get_node: the previous call on this handle failed, so that it must not be used again");
    }
    if outcome.fails {
        return ptr::null_mut();
    }
    let elapsed_ns = clock::elapsed_ns(FIRST_INIT.get().copied().unwrap_or(0), poll);
    let node = Node::read(handle, flags, Moment { poll, elapsed_ns, index: 0 }, outcome.empty);
    if flags & XENSTAT_XEN_VERSION != 0 {
        handle.xen_version.get_or_init(|| scenario.host.xen_version.clone());
    }
    handle.nodes.fetch_add(1, AcqRel);
    Box::into_raw(Box::new(node))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn xenstat_free_node(node: *mut Node) {
    if node.is_null() {
        return;
    }
    // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
    let alive = unsafe { live(node, "xenstat_free_node") };
    // SAFETY: as above.
    let handle = unsafe { live(alive.handle, "xenstat_free_node") };
    handle.nodes.fetch_sub(1, AcqRel);
    // SAFETY: live, so it came from xenstat_get_node, and by xenstat.h no other call uses it.
    unsafe { &mut *node }.kill();
    // SAFETY: xenstat_get_node made it with Box::into_raw; the caller gives it up.
    unsafe { FREED_NODES.add(node) };
}

/// A pointer to an element, or NULL if the index is out of range.
fn element<T>(list: &[T], index: c_uint) -> *mut T {
    list.get(index as usize).map_or(ptr::null_mut(), |element| ptr::from_ref(element).cast_mut())
}

/// Every other function of the header: it reads one property of one live object.
macro_rules! getters {
    ($($function:ident($object:ident: $type:ty $(, $index:ident)?) -> $result:ty $value:block)*) => {$(
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $function($object: *mut $type $(, $index: c_uint)?) -> $result {
            // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
            let $object = unsafe { live($object, stringify!($function)) };
            $value
        }
    )*};
}

getters! {
    xenstat_node_domain(node: Node, domid) -> *mut Domain {
        let found = node.domains.iter().find(|domain| domain.id == domid);
        found.map_or(ptr::null_mut(), |domain| ptr::from_ref(domain).cast_mut())
    }
    xenstat_node_domain_by_index(node: Node, index) -> *mut Domain { element(&node.domains, index) }
    xenstat_node_xen_version(node: Node) -> *const c_char {
        // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
        let handle = unsafe { live(node.handle, "xenstat_node_xen_version") };
        let _in_call = handle.enter("xenstat_node_xen_version");
        handle.xen_version.get().map_or(c"".as_ptr(), |version| version.as_ptr())
    }
    xenstat_node_tot_mem(node: Node) -> c_ulonglong { node.tot_mem }
    xenstat_node_free_mem(node: Node) -> c_ulonglong { node.free_mem }
    xenstat_node_freeable_mb(_node: Node) -> c_long { 0 }
    xenstat_node_num_domains(node: Node) -> c_uint { node.domains.len() as c_uint }
    xenstat_node_num_cpus(node: Node) -> c_uint { node.num_cpus }
    xenstat_node_cpu_hz(node: Node) -> c_ulonglong { node.cpu_hz }

    xenstat_domain_id(domain: Domain) -> c_uint { domain.id }
    xenstat_domain_name(domain: Domain) -> *mut c_char { domain.name.as_ptr().cast_mut().cast() }
    xenstat_domain_cpu_ns(domain: Domain) -> c_ulonglong { domain.cpu_ns }
    xenstat_domain_num_vcpus(domain: Domain) -> c_uint { domain.num_vcpus }
    xenstat_domain_vcpu(domain: Domain, vcpu) -> *mut Vcpu {
        match &domain.vcpus {
            Some(vcpus) => element(vcpus, vcpu),
            None if vcpu >= domain.num_vcpus => ptr::null_mut(),
            None => die("xenstat_domain_vcpu: the node was read without XENSTAT_VCPU; \
                         the real library returns a wild pointer here"),
        }
    }
    xenstat_domain_cur_mem(domain: Domain) -> c_ulonglong { domain.cur_mem }
    xenstat_domain_max_mem(domain: Domain) -> c_ulonglong { domain.max_mem }
    xenstat_domain_ssid(domain: Domain) -> c_uint { domain.ssid }
    xenstat_domain_dying(domain: Domain) -> c_uint { State::Dying.within(domain.state) }
    xenstat_domain_crashed(domain: Domain) -> c_uint { State::Crashed.within(domain.state) }
    xenstat_domain_shutdown(domain: Domain) -> c_uint { State::Shutdown.within(domain.state) }
    xenstat_domain_paused(domain: Domain) -> c_uint { State::Paused.within(domain.state) }
    xenstat_domain_blocked(domain: Domain) -> c_uint { State::Blocked.within(domain.state) }
    xenstat_domain_running(domain: Domain) -> c_uint { State::Running.within(domain.state) }
    xenstat_domain_num_networks(domain: Domain) -> c_uint { domain.networks.len() as c_uint }
    xenstat_domain_network(domain: Domain, network) -> *mut Network { element(&domain.networks, network) }
    xenstat_domain_num_vbds(domain: Domain) -> c_uint { domain.vbds.len() as c_uint }
    xenstat_domain_vbd(domain: Domain, vbd) -> *mut Vbd { element(&domain.vbds, vbd) }

    xenstat_vcpu_online(vcpu: Vcpu) -> c_uint { vcpu.online.into() }
    xenstat_vcpu_ns(vcpu: Vcpu) -> c_ulonglong { vcpu.ns }

    xenstat_network_id(network: Network) -> c_uint { network.id }
    xenstat_network_rbytes(network: Network) -> c_ulonglong { network.rbytes }
    xenstat_network_rpackets(network: Network) -> c_ulonglong { network.rpackets }
    xenstat_network_rerrs(network: Network) -> c_ulonglong { network.rerrs }
    xenstat_network_rdrop(network: Network) -> c_ulonglong { network.rdrop }
    xenstat_network_tbytes(network: Network) -> c_ulonglong { network.tbytes }
    xenstat_network_tpackets(network: Network) -> c_ulonglong { network.tpackets }
    xenstat_network_terrs(network: Network) -> c_ulonglong { network.terrs }
    xenstat_network_tdrop(network: Network) -> c_ulonglong { network.tdrop }

    xenstat_vbd_type(vbd: Vbd) -> c_uint { vbd.kind }
    xenstat_vbd_dev(vbd: Vbd) -> c_uint { vbd.dev }
    xenstat_vbd_oo_reqs(vbd: Vbd) -> c_ulonglong { vbd.numbers.oo_reqs }
    xenstat_vbd_rd_reqs(vbd: Vbd) -> c_ulonglong { vbd.numbers.rd_reqs }
    xenstat_vbd_wr_reqs(vbd: Vbd) -> c_ulonglong { vbd.numbers.wr_reqs }
    xenstat_vbd_rd_sects(vbd: Vbd) -> c_ulonglong { vbd.numbers.rd_sects }
    xenstat_vbd_wr_sects(vbd: Vbd) -> c_ulonglong { vbd.numbers.wr_sects }
    xenstat_vbd_error(vbd: Vbd) -> bool { vbd.error }
}
