//! Bindings to **libxenstat**, the statistics library under `xentop`, made by bindgen from the
//! `xenstat.h` of the build machine.
//!
//! Nothing is linked: libxenstat's file name and symbol versions change with every Xen release while its
//! functions have not changed since Xen 4.0, so [`Xenstat`] loads them at run time from the library the
//! running hypervisor needs. A function the library lacks is an `Err` in the field of its name (older
//! releases lack `xenstat_vbd_error`, added in Xen 4.13); calling such a method panics, so look first.
//!
//! ```no_run
//! # use xenstat_sys::Xenstat;
//! // SAFETY: loading a library runs its initialisers; libxenstat has none.
//! let lib = unsafe { Xenstat::new("libxenstat.so.4.17") }?;
//! assert!(lib.xenstat_init.is_ok());
//! # Ok::<(), libloading::Error>(())
//! ```
//!
//! The functions are C's own: not thread safe per handle, and every pointer they return dies with the
//! node or handle it came from.

pub use libloading;

#[allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals)]
#[allow(unsafe_op_in_unsafe_fn, clippy::all, clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;
