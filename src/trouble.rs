//! What is wrong for a while, and how often the log says so.

use log::{info, warn};

/// Something that is wrong for a while, told when it begins and when it changes, not at every tick.
#[derive(Default)]
pub struct Trouble {
    what: Option<String>,
    calm: u32,
}

/// So many good ticks in a row end a trouble: no word of a refusal is not yet a delivery.
const CALM: u32 = 3;

impl Trouble {
    /// It is wrong now.
    pub fn is(&mut self, what: String) {
        self.calm = 0;
        if self.what.as_ref() != Some(&what) {
            warn!("{what}");
            self.what = Some(what);
        }
    }

    /// Whether something is wrong already.
    pub fn is_told(&self) -> bool {
        self.what.is_some()
    }

    /// It is right, beyond doubt; says so if it was not.
    pub fn is_over(&mut self, what: impl FnOnce() -> String) {
        if self.what.take().is_some() {
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
