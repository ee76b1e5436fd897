//! The statistics that tapdisk3 keeps in shared memory, as on XCP-ng and XenServer.
//!
//! A disk may have two files: `td3-PID/vbd-DOMID-DEV`, which libxenstat reads from Xen 4.19 on (`struct vbd3_stats`
//! in its xenstat_priv.h), and `vbd3-DOMID-DEV/statistics` of older tapdisks (`struct blkback_stats` in blktap's
//! blktap3.h). Anybody may create files in /dev/shm: only those of root, or of this process's user, are used.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fd::OwnedFd;
use rustix::fs::{Dir, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;
use rustix::process::Pid;

use crate::collect::disks::directory;
use crate::model::snapshot::{Time, VbdCounters};
use crate::model::text::decimal;

/// Where tapdisk3 keeps its files.
pub const SHM: &str = "/dev/shm";

/// The newest layout of `struct vbd3_stats`, and the only one.
const VERSION: u32 = 1;

/// The counters of each disk, by domid and device number; `None` where its file cannot be read or has another layout.
pub type Disks = BTreeMap<(u32, u32), Option<VbdCounters>>;

/// Whether an entry of [`SHM`] seems to be a tapdisk3's.
pub fn is_tapdisks(name: &str) -> bool {
    let known = name.strip_prefix("vbd3-").and_then(domid_and_dev).is_some() || is_of_running_process(name);
    let path = Path::new(SHM).join(name);
    known && (open(None, &path, OFlags::DIRECTORY).is_ok() || is_closed_to_us(&path))
}

/// Reads all of them. Fails with the directory if it may have disks that this user may not see.
pub fn read() -> Result<Disks, (PathBuf, io::Error)> {
    read_in(Path::new(SHM))
}

fn read_in(shared: &Path) -> Result<Disks, (PathBuf, io::Error)> {
    let (mut old, mut new) = (Disks::new(), BTreeMap::new());
    let may_be = |name: &str| (name.starts_with("vbd3-") || name.starts_with("td3-")).then_some(());
    let entries = match directory::list(shared, may_be) {
        Err(error @ (Errno::ACCESS | Errno::PERM)) => return Err((shared.to_owned(), error.into())),
        entries => entries.unwrap_or_default(),
    };
    for ((), name, _) in &entries {
        let path = shared.join(name);
        if let Some(disk) = name.strip_prefix("vbd3-").and_then(domid_and_dev) {
            let Ok(directory) = open(None, &path, OFlags::DIRECTORY) else {
                if is_closed_to_us(&path) {
                    old.insert(disk, None);
                }
                continue;
            };
            // At the start the directory holds only the ring's statistics.
            match open(Some(&directory), "statistics", OFlags::empty()) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => drop(old.insert(disk, file.and_then(words).ok().and_then(|words| blkback_stats(&words)))),
            }
        } else if is_of_running_process(name) {
            let directory = match open(None, &path, OFlags::DIRECTORY) {
                Ok(directory) => directory,
                Err(error) if is_closed_to_us(&path) => return Err((path, error)),
                Err(_) => continue,
            };
            for file in Dir::read_from(&directory).into_iter().flatten().flatten() {
                let Some(disk) =
                    file.file_name().to_str().ok().and_then(|name| domid_and_dev(name.strip_prefix("vbd-")?))
                else {
                    continue;
                };
                let file = open(Some(&directory), file.file_name(), OFlags::empty());
                let made = file.as_ref().ok().and_then(|file| file.metadata().ok()?.modified().ok());
                let counters = file.and_then(words).ok().and_then(|words| vbd3_stats(&words));
                // If two processes have a file of one disk, the older one was left behind.
                let latest = new.entry(disk).or_insert((SystemTime::UNIX_EPOCH, None));
                if let Some(made) = made.filter(|made| *made >= latest.0) {
                    *latest = (made, counters);
                }
            }
        }
    }
    old.extend(new.into_iter().map(|(disk, (_, counters))| (disk, counters)));
    Ok(old)
}

/// `5-51712`.
fn domid_and_dev(text: &str) -> Option<(u32, u32)> {
    let (domid, dev) = text.split_once('-')?;
    Some((decimal(domid)?, decimal(dev)?))
}

