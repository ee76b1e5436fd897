//! What the log says of polls: what is wrong when it begins and when it is over, and at first what is read.

use std::time::Duration;

use log::{info, warn};

use crate::disks::Untold;
use crate::poller::Notes;
use crate::release;
use crate::snapshot::{Collectors, Snapshot};
use crate::trouble::{Trouble, Withheld};
use crate::xenstat::Error;

/// What has been said.
#[derive(Default)]
pub struct Journal {
    /// Whether it was said what is read and where it goes.
    introduced: bool,
    failing: Trouble,
    slow: Trouble,
    partial: Trouble,
    no_vifs: Trouble,
    no_disks: Trouble,
    withheld: Withheld,
}

impl Journal {
    /// Says anew what is read, when the library is next opened.
    pub fn introduce_anew(&mut self) {
        self.introduced = false;
    }

    /// A poll is under way longer than the interval.
    pub fn late(&mut self, interval: Duration) {
        self.slow
            .is(format!("a poll takes longer than the interval of {interval:?}: others are skipped until it is done"));
    }

    /// One has come in time.
    pub fn in_time(&mut self) {
        self.slow.seems_over(|| "polls take less than the interval again".into());
    }

    /// One gave nothing.
    pub fn failed(&mut self, error: &Error) {
        self.failing.is(format!("{error}; trying again"));
    }

    /// One gave `snapshot`, every `interval`, for what `output` describes.
    pub fn read(&mut self, notes: Notes, snapshot: &Snapshot, interval: Duration, output: impl Fn() -> String) {
        let Notes { opened, no_vifs, no_disks, untold, cause, .. } = notes;
        if let Some((library, why)) = opened.filter(|_| !std::mem::replace(&mut self.introduced, true)) {
            let (release, library) = (&snapshot.xen_version, library.display());
            info!("reading Xen {release} every {interval:?} through {library} ({why}), {}", output());
            if release::miscounts_read_sectors(release) && !snapshot.own_disks {
                warn!("Xen {release} miscounts the sectors read from disks: vbd_rsect is withheld");
            }
        }
        self.failing.seems_over(|| "libxenstat answers again".into());
        match no_vifs {
            Some(error) => self.no_vifs.is(format!("no VIFs from the kernel: {error}")),
            None => self.no_vifs.seems_over(|| "the kernel tells its VIFs again".into()),
        }
        match no_disks {
            Some(error) => self.no_disks.is(format!("no disks {error}: their gauges are withheld")),
            None => self.no_disks.seems_over(|| "disks can be told again".into()),
        }
        self.withheld(untold, snapshot);
        match cause.and_then(|cause| partly(snapshot.told, &cause)) {
            Some(what) => self.partial.is(what),
            None => self.partial.seems_over(|| "everything can be told again".into()),
        }
    }

    fn withheld(&mut self, untold: Vec<Untold>, snapshot: &Snapshot) {
        let is_there = |id| snapshot.domains.iter().any(|domain| domain.id == id);
        let (begun, ended) = self.withheld.are(untold, is_there);
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
    Some(format!("{cause} when asked for {missing}{hint}: their gauges are withheld"))
}
