//! The UUIDs of domains, from xenstore: each is read once, and again when a domain has come or gone.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::collect::store::{Connection, Store};
use crate::collect::xenstat::xenstore::Functions;
use crate::model::snapshot::{Domain, Snapshot};
use crate::model::text::printable;
use crate::model::uuid::Uuid;

/// What toolstacks write before the UUID.
const PREFIX: &[u8] = b"/vm/";

/// What is known of the domains that exist.
#[derive(Default)]
pub struct Uuids {
    /// By domid.
    known: BTreeMap<u32, Known>,
}

#[derive(Clone, Copy, Default)]
struct Known {
    uuid: Option<Uuid>,
    /// Whether it need not be read any more, as long as no domain comes or goes.
    is_settled: bool,
    /// CPU time of the domain when it was seen last.
    cpu_ns: u64,
}

/// Domains whose UUID is unknown.
#[derive(Debug)]
pub struct Unknown {
    /// The first one's name, printable.
    name: String,
    /// How many there are besides.
    others: usize,
    /// Why xenstored could not be asked; `None` if it has no UUID for the first.
    error: Option<io::Error>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, others, .. } = self;
        match others {
            0 => write!(f, "the UUID of {name} is unknown")?,
            _ => write!(f, "the UUIDs of {} domains, {name} among them, are unknown", others + 1)?,
        }
        match &self.error {
            Some(error) => write!(f, ": xenstore cannot be read: {error}"),
            None => f.write_str(": xenstore has none"),
        }
    }
}

/// What xenstore was asked for.
struct Read {
    /// Whether all of them were to be read.
    all: bool,
    /// Those that could be read.
    uuids: Vec<(u32, Option<Uuid>)>,
    /// Why there are not more.
    error: Option<io::Error>,
}

impl Uuids {
    /// Reads all of them again at the next poll. Each stays as it is until then, and if it cannot be read.
    pub fn read_again(&mut self) {
        self.known.values_mut().for_each(|known| known.is_settled = false);
    }

    /// Fills in the UUIDs of a snapshot's domains.
    pub fn fill(
        &mut self,
        store: &mut Store,
        functions: Option<Functions>,
        snapshot: &mut Snapshot,
    ) -> Option<Unknown> {
        self.known.retain(|id, _| snapshot.domains.binary_search_by_key(id, |domain| domain.id).is_ok());
        for Domain { id, cpu_ns, .. } in &snapshot.domains {
            let known = self.known.entry(*id).or_default();
            // With less CPU time it is another domain that got the same domid.
            *known = Known { cpu_ns: *cpu_ns, ..if known.cpu_ns <= *cpu_ns { *known } else { Known::default() } };
        }
        // The unknown ones first: a slow xenstored answers for some only, and while domains come and go all are asked for.
        let mut known: Vec<(&u32, &Known)> = self.known.iter().collect();
        known.sort_by_key(|(_, known)| known.uuid.is_some());
        let wanted: Vec<(u32, bool)> = known.into_iter().map(|(&id, known)| (id, known.is_settled)).collect();
        let error = match store.ask(functions, move |connection| read(connection, &wanted)) {
            Ok(Read { all, uuids, error }) => {
                if all {
                    self.read_again();
                }
                for (id, uuid) in uuids {
                    let known = self.known.entry(id).or_default();
                    // xl writes none for Domain-0.
                    (known.uuid, known.is_settled) = (uuid, uuid.is_some() || id == 0);
                }
                error
            }
            Err(error) => {
                // A late answer, which is lost, may be that domains have come.
                self.read_again();
                Some(error)
            }
        };
        for domain in &mut snapshot.domains {
            domain.uuid = self.known.get(&domain.id).and_then(|known| known.uuid);
        }
        let mut unknown = snapshot.domains.iter().filter(|domain: &&Domain| domain.id != 0 && domain.uuid.is_none());
        let name = printable(&unknown.next()?.name);
        Some(Unknown { name, others: unknown.count(), error })
    }
}

/// The UUIDs of these domains that are not settled, or of all if domains may have come or gone.
fn read(connection: &mut Connection, wanted: &[(u32, bool)]) -> Read {
    match connection.domains_may_have_changed() {
        Err(error) => Read { all: true, uuids: Vec::new(), error: Some(error) },
        Ok(all) => {
            let unsettled = wanted.iter().filter(|(_, is_settled)| all || !is_settled).map(|&(id, _)| id);
            let (uuids, error) = connection.each(unsettled, uuid_of);
            Read { all, uuids, error }
        }
    }
}

/// The UUID that xenstore has for a domain, if any. Only the toolstack may write there.
fn uuid_of(connection: &mut Connection, domid: u32) -> io::Result<Option<Uuid>> {
    let value = connection.read(domid, "vm")?;
    Ok(value.and_then(|value| value.strip_prefix(PREFIX).and_then(Uuid::parse)))
}
