//! Log lines about polls: at the start the sources and destinations, later problems when they begin and end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use log::{info, warn};

use crate::collect::disks::{Unavailable, qmp_error};
use crate::collect::poller::Notes;
use crate::collect::xenstat_error::Error;
use crate::logging::throttle::{Recovery, Throttle};
use crate::model::snapshot::{Collectors, Snapshot};

/// Of `--disks libxenstat`.
pub const QEMUS_ASKED_BY_LIBXENSTAT: &str = "QEMU serves disks, and --disks libxenstat has libxenstat ask it, which \
                                             can end this program or harm a slow QEMU: use --disks auto";

/// What has been logged.
#[derive(Default)]
pub struct PollLog {
    /// Whether the sources and destinations were logged.
    introduced: bool,
    /// Whether vcpus are collected.
    wants_vcpus: bool,
    failing: Throttle,
    slow: Throttle,
    partial: Throttle,
    no_vifs: Throttle,
    no_disks: Throttle,
    no_pcpus: Throttle,
    no_runstates: Throttle,
    no_uuids: Throttle,
    no_memory: Throttle,
    asks_beside_qemu: Throttle,
    messages: Throttle,
    guest_disks: GuestDisks,
}

impl PollLog {
    /// Nothing has been logged.
    pub fn new(wants_vcpus: bool) -> Self {
        Self { wants_vcpus, ..Self::default() }
    }

    /// Logs again what is read, when the library is opened the next time.
    pub fn introduce_again(&mut self) {
        self.introduced = false;
    }

    /// What libxenstat printed by itself during a poll.
    pub fn messages(&mut self, messages: &[String]) {
        messages.iter().for_each(|message| self.messages.raise(format!("libxenstat: {message}")));
        if messages.is_empty() {
            self.messages.ok(|| "libxenstat prints no messages any more".into());
        }
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
        let Notes {
            opened,
            vif_error,
            disk_error,
            unavailable,
            pcpu_error,
            runstate_error,
            unknown_uuids,
            memory_error,
            asks_beside_qemu,
            cause,
            ..
        } = notes;
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
        match pcpu_error {
            Some(error) => {
                self.no_pcpus.raise(format!("cannot read physical CPUs: {error}: their metrics are omitted"))
            }
            None => self.no_pcpus.ok(|| "physical CPUs can be read again".into()),
        }
        match runstate_error {
            Some(error) => self.no_runstates.raise(format!("cannot read runstates: {error}: runstate.* is omitted")),
            None => self.no_runstates.ok(|| "runstates can be read again".into()),
        }
        match unknown_uuids {
            Some(unknown) => self.no_uuids.raise(unknown.to_string()),
            None => self.no_uuids.ok(|| "all UUIDs are known again".into()),
        }
        match memory_error {
            Some(error) => {
                self.no_memory.raise(format!("cannot read memory from xenstore: {error}: memory.* is omitted"))
            }
            None => self.no_memory.ok(|| "memory can be read from xenstore again".into()),
        }
        if asks_beside_qemu {
            self.asks_beside_qemu.raise(QEMUS_ASKED_BY_LIBXENSTAT.into());
        }
        let exists = |id| snapshot.domains.iter().any(|domain| domain.id == id);
        let (begun, ended) = self.guest_disks.update(unavailable, exists);
        begun.iter().for_each(|line| warn!("{line}"));
        ended.iter().for_each(|line| info!("{line}"));
        match cause.and_then(|cause| partial(snapshot.collected, self.wants_vcpus, &cause)) {
            Some(message) => self.partial.raise(message),
            None => self.partial.ok(|| "everything can be read again".into()),
        }
    }
}

/// What a snapshot lacks, and why.
fn partial(collected: Collectors, wants_vcpus: bool, cause: &Error) -> Option<String> {
    let has_vcpus = collected.vcpu || !wants_vcpus;
    let parts = [(collected.vbd, "disks"), (collected.network, "network interfaces"), (has_vcpus, "vcpus")];
    let missing: Vec<&str> = parts.iter().filter(|(collected, _)| !collected).map(|(_, part)| *part).collect();
    let hint = match missing[..] {
        ["disks"] => " (they need /sys/bus/xen-backend, which the module xen-blkback brings)",
        [] => return None,
        _ => "",
    };
    let missing = missing.join(" and ");
    if let Error::OtherRelease { .. } = cause {
        return Some(format!("{cause}: metrics of {missing} are omitted"));
    }
    Some(format!("{cause} when asked for {missing}{hint}: their metrics are omitted"))
}

