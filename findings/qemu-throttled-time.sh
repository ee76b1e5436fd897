#!/bin/bash
# What is rd_total_time_ns / rd_operations of a drive with an I/O limit (throttle group), and what is idle_time_ns?
# Guess: how long the storage took for a read, the limit apart; and how long nothing has been asked of the drive.
# Seen: the time includes the wait for the limit. The storage here answers in well under 0.1 s, and the average is
# seconds, as the wait of each request counts in full, although they wait at the same time. And idle_time_ns is the
# time since a request has last ended: it runs while requests wait, so a drive at its limit looks idle.
# The operations themselves are counted as they end (as guessed). The same for a limit of the drive and a filter node.
# QEMU 5.2.0 and 10.0.13: the same. 5 reads of 4 KiB at once with 1 a second: about 2.9 s each.
# Needs: see lib/qemu.sh. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
# shellcheck source=/dev/null
. "$(dirname "$0")/lib/qemu.sh"
export tmp
get_qemu bullseye 1:5.2+dfsg-11+deb11u3
get_qemu trixie 1:10.0.13+ds-0+deb13u1
truncate -s 16M "$tmp/disk"
python3 - <<'PY'
import time
from os import environ
from qmp import Qemu, verdict

READS = 5
FILE = f"file.driver=file,file.filename={environ['tmp']}/disk"
DRIVES = {
    "no limit": ["-blockdev", f"driver=raw,node-name=d,{FILE}"],
    "limit of the drive": ["-drive", f"if=none,id=d,driver=raw,{FILE},throttling.iops-total=1"],
    "filter node": ["-object", "throttle-group,id=g,x-iops-total=1",
                    "-blockdev", f"driver=throttle,throttle-group=g,node-name=d,{FILE}"],
}


def read(suite, name):
    qemu = Qemu(suite, "-device", "virtio-scsi-pci,id=hba", *DRIVES[name],
                "-device", "scsi-hd,bus=hba.0,drive=d,id=sda")
    stats = lambda: qemu("query-blockstats")[0]["stats"]
    for number in range(READS):
        qemu.io("sda", f"aio_read -q {number}M 4k")
    # Between two of the reads that wait.
    qemu.until("a read", lambda: stats()["rd_operations"] > 1)
    time.sleep(0.5)
    early = stats()
    idle = early["idle_time_ns"] / 1e9
    qemu.until("all reads", lambda: stats()["rd_operations"] == READS)
    each = stats()["rd_total_time_ns"] / READS / 1e9
    print(f"{suite}: {name}: {READS} reads, {each:.3f} s each (guess: below 0.1); idle_time_ns {idle:.3f} s when"
          f" {READS - early['rd_operations']} were waiting")
    qemu.end()
    return each, early["rd_operations"] < READS and idle > 0.2


as_known = True
for suite in "bullseye", "trixie":
    as_known &= read(suite, "no limit")[0] < 0.3
    for name in "limit of the drive", "filter node":
        each, idle_while_waiting = read(suite, name)
        as_known &= each > 1 and idle_while_waiting
verdict(as_known)
PY
