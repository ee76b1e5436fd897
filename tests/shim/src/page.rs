//! The size of dom0's pages. libxenstat takes Xen's 4 KiB pages for pages of that size (fact 21).
//!
//! `sysconf` below replaces libc's for the threads that poll, where this library is in the global scope: so an arm64
//! dom0 with larger pages can be simulated on any machine.

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clock;

/// The page size in which Xen counts memory.
pub const XC_PAGE_SIZE: u64 = 4096;

static SIZE: AtomicU64 = AtomicU64::new(XC_PAGE_SIZE);

/// Sets the reported size of dom0's pages.
pub fn set_size(size: u64) {
    SIZE.store(size, Relaxed);
}

/// An amount of memory as libxenstat reports it: counted in Xen's pages, multiplied by the size of dom0's. "No limit"
/// is unchanged.
pub fn as_libxenstat_has_it(bytes: u64) -> u64 {
    if bytes == u64::MAX { bytes } else { bytes / XC_PAGE_SIZE * SIZE.load(Relaxed) + bytes % XC_PAGE_SIZE }
}

/// Replaces libc's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sysconf(name: c_int) -> c_long {
    let size = SIZE.load(Relaxed);
    if name == libc::_SC_PAGESIZE && size != XC_PAGE_SIZE && clock::polls_here() {
        return size as c_long;
    }
    // SAFETY: dlsym takes any name.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"sysconf".as_ptr()) };
    // SAFETY: the next `sysconf` is libc's, which has this type; a function pointer has the size of any pointer.
    let next: unsafe extern "C" fn(c_int) -> c_long = unsafe { std::mem::transmute(next) };
    // SAFETY: the argument is passed on unchanged.
    unsafe { next(name) }
}
