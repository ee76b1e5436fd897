//! A safe interface to libxenstat and, in xenstat/, to the two libraries that are loaded with it. All unsafe code of the
//! program is here.
//!
//! [`Xenstat`] loads the library of the running hypervisor and owns one handle. [`Xenstat::poll`] reads one
//! node, copies it into a [`Snapshot`] and frees it before it returns. Nothing of C's memory outlives a call.
//!
//! Numbers of facts are those of docs/libxenstat.md.
#![allow(unsafe_code)]

pub mod xenctrl;
pub mod xenstore;

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::io;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use xenstat_sys as sys;
use xenstat_sys::libloading;
use xenstat_sys::libloading::os::unix::{RTLD_LAZY, RTLD_LOCAL};

use xenctrl::Xenctrl;

use crate::collect::xenstat_error::Error;
use crate::collect::{privcmd, release, search};
use crate::model::snapshot::{Collectors, Domain, Snapshot, State, Vbd, VbdCounters, Vcpu, Vif};

/// The size of the pages that the hypervisor counts, on every architecture.
const XC_PAGE_SIZE: u64 = 4096;

/// A loaded libxenstat with an open handle.
///
/// Invariant: `handle` came from this library's `xenstat_init` and is passed to `xenstat_uninit` only on
/// drop. The raw pointer keeps the type on the thread that made it: libxenstat is not thread safe (fact 25).
pub struct Xenstat {
    handle: NonNull<sys::xenstat_handle>,
    /// The size of dom0's pages, which libxenstat takes for the hypervisor's (fact 21).
    page_size: u64,
    library: Library,
}

/// A loaded library.
struct Library {
    functions: sys::Xenstat,
    /// From Xen 4.13 on (facts 16 and 27).
    vbd_error: Option<sys::XenstatVbdError>,
    /// Those of libxenctrl, which is loaded under it.
    control: Option<xenctrl::Functions>,
    /// Those of libxenstore, which is loaded under it.
    store: Option<xenstore::Functions>,
    /// Whether libxenctrl is loaded under it, so that it needs [`privcmd`]. The fake one of the tests needs no Xen.
    needs_xen: bool,
    path: PathBuf,
    why: &'static str,
}

/// One result of `xenstat_get_node`.
///
/// Invariant: `node` is what `xenstat_get_node` returned for `owner`'s handle with the flags of `asked`,
/// and is freed only on drop. Everything reached from it dies with it, names included (fact 24).
struct Node<'a> {
    node: NonNull<sys::xenstat_node>,
    asked: Collectors,
    owner: &'a Xenstat,
}

impl Xenstat {
    /// Loads `file`, or without one the library of the running hypervisor, and opens a handle.
    pub fn open(file: Option<&Path>) -> Result<Self, Error> {
        let library = search::first_that_opens(file, Library::open)?;
        if library.needs_xen {
            privcmd::check()?;
        }
        clear_errno();
        // SAFETY: xenstat_init takes no argument, and each call makes a handle of its own. Only this thread uses it
        // (fact 25).
        let handle = unsafe { library.functions.xenstat_init() };
        let handle = NonNull::new(handle).ok_or_else(|| Error::Init(errno()))?;
        // SAFETY: sysconf takes any number; libxenstat takes its page size from the same call (fact 21).
        let page_size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Ok(Self { handle, page_size: u64::try_from(page_size).unwrap_or(XC_PAGE_SIZE), library })
    }

    /// The file the functions came from.
    pub fn library(&self) -> &Path {
        &self.library.path
    }

    /// Why this file and no other, in a few words.
    pub fn why(&self) -> &'static str {
        self.library.why
    }

    /// A handle of libxenctrl of our own.
    pub fn xenctrl(&self) -> io::Result<Xenctrl> {
        Xenctrl::open(self.library.control.as_ref())
    }

    /// What connections to xenstored of our own are made with.
    pub fn store(&self) -> Option<xenstore::Functions> {
        self.library.store
    }

    /// Reads the host and all its domains: `xenstat_get_node`, copied over what `into` held, and freed.
    ///
    /// Blocks for as long as the C library does: indefinitely when xenstored hangs (fact 9). After an error the
    /// handle must not be used again (fact 10): drop it and [`open`](Self::open) another.
    pub fn poll(&mut self, asked: Collectors, into: &mut Snapshot) -> Result<(), Error> {
        let flags = [
            (true, sys::XENSTAT_XEN_VERSION),
            (asked.vcpu, sys::XENSTAT_VCPU),
            (asked.network, sys::XENSTAT_NETWORK),
            (asked.vbd, sys::XENSTAT_VBD),
        ];
        let flags = flags.iter().filter(|(asked, _)| *asked).fold(0, |flags, (_, flag)| flags | flag);
        clear_errno();
        // SAFETY: the handle is live (invariant). `&mut self` excludes a second call at the same time (fact 25), and
        // the caller does not come back after an error (fact 10).
        let node = unsafe { self.library.functions.xenstat_get_node(self.handle.as_ptr(), flags) };
        let node = NonNull::new(node).ok_or_else(|| Error::of_node(errno(), self.library()))?;
        Node { node, asked, owner: self }.copy(into);
        if into.domains.is_empty() { Err(Error::NoDomains) } else { Ok(()) }
    }
}

