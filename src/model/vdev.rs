//! Xen's virtual device numbers and the names that guests, xl and QEMU have for them (docs/libxenstat.md).

use crate::model::text::decimal;

/// Writes what the guest calls the device of a Xen virtual device number (`xvda1`, `sdb`, `hdc`), or the number itself
/// if it stands for no name.
pub fn write_name(dev: u32, out: &mut String) {
    let mut digits = itoa::Buffer::new();
    match parse(dev) {
        None => out.push_str(digits.format(dev)),
        Some((stem, disk, partition)) => {
            out.push_str(stem);
            write_letters(disk, out);
            if partition > 0 {
                out.push_str(digits.format(partition));
            }
        }
    }
}

/// The same number for all numbers that stand for one name: `xvda` to `xvdp` have two.
pub fn canonical(dev: u32) -> u32 {
    match parse(dev) {
        Some(("xvd", disk @ 0..16, partition @ 0..16)) => 202 << 8 | disk << 4 | partition,
        _ => dev,
    }
}

/// The parts of the name: `xvd`, which disk of these, and which partition of it; 0 for the whole.
fn parse(dev: u32) -> Option<(&'static str, u32, u32)> {
    let (major, minor) = (dev >> 8, dev & 0xff);
    Some(match major {
        _ if dev >> 28 == 1 => ("xvd", (dev >> 8) & 0xf_ffff, minor),
        202 => ("xvd", minor >> 4, minor & 0xf),
        8 => ("sd", minor >> 4, minor & 0xf),
        3 | 22 if minor >> 6 < 2 => ("hd", (minor >> 6) + if major == 22 { 2 } else { 0 }, minor & 0x3f),
        _ => return None,
    })
}

/// The [canonical] number of a name, as xl has it: the inverse of [`write_name`].
pub fn number(name: &str) -> Option<u32> {
    let letters = name.get(2..).filter(|_| name.starts_with("sd") || name.starts_with("hd"));
    let (major, letters) = match (letters, name.strip_prefix("xvd")) {
        (Some(letters), _) => (if name.starts_with('s') { 8 } else { 3 }, letters),
        (None, letters) => (202, letters?),
    };
    let end = letters.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(letters.len());
    let (letters, partition) = letters.split_at(end);
    let partition: u32 = match partition {
        "" => 0,
        digits => decimal(digits).filter(|number| *number > 0)?,
    };
    // Four letters stand for more disks than any number can.
    let disk = match letters.len() {
        1..=4 => letters.bytes().fold(0, |disk, letter| disk * 26 + u32::from(letter - b'a') + 1) - 1,
        _ => return None,
    };
    match major {
        202 if disk < 16 && partition < 16 => Some(202 << 8 | disk << 4 | partition),
        202 if disk < 1 << 20 && partition < 256 => Some(1 << 28 | disk << 8 | partition),
        8 if disk < 16 && partition < 16 => Some(8 << 8 | disk << 4 | partition),
        3 if disk < 2 && partition < 64 => Some(3 << 8 | disk << 6 | partition),
        3 if disk < 4 && partition < 64 => Some(22 << 8 | (disk - 2) << 6 | partition),
        _ => None,
    }
}

/// The number that xl would give the `nth` emulated disk of an HVM guest, on an IDE or AHCI controller or with `scsi`
/// on that.
pub fn emulated(nth: u32, scsi: bool) -> Option<u32> {
    let named = |stem: &str| {
        let mut name = String::from(stem);
        write_letters(nth, &mut name);
        number(&name)
    };
    if scsi { named("sd") } else { named("hd").or_else(|| named("xvd")) }
}

/// Whether a number is a whole disk's that an HVM guest may also see as its `nth` emulated disk.
pub fn is_emulated_as(dev: u32, nth: u32, scsi: bool) -> bool {
    let whole = |stem: &'static str| parse(dev) == Some((stem, nth, 0));
    if scsi { whole("sd") } else { whole("xvd") || whole("hd") }
}

/// 0 is a, 25 z, 26 aa, as spreadsheets count.
fn write_letters(disk: u32, out: &mut String) {
    if disk >= 26 {
        write_letters(disk / 26 - 1, out);
    }
    out.push(char::from(b'a' + (disk % 26) as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vdev_names_and_numbers() {
        let name_of = |dev| {
            let mut name = String::new();
            write_name(dev, &mut name);
            name
        };
        for (dev, name) in [
            (51712, "xvda"),
            (51713, "xvda1"),
            (51728, "xvdb"),
            (202 << 8 | 15 << 4 | 15, "xvdp15"),
            (1 << 28 | 16 << 8, "xvdq"),
            (1 << 28 | 26 << 8 | 3, "xvdaa3"),
            (1 << 28 | 701 << 8, "xvdzz"),
            (1 << 28 | 702 << 8, "xvdaaa"),
            (8 << 8, "sda"),
            (8 << 8 | 1 << 4 | 2, "sdb2"),
            (3 << 8, "hda"),
            (3 << 8 | 64, "hdb"),
            (768 + 1, "hda1"),
            (22 << 8, "hdc"),
            (22 << 8 | 64 | 5, "hdd5"),
        ] {
            assert_eq!(name_of(dev), name, "{dev}");
            assert_eq!(number(name), Some(dev), "{name}");
            assert_eq!(canonical(dev), dev, "{name}");
        }
        for (dev, same, name) in [(1 << 28, 51712, "xvda"), (1 << 28 | 15 << 8 | 15, 202 << 8 | 255, "xvdp15")] {
            assert_eq!((name_of(dev).as_str(), canonical(dev)), (name, same), "{dev}");
        }
        for dev in [0, 1, 51, 3 << 8 | 128, 9 << 8, 2 << 28, u32::MAX] {
            assert_eq!((name_of(dev), canonical(dev)), (dev.to_string(), dev));
        }
        for name in [
            "", "xvd", "xvda0", "xvda01", "xvda+1", "xvda256", "xvdA", "xvdé", "hde", "hda64", "sdq", "sda16",
            "xvdaaaaa", "vda",
        ] {
            assert_eq!(number(name), None, "{name}");
        }
    }

    #[test]
    fn vdev_of_emulated_disks() {
        for (name, nth, scsi, is) in [
            ("xvda", 0, false, true),
            ("hda", 0, false, true),
            ("xvdb", 1, false, true),
            ("hdc", 2, false, true),
            ("sda", 0, false, false),
            ("sda", 0, true, true),
            ("xvda", 0, true, false),
            ("xvda1", 0, false, false),
            ("xvdb", 0, false, false),
        ] {
            assert_eq!(is_emulated_as(number(name).unwrap(), nth, scsi), is, "{name} {nth}");
        }
    }
}
