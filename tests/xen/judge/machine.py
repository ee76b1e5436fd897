"""The release that runs, and the checks that do not apply to it: each exception with its reason."""

import os
import platform

with open("release") as file:
    RELEASE = file.read().strip()

ARM = platform.machine() == "aarch64"

# Guests of Linux need this much memory, in MiB.
LINUX = 160 if ARM else 112
# What xl adds to `memory =` of a guest, in KiB.
ADDED_K = 16 if ARM else 0
# Debian's GRUB for Xen, a guest that needs 8 MiB, exists for x86 alone.
GRUB = not ARM
GUEST_TYPE = "pvh" if ARM else "pv"
# libxenstat takes Xen's pages of 4 KiB for pages of dom0's size: MEM(k) and MAXMEM(k) are too large by this factor.
XENTOPS_MEMORY = os.sysconf("SC_PAGE_SIZE") // 4096
# Whether `xl mem-set` works: libxl 4.20 fails for arm64.
MEM_SET = not ARM
# A guest with disks that QEMU serves.
QEMU = not ARM

# A factor for limits of time.
with open("patience") as file:
    PATIENCE = int(file.read())
# The checks to run, or empty.
with open("only") as file:
    ONLY = file.read().split()
# Whether every judgement is to be seen to fail, see falsify.py.
FALSIFY = os.path.exists("falsify")

# How long two programs poll one QEMU.
with open("pollers_minutes") as file:
    POLLERS_MINUTES = int(file.read())

NO_SWITCH = "its dom0 has no Open vSwitch"
NO_QEMU = "Debian has no QEMU for dom0s on arm64"

# By release and name of the function that checks.
EXCEPTIONS = {
    **{release: {"open_vswitch": NO_SWITCH} for release in ["4.14", "4.17", "sid"]},
    "arm64": {
        "disks_of_qemu": NO_QEMU,
        "a_hung_qemu": NO_QEMU,
        "open_vswitch": NO_SWITCH,
        "pvh_with_a_qdisk": NO_QEMU,
        "hvm": NO_QEMU,
        "save_and_restore": "Xen cannot save guests on arm64",
        "ours_twice": NO_QEMU,
        "ours_and_xentop": NO_QEMU,
    },
}
EXCEPTIONS["arm64-16k"] = EXCEPTIONS["arm64"]


def exception(name):
    return EXCEPTIONS.get(RELEASE, {}).get(name)
