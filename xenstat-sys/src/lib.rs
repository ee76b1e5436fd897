//! Bindings to **libxenstat**, the statistics library under `xentop`, made by bindgen from the
//! `xenstat.h` of the build machine.
//!
//! Nothing is linked: libxenstat's file name and symbol versions change with every Xen release while its
//! functions have not changed since Xen 4.0, so [`Xenstat`] loads them at run time from the library the
//! running hypervisor needs. It has the functions that every release has, and loading fails on a library that
//! lacks one. [`XenstatVbdError`] has the one that came later, with Xen 4.13.
//!
//! ```no_run
//! # use xenstat_sys::{Xenstat, XenstatVbdError};
//! // SAFETY: loading a library runs its initialisers; libxenstat has none.
//! let (lib, vbd_error) =
//!     unsafe { (Xenstat::new("libxenstat.so.4.17")?, XenstatVbdError::new("libxenstat.so.4.17").ok()) };
//! // SAFETY: xenstat_init takes nothing.
//! let handle = unsafe { lib.xenstat_init() };
//! # Ok::<(), libloading::Error>(())
//! ```
//!
//! The functions are C's own: not thread safe per handle, and every pointer they return dies with the
//! node or handle it came from.

pub use libloading;

#[allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#[allow(unsafe_op_in_unsafe_fn, clippy::all, clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/required.rs"));
    include!(concat!(env!("OUT_DIR"), "/optional.rs"));
}

pub use bindings::*;
