#!/bin/bash
# What is one read operation of an emulated disk?
# Guess: what the guest asked for in one command. A BIOS call for 64 sectors is one rd_operations, or a few.
# Seen: on IDE, as libxl gives an HVM guest before it has PV drivers, it is 64: QEMU counts each sector that the CPU
# fetches (ATA READ SECTORS) as an operation of 512 bytes. On AHCI and virtio the same call is 1. So the boot loader or
# installer of an HVM guest that uses the BIOS shows dozens of times the operations that its PV driver will show.
# QEMU 5.2.0 and 10.0.13: ide-hd 64, on AHCI 1, virtio-blk 1.
# Needs: see lib/qemu.sh, and as and ld. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
# shellcheck source=/dev/null
. "$(dirname "$0")/lib/qemu.sh"
export tmp
get_qemu bullseye 1:5.2+dfsg-11+deb11u3
get_qemu trixie 1:10.0.13+ds-0+deb13u1
boot_disk "$tmp/disk" read
python3 - <<'PY'
from os import environ
from qmp import Qemu, verdict

DEVICES = {
    "ide-hd on IDE": (64, ["-device", "ide-hd,bus=ide.0,drive=d"]),
    "ide-hd on AHCI": (1, ["-device", "ahci,id=ahci", "-device", "ide-hd,bus=ahci.0,drive=d"]),
    "virtio-blk-pci": (1, ["-device", "virtio-blk-pci,drive=d"]),
}


def reads(suite, device):
    """What the guest says, and the operations and bytes beyond the boot sector's own, which is one of 512."""
    qemu = Qemu(suite, "-drive", f"file={environ['tmp']}/disk,format=raw,if=none,id=d,readonly=off", *device)
    said = qemu.guest_done()
    stats = qemu("query-blockstats")[0]["stats"]
    qemu.end()
    return said, stats["rd_operations"] - 1, stats["rd_bytes"] - 512


as_known = True
for suite in "bullseye", "trixie":
    for name, (expected, device) in DEVICES.items():
        said, operations, size = reads(suite, device)
        print(f"{suite}: {name}: one BIOS call for 64 sectors ({said}): rd_operations {operations}, rd_bytes {size}"
              " (guess: 1)")
        as_known &= (said, operations, size) == ("D", expected, 32768)
verdict(as_known)
PY
