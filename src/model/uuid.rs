//! UUIDs of virtual machines.

use std::fmt;
use std::str;

/// A UUID as it is written, in lower case. Never the one of zeros, which means that there is none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; Uuid::LENGTH]);

impl Uuid {
    /// The bytes that it is written with.
    pub const LENGTH: usize = 36;

    /// Reads `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, and nothing else.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let mut digits: [u8; Self::LENGTH] = text.try_into().ok()?;
        digits.make_ascii_lowercase();
        let fits = |(place, byte): (usize, &u8)| match place {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        };
        let is_uuid = digits.iter().enumerate().all(fits) && digits.iter().any(|byte| !b"0-".contains(byte));
        is_uuid.then_some(Self(digits))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("digits and dashes")
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_has_one_form() {
        let read = |text: &str| Uuid::parse(text.as_bytes()).map(|uuid| uuid.as_str().to_owned());
        let uuid = "c9a5f0e2-0b7d-4c1e-9f3a-1d2e3f405162";
        assert_eq!(read(uuid).as_deref(), Some(uuid));
        assert_eq!(read(&uuid.to_uppercase()).as_deref(), Some(uuid));
        for other in [
            "",
            "c9a5f0e2-0b7d-4c1e-9f3a-1d2e3f40516",
            "c9a5f0e2-0b7d-4c1e-9f3a-1d2e3f4051620",
            "c9a5f0e2-0b7d-4c1e-9f3a-1d2e3f40516g",
            "c9a5f0e20-b7d-4c1e-9f3a-1d2e3f405162",
            "c9a5f0e2-0b7d-4c1e-9f3a-1d2e3f4051\u{e9}",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
