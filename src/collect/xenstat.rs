//! libxenstat behind a safe door, and the only unsafe code of the program.
//!
//! [`Xenstat`] loads the library that fits the running hypervisor and owns one handle; [`Xenstat::poll`]
//! reads one node, copies it into a [`Snapshot`] and frees it before it returns. Nothing of C's memory
//! outlives a call.
#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, c_char, c_uint, c_void};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;

use sys::libloading::os::unix::RTLD_LAZY;
use xenstat_sys as sys;

use crate::collect::release;
use crate::model::snapshot::{Collectors, Domain, Snapshot, State, Vbd, VbdCounters, Vcpu, Vif};

/// Where libxenctrl opens the hypervisor's door; the second is that of kernels before 3.3.
const PRIVCMD: [&str; 2] = ["/dev/xen/privcmd", "/proc/xen/privcmd"];

/// The size of the pages that the hypervisor counts, on every architecture.
const XC_PAGE_SIZE: u64 = 4096;

/// A loaded libxenstat with an open handle.
///
/// Invariant: `handle` came from this library's `xenstat_init` and is passed to `xenstat_uninit` only on
/// drop. The raw pointer keeps the type on the thread that made it, which libxenstat requires: it locks
/// nothing.
pub struct Xenstat {
    handle: NonNull<sys::xenstat_handle>,
    /// dom0's, which libxenstat takes for the hypervisor's.
    page_size: u64,
    library: Library,
}

/// A libxenstat that has every function this file calls.
struct Library {
    /// Invariant: `missing` found nothing, so no call through it can panic for want of a function.
    functions: sys::Xenstat,
    path: PathBuf,
    why: &'static str,
}

/// One result of `xenstat_get_node`.
///
/// Invariant: `node` is what `xenstat_get_node` returned for `owner`'s handle with the flags of `asked`,
/// and is freed only on drop; everything reached from it dies with it, names included.
struct Node<'a> {
    node: NonNull<sys::xenstat_node>,
    asked: Collectors,
    owner: &'a Xenstat,
}

/// Why there is no reading. Each prints as one line that names the cause and, where there is one, the cure.
#[derive(Debug)]
pub enum Error {
    /// None of the usual libraries is there.
    NotFound {
        /// Everything that was tried.
        tried: String,
    },
    /// A library is there, or was named, but cannot be loaded.
    Unloadable {
        /// What the dynamic loader says.
        reason: String,
    },
    /// The library is no libxenstat, or one too old.
    Lacks {
        /// The file.
        library: PathBuf,
        /// The C function it has not.
        function: &'static str,
    },
    /// The hypervisor cannot be reached from here.
    NoXen {
        /// Which door is shut, and why.
        cause: String,
    },
    /// `xenstat_init` returned NULL. What it and the libraries under it have to say, they print themselves.
    Init {
        /// errno's text.
        cause: String,
    },
    /// `xenstat_get_node` returned NULL.
    Node {
        /// errno's text.
        cause: String,
    },
    /// `xenstat_get_node` found no domain at all, which cannot be: Domain-0 is where we run. So it
    /// answers when xenstored has gone away under an open handle.
    NoDomains,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound { tried } => write!(
                f,
                "no libxenstat found (tried {tried}): install Xen's tools (Debian: xen-utils-4.17 or its like), \
                 or name the file with --libxenstat"
            ),
            Error::Unloadable { reason } => write!(f, "libxenstat cannot be loaded: {reason}"),
            Error::Lacks { library, function } => {
                write!(f, "{} has no function {function}: not a libxenstat of Xen 4.0 or later", library.display())
            }
            Error::NoXen { cause } => write!(f, "the hypervisor cannot be reached: {cause}"),
            Error::Init { cause } => {
                write!(f, "xenstat_init failed: {cause}: is xenstored running, and may this user reach it?")
            }
            Error::Node { cause } => write!(f, "xenstat_get_node failed: {cause}"),
            Error::NoDomains => f.write_str("libxenstat shows no domains, not even Domain-0: is xenstored running?"),
        }
    }
}

impl Error {
    /// Whether time alone may cure it, once the program has started well.
    pub fn may_pass(&self) -> bool {
        matches!(self, Error::Node { .. } | Error::NoDomains)
    }
}

