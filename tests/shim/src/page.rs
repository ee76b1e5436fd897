//! The size of dom0's pages, of which libxenstat takes the host's 4 KiB pages to be (fact 21).
//!
//! `sysconf` below replaces libc's wherever this library is in the global scope, for the threads that poll: an
//! arm64 dom0 with larger pages can be played on a machine that has none.

use std::ffi::{c_int, c_long};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::clock;

/// The size of the pages that Xen counts.
pub const XC_PAGE_SIZE: u64 = 4096;

static SIZE: AtomicU64 = AtomicU64::new(XC_PAGE_SIZE);

/// Sets what dom0's pages are said to be.
pub fn set_size(size: u64) {
    SIZE.store(size, Relaxed);
}

/// What libxenstat makes of an amount of memory: pages of Xen's, each as large as one of dom0's. "No limit" stays.
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
    // SAFETY: the next `sysconf` is libc's, which this one was taken for; a pointer to a function has no other form.
    let next: unsafe extern "C" fn(c_int) -> c_long = unsafe { std::mem::transmute(next) };
    // SAFETY: the argument is passed on as it came.
    unsafe { next(name) }
}
