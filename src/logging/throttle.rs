//! What is wrong for a while, and how often the log says so.

use log::{info, warn};

/// Something that is wrong for a while, told when it begins and when it changes, not at every tick.
#[derive(Default)]
pub struct Trouble {
    /// What has been told since it began, so that two causes in turn are not told in turn.
    told: Vec<String>,
    calm: u32,
}

/// So many changes are told of one trouble.
const CHANGES: usize = 8;

/// So many good ticks in a row end a trouble: no word of a refusal is not yet a delivery.
pub const CALM: u32 = 3;

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
