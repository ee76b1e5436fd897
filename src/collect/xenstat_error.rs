//! Why libxenstat gives no reading.

use std::error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::collect::release;

/// Why there is no reading. Each prints as one line that names the cause and, where there is one, the remedy.
#[derive(Debug)]
pub enum Error {
    /// None of the usual libraries exists.
    NotFound {
        /// All files that were tried.
        tried: String,
    },
    /// A library exists, or was named, but cannot be loaded.
    Unloadable(Box<dyn error::Error + Send + Sync>),
    /// The library is no libxenstat, or one too old: it lacks a function.
    Lacks {
        /// The file.
        library: PathBuf,
        /// Names the function.
        source: Box<dyn error::Error + Send + Sync>,
    },
    /// The hypervisor cannot be reached from here.
    NoXen {
        /// The device that cannot be opened.
        device: &'static str,
        /// Why it cannot.
        source: io::Error,
    },
    /// `xenstat_init` returned NULL. The details libxenstat prints to standard error itself (fact 26).
    Init(io::Error),
    /// `xenstat_get_node` returned NULL.
    Node(io::Error),
    /// `xenstat_get_node` found no domain, not even the Domain-0 that this program runs in. That is its answer
    /// when xenstored has gone away under an open handle (fact 8).
    NoDomains,
    /// libxenstat is of another release than the hypervisor, which therefore refuses some of its calls.
    OtherRelease {
        /// The release of the library, such as `4.17`, or its file.
        library: String,
        /// The release of the hypervisor.
        running: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NotFound { tried } => write!(
                f,
                "no libxenstat found (tried {tried}): install Xen's tools (Debian: xen-utils-4.17 or its like), \
                 or name the file with --libxenstat, such as /usr/local/lib/libxenstat.so"
            ),
            Error::Unloadable(error) => write!(f, "libxenstat cannot be loaded: {error}"),
            Error::Lacks { library, source } => {
                write!(f, "{} is not a libxenstat of Xen 4.0 or later: {source}", library.display())
            }
            Error::NoXen { device, source } if source.kind() == io::ErrorKind::NotFound => write!(
                f,
                "the hypervisor cannot be reached: no {device}: this is no Xen dom0, or the module xen-privcmd is not \
                 loaded"
            ),
            Error::NoXen { device, source } => {
                write!(f, "the hypervisor cannot be reached: {device}: {source}; it wants root")
            }
            Error::Init(error) => {
                write!(f, "xenstat_init failed: {error}: is xenstored running, and may this user reach it?")
            }
            Error::Node(error) => write!(f, "xenstat_get_node failed: {error}"),
            Error::NoDomains => f.write_str("libxenstat shows no domains, not even Domain-0: is xenstored running?"),
            Error::OtherRelease { library, running } => {
                write!(f, "libxenstat {library} is of another release than the running Xen {running}")
            }
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Unloadable(source) | Error::Lacks { source, .. } => Some(&**source),
            Error::NoXen { source, .. } | Error::Init(source) | Error::Node(source) => Some(source),
            Error::NotFound { .. } | Error::NoDomains | Error::OtherRelease { .. } => None,
        }
    }
}

impl Error {
    /// Why `xenstat_get_node` failed. To a library of another release the hypervisor says EACCES, as to a caller that may
    /// not call.
    pub fn of_node(error: io::Error, library: &Path) -> Self {
        let running = || release::running().map(|(major, minor)| format!("{major}.{minor}"));
        let is_refused = error.kind() == io::ErrorKind::PermissionDenied;
        let other_release = is_refused.then(running).flatten();
        other_release.and_then(|running| Self::other_release(library, &running)).unwrap_or(Self::Node(error))
    }

    /// The error that says so, if a library is not that of the `running` hypervisor.
    pub fn other_release(library: &Path, running: &str) -> Option<Self> {
        let name = |(major, minor)| format!("{major}.{minor}");
        release::is_of_another(library, running).then(|| Error::OtherRelease {
            library: release::of_library(library).map_or_else(|| library.display().to_string(), name),
            running: running.to_owned(),
        })
    }

    /// Whether it may pass by itself, once the program has started well.
    pub fn may_pass(&self) -> bool {
        matches!(self, Error::Node(_) | Error::NoDomains | Error::OtherRelease { .. })
    }
}
