//! The thread that owns libxenstat's handle and does nothing but poll, so that a call that never returns
//! stops nothing else.
//!
//! One thing missing on the host fails libxenstat's whole call (fact 7): then less is asked for, step by step,
//! and from time to time everything again.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use crate::collect::disks::{self, Disks, Untold};
use crate::collect::vif;
use crate::collect::xenstat::{Error, Xenstat};
use crate::model::snapshot::{Collectors, Moment, Snapshot};
use crate::on_drop::OnDrop;

/// What is asked for, and what when that fails: less and less, first without what most often cannot be had.
const LADDER: [Collectors; 8] = [
    Collectors::ALL,
    Collectors { vbd: false, ..Collectors::ALL },
    Collectors { network: false, ..Collectors::ALL },
    Collectors { vcpu: false, ..Collectors::ALL },
    Collectors { vcpu: true, ..Collectors::NONE },
    Collectors { network: true, ..Collectors::NONE },
    Collectors { vbd: true, ..Collectors::NONE },
    Collectors::NONE,
];

/// So many polls go by, at the most, before everything is asked for again.
const LONGEST_WAIT: u32 = 32;

/// A poll to be made.
#[derive(Debug, Default)]
pub struct Request {
    /// A snapshot that is no longer needed, to be read over.
    pub over: Snapshot,
    /// With handle and library opened anew.
    pub anew: bool,
}

/// What the thread answers to a [`Request`].
#[derive(Debug)]
pub struct Polled {
    /// The reading.
    pub result: Result<Snapshot, Error>,
    /// When its parts were read.
    pub moments: Moments,
    /// How long all of it took.
    pub took: Duration,
    /// How it was had.
    pub notes: Notes,
}

/// File and reason, when the library was opened.
type Opened = Option<(PathBuf, &'static str)>;

/// How a reading was had, and what could not be.
#[derive(Debug)]
pub struct Notes {
    /// When it was opened for this poll.
    pub opened: Opened,
    /// Whether the VIFs are the kernel's.
    pub kernels_vifs: bool,
    /// Why the kernel's list of VIFs cannot be had, where it is wanted.
    pub no_vifs: Option<vif::Error>,
    /// Why the kernel's disks cannot be had, where they are wanted, and so nobody's.
    pub no_disks: Option<io::Error>,
    /// The guests whose disks could not be told.
    pub untold: Vec<Untold>,
    /// What libxenstat said when it was last asked for everything, where that fails and less does not.
    pub cause: Option<String>,
}

/// When the parts of a snapshot were read.
#[derive(Debug, Clone, Copy)]
pub struct Moments {
    /// The call of `xenstat_get_node` that gave it. It reads the domains first, so its begin is their CPU times'.
    pub xenstat: Moment,
    /// The VIFs, by whomever.
    pub vifs: Moment,
}

/// `--vifs`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vifs {
    /// The kernel, or libxenstat where the kernel shows none
    Auto,
    /// The kernel alone
    Kernel,
    /// libxenstat alone, as xentop has them
    Libxenstat,
}

/// Who is asked for what.
#[derive(Debug, Clone)]
pub struct Sources {
    /// `--libxenstat`.
    pub libxenstat: Option<PathBuf>,
    /// `--vifs`.
    pub vifs: Vifs,
    /// `--disks`.
    pub disks: Disks,
    /// `--qmp-timeout`.
    pub qmp_timeout: Duration,
}

/// Starts the thread; it ends, closing the handle, when the sender is dropped. `answer` gets every
/// [`Polled`], and `None` when the thread ends, in whatever way.
pub fn start<F>(sources: Sources, answer: F) -> io::Result<SyncSender<Request>>
where
    F: Fn(Option<Polled>) + Send + 'static,
{
    // One at a time: it is asked again once it has answered.
    let (requests, inbox) = mpsc::sync_channel(1);
    thread::Builder::new().name("poller".into()).spawn(move || {
        let _ended = OnDrop(|| answer(None));
        let poller = Poller {
            sources,
            kernels_vifs: vif::Vifs::default(),
            qemus: disks::Qemus::default(),
            snapshot: Snapshot::default(),
            open: None,
            step: 0,
            wait: 0,
            longer: 1,
            cause: None,
        };
        poller.serve(&inbox, &answer);
    })?;
    Ok(requests)
}

struct Poller {
    sources: Sources,
    kernels_vifs: vif::Vifs,
    qemus: disks::Qemus,
    /// What is being read.
    snapshot: Snapshot,
    open: Option<Xenstat>,
    /// The rung of the ladder that the latest good poll stood on.
    step: usize,
    /// Polls until everything is asked for again, and how many it will be if that fails.
    wait: u32,
    longer: u32,
    /// Why the whole cannot be had.
    cause: Option<String>,
}

