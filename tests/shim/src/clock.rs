//! The virtual clock: with `clock_step` the clocks stand still between two polls and move by exactly one step
//! with each, so that xentop and xenmonitor measure the same, exact time between polls. So it is for the
//! threads that have called xenstat_init; others, which may have a schedule to keep, see the real time.
//!
//! `gettimeofday` and `clock_gettime` below replace libc's wherever this library is in the global scope.
//! They may be called at any time from any thread, so they neither lock nor allocate.

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use libc::{clockid_t, timespec, timeval};

const SECOND: i64 = 1_000_000_000;
const VIRTUAL: [clockid_t; 6] = [
    libc::CLOCK_REALTIME,
    libc::CLOCK_MONOTONIC,
    libc::CLOCK_MONOTONIC_RAW,
    libc::CLOCK_REALTIME_COARSE,
    libc::CLOCK_MONOTONIC_COARSE,
    libc::CLOCK_BOOTTIME,
];

/// Nanoseconds per poll; 0 while the clocks are the real ones.
static STEP: AtomicI64 = AtomicI64::new(0);
/// What each of `VIRTUAL` showed, or would have shown, before the first poll.
static BASES: [AtomicI64; VIRTUAL.len()] = [const { AtomicI64::new(0) }; VIRTUAL.len()];
/// Polls begun in this process.
static POLLS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread is one that polls. Constant and without a destructor: reading it allocates nothing.
    static POLLS_HERE: Cell<bool> = const { Cell::new(false) };
}

/// Counts a poll and says its number; the virtual clock moves with it.
pub fn begin_poll() -> u64 {
    POLLS.fetch_add(1, Relaxed)
}

/// Whether this thread is one that has called xenstat_init.
pub fn polls_here() -> bool {
    POLLS_HERE.get()
}

/// Sets the step of the virtual clock, which goes on from what it shows; 0 makes the clocks real again.
pub fn set_step(step: u64) {
    POLLS_HERE.set(true);
    let step = step as i64;
    if step == STEP.load(Relaxed) {
        return;
    }
    for (clock, base) in VIRTUAL.into_iter().zip(&BASES) {
        let shows = virtual_ns(clock).unwrap_or_else(|| real_ns(clock));
        base.store(shows - step * POLLS.load(Relaxed) as i64, Relaxed);
    }
    STEP.store(step, Release);
}

/// The kernel's clock, in nanoseconds.
pub fn real_ns(clock: clockid_t) -> i64 {
    let mut now = MaybeUninit::<timespec>::zeroed();
    // SAFETY: the kernel writes one timespec, or nothing for a clock it does not know.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, now.as_mut_ptr()) };
    // SAFETY: zeroes are a valid timespec, too.
    let now = unsafe { now.assume_init() };
    now.tv_sec * SECOND + now.tv_nsec
}

fn virtual_ns(clock: clockid_t) -> Option<i64> {
    let step = STEP.load(Acquire);
    let which = VIRTUAL.iter().position(|known| *known == clock)?;
    (step != 0 && POLLS_HERE.get()).then(|| BASES[which].load(Relaxed) + step * POLLS.load(Relaxed) as i64)
}

/// Replaces libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, time: *mut timespec) -> c_int {
    match virtual_ns(clock) {
        Some(ns) if !time.is_null() => {
            // SAFETY: by the contract of clock_gettime, `time` is a timespec to write to.
            unsafe { time.write(timespec { tv_sec: ns / SECOND, tv_nsec: ns % SECOND }) };
            0
        }
        // SAFETY: the arguments are passed on as they came; the kernel checks them.
        _ => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int },
    }
}

/// Replaces libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int {
    // SAFETY: the arguments are passed on as they came; the kernel checks them.
    let result: c_long = unsafe { libc::syscall(libc::SYS_gettimeofday, time, zone) };
    if let Some(ns) = virtual_ns(libc::CLOCK_REALTIME).filter(|_| !time.is_null()) {
        // SAFETY: by the contract of gettimeofday, `time` is a timeval to write to.
        unsafe { time.write(timeval { tv_sec: ns / SECOND, tv_usec: ns % SECOND / 1000 }) };
    }
    result as c_int
}
