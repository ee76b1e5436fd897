//! What is logged of polls: at first what is read and where it is sent, then problems when they begin and end.

use std::collections::BTreeMap;
use std::time::Duration;

use log::{info, warn};

use crate::collect::disks::Unavailable;
use crate::collect::poller::Notes;
use crate::collect::xenstat_error::Error;
use crate::logging::throttle::{GOOD_POLLS, Throttle};
use crate::model::snapshot::{Collectors, Snapshot};

/// What has been logged.
#[derive(Default)]
pub struct PollLog {
    /// Whether it was logged what is read and where it is sent.
    introduced: bool,
    failing: Throttle,
    slow: Throttle,
    partial: Throttle,
    no_vifs: Throttle,
    no_disks: Throttle,
    guest_disks: GuestDisks,
}

impl PollLog {
    /// Logs again what is read, when the library is opened the next time.
    pub fn introduce_again(&mut self) {
        self.introduced = false;
    }

    /// A poll is running for longer than the interval.
    pub fn late(&mut self, interval: Duration) {
        self.slow.raise(format!("a poll takes longer than the interval of {interval:?}: skipping polls until it ends"));
    }

    /// A poll took less than the interval.
    pub fn in_time(&mut self) {
        self.slow.ok(|| "polls take less than the interval again".into());
    }

    /// A poll gave no snapshot.
    pub fn failed(&mut self, error: &Error) {
        self.failing.raise(format!("{error}; retrying"));
    }

    /// A poll gave `snapshot`. `description`: where it is sent.
    pub fn succeeded(
        &mut self,
        notes: Notes,
        snapshot: &Snapshot,
        interval: Duration,
        description: impl Fn() -> String,
    ) {
        let Notes { opened, vif_error, disk_error, unavailable, cause, .. } = notes;
        if let Some((library, why)) = opened.filter(|_| !std::mem::replace(&mut self.introduced, true)) {
            let (release, library) = (&snapshot.xen_version, library.display());
            info!("reading Xen {release} every {interval:?} through {library} ({why}), {}", description());
            if snapshot.miscounts_read_sectors && !snapshot.own_disks {
                warn!("Xen {release} miscounts the sectors read from disks: vbd_rsect is omitted");
            }
        }
        self.failing.ok(|| "libxenstat answers again".into());
        match vif_error {
            Some(error) => self.no_vifs.raise(format!("cannot read VIFs from the kernel: {error}")),
            None => self.no_vifs.ok(|| "VIFs can be read from the kernel again".into()),
        }
        match disk_error {
            Some(error) => self.no_disks.raise(format!("cannot read disks {error}: their metrics are omitted")),
            None => self.no_disks.ok(|| "disks can be read again".into()),
        }
        let exists = |id| snapshot.domains.iter().any(|domain| domain.id == id);
        let (begun, ended) = self.guest_disks.update(unavailable, exists);
        begun.iter().for_each(|line| warn!("{line}"));
        ended.iter().for_each(|line| info!("{line}"));
        match cause.and_then(|cause| partial(snapshot.collected, &cause.to_string())) {
            Some(message) => self.partial.raise(message),
            None => self.partial.ok(|| "everything can be read again".into()),
        }
    }
}

/// What a snapshot lacks, and why.
fn partial(collected: Collectors, cause: &str) -> Option<String> {
    let parts = [(collected.vbd, "disks"), (collected.network, "network interfaces"), (collected.vcpu, "vcpus")];
    let missing: Vec<&str> = parts.iter().filter(|(collected, _)| !collected).map(|(_, part)| *part).collect();
    let hint = match missing[..] {
        ["disks"] => " (they need /sys/bus/xen-backend, which the module xen-blkback brings)",
        [] => return None,
        _ => "",
    };
    let missing = missing.join(" and ");
    Some(format!("{cause} when asked for {missing}{hint}: their metrics are omitted"))
}

/// The guests whose disks cannot be read. Each is logged when that begins and ends; many at once on one line.
#[derive(Default)]
pub struct GuestDisks {
    /// By domid: the guest's name, and its good polls since the latest bad one.
    unavailable: BTreeMap<u32, (String, u32)>,
}

/// So many guests are logged on lines of their own.
const MAX_LINES: usize = 3;

impl GuestDisks {
    /// The disks of these guests could not be read at this poll. Guests that do not exist any more are forgotten.
    /// Returns the messages of what has begun, and of what has ended.
    pub fn update(&mut self, now: Vec<Unavailable>, exists: impl Fn(u32) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        self.unavailable.values_mut().for_each(|(_, good_polls)| *good_polls += 1);
        for Unavailable { id, name, error } in now {
            if self.unavailable.insert(id, (name.clone(), 0)).is_none() {
                begun.push((name, error));
            }
        }
        self.unavailable.retain(|id, (name, good_polls)| {
            let has_ended = *good_polls >= GOOD_POLLS;
            ended.extend((has_ended && exists(*id)).then(|| name.clone()));
            !has_ended && exists(*id)
        });
        let begun = match &begun[..] {
            few if few.len() <= MAX_LINES => few
                .iter()
                .map(|(name, error)| format!("QEMU of {name} {error}: the guest's disks are omitted"))
                .collect(),
            many => {
                let (name, error) = &many[0];
                vec![format!("the disks of {} guests are omitted: QEMU of {name} {error}, and others", many.len())]
            }
        };
        let ended = match &ended[..] {
            few if few.len() <= MAX_LINES => few.iter().map(|name| format!("QEMU of {name} answers again")).collect(),
            many => vec![format!("the disks of {} guests can be read again, {} among them", many.len(), many[0])],
        };
        (begun, ended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::disks::qmp_error;

    #[test]
    fn omitted_disks_are_logged_once_per_guest() {
        let mut guest_disks = GuestDisks::default();
        let mut update = |now: &[u32], existing: std::ops::Range<u32>| {
            let unavailable =
                |id: &u32| Unavailable { id: *id, name: format!("g{id}"), error: qmp_error::Error::Closed };
            guest_disks.update(now.iter().map(unavailable).collect(), |id| existing.contains(&id))
        };
        for (now, existing, lines) in [
            (&[][..], 0..9, &[][..]),
            (&[1], 0..9, &["QEMU of g1 closes the connection: the guest's disks are omitted"]),
            (&[1, 2], 0..9, &["QEMU of g2 closes the connection: the guest's disks are omitted"]),
            (&[2], 0..9, &[]),
            (&[2], 0..9, &[]),
            // Good for three polls.
            (&[2], 0..9, &["QEMU of g1 answers again"]),
            (&[], 0..9, &[]),
            (&[2], 0..9, &[]),
            // g2 has gone.
            (&[], 3..9, &[]),
            (&[3, 4, 5, 6], 0..9, &["the disks of 4 guests are omitted: QEMU of g3 closes the connection, and others"]),
            (&[], 0..9, &[]),
            (&[], 0..9, &[]),
            (&[], 0..9, &["the disks of 4 guests can be read again, g3 among them"]),
            (&[], 0..9, &[]),
        ] {
            let (begun, ended) = update(now, existing);
            assert_eq!([begun, ended].concat(), lines, "{now:?}");
        }
    }
}