/// Whether it belongs to a running tapdisk3: one that was killed leaves its files behind.
fn is_of_running_process(name: &str) -> bool {
    let pid = name.strip_prefix("td3-").and_then(decimal::<u32>);
    let pid = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    // /proc may hide processes of others (hidepid). One that may not be signalled is running.
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(Errno::SRCH))
}

/// Whether [`open`] would use a directory that this user may not open: then it is unknown what is in it.
fn is_closed_to_us(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|about| about.is_dir() && is_trusted(&about))
}

/// Whether no other user can have created or written to it.
fn is_trusted(about: &Metadata) -> bool {
    let ours = about.uid() == 0 || about.uid() == rustix::process::geteuid().as_raw();
    ours && about.mode() & 0o022 == 0
}

/// Opens a file that is no link, and that no other user can have created or written to.
fn open(directory: Option<&File>, path: impl Arg, more: OFlags) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    let opened: OwnedFd = match directory {
        Some(directory) => rustix::fs::openat(directory, path, flags, Mode::empty())?,
        None => rustix::fs::open(path, flags, Mode::empty())?,
    };
    let file = File::from(opened);
    let about = file.metadata()?;
    if !is_trusted(&about) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    match about.is_file() || more.contains(OFlags::DIRECTORY) {
        true => Ok(file),
        false => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Both structures consist of 64-bit words in this machine's order, and neither is longer than this. The files are a
/// whole page long.
pub fn words(mut file: impl Read) -> io::Result<[u64; 14]> {
    let mut bytes = [0; 14 * 8];
    file.read_exact(&mut bytes)?;
    let mut words = [0; 14];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(bytes.try_into().expect("chunks of eight"));
    }
    Ok(words)
}

/// Version and padding; oo_reqs; reads submitted, completed, sectors, ticks; the same for writes; io_errors; flags.
/// The ticks are microseconds.
pub fn vbd3_stats(words: &[u64; 14]) -> Option<VbdCounters> {
    let [version, oo, rd, rd_done, rd_sect, rd_us, wr, wr_done, wr_sect, wr_us, errors, ..] = *words;
    let version = version.to_ne_bytes();
    (u32::from_ne_bytes([version[0], version[1], version[2], version[3]]) == VERSION).then_some(())?;
    Some(VbdCounters {
        errs: Some(errors),
        ..counters(oo, [rd, rd_done, rd_sect, rd_us], [wr, wr_done, wr_sect, wr_us])
    })
}

/// Discards and flushes, always 0; oo_req; reads received, completed, sectors, microseconds, maximum; the same for
/// writes; flags.
pub fn blkback_stats(words: &[u64; 14]) -> Option<VbdCounters> {
    let [_, _, oo, rd, rd_done, rd_sect, rd_us, _, wr, wr_done, wr_sect, wr_us, _, _] = *words;
    Some(counters(oo, [rd, rd_done, rd_sect, rd_us], [wr, wr_done, wr_sect, wr_us]))
}

