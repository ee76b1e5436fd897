//! The kernel's own list of VIFs, which is right where libxenstat's is not.
//!
//! libxenstat loses every VIF on a host without a Linux bridge, some beside one, and counts the tap of an HVM
//! guest as a second network (facts 1 to 3 in docs/libxenstat.md). The kernel tells all of them in one file:
//! a VIF is an interface of netback, known by its name `vifDOMID.ID` or, when the admin has renamed it, by the
//! xenstore path in its `device/nodename`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;

use crate::snapshot::{Snapshot, Vif};

/// Every VIF of this dom0, by domid and the guest's number for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vifs(BTreeMap<(u32, u32), Vif>);

/// Why the kernel's list cannot be had; one line.
#[derive(Debug)]
pub enum Error {
    /// `/proc/net/dev` cannot be read.
    Read(io::Error),
    /// Its heading is not the one we know, so that its columns could be anything.
    Heading,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Read(error) => write!(f, "cannot read /proc/net/dev: {error}"),
            Error::Heading => f.write_str("/proc/net/dev has columns of another kind"),
        }
    }
}

/// The columns of /proc/net/dev, as the kernel has headed them since Linux 2.2.
const HEADING: &str = "face |bytes packets errs drop fifo frame compressed multicast\
                       |bytes packets errs drop fifo colls carrier compressed";

/// Reads the list: one file, and one more for each interface that is not named as a VIF.
pub fn read() -> Result<Vifs, Error> {
    let text = fs::read("/proc/net/dev").map_err(Error::Read)?;
    let nodename = |interface: &str| fs::read_to_string(format!("/sys/class/net/{interface}/device/nodename")).ok();
    parse(&String::from_utf8_lossy(&text), nodename)
}

/// The VIFs in the text of `/proc/net/dev`; `nodename` tells what xenstore calls an interface's device. What
/// is cut short or garbled is left out rather than guessed.
fn parse(text: &str, nodename: impl Fn(&str) -> Option<String>) -> Result<Vifs, Error> {
    let mut lines = text.split_inclusive('\n').skip(1);
    let heading: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    if heading.join(" ") != HEADING {
        return Err(Error::Heading);
    }
    let mut vifs = Vifs::default();
    let mut taps = Vec::new();
    // A line without its end may end in half a number.
    for line in lines.filter(|line| line.ends_with('\n')) {
        let Some((interface, columns)) = line.trim_ascii().split_once(':') else { continue };
        // A tap is no device of Xen's and has no node: it is known by the name of its VIF.
        let of_vif = interface.strip_suffix("-emu").unwrap_or(interface);
        let Some((domid, id)) = by_name(of_vif).or_else(|| by_nodename(&nodename(of_vif)?)) else { continue };
        let columns: Option<Vec<u64>> = columns.split_whitespace().map(|column| column.parse().ok()).collect();
        let Some(&[rbytes, rpackets, rerrs, rdrop, _, _, _, _, tbytes, tpackets, terrs, tdrop, _, _, _, _]) =
            columns.as_deref()
        else {
            continue;
        };
        let found = Vif { id, rbytes, rpackets, rerrs, rdrop, tbytes, tpackets, terrs, tdrop };
        match interface.strip_prefix("tap") {
            Some(_) => taps.push(((domid, id), found)),
            None => add(vifs.0.entry((domid, id)).or_insert(Vif { id, ..Vif::default() }), &found),
        }
    }
    // XAPI calls a tap `tap5.0`; but so may a VLAN be called, and then there is no VIF of that name.
    for (key, tap) in taps {
        vifs.0.entry(key).and_modify(|vif| add(vif, &tap));
    }
    Ok(vifs)
}

/// An HVM guest's card is two interfaces: netback's, and the tap of the emulated card that it starts with and
/// keeps while it has no PV driver.
pub fn add(vif: &mut Vif, other: &Vif) {
    vif.rbytes = vif.rbytes.saturating_add(other.rbytes);
    vif.rpackets = vif.rpackets.saturating_add(other.rpackets);
    vif.rerrs = vif.rerrs.saturating_add(other.rerrs);
    vif.rdrop = vif.rdrop.saturating_add(other.rdrop);
    vif.tbytes = vif.tbytes.saturating_add(other.tbytes);
    vif.tpackets = vif.tpackets.saturating_add(other.tpackets);
    vif.terrs = vif.terrs.saturating_add(other.terrs);
    vif.tdrop = vif.tdrop.saturating_add(other.tdrop);
}

