//! What xenstore has of the memory of domains: the toolstack's numbers, and those that an agent in the guest writes.

use std::io;

use crate::collect::store::{Connection, Store};
use crate::collect::xenstat::xenstore::Functions;
use crate::model::snapshot::{Memory, Snapshot};

/// What is read, below the directory of a domain (fact 37), and where it is kept. Nothing else is asked for, whatever a
/// guest writes.
#[rustfmt::skip]
const KEYS: [(&str, Field); 5] = [
    ("memory/target", |m| &mut m.target_k),
    ("memory/static-max", |m| &mut m.static_max_k),
    ("data/meminfo_total", |m| &mut m.guest_total_k),
    ("data/meminfo_free", |m| &mut m.guest_free_k),
    ("memory/meminfo", |m| &mut m.guest_used_k),
];

type Field = fn(&mut Memory) -> &mut Option<u64>;

/// Reads them.
#[derive(Default)]
pub struct Reader {
    /// The domid to begin with, so that a slow xenstored does not leave out the same domains at each poll.
    first: u32,
}

impl Reader {
    /// Fills in the memory of a snapshot's domains, of as many as can be read.
    pub fn fill(&mut self, store: &mut Store, functions: Option<Functions>, snapshot: &mut Snapshot) -> io::Result<()> {
        let mut ids: Vec<u32> = snapshot.domains.iter().map(|domain| domain.id).collect();
        let begin = ids.partition_point(|id| *id < self.first);
        ids.rotate_left(begin);
        let (mut read, error) = store.ask(functions, move |connection| connection.each(ids.into_iter(), of_domain))?;
        if let Some((last, _)) = read.last() {
            self.first = last + 1;
        }
        read.sort_unstable_by_key(|(id, _)| *id);
        snapshot.memory = read;
        error.map_or(Ok(()), Err)
    }
}

fn of_domain(connection: &mut Connection, id: u32) -> io::Result<Memory> {
    let mut memory = Memory::default();
    for (key, field) in KEYS {
        *field(&mut memory) = connection.read(id, key)?.and_then(number);
    }
    Ok(memory)
}

/// Digits and nothing else. A guest may write anything.
fn number(value: &[u8]) -> Option<u64> {
    // Parsing would take a sign, too.
    let are_digits = value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| are_digits)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_numbers_are_digits_alone() {
        for (value, expected) in [
            (&b"0"[..], Some(0)),
            (b"1048576", Some(1 << 20)),
            (b"9223372036854775808", Some(1 << 63)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"100000000000000000000", None),
            (b"000000000000000000001", Some(1)),
            (b"", None),
            (b"-1", None),
            (b"+1", None),
            (b" 1", None),
            (b"1\n", None),
            (b"1\0", None),
            (b"1 kB", None),
            (b"0x10", None),
            (b"1e3", None),
            (b"1.5", None),
            (b"\xd9\xa1", None),
            (b"\xff", None),
        ] {
            assert_eq!(number(value), expected, "{value:?}");
        }
    }
}