fn counters(oo: u64, [rd, rd_done, rd_sect, rd_us]: [u64; 4], [wr, wr_done, wr_sect, wr_us]: [u64; 4]) -> VbdCounters {
    let time = |reqs, us: u64| Some(Time { reqs, ns: us.saturating_mul(1000) });
    VbdCounters {
        oo_reqs: Some(oo),
        rd_reqs: rd,
        wr_reqs: wr,
        rd_sects: Some(rd_sect),
        wr_sects: wr_sect,
        rd_time: time(rd_done, rd_us),
        wr_time: time(wr_done, wr_us),
        ..VbdCounters::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    /// A directory in place of /dev/shm.
    struct Shared(PathBuf);

    impl Drop for Shared {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    impl Shared {
        fn new(of: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xenmonitor-tapdisk-{}-{of}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        /// A page as tapdisk3 writes it, that begins with these words.
        fn page(&self, file: &str, words: &[u64]) -> PathBuf {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::set_permissions(path.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            bytes.resize(4096, 0);
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        }
    }

    /// The first is the version's word.
    const VBD3: [u64; 12] = [1, 2, 30, 29, 400, 5_000, 60, 59, 700, 8_000, 9, 0];
    const OLD: [u64; 14] = [0, 0, 2, 31, 29, 400, 5_000, 77, 60, 59, 700, 8_000, 88, 1];

    fn td3(file: &str) -> String {
        format!("td3-{}/{file}", std::process::id())
    }

    #[test]
    fn tapdisk_reads_both_kinds_of_file() {
        let shared = Shared::new("both");
        shared.page(&td3("vbd-5-51712"), &VBD3);
        shared.page("vbd3-5-51728/statistics", &OLD);
        // One disk has both: the file with a version counts.
        shared.page("vbd3-5-51712/statistics", &[1; 14]);
        let time = |reqs, us: u64| Some(Time { reqs, ns: us * 1000 });
        let counters = VbdCounters {
            oo_reqs: Some(2),
            rd_reqs: 30,
            wr_reqs: 60,
            rd_sects: Some(400),
            wr_sects: 700,
            rd_time: time(29, 5_000),
            wr_time: time(59, 8_000),
            flush_reqs: None,
            errs: Some(9),
        };
        let old = VbdCounters { rd_reqs: 31, errs: None, ..counters };
        let disks = read_in(&shared.0).unwrap();
        assert_eq!(disks.into_iter().collect::<Vec<_>>(), [((5, 51712), Some(counters)), ((5, 51728), Some(old))]);
    }

    #[test]
    fn tapdisk_files_of_another_form_have_no_counters() {
        let shared = Shared::new("odd");
        let newer = [&[2], &VBD3[1..]].concat();
        shared.page(&td3("vbd-1-0"), &newer);
        let cut = shared.page(&td3("vbd-1-1"), &VBD3);
        File::options().write(true).open(cut).unwrap().set_len(111).unwrap();
        fs::set_permissions(shared.page(&td3("vbd-1-2"), &VBD3), fs::Permissions::from_mode(0o666)).unwrap();
        symlink(shared.page(&td3("other"), &VBD3), shared.0.join(td3("vbd-1-3"))).unwrap();
        fs::create_dir(shared.0.join(td3("vbd-1-4"))).unwrap();
        // To open a pipe without a writer would block.
        let pipe = shared.0.join(td3("vbd-1-5"));
        assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&pipe).status().unwrap().success());
        let disks = read_in(&shared.0).unwrap();
        let expected: Vec<_> = (0..6).map(|dev| ((1, dev), None)).collect();
        assert_eq!(disks.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn tapdisk_ignores_files_of_others() {
        let shared = Shared::new("not");
        shared.page("td3-4294967295/vbd-1-0", &VBD3);
        shared.page("td3-x/vbd-1-0", &VBD3);
        shared.page("vbd3-1-1/io_ring", &OLD);
        shared.page("vbd3-1/statistics", &OLD);
        for (n, name) in ["vbd-1", "vbd-1-2-3", "vbd-+1-2", "xvbd-1-2", "vbd-1-02"].iter().enumerate() {
            shared.page(&td3(name), &[1, n as u64]);
        }
        // Others can write there, or it is a link.
        shared.page("vbd3-1-2/statistics", &OLD);
        fs::set_permissions(shared.0.join("vbd3-1-2"), fs::Permissions::from_mode(0o777)).unwrap();
        shared.page("elsewhere/statistics", &OLD);
        symlink(shared.0.join("elsewhere"), shared.0.join("vbd3-1-3")).unwrap();
        fs::write(shared.0.join("vbd3-1-4"), "").unwrap();
        assert_eq!(read_in(&shared.0).unwrap(), Disks::new());
        assert_eq!(read_in(&shared.0.join("nowhere")).unwrap(), Disks::new());
    }

    /// One process left its file behind, another one serves the disk now.
    #[test]
    fn tapdisk_uses_the_latest_of_two_files() {
        let shared = Shared::new("two");
        // Each order once, whichever file is read first.
        for (pid, dev, age, reqs) in
            [(std::process::id(), 0, 0, 10), (1, 0, 60, 20), (std::process::id(), 1, 60, 30), (1, 1, 0, 40)]
        {
            let page = shared.page(&format!("td3-{pid}/vbd-5-{dev}"), &[&[1, 2, reqs], &VBD3[3..]].concat());
            let then = SystemTime::now() - Duration::from_secs(age);
            File::options().append(true).open(page).unwrap().set_modified(then).unwrap();
        }
        let disks = read_in(&shared.0).unwrap();
        assert_eq!([0, 1].map(|dev| disks[&(5, dev)].unwrap().rd_reqs), [10, 40]);
    }
}