impl Drop for Xenstat {
    fn drop(&mut self) {
        // SAFETY: the handle is live (invariant), and no Node borrows it whose memory would die with it (fact 24).
        unsafe { self.library.functions.xenstat_uninit(self.handle.as_ptr()) }
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // SAFETY: the node is live (invariant), only this frees it, and nothing read from it is left (fact 24).
        unsafe { self.owner.library.functions.xenstat_free_node(self.node.as_ptr()) }
    }
}

impl Node<'_> {
    /// Needs no new memory where `into` has room from an earlier poll.
    fn copy(&self, into: &mut Snapshot) {
        let (c, node) = (&self.owner.library.functions, self.node.as_ptr());
        (into.collected, into.own_disks) = (self.asked, false);
        // SAFETY: the node is live (invariant), and its getters read one field each. A getter by index returns a
        // part of the node, or NULL, which `each` ends at. The version's string lives in the handle, and the domains
        // in the node (fact 24); both outlive this block.
        unsafe {
            let mut kept = 0;
            for domain in each(c.xenstat_node_num_domains(node), |i| c.xenstat_node_domain_by_index(node, i)) {
                kept += usize::from(self.keep(domain.as_ptr(), &mut into.domains, kept));
            }
            into.domains.truncate(kept);
            let version = lossy(c.xenstat_node_xen_version(node));
            if into.xen_version != version {
                into.xen_version = version.into_owned();
            }
            into.tot_mem = self.memory(c.xenstat_node_tot_mem(node));
            into.free_mem = self.memory(c.xenstat_node_free_mem(node));
            into.num_cpus = c.xenstat_node_num_cpus(node);
            into.cpu_hz = release::cpu_hz(std::env::consts::ARCH, c.xenstat_node_cpu_hz(node));
        }
        let has_vbd_error = self.owner.library.vbd_error.is_some();
        into.miscounts_read_sectors = release::miscounts_read_sectors(&into.xen_version, has_vbd_error);
        if into.miscounts_read_sectors {
            let vbds = into.domains.iter_mut().flat_map(|domain| &mut domain.vbds).flatten();
            vbds.filter_map(|vbd| vbd.counters.as_mut()).for_each(|counters| counters.rd_sects = None);
        }
    }

    /// Copies a domain behind the first `kept`, which are in the order of their domids, as libxenstat lists them.
    /// Beyond 256 domains with gaps it lists some twice, and only the first entry has the devices (fact 11).
    /// Returns whether the domain was new.
    ///
    /// # Safety
    /// `domain` belongs to this node.
    unsafe fn keep(&self, domain: *mut sys::xenstat_domain, domains: &mut Vec<Domain>, kept: usize) -> bool {
        // SAFETY: the domain lives as long as its node (caller, fact 24).
        let id = unsafe { self.owner.library.functions.xenstat_domain_id(domain) };
        let Err(place) = domains[..kept].binary_search_by_key(&id, |domain| domain.id) else { return false };
        if kept == domains.len() {
            domains.push(Domain::default());
        }
        // SAFETY: as the caller promises.
        let named = unsafe { self.domain(domain, &mut domains[kept]) };
        if named {
            domains[place..=kept].rotate_right(1);
        }
        named
    }

    /// libxenstat multiplies Xen's number of pages with the size of dom0's pages: four or sixteen times too much
    /// where an arm64 kernel has larger ones (fact 21).
    fn memory(&self, bytes: u64) -> u64 {
        if self.owner.page_size == XC_PAGE_SIZE { bytes } else { bytes / self.owner.page_size * XC_PAGE_SIZE }
    }

    /// Returns whether the domain has a name: without one it is being destroyed (fact 14).
    ///
    /// # Safety
    /// `domain` belongs to this node.
    unsafe fn domain(&self, domain: *mut sys::xenstat_domain, into: &mut Domain) -> bool {
        let c = &self.owner.library.functions;
        // SAFETY: the domain lives as long as its node, and so do its name and devices (caller, fact 24).
        // xenstat_domain_vcpu reads a list that exists only where XENSTAT_VCPU was asked for (fact 15): else the
        // count is 0 here. The index stays below num_vcpus, the length of that list.
        unsafe {
            let Some(name) = bytes(c.xenstat_domain_name(domain)) else { return false };
            if *into.name != *name {
                into.name = name.into();
            }
            (into.id, into.uuid) = (c.xenstat_domain_id(domain), None);
            into.state = State {
                running: c.xenstat_domain_running(domain) != 0,
                blocked: c.xenstat_domain_blocked(domain) != 0,
                paused: c.xenstat_domain_paused(domain) != 0,
                shutdown: c.xenstat_domain_shutdown(domain) != 0,
                crashed: c.xenstat_domain_crashed(domain) != 0,
                dying: c.xenstat_domain_dying(domain) != 0,
            };
            // Xen 4.8 to 4.12 leak a flag into bit 63, which no CPU time reaches (fact 18).
            into.cpu_ns = c.xenstat_domain_cpu_ns(domain) & (u64::MAX >> 1);
            into.num_vcpus = c.xenstat_domain_num_vcpus(domain);
            into.cur_mem = self.memory(c.xenstat_domain_cur_mem(domain));
            let max_mem = Some(c.xenstat_domain_max_mem(domain)).filter(|&bytes| bytes != u64::MAX);
            into.max_mem = max_mem.map(|bytes| self.memory(bytes));
            into.ssid = c.xenstat_domain_ssid(domain);
            let vcpus = if self.asked.vcpu { into.num_vcpus } else { 0 };
            refill(&mut into.vcpus, vcpus, |i| c.xenstat_domain_vcpu(domain, i), |vcpu| self.vcpu(vcpu));
            let vifs = c.xenstat_domain_num_networks(domain);
            refill(&mut into.vifs, vifs, |i| c.xenstat_domain_network(domain, i), |vif| self.vif(vif));
            let mut list = into.vbds.take().filter(|_| self.asked.vbd).unwrap_or_default();
            let vbds = c.xenstat_domain_num_vbds(domain);
            refill(&mut list, vbds, |i| c.xenstat_domain_vbd(domain, i), |vbd| self.vbd(vbd));
            into.vbds = self.asked.vbd.then_some(list);
        }
        true
    }

    /// # Safety
    /// `vcpu` belongs to this node.
    unsafe fn vcpu(&self, vcpu: *mut sys::xenstat_vcpu) -> Vcpu {
        let c = &self.owner.library.functions;
        // SAFETY: the vcpu lives as long as its node (caller, fact 24), which was read with XENSTAT_VCPU (fact 15).
        unsafe { Vcpu { online: c.xenstat_vcpu_online(vcpu) != 0, ns: c.xenstat_vcpu_ns(vcpu) } }
    }

    /// # Safety
    /// `vif` belongs to this node.
    unsafe fn vif(&self, vif: *mut sys::xenstat_network) -> Vif {
        let c = &self.owner.library.functions;
        // SAFETY: the network lives as long as its node (caller, fact 24).
        unsafe {
            Vif {
                id: c.xenstat_network_id(vif),
                rbytes: c.xenstat_network_rbytes(vif),
                rpackets: c.xenstat_network_rpackets(vif),
                rerrs: c.xenstat_network_rerrs(vif),
                rdrop: c.xenstat_network_rdrop(vif),
                tbytes: c.xenstat_network_tbytes(vif),
                tpackets: c.xenstat_network_tpackets(vif),
                terrs: c.xenstat_network_terrs(vif),
                tdrop: c.xenstat_network_tdrop(vif),
            }
        }
    }

    /// # Safety
    /// `vbd` belongs to this node.
    unsafe fn vbd(&self, vbd: *mut sys::xenstat_vbd) -> Vbd {
        let c = &self.owner.library.functions;
        // SAFETY: the VBD lives as long as its node (caller, fact 24). xenstat_vbd_error comes from the same file as
        // the other functions (`Library::load`), or is absent (facts 16 and 27).
        unsafe {
            let vbd_error = self.owner.library.vbd_error.as_ref();
            let error = vbd_error.is_some_and(|functions| functions.xenstat_vbd_error(vbd));
            Vbd {
                kind: c.xenstat_vbd_type(vbd),
                dev: c.xenstat_vbd_dev(vbd),
                counters: (!error).then(|| VbdCounters {
                    oo_reqs: Some(c.xenstat_vbd_oo_reqs(vbd)),
                    rd_reqs: c.xenstat_vbd_rd_reqs(vbd),
                    wr_reqs: c.xenstat_vbd_wr_reqs(vbd),
                    rd_sects: Some(c.xenstat_vbd_rd_sects(vbd)),
                    wr_sects: c.xenstat_vbd_wr_sects(vbd),
                    ..VbdCounters::default()
                }),
                ..Vbd::default()
            }
        }
    }
}

