//! What the log says of polls: what is wrong when it begins and when it is over, and at first what is read.

use std::collections::BTreeMap;
use std::time::Duration;

use log::{info, warn};

use crate::collect::disks::Unavailable;
use crate::collect::poller::Notes;
use crate::collect::release;
use crate::collect::xenstat::Error;
use crate::logging::throttle::{GOOD_POLLS, Throttle};
use crate::model::snapshot::{Collectors, Snapshot};

/// What has been said.
#[derive(Default)]
pub struct Journal {
    /// Whether it was said what is read and where it goes.
    introduced: bool,
    failing: Throttle,
    slow: Throttle,
    partial: Throttle,
    no_vifs: Throttle,
    no_disks: Throttle,
    withheld: Withheld,
}

impl Journal {
    /// Says anew what is read, when the library is next opened.
    pub fn introduce_anew(&mut self) {
        self.introduced = false;
    }

    /// A poll is under way longer than the interval.
    pub fn late(&mut self, interval: Duration) {
        self.slow.raise(format!(
            "a poll takes longer than the interval of {interval:?}: others are skipped until it is done"
        ));
    }

    /// One has come in time.
    pub fn in_time(&mut self) {
        self.slow.ok(|| "polls take less than the interval again".into());
    }

    /// One gave nothing.
    pub fn failed(&mut self, error: &Error) {
        self.failing.raise(format!("{error}; trying again"));
    }

    /// One gave `snapshot`, every `interval`, for what `output` describes.
    pub fn read(&mut self, notes: Notes, snapshot: &Snapshot, interval: Duration, output: impl Fn() -> String) {
        let Notes { opened, vif_error, disk_error, unavailable, cause, .. } = notes;
        if let Some((library, why)) = opened.filter(|_| !std::mem::replace(&mut self.introduced, true)) {
            let (release, library) = (&snapshot.xen_version, library.display());
            info!("reading Xen {release} every {interval:?} through {library} ({why}), {}", output());
            if release::miscounts_read_sectors(release) && !snapshot.own_disks {
                warn!("Xen {release} miscounts the sectors read from disks: vbd_rsect is withheld");
            }
        }
        self.failing.ok(|| "libxenstat answers again".into());
        match vif_error {
            Some(error) => self.no_vifs.raise(format!("no VIFs from the kernel: {error}")),
            None => self.no_vifs.ok(|| "the kernel tells its VIFs again".into()),
        }
        match disk_error {
            Some(error) => self.no_disks.raise(format!("no disks {error}: their metrics are omitted")),
            None => self.no_disks.ok(|| "disks can be told again".into()),
        }
        self.withheld(unavailable, snapshot);
        match cause.and_then(|cause| partly(snapshot.collected, &cause.to_string())) {
            Some(what) => self.partial.raise(what),
            None => self.partial.ok(|| "everything can be told again".into()),
        }
    }

    fn withheld(&mut self, unavailable: Vec<Unavailable>, snapshot: &Snapshot) {
        let is_there = |id| snapshot.domains.iter().any(|domain| domain.id == id);
        let (begun, ended) = self.withheld.are(unavailable, is_there);
        begun.iter().for_each(|line| warn!("{line}"));
        ended.iter().for_each(|line| info!("{line}"));
    }
}

/// What a snapshot does not tell, why, and what becomes of it.
fn partly(told: Collectors, cause: &str) -> Option<String> {
    let parts = [(told.vbd, "disks"), (told.network, "network interfaces"), (told.vcpu, "vcpus")];
    let missing: Vec<&str> = parts.iter().filter(|(told, _)| !told).map(|(_, part)| *part).collect();
    let hint = match missing[..] {
        ["disks"] => " (they need /sys/bus/xen-backend, which the module xen-blkback brings)",
        [] => return None,
        _ => "",
    };
    let missing = missing.join(" and ");
    Some(format!("{cause} when asked for {missing}{hint}: their metrics are omitted"))
}

/// Guests whose disks are withheld, each told when it begins and when it ends; many at once in one line.
#[derive(Default)]
pub struct Withheld {
    /// By domid: the guest's name, and for how many ticks it has been well.
    told: BTreeMap<u32, (String, u32)>,
}

/// So many guests have lines of their own.
const SINGLY: usize = 3;

impl Withheld {
    /// These guests' disks cannot be told now. Of the others, those that are not there any more are forgotten.
    /// Returns what to say of those for whom it begins and of those for whom it is over.
    pub fn are(&mut self, now: Vec<Unavailable>, is_there: impl Fn(u32) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        self.told.values_mut().for_each(|(_, calm)| *calm += 1);
        for Unavailable { id, name, error } in now {
            if self.told.insert(id, (name.clone(), 0)).is_none() {
                begun.push((name, error));
            }
        }
        self.told.retain(|id, (name, calm)| {
            let is_over = *calm >= GOOD_POLLS;
            ended.extend((is_over && is_there(*id)).then(|| name.clone()));
            !is_over && is_there(*id)
        });
        let begun = match &begun[..] {
            few if few.len() <= SINGLY => few
                .iter()
                .map(|(name, error)| format!("QEMU of {name} {error}: the guest's disks are omitted"))
                .collect(),
            many => vec![format!(
                "the disks of {} guests are omitted: QEMU of {} {}, and so on",
                many.len(),
                many[0].0,
                many[0].1
            )],
        };
        let ended = match &ended[..] {
            few if few.len() <= SINGLY => few.iter().map(|name| format!("QEMU of {name} answers again")).collect(),
            many => vec![format!("the disks of {} guests are told again, those of {} among them", many.len(), many[0])],
        };
        (begun, ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::disks::qmp;

    #[test]
    fn each_guest_is_told_once() {
        let mut withheld = Withheld::default();
        let mut told = |now: &[u32], there: std::ops::Range<u32>| {
            let unavailable = |id: &u32| Unavailable { id: *id, name: format!("g{id}"), error: qmp::Error::Closed };
            withheld.are(now.iter().map(unavailable).collect(), |id| there.contains(&id))
        };
        for (now, there, lines) in [
            (&[][..], 0..9, &[][..]),
            (&[1], 0..9, &["QEMU of g1 closes the connection: the guest's disks are omitted"]),
            (&[1, 2], 0..9, &["QEMU of g2 closes the connection: the guest's disks are omitted"]),
            (&[2], 0..9, &[]),
            (&[2], 0..9, &[]),
            // Well for three polls.
            (&[2], 0..9, &["QEMU of g1 answers again"]),
            (&[], 0..9, &[]),
            (&[2], 0..9, &[]),
            // It has gone.
            (&[], 3..9, &[]),
            (&[3, 4, 5, 6], 0..9, &["the disks of 4 guests are omitted: QEMU of g3 closes the connection, and so on"]),
            (&[], 0..9, &[]),
            (&[], 0..9, &[]),
            (&[], 0..9, &["the disks of 4 guests are told again, those of g3 among them"]),
            (&[], 0..9, &[]),
        ] {
            let (begun, ended) = told(now, there);
            assert_eq!([begun, ended].concat(), lines, "{now:?}");
        }
    }
}