impl Poller {
    fn serve(mut self, requests: &Receiver<Request>, answer: &impl Fn(Option<Polled>)) {
        for request in requests {
            if request.anew {
                (self.open, self.step, self.wait, self.longer) = (None, 0, 0, 1);
            }
            self.snapshot = request.over;
            answer(Some(self.poll()));
        }
    }

    fn poll(&mut self) -> Polled {
        let start = Instant::now();
        let Sources { vifs, disks, qmp_timeout, .. } = self.sources;
        let read = (vifs != Vifs::Libxenstat).then(|| self.kernels_vifs.read());
        let kernels_moment = Moment { at: start, took: start.elapsed() };
        let kernels_vifs = matches!(read, Some(Ok(()))) && (vifs == Vifs::Kernel || !self.kernels_vifs.is_empty());
        let no_vifs = read.and_then(Result::err);
        let own_disks = disks::are_ours(disks);
        // libxenstat is not even asked for what others tell better.
        let asked = Collectors { network: !kernels_vifs && vifs != Vifs::Kernel, vbd: !own_disks, ..Collectors::ALL };

        let mut opened = None;
        let (mut no_disks, mut untold) = (None, Vec::new());
        let (xenstat, result) = match self.descend(asked, &mut opened) {
            Ok(xenstat) => {
                if kernels_vifs {
                    self.kernels_vifs.fill(&mut self.snapshot);
                }
                if own_disks {
                    match self.qemus.fill(&mut self.snapshot, qmp_timeout) {
                        Ok(guests) => untold = guests,
                        Err(error) => no_disks = Some(error),
                    }
                }
                (xenstat, Ok(std::mem::take(&mut self.snapshot)))
            }
            Err(error) => (kernels_moment, Err(error)),
        };
        let (took, cause) = (start.elapsed(), self.cause.clone());
        let moments = Moments { xenstat, vifs: if kernels_vifs { kernels_moment } else { xenstat } };
        let notes = Notes { opened, kernels_vifs, no_vifs, no_disks, untold, cause };
        Polled { result, moments, took, notes }
    }

    /// Asks for everything, or for what could be had the last time; and on failure for less.
    fn descend(&mut self, asked: Collectors, opened: &mut Opened) -> Result<Moment, Error> {
        if self.wait == 0 {
            self.step = 0;
        }
        self.wait = self.wait.saturating_sub(1);
        let rung = |step: usize| {
            let Collectors { vcpu, network, vbd } = LADDER[step];
            Collectors { vcpu, network: network && asked.network, vbd: vbd && asked.vbd }
        };

        let worn = self.open.is_some();
        let mut result = self.ask(rung(self.step), opened);
        if worn && matches!(result, Err(Error::Node(_))) {
            // It may be only the handle: xenstored was restarted, say.
            result = self.ask(rung(self.step), opened);
        }
        let failure = match result {
            Err(failure @ Error::Node(_)) => failure,
            // All is told; or the whole is missing, and asking for less is of no use.
            other => {
                if other.is_ok() && self.step == 0 {
                    (self.longer, self.cause) = (1, None);
                }
                return other;
            }
        };
        // Is it a part that fails, or all of it, or was it passing?
        let whole_fails = self.ask(Collectors::NONE, opened).is_err();
        let is_new = |step: &usize| !(0..*step).any(|above| rung(above) == rung(*step));
        let mut steps = (0..LADDER.len()).filter(is_new).filter(|_| !whole_fails);
        let Some((step, read)) = steps.find_map(|step| Some((step, self.ask(rung(step), opened).ok()?))) else {
            (self.step, self.wait) = (0, 0);
            return Err(failure);
        };
        if step > 0 && self.wait == 0 {
            self.wait = self.longer;
            self.longer = (self.longer * 2).min(LONGEST_WAIT);
        }
        self.cause = (step > 0).then(|| failure.to_string());
        self.step = step;
        Ok(read)
    }

    /// One call, and when it was made.
    fn ask(&mut self, asked: Collectors, opened: &mut Opened) -> Result<Moment, Error> {
        let mut xenstat = match self.open.take() {
            Some(xenstat) => xenstat,
            None => {
                let xenstat = Xenstat::open(self.sources.libxenstat.as_deref())?;
                *opened = Some((xenstat.library().to_owned(), xenstat.why()));
                xenstat
            }
        };
        let at = Instant::now();
        xenstat.poll(asked, &mut self.snapshot)?;
        // Only a handle that has answered is used again (fact 10).
        self.open = Some(xenstat);
        Ok(Moment { at, took: at.elapsed() })
    }
}
