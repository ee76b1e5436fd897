//! A domain and its devices beside their earlier readings, and the time between the two.

use std::time::Duration;

use crate::model::device::{DeviceId, DeviceKind};
use crate::model::snapshot::{Collectors, Domain, Moment, Snapshot, Vbd, VbdCounters, Vcpu, Vif};
use crate::model::vdev;

/// `--net-view`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetView {
    /// As xentop: NETTX is what dom0 sent and the guest received
    Dom0,
    /// The guest's: NETTX is what the guest sent
    Guest,
}

/// A domain at one poll, beside its earlier reading: all that its metrics are computed from.
pub struct Sample<'a> {
    /// The domain.
    pub domain: &'a Domain,
    /// The snapshot that it is in.
    pub node: &'a Snapshot,
    net_view: NetView,
    /// The same domain at the previous poll.
    pub previous: Option<(&'a Domain, &'a Previous<'a>)>,
}

/// The previous poll, and the time since.
pub struct Previous<'a> {
    /// What it read.
    pub snapshot: &'a Snapshot,
    /// The time between the two readings of libxenstat.
    pub xenstat: Span,
    /// The time between the two readings of the VIFs.
    pub vifs: Span,
}

/// The part of the time between two readings that it may be wrong by: a tenth. Clocks differ by at most a thousandth,
/// NTP's corrections included; the wrong counters that are known, by years.
const TOLERANCE: u32 = 10;

/// The time between two readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From begin to begin.
    pub elapsed: Duration,
    /// Each counter was read at an unknown but constant offset within its call; so the time between two readings of it
    /// may differ from `elapsed` by this much.
    pub uncertainty: Duration,
}

impl Span {
    /// From one reading to the next.
    pub fn between(earlier: Moment, now: Moment) -> Self {
        Self { elapsed: now.at.duration_since(earlier.at), uncertainty: now.took.abs_diff(earlier.took) }
    }

    /// Whether the uncertainty is within the `TOLERANCE`, as it is not if one of the two calls hung. Else there are
    /// no interval values.
    pub fn is_certain(&self) -> bool {
        !self.elapsed.is_zero() && self.uncertainty * TOLERANCE <= self.elapsed
    }

    /// As xentop: nanoseconds used / 10 / microseconds elapsed, but at most 100 for each vcpu. Xen measures the one,
    /// dom0 the other, whose clock NTP may slow down: busy vcpus then use a little more time than there was. `None` if
    /// it is more by over a `TOLERANCE` and the uncertainty: the counter is wrong then (fact 18).
    pub fn percent_of_cpu(&self, used: u64, vcpus: u32) -> Option<f64> {
        let at_most = (self.elapsed + self.elapsed / TOLERANCE + self.uncertainty).as_nanos() * u128::from(vcpus);
        let us_elapsed = self.elapsed.as_secs_f64() * 1e6;
        let percent = ((used as f64 / 10.0) / us_elapsed).min(100.0 * f64::from(vcpus));
        (self.is_certain() && u128::from(used) <= at_most).then_some(percent)
    }

    /// The sum of these increases, per second; `None` if one of them is `None`, because its counter was reset.
    pub fn per_second(&self, mut increases: impl Iterator<Item = Option<u64>>) -> Option<f64> {
        let sum = increases.try_fold(0_u64, |sum, increase| sum.checked_add(increase?))?;
        self.is_certain().then(|| sum as f64 / self.elapsed.as_secs_f64())
    }
}

impl<'a> Sample<'a> {
    /// A domain of `node`. `earlier` is used only if it is the same domain: a VM that was rebooted has a new domid.
    pub fn new(
        domain: &'a Domain,
        node: &'a Snapshot,
        earlier: Option<&'a Domain>,
        previous: Option<&'a Previous<'a>>,
        net_view: NetView,
    ) -> Self {
        // With less CPU time it is another domain that got the same domid and name.
        let earlier = earlier.filter(|earlier| is_same_vm(earlier, domain) && earlier.cpu_ns <= domain.cpu_ns);
        Self { domain, node, net_view, previous: earlier.zip(previous) }
    }

    /// Which of two opposite counters `--net-view` selects.
    pub fn side(&self, dom0s: fn(&Vif) -> u64, guests: fn(&Vif) -> u64) -> fn(&Vif) -> u64 {
        if self.net_view == NetView::Dom0 { dom0s } else { guests }
    }
}

