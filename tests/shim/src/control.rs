//! A libxenctrl with the functions that xenmonitor calls: the idle time of physical CPUs, and the times of domains by
//! state.

use std::ffi::{c_int, c_uint, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::misuse::{Magic, Object, Quarantine, die, live};
use crate::scenario::Scenario;
use crate::value::Moment;
use crate::{FIRST_INIT, apply, clock, read_scenario};

static OPENS: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);
static RUNSTATE_CALLS: AtomicU64 = AtomicU64::new(0);
static CLOSED: Quarantine<Control, 16> = Quarantine::new();

#[repr(C)]
pub struct Control {
    magic: Magic,
    scenario: Scenario,
}

// SAFETY: the struct is repr(C), and `magic` is its first field.
unsafe impl Object for Control {
    const NAME: &str = "xc_interface";
    const LIVE: u64 = u64::from_le_bytes(*b"xcontrol");
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn xc_interface_open(_: *mut c_void, _: *mut c_void, _flags: c_uint) -> *mut Control {
    let Some(scenario) = read_scenario() else { return ptr::null_mut() };
    let open = OPENS.fetch_add(1, Relaxed);
    if apply(scenario.control_open_faults.iter().filter(|fault| fault.at.contains(open))).fails {
        return ptr::null_mut();
    }
    Box::into_raw(Box::new(Control { magic: Magic::of::<Control>(), scenario }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn xc_interface_close(control: *mut Control) -> c_int {
    // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
    unsafe { live(control, "xc_interface_close") };
    // SAFETY: live, so it came from xc_interface_open, and no other call uses it.
    unsafe { &mut *control }.magic.kill();
    // SAFETY: xc_interface_open made it with Box::into_raw; the caller gives it up.
    unsafe { CLOSED.add(control) };
    0
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn xc_getcpuinfo(
    control: *mut Control,
    most: c_int,
    idle: *mut u64,
    number: *mut c_int,
) -> c_int {
    // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
    let Scenario { host, cpu_faults, .. } = unsafe { &live(control, "xc_getcpuinfo").scenario };
    let call = CALLS.fetch_add(1, Relaxed);
    if apply(cpu_faults.iter().filter(|fault| fault.at.contains(call))).fails {
        return -1;
    }
    if idle.is_null() || number.is_null() {
        die("xc_getcpuinfo: NULL is no list and no number");
    }
    let poll = clock::latest_poll();
    let elapsed_ns = clock::elapsed_ns(FIRST_INIT.get().copied().unwrap_or(0), poll);
    let cpus = (host.cpus as usize).min(usize::try_from(most).unwrap_or(0));
    for cpu in 0..cpus {
        let counter = host.idle_ns.get(cpu % host.idle_ns.len().max(1)).copied().unwrap_or_default();
        // SAFETY: by the contract of xc_getcpuinfo the list has room for `most`.
        unsafe { idle.add(cpu).write(counter.at(Moment { poll, elapsed_ns, index: 0 })) };
    }
    // SAFETY: not NULL, so a number to write to by the contract of xc_getcpuinfo.
    unsafe { number.write(cpus as c_int) };
    0
}

/// `xc_runstate_info_t`.
#[repr(C)]
pub struct RunstateInfo {
    state: u32,
    missed_changes: u32,
    state_entry_time: u64,
    time: [u64; 6],
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn xc_get_runstate_info(control: *mut Control, domid: u32, info: *mut RunstateInfo) -> c_int {
    // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
    let scenario = unsafe { &live(control, "xc_get_runstate_info").scenario };
    let call = RUNSTATE_CALLS.fetch_add(1, Relaxed);
    if apply(scenario.runstate_faults.iter().filter(|fault| fault.at.contains(call))).fails {
        return -1;
    }
    if info.is_null() {
        die("xc_get_runstate_info: NULL is no structure");
    }
    let poll = clock::latest_poll();
    let elapsed_ns = clock::elapsed_ns(FIRST_INIT.get().copied().unwrap_or(0), poll);
    let domains = scenario.list(poll);
    let Some(listed) = domains.iter().find(|listed| listed.id == domid) else {
        // SAFETY: the address of this thread's errno.
        unsafe { *libc::__errno_location() = libc::ESRCH };
        return -1;
    };
    let now = Moment { poll, elapsed_ns, index: listed.index };
    let time = listed.domain.runstate.each_ref().map(|counter| counter.at(now));
    let missed_changes = listed.domain.missed_changes.at(now) as u32;
    // SAFETY: not NULL, so a structure to write to by the contract of xc_get_runstate_info.
    unsafe { info.write(RunstateInfo { state: 3, missed_changes, state_entry_time: 0, time }) };
    0
}
