//! A libxenstore with the functions that xenmonitor calls, and what is below `/local/domain/DOMID` of the domains of the
//! latest poll.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_uint, c_ulong, c_void};
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::misuse::{Magic, Object, Quarantine, die, live};
use crate::scenario::Scenario;
use crate::{apply, clock, read_scenario};

static OPENS: AtomicU64 = AtomicU64::new(0);
static READS: AtomicU64 = AtomicU64::new(0);
static CLOSED: Quarantine<Store, 16> = Quarantine::new();

#[repr(C)]
pub struct Store {
    magic: Magic,
    scenario: Scenario,
    /// The latest poll when it was opened.
    opened: u64,
    watches: Cell<u32>,
    /// The domains of which it is known that they exist, by their domids and places in the scenario.
    seen: RefCell<Vec<(u32, usize)>>,
    /// Events that have not been taken.
    events: Cell<u32>,
}

// SAFETY: the struct is repr(C), and `magic` is its first field.
unsafe impl Object for Store {
    const NAME: &str = "xs_handle";
    const LIVE: u64 = u64::from_le_bytes(*b"xsstore_");
}

/// Appends a line to the file that the scenario names, if any.
fn log(file: Option<&Path>, line: &str) {
    let Some(path) = file else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| writeln!(file, "{line}")).unwrap_or_else(|why| die(format_args!("{path:?}: {why}")));
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn xs_open(_flags: c_ulong) -> *mut Store {
    let Some(scenario) = read_scenario() else { return ptr::null_mut() };
    log(scenario.store_log.as_deref(), "open");
    let open = OPENS.fetch_add(1, Relaxed);
    if apply(scenario.store_open_faults.iter().filter(|fault| fault.at.contains(open))).fails {
        return ptr::null_mut();
    }
    let (opened, (watches, seen, events)) = (clock::latest_poll(), Default::default());
    Box::into_raw(Box::new(Store { magic: Magic::of::<Store>(), scenario, opened, watches, seen, events }))
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn xs_close(store: *mut Store) {
    // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
    let alive = unsafe { live(store, "xs_close") };
    log(alive.scenario.store_log.as_deref(), "close");
    // SAFETY: live, so it came from xs_open, and no other call uses it.
    unsafe { &mut *store }.magic.kill();
    // SAFETY: xs_open made it with Box::into_raw; the caller gives it up.
    unsafe { CLOSED.add(store) };
}

/// The value is followed by a NUL, as in the real library, and the caller frees it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xs_read(
    store: *mut Store,
    transaction: u32,
    path: *const c_char,
    length: *mut c_uint,
) -> *mut c_void {
    // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
    let store = unsafe { live(store, "xs_read") };
    if path.is_null() || transaction != 0 {
        die(format_args!("xs_read: no path, or transaction {transaction}"));
    }
    // SAFETY: not NULL, so a C string by the contract of xs_read.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy();
    log(store.scenario.store_log.as_deref(), &format!("read {path}"));
    if store.is_closed(libc::EBADF) {
        return ptr::null_mut();
    }
    let read = READS.fetch_add(1, Relaxed);
    if apply(store.scenario.store_faults.iter().filter(|fault| fault.at.contains(read))).fails {
        return ptr::null_mut();
    }
    let domains = store.scenario.list(clock::latest_poll());
    let value = path.strip_prefix("/local/domain/").and_then(|rest| rest.split_once('/')).and_then(|(domid, key)| {
        let domain = domains.iter().find(|listed| listed.id.to_string() == domid)?;
        domain.domain.store_at(domain.id, key)
    });
    let Some(value) = value else {
        // SAFETY: the address of this thread's errno.
        unsafe { *libc::__errno_location() = libc::ENOENT };
        return ptr::null_mut();
    };
    // SAFETY: malloc takes any size.
    let block = unsafe { libc::malloc(value.len() + 1) }.cast::<u8>();
    if block.is_null() {
        die("xs_read: out of memory");
    }
    // SAFETY: the block has room for the value and a NUL, and is new.
    unsafe {
        block.copy_from_nonoverlapping(value.as_ptr(), value.len());
        block.add(value.len()).write(0);
    }
    if !length.is_null() {
        // SAFETY: not NULL, so a number to write to by the contract of xs_read.
        unsafe { length.write(value.len() as c_uint) };
    }
    block.cast()
}

/// Each watch has an event at once, as in the real library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xs_watch(store: *mut Store, path: *const c_char, token: *const c_char) -> bool {
    // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
    let store = unsafe { live(store, "xs_watch") };
    if path.is_null() || token.is_null() {
        die("xs_watch: no path, or no token");
    }
    // SAFETY: not NULL, so a C string by the contract of xs_watch.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy();
    log(store.scenario.store_log.as_deref(), &format!("watch {path}"));
    if !matches!(&*path, "@introduceDomain" | "@releaseDomain") {
        die(format_args!("xs_watch: {path} has no events here"));
    }
    if store.is_closed(libc::EBADF) {
        return false;
    }
    store.watches.set(store.watches.get() + 1);
    store.events.set(store.events.get() + 1);
    store.seen.replace(store.existing());
    true
}

/// One block, which the caller frees.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xs_check_watch(store: *mut Store) -> *mut c_void {
    // SAFETY: checking the pointer is the purpose; one that cannot be read crashes the process, too.
    let store = unsafe { live(store, "xs_check_watch") };
    if store.is_closed(libc::EINVAL) {
        return ptr::null_mut();
    }
    if store.seen.replace(store.existing()) != store.existing() {
        store.events.set(store.events.get() + store.watches.get());
    }
    match store.events.get().checked_sub(1) {
        Some(events) => {
            store.events.set(events);
            // SAFETY: malloc takes any size.
            unsafe { libc::malloc(64) }
        }
        None => {
            // SAFETY: the address of this thread's errno.
            unsafe { *libc::__errno_location() = libc::EAGAIN };
            ptr::null_mut()
        }
    }
}

impl Store {
    /// Whether xenstored has been restarted since the connection was opened; then sets errno.
    fn is_closed(&self, errno: i32) -> bool {
        let is_closed =
            (self.opened + 1..=clock::latest_poll()).any(|poll| self.scenario.store_restarts.contains(poll));
        if is_closed {
            // SAFETY: the address of this thread's errno.
            unsafe { *libc::__errno_location() = errno };
        }
        is_closed
    }

    /// The domains of the latest poll. Another table of the scenario is another domain, whatever its domid.
    fn existing(&self) -> Vec<(u32, usize)> {
        let domains = self.scenario.list(clock::latest_poll());
        domains.iter().map(|listed| (listed.id, ptr::from_ref(listed.domain).addr())).collect()
    }
}