/// Whether both have the same domid, and the same UUID, or as far as that is unknown the same name.
fn is_same_vm(earlier: &Domain, domain: &Domain) -> bool {
    earlier.id == domain.id
        && match (earlier.uuid, domain.uuid) {
            (Some(earlier), Some(uuid)) => earlier == uuid,
            _ => earlier.name == domain.name,
        }
}

/// The devices of one domain beside their earlier readings. Reused from domain to domain: it allocates only for a
/// domain that has more devices than all before.
#[derive(Debug, Default)]
pub struct Devices {
    /// By number.
    pub vcpus: Vec<Paired<Vcpu>>,
    /// By id. libxenstat lists an HVM guest's card and its tap under one id (fact 3): here they are one.
    pub vifs: Vec<Paired<Vif>>,
    /// In the order of the snapshot.
    pub vbds: Vec<Paired<Vbd>>,
    /// Whether the VBDs could be paired: not if duplicate numbers make it ambiguous which of them is which.
    pub vbds_are_paired: bool,
    /// Which kinds could be read.
    read: Collectors,
    buffers: Buffers,
}

/// A device beside its earlier reading.
#[derive(Debug)]
pub struct Paired<T> {
    /// What its name is made from.
    pub id: DeviceId,
    /// At this poll.
    pub now: T,
    /// At the previous poll.
    pub earlier: Earlier<T>,
}

/// What is known of a device at the previous poll.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Earlier<T> {
    /// The device was not there, or cannot be identified.
    Absent,
    /// It was there, but its counters cannot be compared.
    Incomparable,
    /// Its reading.
    Reading(T),
}

impl<T> Earlier<T> {
    /// The reading, if there is one to compare with.
    pub fn reading(&self) -> Option<&T> {
        match self {
            Self::Reading(earlier) => Some(earlier),
            Self::Absent | Self::Incomparable => None,
        }
    }
}

impl<T> From<Option<T>> for Earlier<T> {
    fn from(earlier: Option<T>) -> Self {
        earlier.map_or(Self::Absent, Self::Reading)
    }
}

#[derive(Debug, Default)]
struct Buffers {
    cards: Vec<Vif>,
    earlier_cards: Vec<Vif>,
    /// Of each VBD its id and its place in the snapshot.
    vbds: Vec<(DeviceId, usize)>,
    earlier_vbds: Vec<(DeviceId, usize)>,
}

impl Devices {
    /// Pairs the devices of another domain, and forgets the ones before.
    pub fn pair(&mut self, sample: &Sample) {
        let domain = sample.domain;
        let earlier = sample.previous.map(|(domain, _)| domain);
        self.read = Collectors { vbd: domain.vbds.is_some(), ..sample.node.collected };
        self.vcpus.clear();
        self.vcpus.extend((0..).zip(&domain.vcpus).map(|(number, vcpu)| {
            let earlier = earlier.and_then(|domain| domain.vcpus.get(number as usize)).copied();
            Paired { id: DeviceId::new(DeviceKind::Vcpu, number), now: *vcpu, earlier: earlier.into() }
        }));
        let vifs = if sample.node.collected.network { &*domain.vifs } else { &[] };
        let earlier_had_vifs = sample.previous.is_some_and(|(_, previous)| previous.snapshot.collected.network);
        let earlier_vifs = earlier.filter(|_| earlier_had_vifs).map_or(&[][..], |domain| &domain.vifs);
        self.pair_vifs(vifs, earlier_vifs);
        self.pair_vbds(domain.vbds.as_deref().unwrap_or_default(), earlier.and_then(|domain| domain.vbds.as_deref()));
    }

    fn pair_vifs(&mut self, vifs: &[Vif], earlier: &[Vif]) {
        let Buffers { cards, earlier_cards, .. } = &mut self.buffers;
        merge_cards(vifs, cards);
        merge_cards(earlier, earlier_cards);
        self.vifs.clear();
        self.vifs.extend(cards.iter().map(|card| {
            let place = earlier_cards.binary_search_by_key(&card.id, |earlier| earlier.id);
            let earlier = place.ok().map(|place| earlier_cards[place]);
            Paired { id: DeviceId::new(DeviceKind::Vif, card.id), now: *card, earlier: earlier.into() }
        }));
    }

