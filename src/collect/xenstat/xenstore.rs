//! A safe interface to libxenstore, through which libxenstat reads the names of domains.
//!
//! Its functions are those that the loaded libxenstat calls: no other library is loaded. Numbers of facts are those of
//! docs/libxenstat.md.

use std::ffi::{CStr, c_char, c_uint, c_ulong, c_void};
use std::io;
use std::ptr::NonNull;
use std::slice;

use xenstat_sys::libloading::Library;

/// What is used of libxenstore, as `xenstore.h` declares it since Xen 4.1 (fact 34).
#[derive(Clone, Copy)]
pub struct Functions {
    xs_open: unsafe extern "C" fn(c_ulong) -> *mut c_void,
    xs_close: unsafe extern "C" fn(*mut c_void),
    xs_read: unsafe extern "C" fn(*mut c_void, u32, *const c_char, *mut c_uint) -> *mut c_void,
    /// Since Xen 4.2 (fact 36).
    watches: Option<WatchFunctions>,
}

#[derive(Clone, Copy)]
struct WatchFunctions {
    xs_watch: unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> bool,
    xs_check_watch: unsafe extern "C" fn(*mut c_void) -> *mut c_void,
}

impl Functions {
    /// Those of the libxenstore that is loaded under a library which is never unloaded.
    pub fn of(library: &Library) -> Option<Self> {
        // SAFETY: each has this type in every release that has it (fact 34).
        unsafe {
            Some(Self {
                xs_open: *library.get(b"xs_open").ok()?,
                xs_close: *library.get(b"xs_close").ok()?,
                xs_read: *library.get(b"xs_read").ok()?,
                watches: WatchFunctions::of(library),
            })
        }
    }
}

impl WatchFunctions {
    fn of(library: &Library) -> Option<Self> {
        // SAFETY: each has this type in every release that has it (facts 34 and 36).
        unsafe {
            Some(Self {
                xs_watch: *library.get(b"xs_watch").ok()?,
                xs_check_watch: *library.get(b"xs_check_watch").ok()?,
            })
        }
    }
}

/// A connection to xenstored.
///
/// Invariant: `handle` came from `xs_open` and is passed to `xs_close` only on drop. The raw pointer keeps the type on
/// the thread that made it.
pub struct Xenstore {
    handle: NonNull<c_void>,
    functions: Functions,
    /// Whether xenstored reports that domains come and go.
    is_watching: bool,
}

impl Xenstore {
    /// Opens one.
    pub fn open(functions: Option<&Functions>) -> io::Result<Self> {
        let functions =
            *functions.ok_or_else(|| io::Error::other("the library has no xs_open, xs_read and xs_close"))?;
        // SAFETY: it takes any flags; 0 are none. Each call makes a handle of its own.
        let handle = unsafe { (functions.xs_open)(0) };
        let handle = NonNull::new(handle).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { handle, functions, is_watching: false })
    }

    /// Copies a value over `into`. Blocks until xenstored answers, as libxenstat does (fact 9).
    pub fn read(&mut self, path: &CStr, into: &mut Vec<u8>) -> io::Result<()> {
        const NO_TRANSACTION: u32 = 0;
        let mut length = 0;
        // SAFETY: the handle is live (invariant), and `&mut self` excludes a second call at the same time.
        let value =
            unsafe { (self.functions.xs_read)(self.handle.as_ptr(), NO_TRANSACTION, path.as_ptr(), &mut length) };
        let value = NonNull::new(value).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the value has `length` bytes, and nobody else has it.
        let bytes = unsafe { slice::from_raw_parts(value.as_ptr().cast::<u8>(), length as usize) };
        into.clear();
        into.extend_from_slice(bytes);
        // SAFETY: it came from malloc, and the caller of xs_read frees it (fact 34).
        unsafe { libc::free(value.as_ptr()) };
        Ok(())
    }

    /// Whether a domain may have come or gone since the last call: it may be another one that has a domid now. True at
    /// the first call, and always where the library cannot tell. Asks xenstored at the first call only. Fails if
    /// xenstored has closed the connection.
    pub fn domains_may_have_changed(&mut self) -> io::Result<bool> {
        let Some(WatchFunctions { xs_watch, xs_check_watch }) = self.functions.watches else { return Ok(true) };
        let mut changed = !self.is_watching;
        if !self.is_watching {
            for path in [c"@introduceDomain", c"@releaseDomain"] {
                // SAFETY: as for `read`; path and token are C strings, which are copied.
                if !unsafe { xs_watch(self.handle.as_ptr(), path.as_ptr(), c"".as_ptr()) } {
                    return Err(io::Error::last_os_error());
                }
            }
            self.is_watching = true;
        }
        // SAFETY: as for `read`. It never blocks (fact 36).
        while let Some(event) = NonNull::new(unsafe { xs_check_watch(self.handle.as_ptr()) }) {
            changed = true;
            // SAFETY: one block of malloc, which the caller frees (fact 36).
            unsafe { libc::free(event.as_ptr()) };
        }
        match io::Error::last_os_error() {
            none if none.kind() == io::ErrorKind::WouldBlock => Ok(changed),
            error => Err(error),
        }
    }
}

impl Drop for Xenstore {
    fn drop(&mut self) {
        // SAFETY: the handle is live (invariant), and nothing borrows from it.
        unsafe { (self.functions.xs_close)(self.handle.as_ptr()) }
    }
}