/// `vif5.0`, or `tap5.0` for XAPI's tap of it.
fn by_name(interface: &str) -> Option<(u32, u32)> {
    pair(interface.strip_prefix("vif").or(interface.strip_prefix("tap"))?.split_once('.')?)
}

/// What xenstore calls a VIF's backend: `backend/vif/5/0`.
fn by_nodename(nodename: &str) -> Option<(u32, u32)> {
    pair(nodename.trim_end().strip_prefix("backend/vif/")?.split_once('/')?)
}

/// Two numbers as the kernel writes them: no sign, no blank, no zero before another digit.
fn pair((domid, id): (&str, &str)) -> Option<(u32, u32)> {
    let number = |text: &str| text.parse().ok().filter(|number: &u32| number.to_string() == text);
    Some((number(domid)?, number(id)?))
}

impl Vifs {
    /// Whether the kernel shows none at all, which may mean that it is not netback that serves them.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts each domain's VIFs in place of what libxenstat told. Those of no living domain are left out.
    pub fn fill(&self, snapshot: &mut Snapshot) {
        for domain in &mut snapshot.domains {
            let own = self.0.range((domain.id, 0)..=(domain.id, u32::MAX));
            domain.vifs = own.map(|(_, vif)| *vif).collect();
        }
        snapshot.told.network = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Domain;

    const HEAD: &str = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
";

    /// (domid, id, rbytes, tdrop) of each VIF found.
    fn found(lines: &str) -> Vec<(u32, u32, u64, u64)> {
        let nodename = |interface: &str| match interface {
            "web-br0" => Some("backend/vif/3/1\n".to_owned()),
            "pci0" => Some("backend/pci/3/1\n".to_owned()),
            "odd" => Some("backend/vif/3/1/x".to_owned()),
            _ => None,
        };
        let vifs = parse(&format!("{HEAD}{lines}"), nodename).unwrap();
        vifs.0.iter().map(|((domid, id), vif)| (*domid, *id, vif.rbytes, vif.tdrop)).collect()
    }

    #[test]
    fn vifs_of_every_kind_of_host() {
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
            ("columns to spare", row("vif1.0", 1).replace('\n', " 17\n"), vec![]),
            ("no numbers", "vif1.0: 1 2 3 x 5 6 7 8 9 10 11 12 13 14 15 16\nvif2.0: -1 2\n".into(), vec![]),
        ] {
            assert_eq!(found(&lines), vifs, "{what}");
        }
    }

    #[test]
    fn a_thousand_lines() {
        let lines: String = (0..1000).map(|n| format!("vif{n}.0: {n} 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0\n")).collect();
        let vifs = found(&lines);
        assert_eq!((vifs.len(), vifs[999]), (1000, (999, 0, 999, 0)));
    }

    #[test]
    fn another_heading_is_refused() {
        for text in ["", "x", "a\nb\nvif1.0: 1", &HEAD.replace("errs", "errors")] {
            assert!(matches!(parse(text, |_| None), Err(Error::Heading)), "{text}");
        }
    }

    #[test]
    fn only_living_domains_are_filled_and_all_of_them() {
        let old = Vif { id: 9, ..Vif::default() };
        let domain = |id| Domain { id, vifs: vec![old], ..Domain::default() };
        let mut snapshot = Snapshot { domains: vec![domain(0), domain(2)], ..Snapshot::default() };
        let vif = |id| Vif { id, rbytes: 5, ..Vif::default() };
        Vifs([((1, 0), vif(0)), ((2, 1), vif(1)), ((2, 0), vif(0))].into()).fill(&mut snapshot);
        assert_eq!(snapshot.domains[0].vifs, []);
        assert_eq!(snapshot.domains[1].vifs, [vif(0), vif(1)]);
    }
}
