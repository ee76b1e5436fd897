//! The thread that owns libxenstat's handle and does nothing but poll, so that a call that never returns holds up
//! nothing else.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use log::debug;

use crate::collect::disks::qmp_client::Owed;
use crate::collect::disks::{self, DiskSource, Unavailable};
use crate::collect::fallback::Fallback;
use crate::collect::memory;
use crate::collect::messages::Messages;
use crate::collect::store::Store;
use crate::collect::uuids::{self, Uuids};
use crate::collect::vif::{self, VifSource};
use crate::collect::xenstat::Xenstat;
use crate::collect::xenstat::xenctrl::Xenctrl;
use crate::collect::xenstat_error::Error;
use crate::model::snapshot::{Collectors, Moment, Pcpus, Runstates, Snapshot};
use crate::on_drop::OnDrop;

/// A poll to be made.
#[derive(Debug, Default)]
pub struct Request {
    /// A snapshot that is no longer needed. It is overwritten, so that its memory is used again.
    pub recycled: Snapshot,
    /// Whether to open library and handle again first.
    pub reopen: bool,
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub struct Polled {
    /// The reading.
    pub result: Result<Snapshot, Error>,
    /// When its parts were read.
    pub moments: Moments,
    /// How long all of it took.
    pub took: Duration,
    /// Its sources, and what is missing.
    pub notes: Notes,
}

/// A library's file, and why that one was chosen.
type Opened = (PathBuf, &'static str);

/// The sources of a reading, and what is missing in it.
#[derive(Debug)]
pub struct Notes {
    /// The library, if it was opened for this poll.
    pub opened: Option<Opened>,
    /// Whether the VIFs come from the kernel.
    pub vifs_from_kernel: bool,
    /// Why the kernel's list of VIFs is unavailable, where it is wanted.
    pub vif_error: Option<vif::Error>,
    /// Why no backend's disks are available, where they are wanted.
    pub disk_error: Option<disks::Error>,
    /// The guests whose disks are unavailable.
    pub unavailable: Vec<Unavailable>,
    /// Why the physical CPUs are unavailable, where they are wanted.
    pub pcpu_error: Option<io::Error>,
    /// Why the times of domains by state are unavailable, where they are wanted.
    pub runstate_error: Option<io::Error>,
    /// The domains whose UUID is unknown, where UUIDs are wanted.
    pub unknown_uuids: Option<uuids::Unknown>,
    /// Why the memory of domains is unavailable in xenstore, of some or all, where it is wanted.
    pub memory_error: Option<io::Error>,
    /// Whether libxenstat was asked for disks where QEMU serves some.
    pub asks_beside_qemu: bool,
    /// Why libxenstat failed when it was last asked for everything, while it answers if asked for less.
    pub cause: Option<Arc<Error>>,
    /// What libxenstat printed by itself, each line once.
    pub messages: Vec<String>,
}

/// When the parts of a snapshot were read.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// The call of `xenstat_get_node`. It reads the domains first, so that the CPU times are those of its begin.
    pub xenstat: Moment,
    /// The VIFs, from either source.
    pub vifs: Moment,
}

/// Which source to read each part from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `--libxenstat`.
    pub libxenstat: Option<PathBuf>,
    /// Whether vcpus are wanted: libxenstat makes a hypercall for each.
    pub vcpus: bool,
    /// Whether physical CPUs are wanted: that is one hypercall.
    pub pcpus: bool,
    /// Whether the times of domains by state are wanted: that is a hypercall for each.
    pub runstates: bool,
    /// Whether the UUIDs of VMs are wanted: each is read from xenstore once.
    pub uuids: bool,
    /// Whether the memory of domains as xenstore has it is wanted: that is five reads for each.
    pub memory: bool,
    /// `--vifs`.
    pub vifs: VifSource,
    /// `--disks`.
    pub disks: DiskSource,
    /// Whether the flushes of disks are wanted: that is one more read for each disk of the kernel's.
    pub flushes: bool,
    /// `--qmp-timeout`.
    pub qmp_timeout: Duration,
}

/// The poller's thread. Dropped, it ends the thread, closing the handle, and waits until QEMUs have answered what they
/// were asked, or for a few seconds.
pub struct Handle(Stopper);

/// Ends the poller's thread from any other.
#[derive(Clone)]
pub struct Stopper {
    /// `None` ends the thread.
    requests: SyncSender<Option<Request>>,
    owed: Arc<Owed>,
}

impl Stopper {
    /// Begins to end the thread.
    fn stop(&self) {
        self.owed.stop();
        // Where it is full such a message is there already.
        let _ = self.requests.try_send(None);
    }

    /// Ends the thread's talk with QEMUs: waits until they have answered what they were asked, or for a few seconds.
    pub fn stop_and_wait(&self) {
        self.stop();
        self.owed.wait();
    }
}

