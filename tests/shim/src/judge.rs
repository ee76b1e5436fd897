//! The judge: every misuse the real library would answer with a wrong number or a crash some time later
//! ends the process here and now, with the function's name.
//!
//! Each object starts with a magic number of its kind, which changes when the object is freed. Freed nodes
//! and handles are kept for a while, so that a late use is seen as one.

use std::io::{self, Write};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use std::{fmt, process, ptr};

/// Prints `xenstat-shim: WHY` and aborts.
pub fn die(why: impl fmt::Display) -> ! {
    say(format_args!("xenstat-shim: {why}"));
    process::abort()
}

/// Prints a line on stderr, if there is one. (eprintln would panic on a closed pipe.)
pub fn say(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Something the C side has pointers to.
///
/// # Safety
/// The type is `repr(C)` and starts with its [`Magic`].
pub unsafe trait Object {
    /// What the header calls it.
    const NAME: &str;
    /// The magic number of a live one.
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

/// The object behind a pointer from the C side, or the end of the process.
///
/// # Safety
/// A pointer above the first 64 KiB can be read from. (If not, the process ends as well, but without a word.)
pub unsafe fn live<'a, T: Object>(object: *const T, function: &str) -> &'a T {
    let name = T::NAME;
    if object.is_null() {
        die(format_args!("{function}: NULL is no {name}"));
    }
    if object.addr() < 0x1_0000 || !object.is_aligned() {
        die(format_args!("{function}: {object:?} is no {name}"));
    }
    // SAFETY: readable as the caller promises, aligned as just seen; any bits are a u64. Volatile, because
    // an object that has been freed is to be seen as it is.
    let magic = unsafe { object.cast::<u64>().read_volatile() };
    if magic == !T::LIVE {
        die(format_args!("{function}: the {name} has been freed"));
    }
    if magic != T::LIVE {
        die(format_args!("{function}: {object:?} is no {name}"));
    }
    // SAFETY: the magic number says that it is a live T.
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

    /// Takes in a freed object and lets go of the oldest.
    ///
    /// # Safety
    /// `freed` comes from `Box::into_raw` and is handed over.
    pub unsafe fn take(&self, freed: *mut T) {
        let slot = self.next.fetch_add(1, Relaxed) % N;
        let oldest = self.slots[slot].swap(freed, AcqRel);
        if !oldest.is_null() {
            // SAFETY: every pointer in a slot was handed over by a caller, and has just left its slot.
            drop(unsafe { Box::from_raw(oldest) });
        }
    }
}