/// A guest's disks cannot be read, and why.
pub fn omitted_disks(name: &str, error: &qmp_error::Error) -> String {
    format!("QEMU of {name} {error}: the guest's disks are omitted{}", hint(error))
}

/// Where its QEMU may only be slow.
fn hint(error: &qmp_error::Error) -> &'static str {
    use qmp_error::Error::{Late, NotAsked, Silent};
    match error {
        Silent(_) | Late(_) | NotAsked(None) => " (a longer --qmp-timeout helps if it is only slow)",
        _ => "",
    }
}

/// The guests whose disks cannot be read. Each is logged when that begins and ends; many at once on one line.
#[derive(Default)]
pub struct GuestDisks {
    /// By domid.
    guests: BTreeMap<u32, GuestDisk>,
}

/// A guest whose disks could not be read, lately or still.
#[derive(Default)]
struct GuestDisk {
    name: String,
    /// It has been logged that this began, and not that it ended.
    is_raised: bool,
    recovery: Recovery,
}

/// So many guests are logged on lines of their own.
const MAX_LINES: usize = 3;

impl GuestDisks {
    /// The disks of these guests could not be read at this poll. Guests that do not exist any more are forgotten.
    /// Returns the messages of what has begun, and of what has ended.
    pub fn update(&mut self, now: Vec<Unavailable>, exists: impl Fn(u32) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        let bad: BTreeSet<u32> = now.iter().map(|guest| guest.id).collect();
        for Unavailable { id, name, error } in now {
            let guest = self.guests.entry(id).or_default();
            guest.recovery.bad_poll();
            guest.name.clone_from(&name);
            if !std::mem::replace(&mut guest.is_raised, true) {
                begun.push((name, error));
            }
        }
        self.guests.retain(|id, guest| {
            if !bad.contains(id) && guest.recovery.good_poll() && exists(*id) {
                guest.is_raised = false;
                ended.push(guest.name.clone());
            }
            exists(*id) && !guest.recovery.is_past()
        });
        let begun = match &begun[..] {
            few if few.len() <= MAX_LINES => few.iter().map(|(name, error)| omitted_disks(name, error)).collect(),
            many => {
                let (name, error) = &many[0];
                let hint = hint(error);
                vec![format!(
                    "the disks of {} guests are omitted: QEMU of {name} {error}, and others{hint}",
                    many.len()
                )]
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

    /// Where time is what was lacking, the option that gives more of it is named.
    #[test]
    fn omitted_disks_name_the_option_that_helps() {
        let hint = " (a longer --qmp-timeout helps if it is only slow)";
        let second = Duration::from_secs(1);
        for (error, end) in [
            (qmp_error::Error::Late(second), hint),
            (qmp_error::Error::Silent(second), hint),
            (qmp_error::Error::NotAsked(None), hint),
            (qmp_error::Error::Closed, ""),
            (qmp_error::Error::TooMuch, ""),
        ] {
            let text = format!("QEMU of g1 {error}: the guest's disks are omitted{end}");
            assert_eq!(omitted_disks("g1", &error), text);
            let many = (0..4).map(|id| Unavailable { id, name: "g1".into(), error: qmp_error::Error::Late(second) });
            let (begun, _) = GuestDisks::default().update(many.collect(), |_| true);
            assert!(begun[0].ends_with(hint), "{begun:?}");
        }
    }

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

    /// A QEMU that is late at every fifth poll.
    #[test]
    fn omitted_disks_that_come_and_go_are_few_lines() {
        let (mut guest_disks, mut lines) = (GuestDisks::default(), 0);
        for poll in 0..1000 {
            let late = Unavailable { id: 1, name: "g1".into(), error: qmp_error::Error::Closed };
            let now = if poll % 5 == 0 { vec![late] } else { Vec::new() };
            let (begun, ended) = guest_disks.update(now, |_| true);
            lines += begun.len() + ended.len();
        }
        assert_eq!(lines, 3, "it begins, ends and begins");
    }
}