impl Handle {
    /// Requests a poll, once the one before is answered. Fails if the thread has ended.
    pub fn request(&self, request: Request) -> Result<(), Ended> {
        self.0.requests.send(Some(request)).map_err(|_| Ended)
    }

    /// Begins to end the thread.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// For a thread that ends the program.
    pub fn stopper(&self) -> Stopper {
        self.0.clone()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop_and_wait();
    }
}

/// The poller's thread has ended.
#[derive(Debug)]
pub struct Ended;

/// Starts the thread. `announce` gets what libxenstat is about to be asked for, before the first call and the first
/// after each reopening. `answer` gets every [`Polled`], and `None` when the thread ends, even by a panic.
pub fn start<A, F>(sources: Sources, announce: A, answer: F) -> io::Result<Handle>
where
    A: Fn(&str) + Send + 'static,
    F: Fn(Option<Polled>) + Send + 'static,
{
    // Room for one poll, as the next is requested once this one is answered, and for the end.
    let (requests, inbox) = mpsc::sync_channel(2);
    let owed = Arc::<Owed>::default();
    let backends = disks::Backends::new(owed.clone(), sources.flushes);
    thread::Builder::new().name("poller".into()).spawn(move || {
        let _ended = OnDrop(|| answer(None));
        let messages = Messages::redirect();
        let poller = Poller {
            messages,
            sources,
            kernel_vifs: vif::Vifs::default(),
            backends,
            store: Store::default(),
            uuids: Uuids::default(),
            memory: memory::Reader::default(),
            control: None,
            xenstat: None,
            fallback: Fallback::new(),
            announce: Box::new(announce),
            is_announced: false,
        };
        poller.serve(&inbox, &answer);
    })?;
    Ok(Handle(Stopper { requests, owed }))
}

/// `, vcpus, disks`.
fn names(collectors: Collectors) -> String {
    let Collectors { vcpu, network, vbd } = collectors;
    let parts = [(vcpu, ", vcpus"), (network, ", network interfaces"), (vbd, ", disks")];
    parts.into_iter().filter_map(|(is_asked, name)| is_asked.then_some(name)).collect()
}

struct Poller {
    sources: Sources,
    kernel_vifs: vif::Vifs,
    backends: disks::Backends,
    store: Store,
    uuids: Uuids,
    memory: memory::Reader,
    control: Option<Xenctrl>,
    xenstat: Option<Xenstat>,
    fallback: Fallback,
    messages: Messages,
    announce: Box<dyn Fn(&str)>,
    is_announced: bool,
}

impl Poller {
    fn serve(mut self, requests: &Receiver<Option<Request>>, answer: &impl Fn(Option<Polled>)) {
        for request in requests.iter().map_while(|request| request) {
            if request.reopen {
                (self.xenstat, self.fallback, self.is_announced) = (None, Fallback::new(), false);
                self.backends.reopen();
                self.store.reopen();
                self.uuids.read_again();
                self.control = None;
            }
            answer(Some(self.poll(request.recycled)));
        }
        self.backends.close();
    }

    fn poll(&mut self, mut snapshot: Snapshot) -> Polled {
        let start = Instant::now();
        let Sources { vifs, disks, qmp_timeout, .. } = self.sources;
        let read = (vifs != VifSource::Libxenstat).then(|| self.kernel_vifs.read(start));
        let kernel_moment = Moment { at: start, took: start.elapsed() };
        let vifs_from_kernel = matches!(read, Some(Ok(())));
        let vif_error = read.and_then(Result::err);

        let (mut opened, mut from_backends) = (None, false);
        let (mut disk_error, mut unavailable, mut unknown_uuids) = (None, Vec::new(), None);
        let (mut pcpu_error, mut runstate_error, mut memory_error) = (None, None, None);
        let (xenstat, result) = match self.read_xenstat(&mut snapshot, &mut opened, &mut from_backends) {
            Ok(moment) => {
                pcpu_error = self.read_pcpus(&mut snapshot).err();
                runstate_error = self.read_runstates(&mut snapshot).err();
                if !from_backends {
                    self.backends.settle();
                }
                if vifs_from_kernel {
                    self.kernel_vifs.fill(&mut snapshot);
                }
                if let Some(xenstat) = self.xenstat.as_ref().filter(|_| self.sources.uuids) {
                    unknown_uuids = self.uuids.fill(&mut self.store, xenstat.store(), &mut snapshot);
                }
                snapshot.memory.clear();
                if let Some(xenstat) = self.xenstat.as_ref().filter(|_| self.sources.memory) {
                    memory_error = self.memory.fill(&mut self.store, xenstat.store(), &mut snapshot).err();
                }
                if from_backends {
                    match self.backends.fill(&mut snapshot, qmp_timeout) {
                        Ok(guests) => unavailable = guests,
                        Err(error) => disk_error = Some(error),
                    }
                }
                (moment, Ok(snapshot))
            }
            Err(error) => (kernel_moment, Err(error)),
        };
        let took = start.elapsed();
        let moments = Moments { xenstat, vifs: if vifs_from_kernel { kernel_moment } else { xenstat } };
        let cause = self.fallback.cause().map(|cause| match (&*cause, &self.xenstat, &result) {
            (Error::NoDomains, Some(xenstat), Ok(snapshot)) => {
                Error::other_release(xenstat.library(), &snapshot.xen_version).map_or(cause, Arc::new)
            }
            _ => cause,
        });
        let asks_beside_qemu = disks == DiskSource::Libxenstat && disks::qemus_listen();
        let notes = Notes {
            opened,
            vifs_from_kernel,
            vif_error,
            disk_error,
            unavailable,
            pcpu_error,
            runstate_error,
            unknown_uuids,
            memory_error,
            asks_beside_qemu,
            cause,
            messages: self.messages.take(),
        };
        Polled { result, moments, took, notes }
    }

