//! What is wrong for a while, and how often the log says so.

use std::collections::BTreeMap;

use log::{info, warn};

use crate::disks::Untold;

/// Something that is wrong for a while, told when it begins and when it changes, not at every tick.
#[derive(Default)]
pub struct Trouble {
    /// What has been told since it began, so that two causes in turn are not told in turn.
    told: Vec<String>,
    calm: u32,
}

/// So many changes are told of one trouble.
const CHANGES: usize = 8;

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
    pub fn are(&mut self, now: Vec<Untold>, is_there: impl Fn(u32) -> bool) -> (Vec<String>, Vec<String>) {
        let (mut begun, mut ended) = (Vec::new(), Vec::new());
        self.told.values_mut().for_each(|(_, calm)| *calm += 1);
        for Untold { id, name, why } in now {
            if self.told.insert(id, (name.clone(), 0)).is_none() {
                begun.push((name, why));
            }
        }
        self.told.retain(|id, (name, calm)| {
            let is_over = *calm >= CALM;
            ended.extend((is_over && is_there(*id)).then(|| name.clone()));
            !is_over && is_there(*id)
        });
        let begun = match &begun[..] {
            few if few.len() <= SINGLY => {
                few.iter().map(|(name, why)| format!("QEMU of {name} {why}: the guest's disks are withheld")).collect()
            }
            many => vec![format!(
                "the disks of {} guests are withheld: QEMU of {} {}, and so on",
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

/// So many good ticks in a row end a trouble: no word of a refusal is not yet a delivery.
const CALM: u32 = 3;

impl Trouble {
    /// It is wrong now.
    pub fn is(&mut self, what: String) {
        self.calm = 0;
        if self.told.len() < CHANGES && !self.told.contains(&what) {
            warn!("{what}");
            self.told.push(what);
        }
    }

    /// Whether something is wrong already.
    pub fn is_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// It is right, beyond doubt; says so if it was not.
    pub fn is_over(&mut self, what: impl FnOnce() -> String) {
        if self.is_told() {
            self.told.clear();
            info!("{}", what());
        }
    }

    /// It seems right now, and is over if it goes on like that.
    pub fn seems_over(&mut self, what: impl FnOnce() -> String) {
        self.calm += 1;
        if self.calm >= CALM {
            self.is_over(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_guest_is_told_once() {
        let mut withheld = Withheld::default();
        let mut told = |now: &[u32], there: std::ops::Range<u32>| {
            let untold = |id: &u32| Untold { id: *id, name: format!("g{id}"), why: "hangs".to_owned() };
            withheld.are(now.iter().map(untold).collect(), |id| there.contains(&id))
        };
        for (now, there, lines) in [
            (&[][..], 0..9, &[][..]),
            (&[1], 0..9, &["QEMU of g1 hangs: the guest's disks are withheld"]),
            (&[1, 2], 0..9, &["QEMU of g2 hangs: the guest's disks are withheld"]),
            (&[2], 0..9, &[]),
            (&[2], 0..9, &[]),
            // Well for three polls.
            (&[2], 0..9, &["QEMU of g1 answers again"]),
            (&[], 0..9, &[]),
            (&[2], 0..9, &[]),
            // It has gone.
            (&[], 3..9, &[]),
            (&[3, 4, 5, 6], 0..9, &["the disks of 4 guests are withheld: QEMU of g3 hangs, and so on"]),
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
