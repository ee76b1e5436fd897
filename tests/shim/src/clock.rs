//! The virtual clock: with `clock_step` the clocks stand still between two polls and advance by exactly one step
//! with each, so that xentop and xenmonitor measure the same, exact time between polls. With `clock_runs` they run
//! at their real speed between the steps. Only threads that have called xenstat_init see it; others, such as the one
//! that keeps the schedule, see the real time.
//!
//! `gettimeofday` and `clock_gettime` below replace libc's where this library is in the global scope. They may be
//! called at any time from any thread, so they neither lock nor allocate.

use std::cell::Cell;
use std::ffi::{c_int, c_long, c_void};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

use libc::{clockid_t, timespec, timeval};

use crate::misuse;

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
/// Whether the clocks run between the steps.
static RUNS: AtomicBool = AtomicBool::new(false);
/// The reading of each of `VIRTUAL` before the first poll; where the clocks run, how far each is ahead of the real one.
static BASES: [AtomicI64; VIRTUAL.len()] = [const { AtomicI64::new(0) }; VIRTUAL.len()];
/// Polls begun in this process.
static POLLS: AtomicU64 = AtomicU64::new(0);
/// Nanoseconds that the poll under way has spent in faults.
static SPENT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Whether this thread polls. Constant and without a destructor: reading it does not allocate.
    static POLLS_HERE: Cell<bool> = const { Cell::new(false) };
}

/// Counts a poll and returns its number; the virtual clock advances with it.
pub fn begin_poll() -> u64 {
    SPENT.store(0, Relaxed);
    POLLS.fetch_add(1, Relaxed)
}

/// The number of the latest poll; 0 before the first.
pub fn latest_poll() -> u64 {
    POLLS.load(Relaxed).saturating_sub(1)
}

/// Has the poll under way take `ns`: advances clocks that stand still, and otherwise sleeps.
pub fn spend(ns: u64) {
    let step = STEP.load(Relaxed) as u64;
    if step == 0 || RUNS.load(Relaxed) {
        return std::thread::sleep(std::time::Duration::from_nanos(ns));
    }
    let spent = SPENT.fetch_add(ns, Relaxed) + ns;
    if spent > step {
        misuse::die("the delays of a poll are longer than clock_step");
    }
}

/// Nanoseconds from the first xenstat_init, at the kernel's `first_init`, to now, in the poll of this number.
pub fn elapsed_ns(first_init: i64, poll: u64) -> u64 {
    let real = (real_ns(libc::CLOCK_MONOTONIC) - first_init) as u64;
    match STEP.load(Relaxed) as u64 {
        0 => real,
        step if RUNS.load(Relaxed) => real + poll * step,
        step => poll * step + SPENT.load(Relaxed),
    }
}

/// Whether this thread has called xenstat_init.
pub fn polls_here() -> bool {
    POLLS_HERE.get()
}

/// Sets the step of the virtual clock, which continues from its present reading; 0 makes the clocks real again.
pub fn set_step(step: u64, runs: bool) {
    POLLS_HERE.set(true);
    let step = step as i64;
    if step == STEP.load(Relaxed) && runs == RUNS.load(Relaxed) {
        return;
    }
    for (clock, base) in VIRTUAL.into_iter().zip(&BASES) {
        let real = real_ns(clock);
        let reading = virtual_ns(clock).unwrap_or(real) - step * POLLS.load(Relaxed) as i64;
        base.store(if runs { reading - real } else { reading }, Relaxed);
    }
    SPENT.store(0, Relaxed);
    RUNS.store(runs, Relaxed);
    STEP.store(step, Release);
}

/// The kernel's clock, in nanoseconds.
pub fn real_ns(clock: clockid_t) -> i64 {
    let mut now = MaybeUninit::<timespec>::zeroed();
    // SAFETY: the kernel writes one timespec, or nothing for a clock that it does not have.
    unsafe { libc::syscall(libc::SYS_clock_gettime, clock, now.as_mut_ptr()) };
    // SAFETY: a timespec of zeros is valid, too.
    let now = unsafe { now.assume_init() };
    now.tv_sec * SECOND + now.tv_nsec
}

fn virtual_ns(clock: clockid_t) -> Option<i64> {
    let step = STEP.load(Acquire);
    let which = VIRTUAL.iter().position(|known| *known == clock)?;
    (step != 0 && POLLS_HERE.get()).then(|| {
        let since = if RUNS.load(Relaxed) { real_ns(clock) } else { SPENT.load(Relaxed) as i64 };
        BASES[which].load(Relaxed) + step * POLLS.load(Relaxed) as i64 + since
    })
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
        // SAFETY: the arguments are passed on unchanged; the kernel checks them.
        _ => unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) as c_int },
    }
}

/// Replaces libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut timeval, zone: *mut c_void) -> c_int {
    // SAFETY: the arguments are passed on unchanged; the kernel checks them.
    let result: c_long = unsafe { libc::syscall(libc::SYS_gettimeofday, time, zone) };
    if let Some(ns) = virtual_ns(libc::CLOCK_REALTIME).filter(|_| !time.is_null()) {
        // SAFETY: by the contract of gettimeofday, `time` is a timeval to write to.
        unsafe { time.write(timeval { tv_sec: ns / SECOND, tv_usec: ns % SECOND / 1000 }) };
    }
    result as c_int
}
