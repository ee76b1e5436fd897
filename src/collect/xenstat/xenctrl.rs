//! A safe interface to libxenctrl, through which libxenstat asks the hypervisor.
//!
//! Its functions are those that the loaded libxenstat calls: no other library is loaded. Numbers of facts are those of
//! docs/libxenstat.md.

use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::ptr::{self, NonNull};

use xenstat_sys::libloading::Library;

use crate::model::snapshot::Runstate;

/// The most physical CPUs that are asked about: as many as Xen can have by default.
const MAX_CPUS: c_int = 4096;

/// What is used of libxenctrl, as `xenctrl.h` declares it since Xen 4.1 (fact 35).
#[derive(Clone, Copy)]
pub struct Functions {
    xc_interface_open: unsafe extern "C" fn(*mut c_void, *mut c_void, c_uint) -> *mut c_void,
    xc_interface_close: unsafe extern "C" fn(*mut c_void) -> c_int,
    xc_getcpuinfo: unsafe extern "C" fn(*mut c_void, c_int, *mut u64, *mut c_int) -> c_int,
    /// Of XenServer and XCP-ng (fact 38).
    xc_get_runstate_info: Option<unsafe extern "C" fn(*mut c_void, u32, *mut RunstateInfo) -> c_int>,
}

/// `xc_runstate_info_t` (fact 38).
#[repr(C)]
#[derive(Default)]
struct RunstateInfo {
    state: u32,
    missed_changes: u32,
    state_entry_time: u64,
    time: [u64; 6],
}

const _: () = assert!(size_of::<RunstateInfo>() == 64);

/// Whether a library is built on libxenctrl, and so needs a hypervisor. The fake one of the tests is not.
pub fn is_under(library: &Library) -> bool {
    // SAFETY: it is only looked up, never called.
    unsafe { library.get::<unsafe extern "C" fn()>(b"xc_domain_getinfolist") }.is_ok()
}

impl Functions {
    /// Those of the libxenctrl that is loaded under a library which is never unloaded.
    pub fn of(library: &Library) -> Option<Self> {
        // SAFETY: each has this type in every release that has `xs_open`, too; before, handles were numbers (fact 35).
        unsafe {
            library.get::<unsafe extern "C" fn()>(b"xs_open").ok()?;
            Some(Self {
                xc_interface_open: *library.get(b"xc_interface_open").ok()?,
                xc_interface_close: *library.get(b"xc_interface_close").ok()?,
                xc_getcpuinfo: *library.get(b"xc_getcpuinfo").ok()?,
                xc_get_runstate_info: library.get(b"xc_get_runstate_info").ok().map(|function| *function),
            })
        }
    }
}

/// A handle of libxenctrl.
///
/// Invariant: `handle` came from `xc_interface_open` and is passed to `xc_interface_close` only on drop. The raw pointer
/// keeps the type on the thread that made it.
pub struct Xenctrl {
    handle: NonNull<c_void>,
    functions: Functions,
}

impl Xenctrl {
    /// Opens one.
    pub fn open(functions: Option<&Functions>) -> io::Result<Self> {
        let functions =
            *functions.ok_or_else(|| io::Error::other("the library has no xc_getcpuinfo of Xen 4.1 or later"))?;
        // SAFETY: it takes NULL for both loggers, for its own, and 0 for no flags.
        let handle = unsafe { (functions.xc_interface_open)(ptr::null_mut(), ptr::null_mut(), 0) };
        Ok(Self { handle: NonNull::new(handle).ok_or_else(io::Error::last_os_error)?, functions })
    }

    /// The idle time of each physical CPU in nanoseconds, by its number; 0 of one that is offline.
    pub fn idle_ns(&mut self, idle_ns: &mut Vec<u64>) -> io::Result<()> {
        let mut number = 0;
        idle_ns.clear();
        idle_ns.resize(MAX_CPUS as usize, 0);
        // SAFETY: the handle is live (invariant), `&mut self` excludes a second call at the same time, and the list has
        // room for MAX_CPUS elements of 8 bytes (fact 35).
        let result = unsafe {
            (self.functions.xc_getcpuinfo)(self.handle.as_ptr(), MAX_CPUS, idle_ns.as_mut_ptr(), &mut number)
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        idle_ns.truncate(usize::try_from(number).unwrap_or(0));
        Ok(())
    }

    /// How long a domain was in which state.
    pub fn runstate(&mut self, domid: u32) -> io::Result<Runstate> {
        let lacks = || io::Error::other("the library has no xc_get_runstate_info, as XenServer's and XCP-ng's have");
        let xc_get_runstate_info = self.functions.xc_get_runstate_info.ok_or_else(lacks)?;
        let mut info = RunstateInfo::default();
        // SAFETY: the handle is live (invariant), `&mut self` excludes a second call at the same time, and it writes the
        // 64 bytes of this structure (fact 38).
        if unsafe { xc_get_runstate_info(self.handle.as_ptr(), domid, &mut info) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Runstate { missed_changes: info.missed_changes, time_ns: info.time })
    }
}

impl Drop for Xenctrl {
    fn drop(&mut self) {
        // SAFETY: the handle is live (invariant), and nothing borrows from it.
        unsafe { (self.functions.xc_interface_close)(self.handle.as_ptr()) };
    }
}
