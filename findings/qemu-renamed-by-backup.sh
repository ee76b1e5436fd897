#!/bin/bash
# By what name is a guest's disk known while a job copies it? (A Xen PV backend has no device name and no id, only the
# name of its node, xvda-raw, which says which of the guest's disks it is.)
# Guess: by the same as before; a job is beside the disk. A finished snapshot or mirror may change it.
# Seen: while a blockdev-backup runs, query-block and query-blockstats give the node of the disk a generated name,
# #block123, as the job puts a filter of its own on top; xvda-raw is one level below ("parent"). wr_highest_offset falls
# to 0 with it, as that is the node's, and is back when the job ends. A blockdev-mirror's filter is hidden, unless the
# job was given filter-node-name. Through all of it "qdev" and the other counters stay as they are.
# QEMU 5.2.0 and 10.0.13: the same.
# Needs: see lib/qemu.sh. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
# shellcheck source=/dev/null
. "$(dirname "$0")/lib/qemu.sh"
export tmp
get_qemu bullseye 1:5.2+dfsg-11+deb11u3
get_qemu trixie 1:10.0.13+ds-0+deb13u1
truncate -s 16M "$tmp/disk" "$tmp/copy"
python3 - <<'PY'
import os
from qmp import Qemu, verdict

tmp = os.environ["tmp"]


def look(qemu, when):
    """The disk's names in both answers, that of the node below, and two counters."""
    [block], [entry] = qemu("query-block"), qemu("query-blockstats")
    below, stats = entry.get("parent", entry.get("backing", {})).get("node-name"), entry["stats"]
    names = block["inserted"]["node-name"], entry["node-name"], below
    print(f"  {when}: {block['qdev']!r}: {names[0]}, {names[1]}, below it {names[2]}; wr_operations"
          f" {stats['wr_operations']}, wr_highest_offset {stats['wr_highest_offset']}")
    return block["qdev"] == entry["qdev"] == "sda", names, stats["wr_operations"], stats["wr_highest_offset"]


as_known = True
for suite in "bullseye", "trixie":
    print(suite)
    qemu = Qemu(suite, "-device", "virtio-scsi-pci,id=hba", "-device", "scsi-hd,bus=hba.0,drive=xvda-raw,id=sda",
                "-blockdev", f"driver=raw,node-name=xvda-raw,file.driver=file,file.node-name=file,"
                f"file.filename={tmp}/disk",
                "-blockdev", f"driver=file,node-name=copy,filename={tmp}/copy")
    qemu.io("sda", "aio_write -q 0 1M")
    qemu.until("the write", lambda: qemu("query-blockstats")[0]["stats"]["wr_operations"])
    usual = look(qemu, "before")
    job = {"job_id": "job", "device": "xvda-raw", "target": "copy", "sync": "full"}
    seen = {}
    for what, command, more in [("backup", "blockdev-backup", {"speed": 1 << 20}), ("mirror", "blockdev-mirror", {}),
                                ("mirror with filter-node-name", "blockdev-mirror", {"filter_node_name": "f"})]:
        qemu(command, **job, **more)
        seen[what] = look(qemu, what)
        qemu("block-job-cancel", device="job", force=True)
        qemu.until("the job's end", lambda: not qemu("query-block-jobs"))
        as_known &= look(qemu, "after it") == usual
    qemu.end()
    _, names, writes, offset = seen["backup"]
    as_known &= usual == (True, ("xvda-raw", "xvda-raw", "file"), 1, 1 << 20)
    as_known &= names[0] == names[1] and names[0].startswith("#block") and names[2] == "xvda-raw"
    as_known &= (writes, offset) == (1, 0) and seen["mirror"] == usual
    as_known &= seen["mirror with filter-node-name"] == (True, ("f", "f", "xvda-raw"), 1, 0)
verdict(as_known)
PY
