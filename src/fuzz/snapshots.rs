//! Arbitrary hosts, from bytes.

use std::time::{Duration, Instant};

use crate::fuzz::input::Input;
use crate::model::snapshot::{
    AccessPath, Collectors, Domain, Memory, Moment, Runstate, Runstates, Snapshot, State, Time, Vbd, VbdCounters, Vcpu,
    Vif,
};
use crate::model::uuid::Uuid;

/// Names that are near each other, or near names that are not a domain's.
const NEAR: &[&str] = &[
    "web",
    "WEB",
    "web_1",
    "web 1",
    "web-1",
    "web.1",
    "node",
    "xenmonitor",
    "Domain-0",
    "domain_0",
    "a",
    "a_vcpu_0",
    "a_vbd_xvda",
    "a_state",
    "web--incoming",
    "web--migratedaway",
    "",
    "_",
    "we\u{e9}b",
    "\u{65e5}\u{672c}",
    "~web",
    "x\n\x1b[2Jweb:1|g",
    "\u{202e}web",
    "a,host=b",
    "web_16d2ffe8",
];

const LONGEST: usize = 300;

/// Changes a host from one poll to the next.
pub fn change(now: &mut Snapshot, input: &mut Input, at: Instant) {
    let flags = input.byte();
    now.collected = Collectors { vcpu: flags & 1 == 0, network: flags & 2 == 0, vbd: flags & 4 == 0 };
    if flags & 8 > 0 {
        (now.tot_mem, now.free_mem, now.cpu_hz) = (input.number(), input.number(), Some(input.number()));
        now.num_cpus = input.number() as u32;
        now.xen_version = String::from_utf8_lossy(input.bytes(8)).into();
    }
    // Domain-0 is where we run: it is always there, and keeps its name.
    if now.domains.is_empty() {
        now.domains.push(Domain { name: b"Domain-0"[..].into(), ..domain(0, input, at) });
    }
    now.domains.retain_mut(|domain| match input.byte() {
        0x40..0xc0 => {
            go_on(domain, input, at);
            true
        }
        _ if domain.id == 0 => true,
        0 => false,
        1 => {
            domain.name = name(input);
            true
        }
        2..0x40 => {
            let id = domain.id;
            *domain = self::domain(id, input, at);
            true
        }
        _ => true,
    });
    for _ in 0..input.byte() % 4 {
        let id = if input.byte() % 8 > 0 { u32::from(input.byte()) } else { input.number() as u32 };
        // libxenstat's, each but once and in order.
        if let Err(place) = now.domains.binary_search_by_key(&id, |domain| domain.id) {
            now.domains.insert(place, domain(id, input, at));
        }
    }
    let some = || now.domains.iter().filter(|domain| domain.ssid % 2 == 0);
    let memory =
        |domain: &Domain| Memory { target_k: domain.max_mem, guest_free_k: Some(domain.cur_mem), ..Memory::default() };
    now.memory = some().map(|domain| (domain.id, memory(domain))).collect();
    let runstate = |domain: &Domain| Runstate { missed_changes: domain.ssid, time_ns: [domain.cpu_ns; 6] };
    let of_domains = some().map(|domain| (domain.id, runstate(domain))).collect();
    now.runstates = Some(Runstates { of_domains, read: Moment { at, took: Duration::ZERO } });
}

/// Its counters grow.
fn go_on(domain: &mut Domain, input: &mut Input, at: Instant) {
    let mut grow = |count: &mut u64| *count = count.saturating_add(input.number());
    grow(&mut domain.cpu_ns);
    domain.vcpus.iter_mut().for_each(|vcpu| grow(&mut vcpu.ns));
    for vif in &mut domain.vifs {
        grow(&mut vif.rbytes);
        grow(&mut vif.tbytes);
    }
    for vbd in domain.vbds.iter_mut().flatten() {
        vbd.read = vbd.read.map(|moment| Moment { at, ..moment });
        if let Some(counters) = &mut vbd.counters {
            grow(&mut counters.rd_reqs);
            counters.rd_sects.iter_mut().for_each(&mut grow);
            counters.wr_time.iter_mut().for_each(|time| {
                grow(&mut time.reqs);
                grow(&mut time.ns);
            });
        }
    }
    domain.cpu_ns &= u64::MAX >> 1;
}