    /// Fills in the physical CPUs, where they are wanted. After an error the handle is opened again.
    fn read_pcpus(&mut self, snapshot: &mut Snapshot) -> io::Result<()> {
        let recycled = snapshot.pcpus.take();
        let Some(xenstat) = self.xenstat.as_ref().filter(|_| self.sources.pcpus) else { return Ok(()) };
        let mut control = self.control.take().map_or_else(|| xenstat.xenctrl(), Ok)?;
        let mut idle_ns = recycled.map(|pcpus| pcpus.idle_ns).unwrap_or_default();
        let at = Instant::now();
        control.idle_ns(&mut idle_ns)?;
        snapshot.pcpus = Some(Pcpus { idle_ns, read: Moment { at, took: at.elapsed() } });
        self.control = Some(control);
        Ok(())
    }

    /// Fills in the times of domains by state, where they are wanted. A domain that has gone by now has none.
    fn read_runstates(&mut self, snapshot: &mut Snapshot) -> io::Result<()> {
        let recycled = snapshot.runstates.take();
        let Some(xenstat) = self.xenstat.as_ref().filter(|_| self.sources.runstates) else { return Ok(()) };
        let mut control = self.control.take().map_or_else(|| xenstat.xenctrl(), Ok)?;
        let mut of_domains = recycled.map(|runstates| runstates.of_domains).unwrap_or_default();
        of_domains.clear();
        let at = Instant::now();
        let mut error = None;
        for domain in &snapshot.domains {
            match control.runstate(domain.id) {
                Ok(runstate) => of_domains.push((domain.id, runstate)),
                Err(why) => error = Some(why),
            }
        }
        self.control = Some(control);
        let error = error.filter(|_| of_domains.is_empty());
        snapshot.runstates = Some(Runstates { of_domains, read: Moment { at, took: at.elapsed() } });
        error.map_or(Ok(()), Err)
    }

    /// Calls libxenstat until it answers, for everything that is wanted or for less. Returns when the last call was.
    /// `from_backends` becomes whether disks come from their backends: that is looked for last, as a QEMU may have
    /// appeared while the library was opened, and libxenstat must not be asked for disks then.
    fn read_xenstat(
        &mut self,
        snapshot: &mut Snapshot,
        opened: &mut Option<Opened>,
        from_backends: &mut bool,
    ) -> Result<Moment, Error> {
        let Self { sources, xenstat: open, fallback, announce, is_announced, .. } = self;
        let mut reopen = || {
            let xenstat = Xenstat::open(sources.libxenstat.as_deref())?;
            *opened = Some((xenstat.library().to_owned(), xenstat.why()));
            Ok(xenstat)
        };
        let is_reused = open.is_some();
        if !is_reused {
            *open = Some(reopen()?);
        }
        *from_backends = disks::come_from_backends(sources.disks);
        // libxenstat is not even asked for what another source has right, or nobody wants.
        let network = sources.vifs == VifSource::Libxenstat;
        let wanted = Collectors { vcpu: sources.vcpus, network, vbd: !*from_backends };
        fallback.collect_what_works(wanted, is_reused, |mut asked| {
            let mut xenstat = match open.take() {
                Some(xenstat) => xenstat,
                None => {
                    let xenstat = reopen()?;
                    *from_backends |= disks::come_from_backends(sources.disks);
                    xenstat
                }
            };
            asked.vbd &= !*from_backends;
            // It may end the process (fact 33): this then is the last line of the log.
            let call = || format!("asking {} for domains{}", xenstat.library().display(), names(asked));
            match std::mem::replace(is_announced, true) {
                false => announce(&call()),
                true => debug!("{}", call()),
            }
            let at = Instant::now();
            xenstat.poll(asked, snapshot)?;
            // A handle whose call failed must not be used again (fact 10).
            *open = Some(xenstat);
            Ok(Moment { at, took: at.elapsed() })
        })
    }
}
