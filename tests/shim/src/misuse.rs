//! API-misuse checks: a misuse that the real library answers with a wrong number, or with a crash some time later,
//! aborts the process at once and prints the function's name.
//!
//! Each object starts with a magic number of its type, which is inverted when the object is freed. The last freed nodes
//! and handles are kept in memory, so that a use after free is detected.

use std::io::{self, Write};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use std::{fmt, process, ptr};

/// Prints `xenstat-shim: WHY` and aborts.
pub fn die(why: impl fmt::Display) -> ! {
    print_line(format_args!("xenstat-shim: {why}"));
    process::abort()
}

/// Prints a line to stderr, where there is one. (`eprintln!` panics on a closed pipe.)
pub fn print_line(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// An object that the C side holds pointers to.
///
/// # Safety
/// The type is `repr(C)` and starts with its [`Magic`].
pub unsafe trait Object {
    /// Its name in the header.
    const NAME: &str;
    /// The magic number while it is alive.
    const LIVE: u64;
}

/// The first field of every [`Object`].
#[repr(transparent)]
pub struct Magic(u64);

impl Magic {
    pub fn of<T: Object>() -> Magic {
        Magic(T::LIVE)
    }

    pub fn kill(&mut self) {
        self.0 = !self.0;
    }
}

/// The object behind a pointer from the C side; aborts if it is not a live one.
///
/// # Safety
/// A pointer above the first 64 KiB is readable. (If not, the process crashes without a message.)
pub unsafe fn live<'a, T: Object>(object: *const T, function: &str) -> &'a T {
    let name = T::NAME;
    if object.is_null() {
        die(format_args!("{function}: NULL is no {name}"));
    }
    if object.addr() < 0x1_0000 || !object.is_aligned() {
        die(format_args!("{function}: {object:?} is no {name}"));
    }
    // SAFETY: readable by the caller's promise, aligned as checked above; any bits are a valid u64. Volatile, so that
    // the memory of a freed object is really read.
    let magic = unsafe { object.cast::<u64>().read_volatile() };
    if magic == !T::LIVE {
        die(format_args!("{function}: the {name} has been freed"));
    }
    if magic != T::LIVE {
        die(format_args!("{function}: {object:?} is no {name}"));
    }
    // SAFETY: the magic number is that of a live T.
    unsafe { &*object }
}

/// The last `N` freed objects of a kind.
pub struct Quarantine<T, const N: usize> {
    slots: [AtomicPtr<T>; N],
    next: AtomicUsize,
}

impl<T, const N: usize> Quarantine<T, N> {
    pub const fn new() -> Self {
        Quarantine { slots: [const { AtomicPtr::new(ptr::null_mut()) }; N], next: AtomicUsize::new(0) }
    }

    /// Adds a freed object and releases the oldest.
    ///
    /// # Safety
    /// `freed` comes from `Box::into_raw`; the quarantine owns it from now on.
    pub unsafe fn add(&self, freed: *mut T) {
        let slot = self.next.fetch_add(1, Relaxed) % N;
        let oldest = self.slots[slot].swap(freed, AcqRel);
        if !oldest.is_null() {
            // SAFETY: each pointer in a slot is owned by the quarantine, and this one has just left its slot.
            drop(unsafe { Box::from_raw(oldest) });
        }
    }
}