fn name(input: &mut Input) -> Box<[u8]> {
    let near = input.of(NEAR).as_bytes();
    let mut name = match input.byte() {
        0..0xc0 => near.to_vec(),
        0xc0..0xe0 => [near, near].concat().repeat(input.byte().into()),
        _ => {
            let length = input.byte() % 40;
            input.bytes(length.into()).to_vec()
        }
    };
    name.retain(|byte| *byte != 0);
    name.truncate(LONGEST);
    name.into()
}

fn domain(id: u32, input: &mut Input, at: Instant) -> Domain {
    let flags = input.byte();
    let is = |bit: u8| flags & 1 << bit > 0;
    let state = State { running: is(0), blocked: is(1), paused: is(2), shutdown: is(3), crashed: is(4), dying: is(5) };
    let mut list = |most: u8| 0..input.byte() % most;
    let (vcpus, vifs, vbds) = (list(4), list(4), list(5));
    let mut domain = Domain {
        id,
        name: name(input),
        // Some are shared.
        uuid: Uuid::parse(format!("{:08x}-0000-0000-0000-000000000000", id / 2).as_bytes()),
        state,
        // Bit 63 is masked where libxenstat is read.
        cpu_ns: input.number() & (u64::MAX >> 1),
        num_vcpus: input.number() as u32,
        cur_mem: input.number(),
        max_mem: Some(input.number()).filter(|_| is(6)),
        ssid: input.number() as u32,
        vcpus: Vec::new(),
        vifs: Vec::new(),
        vbds: None,
    };
    domain.vcpus.extend(vcpus.map(|_| Vcpu { online: input.byte() > 0, ns: input.number() }));
    domain.vifs.extend(vifs.map(|_| vif(input)));
    domain.vbds = is(7).then(|| vbds.map(|_| vbd(input, at)).collect());
    domain
}

fn vif(input: &mut Input) -> Vif {
    let id = if input.byte() % 8 > 0 { u32::from(input.byte() % 4) } else { input.number() as u32 };
    let mut number = || input.number();
    Vif {
        id,
        rbytes: number(),
        rpackets: number(),
        rerrs: number(),
        rdrop: number(),
        tbytes: number(),
        tpackets: number(),
        terrs: number(),
        tdrop: number(),
    }
}

fn vbd(input: &mut Input, at: Instant) -> Vbd {
    let dev = match input.byte() % 8 {
        0 => input.number() as u32,
        1 => input.raw() as u32,
        _ => *input.of(&[51712, 51713, 51728, 768, 2048, 0, 51, 1 << 28, 1 << 28 | 16 << 8]),
    };
    let flags = input.byte();
    let known = |bit: u8| flags & 1 << bit == 0;
    let mut number = || input.number();
    let mut some = |known: bool| known.then(&mut number);
    let mut time = |known: bool| Some(Time { reqs: some(known)?, ns: some(known)? });
    let (rd_time, wr_time) = (time(known(0)), time(known(1)));
    let counters = VbdCounters {
        oo_reqs: some(known(2)),
        rd_sects: some(known(3)),
        flush_reqs: some(known(4)),
        errs: some(known(5)),
        rd_reqs: number(),
        wr_reqs: number(),
        wr_sects: number(),
        rd_time,
        wr_time,
    };
    let took = Duration::from_micros(number() % 1_000_000);
    Vbd {
        kind: input.number() as u32,
        dev,
        access: *input.of(&[AccessPath::Pv, AccessPath::Emulated, AccessPath::Both]),
        counters: Some(counters).filter(|_| known(6)),
        read: Some(Moment { at, took }).filter(|_| known(7)),
    }
}
