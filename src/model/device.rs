//! The devices of a domain, as metrics name them.

use std::fmt::Write;

use crate::model::vdev;

/// What kinds of devices there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum DeviceKind {
    Vcpu,
    Vif,
    Vbd,
}

impl DeviceKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Vcpu, Self::Vif, Self::Vbd];

    /// The first part of the names of its metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vcpu => "vcpu",
            Self::Vif => "vif",
            Self::Vbd => "vbd",
        }
    }
}

/// A device of a domain: what its name is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceId {
    /// Its kind.
    pub kind: DeviceKind,
    /// The guest's number of a vcpu or VIF; of a VBD Xen's number, [canonical](vdev::canonical).
    pub number: u32,
    /// 1, or more if VBDs before it in the list have the same number (fact 20).
    pub nth: u32,
}

impl DeviceId {
    /// A device that shares its number with no other.
    pub fn new(kind: DeviceKind, number: u32) -> Self {
        Self { kind, number, nth: 1 }
    }

    /// Its name: `0`, `xvda`, `xvda_2`.
    pub fn name(self) -> String {
        let mut name = String::new();
        match self.kind {
            DeviceKind::Vcpu | DeviceKind::Vif => name = self.number.to_string(),
            DeviceKind::Vbd => vdev::write_name(self.number, &mut name),
        }
        if self.nth > 1 {
            let _ = write!(name, "_{}", self.nth);
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names() {
        for (kind, number, nth, expected) in [
            (DeviceKind::Vcpu, 12, 1, "12"),
            (DeviceKind::Vif, 0, 1, "0"),
            (DeviceKind::Vbd, 51712, 1, "xvda"),
            (DeviceKind::Vbd, 51712, 3, "xvda_3"),
            (DeviceKind::Vbd, 99, 2, "99_2"),
        ] {
            assert_eq!(DeviceId { kind, number, nth }.name(), expected);
        }
    }
}
