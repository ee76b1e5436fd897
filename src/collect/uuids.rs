//! The UUIDs of domains, from xenstore: each is read once.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::io;

use crate::collect::xenstat::Xenstat;
use crate::collect::xenstat::xenstore::Xenstore;
use crate::model::snapshot::{Domain, Snapshot};
use crate::model::text::printable;
use crate::model::uuid::Uuid;

/// What toolstacks write before the UUID.
const PREFIX: &[u8] = b"/vm/";

/// What is known of the domains that exist.
#[derive(Default)]
pub struct Uuids {
    store: Option<Xenstore>,
    /// By domid.
    known: BTreeMap<u32, Known>,
}

#[derive(Clone, Copy, Default)]
struct Known {
    uuid: Option<Uuid>,
    /// Whether it need not be read any more.
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

impl Uuids {
    /// Reads all of them again at the next poll. Each stays as it is until then, and if it cannot be read.
    pub fn reopen(&mut self) {
        self.store = None;
        self.known.values_mut().for_each(|known| known.is_settled = false);
    }

    /// Fills in the UUIDs of a snapshot's domains.
    pub fn fill(&mut self, xenstat: &Xenstat, snapshot: &mut Snapshot) -> Option<Unknown> {
        let Self { store, known: all } = self;
        all.retain(|id, _| snapshot.domains.binary_search_by_key(id, |domain| domain.id).is_ok());
        let mut error = None;
        for domain in &mut snapshot.domains {
            // With less CPU time it is another domain that got the same domid.
            let known = all.get(&domain.id).filter(|known| known.cpu_ns <= domain.cpu_ns);
            let mut known = known.copied().unwrap_or_default();
            if !known.is_settled && error.is_none() {
                match read(store, xenstat, domain.id) {
                    // xl writes none for Domain-0.
                    Ok(uuid) => (known.uuid, known.is_settled) = (uuid, uuid.is_some() || domain.id == 0),
                    // The connection may be broken.
                    Err(why) => (*store, error) = (None, Some(why)),
                }
            }
            domain.uuid = known.uuid;
            all.insert(domain.id, Known { cpu_ns: domain.cpu_ns, ..known });
        }
        let mut unknown = snapshot.domains.iter().filter(|domain: &&Domain| domain.id != 0 && domain.uuid.is_none());
        let name = printable(&unknown.next()?.name);
        Some(Unknown { name, others: unknown.count(), error })
    }
}

/// The UUID that xenstore has for a domain, if any. Only the toolstack may write there.
fn read(store: &mut Option<Xenstore>, xenstat: &Xenstat, domid: u32) -> io::Result<Option<Uuid>> {
    let store = match store {
        Some(store) => store,
        None => store.insert(xenstat.xenstore()?),
    };
    let path = CString::new(format!("/local/domain/{domid}/vm")).expect("a path without NUL");
    // One byte more, so that a longer value is seen to be longer.
    match store.read(&path, PREFIX.len() + Uuid::LENGTH + 1) {
        Ok(value) => Ok(value.strip_prefix(PREFIX).and_then(Uuid::parse)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