/// The children 0..count of a C object, up to the first that is NULL.
fn each<T>(count: c_uint, get: impl Fn(c_uint) -> *mut T) -> impl Iterator<Item = NonNull<T>> {
    (0..count).map_while(move |i| NonNull::new(get(i)))
}

/// Replaces a list by the children of a C object. A list that grows by itself takes room for four at first, and most
/// domains have one disk: their memory would be mostly empty. Room for more than a few is not reserved, as the number
/// is the library's.
fn refill<C, T>(list: &mut Vec<T>, count: c_uint, get: impl Fn(c_uint) -> *mut C, copy: impl Fn(*mut C) -> T) {
    list.clear();
    list.reserve_exact(count.min(8) as usize);
    list.extend(each(count, get).map(|child| copy(child.as_ptr())));
}

/// # Safety
/// `text` is NULL or a C string that outlives `'a`.
unsafe fn bytes<'a>(text: *const c_char) -> Option<&'a [u8]> {
    // SAFETY: not NULL here, so a C string (caller).
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// # Safety
/// As for [`bytes`].
unsafe fn lossy<'a>(text: *const c_char) -> Cow<'a, str> {
    // SAFETY: as the caller promises.
    String::from_utf8_lossy(unsafe { bytes(text) }.unwrap_or_default())
}

impl Library {
    fn open(file: &Path, why: &'static str) -> Result<Self, Error> {
        // Never unloaded: libxenctrl keeps an error's text in thread-specific data, whose destructor is code of the
        // library and is called when this thread ends. Whatever it is linked with stays with it.
        let flags = RTLD_LAZY | RTLD_LOCAL | libc::RTLD_NODELETE;
        // SAFETY: loading runs the library's initialisers. Those of libxenstat and of what it links touch nothing of
        // ours; for a file that the admin names the admin vouches.
        let library = unsafe { libloading::os::unix::Library::open(Some(file), flags) }
            .map_err(|error| Error::Unloadable(error.into()))?;
        let library = libloading::Library::from(library);
        let needs_xen = xenctrl::is_under(&library);
        let (control, store) = (xenctrl::Functions::of(&library), xenstore::Functions::of(&library));
        // SAFETY: every release declares these functions as the header we are built with (fact 27).
        let functions = unsafe { sys::Xenstat::from_library(library) };
        let functions = functions.map_err(|source| Error::Lacks { library: file.to_owned(), source: source.into() })?;
        // SAFETY: as above; no initialiser runs a second time.
        let vbd_error = unsafe { sys::XenstatVbdError::new(file) }.ok();
        let path = file_of(&functions).unwrap_or_else(|| file.to_owned());
        Ok(Self { functions, vbd_error, control, store, needs_xen, path, why })
    }
}

unsafe extern "C" {
    static mut stderr: *mut libc::FILE;
}

/// Sends what C libraries print to the variable `stderr` to `pipe`. File descriptor 2 is not changed, because the last
/// message of a process that aborts is written to it directly.
pub fn redirect_messages(pipe: OwnedFd) {
    // SAFETY: nobody else has the descriptor, and the mode is a C string.
    let file = unsafe { libc::fdopen(pipe.into_raw_fd(), c"w".as_ptr()) };
    if !file.is_null() {
        // SAFETY: the stream is open and new. glibc has `stderr` be a variable that programs may set; the thread that
        // calls libxenstat sets it, and no other thread uses it.
        unsafe {
            libc::setvbuf(file, std::ptr::null_mut(), libc::_IOLBF, 0);
            stderr = file;
        }
    }
}

/// The file a loaded library came from, as the dynamic loader knows it.
fn file_of(functions: &sys::Xenstat) -> Option<PathBuf> {
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: dladdr only looks the address up, and writes to `info` alone.
    let found = unsafe { libc::dladdr(functions.xenstat_init as *const c_void, &mut info) } != 0;
    // SAFETY: on success dli_fname is a C string of the loader's that lives until the library is closed.
    let path = found.then(|| unsafe { bytes(info.dli_fname) })??;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
}

fn clear_errno() {
    // SAFETY: errno's address is valid for the calling thread, always.
    unsafe { *libc::__errno_location() = 0 };
}

/// What the C library left in errno since [`clear_errno`].
fn errno() -> io::Error {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(0) | None => io::Error::other("the C library gives no reason"),
        Some(_) => error,
    }
}