    fn pair_vbds(&mut self, vbds: &[Vbd], earlier: Option<&[Vbd]>) {
        let Buffers { vbds: ids, earlier_vbds: earlier_ids, .. } = &mut self.buffers;
        let earlier_vbds = earlier.unwrap_or_default();
        identify(vbds, ids);
        identify(earlier_vbds, earlier_ids);
        // Duplicates differ only by their place, which shifts when a disk is attached or detached.
        let has_duplicates = ids.iter().chain(&*earlier_ids).any(|(id, _)| id.nth > 1);
        let same_list =
            || vbds.len() == earlier_vbds.len() && vbds.iter().zip(earlier_vbds).all(|(a, b)| is_same(a, b));
        self.vbds_are_paired = earlier.is_some() && (!has_duplicates || same_list());
        // Back into the order of the snapshot.
        ids.sort_unstable_by_key(|(_, place)| *place);
        self.vbds.clear();
        self.vbds.extend(ids.iter().map(|&(id, place)| {
            let now = vbds[place];
            let found = earlier_ids.binary_search_by_key(&id, |(id, _)| *id).ok().filter(|_| self.vbds_are_paired);
            let earlier =
                found.map(|found| earlier_vbds[earlier_ids[found].1]).filter(|earlier| is_same(earlier, &now));
            let earlier = match earlier {
                Some(earlier) if !is_comparable(&earlier, &now) => Earlier::Incomparable,
                earlier => earlier.into(),
            };
            Paired { id, now, earlier }
        }));
    }

    /// Whether a device is certainly gone: those of its kind could be read, and it is not among them.
    pub fn have_lost(&self, id: DeviceId) -> bool {
        match id.kind {
            DeviceKind::Vcpu => self.read.vcpu && !self.vcpus.iter().any(|vcpu| vcpu.id == id),
            DeviceKind::Vif => self.read.network && !self.vifs.iter().any(|vif| vif.id == id),
            DeviceKind::Vbd => self.read.vbd && !self.vbds.iter().any(|vbd| vbd.id == id),
        }
    }
}

/// One VIF for each id, in the order of their ids.
fn merge_cards(vifs: &[Vif], cards: &mut Vec<Vif>) {
    cards.clear();
    cards.extend_from_slice(vifs);
    cards.sort_unstable_by_key(|vif| vif.id);
    cards.dedup_by(|other, card| {
        let same = other.id == card.id;
        if same {
            card.add(other);
        }
        same
    });
}

/// The ids of a list of VBDs, in order, each with its place in the list.
fn identify(vbds: &[Vbd], ids: &mut Vec<(DeviceId, usize)>) {
    ids.clear();
    let id = |vbd: &Vbd| DeviceId::new(DeviceKind::Vbd, vdev::canonical(vbd.dev));
    ids.extend(vbds.iter().enumerate().map(|(place, vbd)| (id(vbd), place)));
    ids.sort_unstable();
    for i in 1..ids.len() {
        if ids[i].0.number == ids[i - 1].0.number {
            ids[i].0.nth = ids[i - 1].0.nth + 1;
        }
    }
}

/// Whether it is the same disk, served in the same way.
fn is_same(earlier: &Vbd, now: &Vbd) -> bool {
    (earlier.kind, earlier.dev) == (now.kind, now.dev)
}

/// False if summed over other paths, read from another source, or any counter fell: then the device was replaced.
fn is_comparable(earlier: &Vbd, now: &Vbd) -> bool {
    let counters = earlier.counters.as_ref().zip(now.counters.as_ref());
    earlier.access == now.access
        && earlier.read.is_some() == now.read.is_some()
        && counters.is_some_and(|(earlier, now)| {
            let mut pairs = all(earlier).into_iter().zip(all(now));
            pairs.all(|(earlier, now)| earlier.zip(now).is_none_or(|(earlier, now)| earlier <= now))
        })
}

fn all(counters: &VbdCounters) -> [Option<u64>; 11] {
    let VbdCounters { oo_reqs, rd_reqs, wr_reqs, rd_sects, wr_sects, rd_time, wr_time, flush_reqs, errs } = *counters;
    let [(rd_done, rd_ns), (wr_done, wr_ns)] =
        [rd_time, wr_time].map(|time| (time.map(|time| time.reqs), time.map(|time| time.ns)));
    let (rd, wr) = (Some(rd_reqs), Some(wr_reqs));
    [oo_reqs, rd, wr, rd_sects, Some(wr_sects), rd_done, rd_ns, wr_done, wr_ns, flush_reqs, errs]
}
