//! Whether the hypervisor can be reached.

use std::fs;
use std::io;

use crate::collect::xenstat_error::Error;

/// The devices through which libxenctrl reaches the hypervisor; the second is that of kernels before 3.3.
const PRIVCMD: [&str; 2] = ["/dev/xen/privcmd", "/proc/xen/privcmd"];

/// Checks that the hypervisor can be reached (fact 28): `xenstat_init` would fail with less helpful words.
pub fn check() -> Result<(), Error> {
    let mut failures = Vec::new();
    for device in PRIVCMD {
        match fs::OpenOptions::new().read(true).write(true).open(device) {
            Ok(_) => return Ok(()),
            Err(source) => failures.push((device, source)),
        }
    }
    // One that exists says more than one that does not.
    failures.sort_by_key(|(_, source)| source.kind() == io::ErrorKind::NotFound);
    let (device, source) = failures.swap_remove(0);
    Err(Error::NoXen { device, source })
}
