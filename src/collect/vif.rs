//! The kernel's list of VIFs, which is right where libxenstat's is not.
//!
//! libxenstat loses every VIF on a host without a Linux bridge, some beside one, and counts the tap of an HVM
//! guest as a second network (facts 1 to 3 in docs/libxenstat.md). The kernel lists all of them in one file:
//! a VIF is an interface of netback, known by its name `vifDOMID.ID` or, when the admin has renamed it, by the
//! xenstore path in its `device/nodename`.

use std::collections::HashSet;
use std::error;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use crate::model::snapshot::{Snapshot, Vif};
use crate::model::text::decimal;

/// `--vifs`.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum VifSource {
    /// The kernel: all interfaces, whatever connects them
    Kernel,
    /// libxenstat, as xentop: none in a dom0 without a Linux bridge
    Libxenstat,
}

/// Every VIF of this dom0, by domid and the guest's number for it. Kept from poll to poll, so that reading them
/// needs no new memory.
#[derive(Debug, Default)]
pub struct Vifs {
    /// `/proc/net/dev`: to look it up takes as long as to read it.
    file: Option<File>,
    /// Sorted, without duplicates.
    list: Vec<((u32, u32), Vif)>,
    taps: Vec<((u32, u32), Vif)>,
    text: Vec<u8>,
    nodename: Nodename,
    others: Others,
}

/// Why the kernel's list is unavailable, in one line.
#[derive(Debug)]
pub enum Error {
    /// `/proc/net/dev` cannot be read.
    Read(io::Error),
    /// An interface's device in `/sys/class/net` may not be read: it may be a VIF.
    Nodename(io::Error),
    /// Its heading is not the known one, so its columns could be anything.
    Heading,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read(error) => write!(f, "cannot read /proc/net/dev: {error}"),
            Error::Nodename(error) => write!(f, "cannot read /sys/class/net: {error}"),
            Error::Heading => f.write_str("/proc/net/dev has columns of another kind"),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Error::Read(error) | Error::Nodename(error) => Some(error),
            Error::Heading => None,
        }
    }
}

/// The columns of /proc/net/dev, as the kernel has headed them since Linux 2.2.
const HEADING: &str = "face |bytes packets errs drop fifo frame compressed multicast\
                       |bytes packets errs drop fifo colls carrier compressed";

/// Reads the xenstore path of an interface's device.
#[derive(Debug, Default)]
struct Nodename {
    path: String,
    text: Vec<u8>,
}

impl Nodename {
    /// `None` for an interface that is no device of Xen's.
    fn of(&mut self, interface: &str) -> Result<Option<&str>, Error> {
        self.path.clear();
        self.path.extend(["/sys/class/net/", interface, "/device/nodename"]);
        // One read suffices: sysfs returns a whole file at once, and a path in xenstore has at most 3072 bytes.
        self.text.resize(4096, 0);
        match File::open(&self.path).and_then(|file| file.read_at(&mut self.text, 0)) {
            Ok(length) => Ok(std::str::from_utf8(&self.text[..length]).ok()),
            // It may be a VIF.
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => Err(Error::Nodename(source)),
            Err(_) => Ok(None),
        }
    }
}

/// For so long an interface that was no VIF is taken for none.
const RECHECK: Duration = Duration::from_secs(60);

/// The interfaces that are no VIFs, such as bridges and VLANs: a dom0 may have many. They are not looked up again while
/// the names of all interfaces stay the same, because a VIF may get a name only while no other interface has it.
#[derive(Debug, Default)]
struct Others {
    names: HashSet<String>,
    /// The names of all interfaces, and when they were new.
    all: String,
    since: Option<Instant>,
}

