//! Hostile input: whatever a stranger may have a say in, and what has to hold all the same. Built for tests alone: the
//! everyday ones feed each target what is kept in tests/fuzz/corpus, and `make fuzz` lets libFuzzer look for more.
//!
//! A new target is a function, its row in [`TARGETS`], and a directory of its name in tests/fuzz/corpus that has
//! something to begin with.

mod host;
mod lines;
mod names;
mod snapshots;
mod sources;

/// Panics where something does not hold.
pub type Target = fn(&[u8]);

/// Every target by its name.
pub const TARGETS: &[(&str, Target)] = &[
    ("blkback", sources::blkback),
    ("gauges", lines::gauges),
    ("host", host::host),
    ("names", names::names),
    ("net-dev", sources::net_dev),
    ("options", names::options),
    ("qmp", sources::qmp),
    ("tapdisk", sources::tapdisk),
    ("templates", names::templates),
    ("urls", names::urls),
];

#[cfg(test)]
pub(crate) use names::{assert_distinct, named};

/// Whether a component of a name may have this character. Not the code that is tested.
fn is_plain(c: char) -> bool {
    matches!(c, 'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-')
}

/// Whether a character moves a terminal's cursor, ends its line or reverses its text.
fn steers(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bytes to choose by. Once they are used up they are all 0.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or_default()
    }

    /// One of these.
    fn of<'b, T>(&mut self, choice: &'b [T]) -> &'b T {
        &choice[usize::from(self.byte()) % choice.len()]
    }

    /// Mostly small, sometimes near where a server, a counter or a sum ends.
    fn number(&mut self) -> u64 {
        match self.byte() {
            small @ ..0x80 => small.into(),
            0x80..0xc0 => u64::from(self.byte()) << (self.byte() % 64),
            0xc0..0xd0 => (1 << 53) - 128 + u64::from(self.byte()),
            0xd0..0xe0 => u64::MAX - u64::from(self.byte()),
            _ => self.raw(),
        }
    }

    /// Eight bytes as they are.
    fn raw(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_was_kept_of_hostile_input() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        let kept: BTreeSet<String> =
            fs::read_dir(&corpus).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(kept.iter().eq(TARGETS.iter().map(|(name, _)| *name)), "each target has a directory: {kept:?}");
        for (name, target) in TARGETS {
            let mut inputs = 0;
            for input in fs::read_dir(corpus.join(name)).unwrap() {
                let path = input.unwrap().path();
                // Which one it was, where it panics.
                println!("{}", path.display());
                target(&fs::read(&path).unwrap());
                inputs += 1;
            }
            assert!(inputs > 0, "{name} has nothing to begin with");
            target(&[]);
        }
    }
}
