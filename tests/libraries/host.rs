//! The host that xentop and our program are shown: what its hypervisor and xenstore say, and its kernel's files.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The number of pages in a TiB.
pub const TIB: u64 = 1 << 28;

pub struct Domain {
    pub id: u32,
    pub name: Option<String>,
    pub uuid: Option<&'static str>,
    /// What else xenstore has below its directory.
    pub store: &'static [(&'static str, &'static str)],
    /// Letters of xentop's column.
    pub state: &'static str,
    pub cpu_ns: u64,
    pub cpu_ns_per_poll: u64,
    /// 0 while it is being built.
    pub vcpus: u32,
    pub pages: u64,
    pub max_pages: u64,
    pub ssid: u32,
    /// What every question about its vcpus fails with, or 0.
    pub vcpu_errno: i32,
}

pub struct Host {
    pub cpus: u32,
    pub pages: u64,
    pub has_bridge: bool,
    pub domains: Vec<Domain>,
    /// Interfaces of the kernel, beside the bridge.
    pub interfaces: Vec<String>,
    /// Devices on the bus of Xen's backends.
    pub disks: Vec<String>,
    pub disks_without_statistics: Vec<String>,
    /// What the kernel says is the running hypervisor's release, `4.17`, if it does.
    pub running: Option<String>,
}

impl Domain {
    pub fn new(id: u32, name: &str) -> Self {
        Self {
            id,
            name: Some(name.into()),
            uuid: None,
            store: &[],
            state: "b",
            cpu_ns: 1_000_000_000_000 + u64::from(id) * 1_234_567_891,
            cpu_ns_per_poll: u64::from(id % 64) * 15_500_000,
            vcpus: 2,
            pages: 131_072 + u64::from(id),
            max_pages: 262_144 + u64::from(id),
            ssid: id % 7,
            vcpu_errno: 0,
        }
    }
}

impl Host {
    /// With Domain-0 and these.
    pub fn new(guests: impl IntoIterator<Item = Domain>) -> Self {
        let no_limit = u64::from(u32::MAX);
        let domain0 = Domain { state: "r", vcpus: 4, max_pages: no_limit, ..Domain::new(0, "Domain-0") };
        Self {
            cpus: 16,
            pages: TIB / 16,
            has_bridge: true,
            domains: std::iter::once(domain0).chain(guests).collect(),
            interfaces: Vec::new(),
            disks: Vec::new(),
            disks_without_statistics: Vec::new(),
            running: None,
        }
    }

    pub fn interfaces(mut self, names: &[&str]) -> Self {
        self.interfaces.extend(names.iter().map(|&name| name.into()));
        self
    }

    pub fn disks(mut self, names: &[&str]) -> Self {
        self.disks.extend(names.iter().map(|&name| name.into()));
        self
    }

    /// Writes the description for xen.c, and the kernel's directories; `version` is what the hypervisor calls itself.
    pub fn write(&self, version: &str, into: &Path) {
        let mut text = format!("host {} {} {} {version}\n", self.cpus, self.pages, self.pages / 4);
        for domain in &self.domains {
            let Domain { id, state, cpu_ns, cpu_ns_per_poll, vcpus, pages, max_pages, ssid, vcpu_errno, .. } = domain;
            let state = if state.is_empty() { "-" } else { state };
            let times = format!("{cpu_ns} {cpu_ns_per_poll}");
            writeln!(text, "domain {id} {state} {times} {vcpus} {pages} {max_pages} {ssid} {vcpu_errno}").unwrap();
            if let Some(name) = &domain.name {
                writeln!(text, "/local/domain/{id}/name {name}").unwrap();
            }
            if let Some(uuid) = domain.uuid {
                writeln!(text, "/local/domain/{id}/vm /vm/{uuid}").unwrap();
            }
            for (key, value) in domain.store {
                writeln!(text, "/local/domain/{id}/{key} {value}").unwrap();
            }
        }
        put(&into.join("xen"), &text);
        put(&into.join("proc/net/dev"), &self.net_dev());
        for file in ["null", "xen/privcmd"] {
            put(&into.join("dev").join(file), "");
        }
        fs::create_dir_all(into.join("sys/class/net")).unwrap();
        if self.has_bridge {
            fs::create_dir_all(into.join("sys/class/net/xenbr0/bridge")).unwrap();
        }
        let bus = into.join("sys/bus/xen-backend/devices");
        fs::create_dir_all(&bus).unwrap();
        for (n, disk) in self.disks.iter().enumerate() {
            for (m, file) in ["oo_req", "rd_req", "wr_req", "rd_sect", "wr_sect", "f_req"].iter().enumerate() {
                put(&bus.join(disk).join("statistics").join(file), &format!("{}\n", 100_003 * (n + 1) + 7 * m));
            }
        }
        for disk in &self.disks_without_statistics {
            fs::create_dir_all(bus.join(disk)).unwrap();
        }
        if let Some((major, minor)) = self.running.as_deref().and_then(|running| running.split_once('.')) {
            put(&into.join("sys/hypervisor/version/major"), &format!("{major}\n"));
            put(&into.join("sys/hypervisor/version/minor"), &format!("{minor}\n"));
        }
    }

    fn net_dev(&self) -> String {
        let mut text = String::from(
            "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast\
             |bytes    packets errs drop fifo colls carrier compressed\n",
        );
        let bridge = self.has_bridge.then_some("xenbr0");
        let names = ["lo"].into_iter().chain(bridge).chain(self.interfaces.iter().map(String::as_str));
        for (n, name) in names.enumerate() {
            let n = n as u64 + 1;
            let half = |bytes: u64| format!("{bytes} {} {n} {} 0 0 0 0", bytes / 1000, n * 2);
            writeln!(text, "{name:>6}: {} {}", half(n * 10_000_019), half(n * 7_000_003)).unwrap();
        }
        text
    }
}

fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}