impl Others {
    /// Forgets them if the interfaces in the text of `/proc/net/dev` are others than before, and after a while.
    fn refresh(&mut self, text: &str, now: Instant) {
        let names = || text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name);
        let is_recent = self.since.is_some_and(|since| now < since + RECHECK);
        if !is_recent || !self.all.split_terminator('\n').eq(names()) {
            self.names.clear();
            self.all.clear();
            names().for_each(|name| self.all.extend([name, "\n"]));
            self.since = Some(now);
        }
    }
}

/// Reads a file from its start into `text`, replacing what it holds.
fn read_into(text: &mut Vec<u8>, file: &File) -> io::Result<()> {
    text.clear();
    // std::fs::read would look at the file's size, which is 0 here, and grow the buffer even where it suffices.
    let mut chunk = [0; 8 << 10];
    loop {
        match file.read_at(&mut chunk, text.len() as u64) {
            Ok(0) => return Ok(()),
            Ok(read) => text.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Vifs {
    /// Reads the list again: one file, and one more for each interface that may be a renamed VIF.
    pub fn read(&mut self, now: Instant) -> Result<(), Error> {
        let Self { file, list, taps, text, nodename, others } = self;
        let open = file.take().map_or_else(|| File::open("/proc/net/dev"), Ok);
        let open = open.and_then(|open| read_into(text, &open).map(|()| open));
        *file = Some(open.map_err(Error::Read)?);
        let text = String::from_utf8_lossy(text);
        others.refresh(&text, now);
        parse(list, taps, &text, |interface| {
            if others.names.contains(interface) {
                return Ok(None);
            }
            let key = nodename.of(interface)?.and_then(by_nodename);
            if key.is_none() {
                others.names.insert(interface.to_owned());
            }
            Ok(key)
        })
    }
}

/// The VIFs in the text of `/proc/net/dev`; `by_device` identifies interfaces with other names by their device.
/// Lines that are cut short or garbled are left out rather than guessed.
pub fn parse(
    list: &mut Vec<((u32, u32), Vif)>,
    taps: &mut Vec<((u32, u32), Vif)>,
    text: &str,
    mut by_device: impl FnMut(&str) -> Result<Option<(u32, u32)>, Error>,
) -> Result<(), Error> {
    list.clear();
    taps.clear();
    let mut lines = text.split_inclusive('\n').skip(1);
    if !lines.next().unwrap_or_default().split_whitespace().eq(HEADING.split_whitespace()) {
        return Err(Error::Heading);
    }
    // A line without its newline may end in half a number.
    for line in lines.filter(|line| line.ends_with('\n')) {
        let Some((interface, columns)) = line.trim_ascii().split_once(':') else { continue };
        // A tap is no device of Xen's and has no nodename: it is identified by the name of its VIF.
        let of_vif = interface.strip_suffix("-emu").unwrap_or(interface);
        let key = match by_name(of_vif) {
            None => by_device(of_vif)?,
            key => key,
        };
        let Some((domid, id)) = key else { continue };
        let Some([rbytes, rpackets, rerrs, rdrop, _, _, _, _, tbytes, tpackets, terrs, tdrop, ..]) = sixteen(columns)
        else {
            continue;
        };
        let found = Vif { id, rbytes, rpackets, rerrs, rdrop, tbytes, tpackets, terrs, tdrop };
        let kind = if interface.starts_with("tap") { &mut *taps } else { &mut *list };
        kind.push(((domid, id), found));
    }
    list.sort_unstable_by_key(|(key, _)| *key);
    list.dedup_by(|(key, other), (kept, vif)| {
        let same = key == kept;
        if same {
            vif.add(other);
        }
        same
    });
    // XAPI names a tap `tap5.0`. A VLAN may have such a name too, but no VIF beside it.
    for (key, tap) in taps {
        if let Ok(place) = list.binary_search_by_key(key, |(key, _)| *key) {
            list[place].1.add(tap);
        }
    }
    Ok(())
}

/// The columns of a line, if there are as many as in the heading.
fn sixteen(columns: &str) -> Option<[u64; 16]> {
    let (mut all, mut columns) = ([0; 16], columns.split_whitespace());
    for column in &mut all {
        *column = columns.next()?.parse().ok()?;
    }
    columns.next().is_none().then_some(all)
}

/// `vif5.0`, or `tap5.0` for XAPI's tap of it.
fn by_name(interface: &str) -> Option<(u32, u32)> {
    domid_and_id(interface.strip_prefix("vif").or(interface.strip_prefix("tap"))?.split_once('.')?)
}

/// The xenstore path of a VIF's backend: `backend/vif/5/0`.
pub fn by_nodename(nodename: &str) -> Option<(u32, u32)> {
    domid_and_id(nodename.trim_end().strip_prefix("backend/vif/")?.split_once('/')?)
}

fn domid_and_id((domid, id): (&str, &str)) -> Option<(u32, u32)> {
    Some((decimal(domid)?, decimal(id)?))
}

impl Vifs {
    /// Replaces each domain's VIFs by the kernel's. Those of no running domain are left out.
    pub fn fill(&self, snapshot: &mut Snapshot) {
        for domain in &mut snapshot.domains {
            let first = self.list.partition_point(|((domid, _), _)| *domid < domain.id);
            let own = self.list[first..].iter().take_while(|((domid, _), _)| *domid == domain.id);
            domain.vifs.clear();
            domain.vifs.extend(own.map(|(_, vif)| *vif));
        }
        snapshot.collected.network = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::snapshot::Domain;

    const HEAD: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
";

    /// (domid, id, rbytes, tdrop) of each VIF found.
    fn found(lines: &str) -> Vec<(u32, u32, u64, u64)> {
        let by_device = |interface: &str| {
            Ok(match interface {
                "web-br0" => by_nodename("backend/vif/3/1\n"),
                "pci0" => by_nodename("backend/pci/3/1\n"),
                "odd" => by_nodename("backend/vif/3/1/x"),
                _ => None,
            })
        };
        let mut vifs = Vifs { list: vec![((7, 7), Vif::default())], ..Vifs::default() };
        parse(&mut vifs.list, &mut vifs.taps, &format!("{HEAD}{lines}"), by_device).unwrap();
        vifs.list.iter().map(|((domid, id), vif)| (*domid, *id, vif.rbytes, vif.tdrop)).collect()
    }

    #[test]
    fn vif_names_of_every_kind_of_host() {
        let row = |name: &str, rbytes: u64| format!("{name}: {rbytes} 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
        for (what, lines, vifs) in [
            ("none", row("lo", 1) + &row("eth0", 2), vec![]),
            ("a bridge", row("xenbr0", 1) + &row("vif1.0", 2) + &row("vif1.1", 3), vec![(1, 0, 2, 12), (1, 1, 3, 12)]),
            ("Open vSwitch", row("ovs-system", 1) + &row("vif12.0", 2), vec![(12, 0, 2, 12)]),
            ("renamed, with the bridge's name in it", row("br0", 1) + &row("web-br0", 2), vec![(3, 1, 2, 12)]),
            ("an emulated card beside the PV one", row("vif4.0", 100) + &row("vif4.0-emu", 11), vec![(4, 0, 111, 24)]),
            ("the same, with XAPI's names", row("tap4.0", 11) + &row("vif4.0", 100), vec![(4, 0, 111, 24)]),
            ("a renamed card and its tap", row("web-br0", 100) + &row("web-br0-emu", 11), vec![(3, 1, 111, 24)]),
            ("a VLAN on a tap of another kind", row("tap4.100", 11) + &row("vif4.0", 1), vec![(4, 0, 1, 12)]),
            ("beyond 32 bits", row("vif1.0", u64::MAX), vec![(1, 0, u64::MAX, 12)]),
            ("as the kernel pads them", "  vif1.0:       7 1 1 1 0 0 0 0 1 1 1 5 0 0 0 0\n".into(), vec![(1, 0, 7, 5)]),
            ("no blank after the colon", "vif1.0:7 1 1 1 0 0 0 0 1 1 1 5 0 0 0 0\n".into(), vec![(1, 0, 7, 5)]),
            (
                "names of another kind",
                [
                    "vif",
                    "vif1",
                    "vif1.",
                    "vif.1",
                    "vif1.0.0",
                    "vif+1.0",
                    "vif1.-1",
                    "vif1.0x",
                    "vif01.0",
                    "vif1.00",
                    "\u{3000}vif1.0",
                    "xvif1.0",
                    "vif99999999999.0",
                ]
                .map(|name| row(name, 1))
                .concat(),
                vec![],
            ),
            ("devices of another kind", row("pci0", 1) + &row("odd", 1), vec![]),
            (
                "a line cut short",
                row("vif1.0", 1) + "vif2.0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 1",
                vec![(1, 0, 1, 12)],
            ),
            ("columns missing", "vif1.0: 1 2 3\n".into(), vec![]),
            ("too many columns", row("vif1.0", 1).replace('\n', " 17\n"), vec![]),
            ("no numbers", "vif1.0: 1 2 3 x 5 6 7 8 9 10 11 12 13 14 15 16\nvif2.0: -1 2\n".into(), vec![]),
        ] {
            assert_eq!(found(&lines), vifs, "{what}");
        }
    }

    #[test]
    fn vif_interfaces_of_other_kinds_are_looked_up_again() {
        let start = Instant::now();
        let mut others = Others::default();
        for (second, interfaces, is_kept) in [
            (0, "lo: 1\neth0: 1\n", false),
            (10, "lo: 2\neth0: 3\n", true),
            // One is renamed, one more comes, one goes.
            (20, "lo: 2\nweb-br0: 3\n", false),
            (30, "lo: 2\nweb-br0: 3\neth0: 1\n", false),
            (40, "lo: 2\nweb-br0: 3\neth0: 1\n", true),
            (50, "lo: 2\neth0: 1\n", false),
            (109, "lo: 2\neth0: 1\n", true),
            (110, "lo: 2\neth0: 1\n", false),
            (120, "lo: 2\neth0: 1\n", true),
        ] {
            others.names.insert("lo".into());
            others.refresh(&format!("head\n{interfaces}"), start + Duration::from_secs(second));
            assert_eq!(!others.names.is_empty(), is_kept, "at {second} s");
        }
    }

    #[test]
    fn vif_reads_a_thousand_interfaces() {
        let lines: String = (0..1000).map(|n| format!("vif{n}.0: {n} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n")).collect();
        let vifs = found(&lines);
        assert_eq!((vifs.len(), vifs[999]), (1000, (999, 0, 999, 0)));
    }

    #[test]
    fn vif_unknown_format_is_refused() {
        for text in ["", "x", "a\nb\nvif1.0: 1", &HEAD.replace("errs", "errors")] {
            assert!(
                matches!(parse(&mut Vec::new(), &mut Vec::new(), text, |_| Ok(None)), Err(Error::Heading)),
                "{text}"
            );
        }
    }

    #[test]
    fn vifs_are_filled_into_running_domains_only() {
        let old = Vif { id: 9, ..Vif::default() };
        let domain = |id| Domain { id, vifs: vec![old], ..Domain::default() };
        let mut snapshot = Snapshot { domains: vec![domain(0), domain(2)], ..Snapshot::default() };
        let vif = |id| Vif { id, rbytes: 5, ..Vif::default() };
        let list = vec![((1, 0), vif(0)), ((2, 0), vif(0)), ((2, 1), vif(1))];
        Vifs { list, ..Vifs::default() }.fill(&mut snapshot);
        assert_eq!(snapshot.domains[0].vifs, []);
        assert_eq!(snapshot.domains[1].vifs, [vif(0), vif(1)]);
    }
}
