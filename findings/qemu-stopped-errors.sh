#!/bin/bash
# Do QEMU's counters of failed requests show that dom0's storage fails under a guest?
# Guess: yes, each write that fails adds one to failed_wr_operations; so an alarm on that counter sees a full disk.
# Seen: not where it stops the guest. An emulated disk's default is werror=enospc: a write that finds no space is put
# aside, QEMU stops, and every counter stays as it was, failed_wr_operations too, however often the write is tried again
# with `cont`. With werror=ignore the failed write even counts as done, with its bytes. It counts as failed with
# werror=report only. (The answer to query-block says io-status "nospace"; query-status says "io-error".)
# And wr_highest_offset grows in all cases: it is the highest offset that was tried, not that was written.
# QEMU 5.2.0 and 10.0.13: the same.
# Needs: see lib/qemu.sh, and as and ld. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
# shellcheck source=/dev/null
. "$(dirname "$0")/lib/qemu.sh"
export tmp
get_qemu bullseye 1:5.2+dfsg-11+deb11u3
get_qemu trixie 1:10.0.13+ds-0+deb13u1
boot_disk "$tmp/disk" write
python3 - <<'PY'
import errno
from os import environ
from qmp import Qemu, verdict

# What happens to the write: status, what the guest says, wr_operations, wr_bytes, failed_wr_operations.
EXPECTED = {
    "": ("io-error", "", 0, 0, 0),
    ",werror=report": ("running", "E", 0, 0, 1),
    ",werror=ignore": ("running", "D", 1, 32768, 0),
}


def write(suite, option):
    """The guest writes 64 sectors from sector 64 on, by AHCI; each write there fails for want of space."""
    drive = (f"file.driver=blkdebug,file.image.driver=file,file.image.filename={environ['tmp']}/disk,"
             "file.inject-error.0.event=write_aio,file.inject-error.0.sector=64,file.inject-error.0.once=off,"
             f"file.inject-error.0.errno={errno.ENOSPC},driver=raw,if=none,id=d{option}")
    qemu = Qemu(suite, "-drive", drive, "-device", "ahci,id=ahci", "-device", "ide-hd,bus=ahci.0,drive=d")
    said = qemu.guest_done()
    for _ in range(3):
        if qemu("query-status")["status"] == "io-error":
            said = qemu.guest_done()
    status, stats = qemu("query-status")["status"], qemu("query-blockstats")[0]["stats"]
    tries = sum(event["event"] == "BLOCK_IO_ERROR" for event in qemu.events)
    print(f"{suite}: werror{option[7:] or ' by default'}: {tries} BLOCK_IO_ERROR, status {status}, io-status"
          f" {qemu('query-block')[0].get('io-status')}, guest {said!r}; failed_wr_operations"
          f" {stats['failed_wr_operations']} (guess: {tries}), wr_operations {stats['wr_operations']},"
          f" wr_bytes {stats['wr_bytes']}, wr_highest_offset {stats['wr_highest_offset']}")
    qemu.end()
    return (status, said, stats["wr_operations"], stats["wr_bytes"], stats["failed_wr_operations"]), \
        stats["wr_highest_offset"] == 65536 and tries > 0


verdict(all([write(suite, option) == (expected, True)
             for suite in ("bullseye", "trixie") for option, expected in EXPECTED.items()]))
PY
