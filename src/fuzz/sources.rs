//! What is read: of the kernel, of QEMUs that guests may have taken over, of files that others may make.

use std::time::{Duration, Instant};

use crate::collect::disks::blkback;
use crate::collect::disks::merge;
use crate::collect::disks::qmp_replies::{Disk, DriveId, MAX_DISKS, Progress, Question, Replies};
use crate::collect::disks::tapdisk;
use crate::collect::vif;
use crate::fuzz::input::steers;
use crate::model::snapshot::{Moment, Vbd, VbdCounters};

/// `/proc/net/dev`, from its third line on; what a NUL ends before that is the `device/nodename` of interfaces that
/// have names of their own.
pub fn net_dev(input: &[u8]) {
    const HEAD: &str = "Inter-|   Receive                            |  Transmit\n face |bytes packets errs drop fifo frame \
                        compressed multicast|bytes packets errs drop fifo colls carrier compressed\n";
    let text = String::from_utf8_lossy(input);
    let (nodename, lines) = text.split_once('\0').unwrap_or(("", &text));
    let by_device = |interface: &str| Ok(vif::by_nodename(nodename).filter(|_| interface.starts_with("web")));
    let read = |text: &str| {
        let (mut list, mut taps) = (Vec::new(), Vec::new());
        vif::parse(&mut list, &mut taps, text, by_device).map(|()| list)
    };
    // As it is, it has the heading or is refused.
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let headed =
        text.split('\n').nth(1).is_some_and(|line| words(line) == words(HEAD.split('\n').nth(1).unwrap_or("")));
    assert_eq!(read(&text).is_ok(), headed);
    let list = read(&format!("{HEAD}{lines}")).expect("it has the heading");
    assert!(list.is_sorted_by(|(one, _), (other, _)| one < other), "{list:?}");
    assert!(list.len() <= lines.matches('\n').count());
    assert!(list.iter().all(|((_, id), vif)| vif.id == *id));
    // What is not ended yet changes nothing.
    let ended = &lines[..lines.rfind('\n').map_or(0, |end| end + 1)];
    assert_eq!(read(&format!("{HEAD}{ended}vif1.0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 1")).ok(), Some(list));
}

/// The lines of one QEMU after its greeting, and how its disks are merged with those of the kernel and of tapdisk3. The
/// two questions whose replies matter least are answered well where the input leaves them out.
pub fn qmp(input: &[u8]) {
    let mut replies = Replies::default();
    let answer_well = |replies: &mut Replies, line: &[u8]| replies.push_line(line).expect("a good reply");
    answer_well(&mut replies, br#"{"QMP": {}}"#);
    for line in input.split(|&byte| byte == b'\n') {
        let is_reply_to = |question: Question| {
            let id = question.id().as_bytes();
            line.windows(id.len()).any(|part| part == id)
        };
        let left_out = |question: &Question| !is_reply_to(*question);
        while let Some(question) =
            replies.asked().filter(|asked| matches!(asked, Question::Capabilities | Question::Devices)).filter(left_out)
        {
            let reply = format!(r#"{{"id": "{}", "return": []}}"#, question.id());
            answer_well(&mut replies, reply.as_bytes());
        }
        match replies.push_line(line) {
            Ok(Progress::Wait | Progress::Ask(_)) => {}
            Ok(Progress::Done(disks)) => return beside_others(disks),
            Err(error) => {
                let words = error.to_string();
                assert!(!words.is_empty() && words.len() < 1000 && !words.contains(steers), "{words:?}");
                return;
            }
        }
    }
}

fn beside_others(disks: Vec<Disk>) {
    assert!(disks.len() <= MAX_DISKS);
    let known = disks.len();
    let moment = Moment { at: Instant::now(), took: Duration::from_millis(1) };
    let counters = Some(VbdCounters { rd_reqs: u64::MAX, wr_sects: 1, ..VbdCounters::default() });
    let vbd = |kind, dev| Vbd { kind, dev, counters, read: Some(moment), ..Vbd::default() };
    // xvda, hda, xvdb, sda.
    let kernels = vec![vbd(1, 51712), vbd(3, 51728), vbd(1, 2048)];
    let tapdisks = vec![vbd(3, 51728), vbd(3, 51712), vbd(3, 768)];
    let own_disks = disks.iter().filter(|disk| matches!(disk.id, DriveId::Xen(_))).count();
    let vbds = merge(kernels, tapdisks, Some((disks, moment)));
    assert!(vbds.is_sorted_by_key(|vbd| vbd.dev));
    // What is served by backends has a place of its own; what is emulated may be another way to one of them.
    assert!((4 + own_disks..=4 + known).contains(&vbds.len()), "{vbds:?}");
}

/// A file of tapdisk3's, as of either kind.
pub fn tapdisk(input: &[u8]) {
    let Ok(words) = tapdisk::words(input) else {
        assert!(input.len() < 14 * 8);
        return;
    };
    let old = tapdisk::blkback_stats(&words);
    let new = tapdisk::vbd3_stats(&words);
    assert_eq!(new.is_some(), input.starts_with(&1_u32.to_ne_bytes()));
    assert!(old.is_some_and(|old| old.rd_time.is_some_and(|time| time.ns >= words[6])));
}

/// The name of a device on the bus of Xen's backends and, after a NUL, what each file of its statistics holds.
pub fn blkback(input: &[u8]) {
    let mut parts = input.split(|&byte| byte == 0);
    let mut text = || std::str::from_utf8(parts.next()?).ok();
    let device = text().unwrap_or_default();
    if let Some((domid, kind, dev)) = blkback::by_name(device) {
        assert!(kind <= blkback::TAPDISK3 && device.ends_with(&format!("-{domid}-{dev}")), "{device}");
    }
    let files: Vec<&str> = std::iter::from_fn(text).collect();
    let file = |name: &str| {
        let place = blkback::FILES.iter().position(|file| *file == name);
        files.get(place.expect("a file that blkback has")).map(|text| (*text).to_owned())
    };
    if let Some(counters) = blkback::counters(file) {
        let known = [counters.oo_reqs, Some(counters.rd_reqs), Some(counters.wr_reqs)];
        for (known, text) in known.into_iter().zip(&files) {
            assert_eq!(known.map(|known| known.to_string()).as_deref(), Some(text.trim_end()));
        }
    }
}