impl Xenstat {
    /// Loads `file`, or without one the library of the running hypervisor, and opens a handle.
    pub fn open(file: Option<&Path>) -> Result<Self, Error> {
        let library = Library::load(file)?;
        library.check_privilege()?;
        clear_errno();
        // SAFETY: xenstat_init takes nothing and may be called any number of times.
        let handle = unsafe { library.functions.xenstat_init() };
        let handle = NonNull::new(handle).ok_or_else(|| Error::Init { cause: errno_text() })?;
        // SAFETY: sysconf takes any number; libxenstat has asked it the same in xenstat_init.
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

    /// Reads the host and all its domains: `xenstat_get_node`, copied over what `into` held, and freed.
    ///
    /// Blocks for as long as the C library does, which is for ever when xenstored hangs. After an error
    /// the handle is not to be trusted: drop it and [`open`](Self::open) another.
    pub fn poll(&mut self, asked: Collectors, into: &mut Snapshot) -> Result<(), Error> {
        let flags = [
            (true, sys::XENSTAT_XEN_VERSION),
            (asked.vcpu, sys::XENSTAT_VCPU),
            (asked.network, sys::XENSTAT_NETWORK),
            (asked.vbd, sys::XENSTAT_VBD),
        ];
        let flags = flags.iter().filter(|(asked, _)| *asked).fold(0, |flags, (_, flag)| flags | flag);
        clear_errno();
        // SAFETY: the handle is live (invariant), `&mut self` excludes a second call at the same time.
        let node = unsafe { self.library.functions.xenstat_get_node(self.handle.as_ptr(), flags) };
        let node = NonNull::new(node).ok_or_else(|| Error::Node { cause: errno_text() })?;
        Node { node, asked, owner: self }.copy(into);
        if into.domains.is_empty() { Err(Error::NoDomains) } else { Ok(()) }
    }
}

impl Drop for Xenstat {
    fn drop(&mut self) {
        // SAFETY: the handle is live (invariant) and no Node borrows it: `self` is exclusive here.
        unsafe { self.library.functions.xenstat_uninit(self.handle.as_ptr()) }
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // SAFETY: the node is live (invariant) and this is the one place that frees it.
        unsafe { self.owner.library.functions.xenstat_free_node(self.node.as_ptr()) }
    }
}

impl Node<'_> {
    /// What of `into` is as large already needs no new memory.
    fn copy(&self, into: &mut Snapshot) {
        let (c, node) = (&self.owner.library.functions, self.node.as_ptr());
        (into.told, into.own_disks) = (self.asked, false);
        // SAFETY: the node is live (invariant); its getters read one field each. What a getter by index
        // returns is part of the node, or NULL, which `each` ends at. The version is a string inside the
        // handle, which outlives the node.
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
            into.cpu_hz = c.xenstat_node_cpu_hz(node);
        }
        if release::miscounts_read_sectors(&into.xen_version) {
            let vbds = into.domains.iter_mut().flat_map(|domain| &mut domain.vbds).flatten();
            vbds.filter_map(|vbd| vbd.counters.as_mut()).for_each(|counters| counters.rd_sects = None);
        }
    }

    /// Copies a domain behind the first `kept`, which are in the order of their domids, as libxenstat has them.
    /// Beyond 256 domains with gaps it lists some twice, and only the first entry has the devices (fact 11).
    /// Returns whether it was new.
    ///
    /// # Safety
    /// `domain` belongs to this node.
    unsafe fn keep(&self, domain: *mut sys::xenstat_domain, domains: &mut Vec<Domain>, kept: usize) -> bool {
        // SAFETY: the domain lives as long as its node (caller, invariant).
        let id = unsafe { self.owner.library.functions.xenstat_domain_id(domain) };
        let Err(place) = domains[..kept].binary_search_by_key(&id, |domain| domain.id) else { return false };
        if kept == domains.len() {
            domains.push(Domain::default());
        }
        // SAFETY: the caller's.
        let named = unsafe { self.domain(domain, &mut domains[kept]) };
        if named {
            domains[place..=kept].rotate_right(1);
        }
        named
    }

    /// libxenstat multiplies Xen's pages with the size of dom0's: four or sixteen times too much where an arm64
    /// kernel has larger ones (fact 21).
    fn memory(&self, bytes: u64) -> u64 {
        if self.owner.page_size == XC_PAGE_SIZE { bytes } else { bytes / self.owner.page_size * XC_PAGE_SIZE }
    }

    /// Whether the domain has a name: without one it is being destroyed.
    ///
    /// # Safety
    /// `domain` belongs to this node.
    unsafe fn domain(&self, domain: *mut sys::xenstat_domain, into: &mut Domain) -> bool {
        let c = &self.owner.library.functions;
        // SAFETY: the domain lives as long as its node (caller, invariant). xenstat_domain_vcpu reads a
        // vcpu list that exists only where XENSTAT_VCPU was asked for (fact 15), which is looked at first, and
        // the index stays below num_vcpus, the length of that list.
        unsafe {
            let Some(name) = bytes(c.xenstat_domain_name(domain)) else { return false };
            if *into.name != *name {
                into.name = name.into();
            }
            into.id = c.xenstat_domain_id(domain);
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
            into.vcpus.clear();
            into.vcpus.extend(each(vcpus, |i| c.xenstat_domain_vcpu(domain, i)).map(|vcpu| self.vcpu(vcpu.as_ptr())));
            let vifs = each(c.xenstat_domain_num_networks(domain), |i| c.xenstat_domain_network(domain, i));
            into.vifs.clear();
            into.vifs.extend(vifs.map(|vif| self.vif(vif.as_ptr())));
            let vbds = each(c.xenstat_domain_num_vbds(domain), |i| c.xenstat_domain_vbd(domain, i));
            let mut list = into.vbds.take().filter(|_| self.asked.vbd).unwrap_or_default();
            list.clear();
            list.extend(vbds.map(|vbd| self.vbd(vbd.as_ptr())));
            into.vbds = self.asked.vbd.then_some(list);
        }
        true
    }

    /// # Safety
    /// `vcpu` belongs to this node.
    unsafe fn vcpu(&self, vcpu: *mut sys::xenstat_vcpu) -> Vcpu {
        let c = &self.owner.library.functions;
        // SAFETY: the vcpu lives as long as its node (caller, invariant).
        unsafe { Vcpu { online: c.xenstat_vcpu_online(vcpu) != 0, ns: c.xenstat_vcpu_ns(vcpu) } }
    }

    /// # Safety
    /// `vif` belongs to this node.
    unsafe fn vif(&self, vif: *mut sys::xenstat_network) -> Vif {
        let c = &self.owner.library.functions;
        // SAFETY: the network lives as long as its node (caller, invariant).
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
        // SAFETY: the VBD lives as long as its node (caller, invariant). xenstat_vbd_error came with Xen
        // 4.13 and is the one function that may be absent; before it no error was told.
        unsafe {
            let error = c.xenstat_vbd_error.is_ok() && c.xenstat_vbd_error(vbd);
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

/// The children 0..count of a C object, up to the first it does not give.
fn each<T>(count: c_uint, get: impl Fn(c_uint) -> *mut T) -> impl Iterator<Item = NonNull<T>> {
    (0..count).map_while(move |i| NonNull::new(get(i)))
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
    // SAFETY: the caller's.
    String::from_utf8_lossy(unsafe { bytes(text) }.unwrap_or_default())
}

impl Library {
    fn load(file: Option<&Path>) -> Result<Self, Error> {
        if let Some(file) = file {
            // SAFETY: loading runs the library's initialisers; the admin who names the file vouches for them.
            let functions = unsafe { sys::Xenstat::new(file) };
            let functions = functions.map_err(|error| Error::Unloadable { reason: error.to_string() })?;
            return Self::check(functions, file, "as named");
        }
        let (candidates, tried) = release::libraries(release::running());
        let mut reason = None;
        for (candidate, why) in candidates {
            // SAFETY: libxenstat and what it links have no initialisers that touch our memory.
            match unsafe { sys::Xenstat::new(&candidate) } {
                Ok(functions) => return Self::check(functions, &candidate, why),
                Err(error) => {
                    let text = error.to_string();
                    let absent = text.starts_with(&format!("{}: cannot open shared object", candidate.display()));
                    reason = reason.or((!absent).then_some(text));
                }
            }
        }
        Err(reason.map_or(Error::NotFound { tried }, |reason| Error::Unloadable { reason }))
    }

    fn check(functions: sys::Xenstat, candidate: &Path, why: &'static str) -> Result<Self, Error> {
        let path = file_of(&functions).unwrap_or_else(|| candidate.to_owned());
        match missing(&functions) {
            None => Ok(Self { functions, path, why }),
            Some(function) => Err(Error::Lacks { library: path, function }),
        }
    }

    /// Looks whether the hypervisor can be reached, where the library is one that talks to it itself:
    /// `xenstat_init` would fail with less helpful words.
    fn check_privilege(&self) -> Result<(), Error> {
        if !self.is_xens() {
            return Ok(());
        }
        let mut shut = Vec::new();
        for door in PRIVCMD {
            match fs::OpenOptions::new().read(true).write(true).open(door) {
                Ok(_) => return Ok(()),
                Err(error) => shut.push((door, error)),
            }
        }
        let cause = match shut.iter().find(|(_, error)| error.kind() != io::ErrorKind::NotFound) {
            Some((door, error)) => format!("{door}: {error}; it wants root"),
            None => format!("no {}: this is no Xen dom0, or the module xen-privcmd is not loaded", PRIVCMD[0]),
        };
        Err(Error::NoXen { cause })
    }

    /// Whether it brings Xen's libraries along, as the tests' does not.
    fn is_xens(&self) -> bool {
        let flags = RTLD_LAZY | libc::RTLD_NOLOAD;
        // SAFETY: what is not loaded already is not loaded (RTLD_NOLOAD), so no initialiser runs.
        let again = unsafe { sys::libloading::os::unix::Library::open(Some(&self.path), flags) };
        // SAFETY: only asked whether it is there, never called.
        again.is_ok_and(|library| unsafe { library.get::<unsafe extern "C" fn()>(b"xc_interface_open") }.is_ok())
    }
}

/// The first function of those this file calls that the library has not.
fn missing(functions: &sys::Xenstat) -> Option<&'static str> {
    macro_rules! first_missing {
        ($($name:ident)*) => { $(if functions.$name.is_err() { return Some(stringify!($name)); })* };
    }
    first_missing! {
        xenstat_init xenstat_uninit xenstat_get_node xenstat_free_node
        xenstat_node_xen_version xenstat_node_tot_mem xenstat_node_free_mem xenstat_node_num_cpus
        xenstat_node_cpu_hz xenstat_node_num_domains xenstat_node_domain_by_index
        xenstat_domain_id xenstat_domain_name xenstat_domain_running xenstat_domain_blocked
        xenstat_domain_paused xenstat_domain_shutdown xenstat_domain_crashed xenstat_domain_dying
        xenstat_domain_cpu_ns xenstat_domain_num_vcpus xenstat_domain_cur_mem xenstat_domain_max_mem
        xenstat_domain_ssid xenstat_domain_vcpu xenstat_domain_num_networks xenstat_domain_network
        xenstat_domain_num_vbds xenstat_domain_vbd
        xenstat_vcpu_online xenstat_vcpu_ns
        xenstat_network_id xenstat_network_rbytes xenstat_network_rpackets xenstat_network_rerrs
        xenstat_network_rdrop xenstat_network_tbytes xenstat_network_tpackets xenstat_network_terrs
        xenstat_network_tdrop
        xenstat_vbd_type xenstat_vbd_dev xenstat_vbd_oo_reqs xenstat_vbd_rd_reqs xenstat_vbd_wr_reqs
        xenstat_vbd_rd_sects xenstat_vbd_wr_sects
    }
    None
}

/// The file a loaded library came from, as the dynamic loader knows it.
fn file_of(functions: &sys::Xenstat) -> Option<PathBuf> {
    let init = *functions.xenstat_init.as_ref().ok()?;
    let mut info = libc::Dl_info {
        dli_fname: std::ptr::null(),
        dli_fbase: std::ptr::null_mut(),
        dli_sname: std::ptr::null(),
        dli_saddr: std::ptr::null_mut(),
    };
    // SAFETY: dladdr only looks the address up, and writes to `info` alone.
    let found = unsafe { libc::dladdr(init as *const c_void, &mut info) } != 0;
    // SAFETY: on success dli_fname is a C string of the loader's that lives until the library is closed.
    let path = found.then(|| unsafe { bytes(info.dli_fname) })??;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(path)))
}

fn clear_errno() {
    // SAFETY: errno's address is valid for the calling thread, always.
    unsafe { *libc::__errno_location() = 0 };
}

fn errno_text() -> String {
    let errno = io::Error::last_os_error();
    match errno.raw_os_error() {
        Some(0) | None => "the C library gives no reason".into(),
        Some(_) => errno.to_string(),
    }
}

#[cfg(test)]
mod tests {
    /// A function called but not looked for at load would panic on a library that lacks it.
    #[test]
    fn every_function_called_is_looked_for() {
        let source = include_str!("xenstat.rs").split("#[cfg(test)]").next().unwrap();
        let list = source.split("first_missing! {").nth(1).unwrap().split('}').next().unwrap();
        let listed: Vec<&str> = list.split_whitespace().collect();
        let mut called = 0;
        for call in source.split(".xenstat_").skip(1) {
            let name = call.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap();
            let name = format!("xenstat_{name}");
            called += 1;
            assert!(name == "xenstat_vbd_error" || listed.contains(&name.as_str()), "{name} is not listed");
        }
        assert!(called > 40, "the search above found only {called} calls");
    }
}
