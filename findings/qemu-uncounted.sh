#!/bin/bash
# Which of QEMU's counters show the I/O that it does beside the guest's: copy-on-read, a client of an NBD export?
# Guess: not those of the guest's disk, but those of the nodes, query-blockstats with query-nodes=true ("parent" and
# "backing" inside an entry have the same fields): each node counts what reaches it.
# Seen: none. A node's counters are always 0, its file's and its backing file's too: only the drive of a device counts.
# The one that moves is wr_highest_offset. qemu-storage-daemon, which has nodes and exports only, lists nothing at all.
# So the I/O of dom0's storage cannot be had from QEMU by adding counters up, and 0 there does not mean idle.
# QEMU 5.2.0 and 10.0.13: the same.
# Needs: see lib/qemu.sh. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
# shellcheck source=/dev/null
. "$(dirname "$0")/lib/qemu.sh"
export tmp
get_qemu bullseye 1:5.2+dfsg-11+deb11u3
get_qemu trixie 1:10.0.13+ds-0+deb13u1
python3 - <<'PY'
import os
import subprocess
from qmp import Qemu, busy, verdict

tmp = os.environ["tmp"]


def with_nodes(qemu):
    """The counters that are not 0 of the device, and those of all nodes, by name."""
    nodes = {entry["node-name"]: busy(entry["stats"]) for entry in qemu("query-blockstats", query_nodes=True)}
    return busy(qemu("query-blockstats")[0]["stats"]), nodes


def only_highest_offsets(nodes):
    return all(set(stats) <= {"wr_highest_offset"} for stats in nodes.values())


def copy_on_read(suite):
    """The guest reads 1 MiB, which QEMU copies from the backing file to the overlay."""
    with open(f"{tmp}/base", "wb") as file:
        file.write(b"x" * (4 << 20))
    subprocess.run([f"{tmp}/{suite}/qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", f"{tmp}/base",
                    f"{tmp}/overlay"], check=True)
    before = os.stat(f"{tmp}/overlay").st_blocks * 512
    qemu = Qemu(suite, "-device", "virtio-scsi-pci,id=hba", "-device", "scsi-hd,bus=hba.0,drive=cor,id=sda",
                "-blockdev", f"driver=file,node-name=base,filename={tmp}/base",
                "-blockdev", f"driver=qcow2,node-name=overlay,file.driver=file,file.node-name=file,"
                f"file.filename={tmp}/overlay,backing=base",
                "-blockdev", "driver=copy-on-read,node-name=cor,file=overlay")
    qemu.io("sda", "aio_read -q 0 1M")
    qemu.until("the read", lambda: qemu("query-blockstats")[0]["stats"]["rd_operations"])
    disk, nodes = with_nodes(qemu)
    qemu.end()
    copied = os.stat(f"{tmp}/overlay").st_blocks * 512 - before
    print(f"{suite}: copy-on-read: {copied} bytes copied; the disk: {disk}; the nodes: {nodes}")
    return copied >= 1 << 20 and disk == {"rd_operations": 1, "rd_bytes": 1 << 20} and only_highest_offsets(nodes) \
        and nodes["file"]["wr_highest_offset"] >= 1 << 20


def export(suite):
    """A client of an NBD export of the guest's disk writes 8 MiB."""
    with open(f"{tmp}/disk", "wb") as file:
        file.truncate(16 << 20)
    qemu = Qemu(suite, "-device", "virtio-scsi-pci,id=hba",
                "-blockdev", f"driver=file,node-name=disk,filename={tmp}/disk",
                "-device", "scsi-hd,bus=hba.0,drive=disk,id=sda,share-rw=on")
    qemu("nbd-server-start", addr={"type": "unix", "data": {"path": f"{tmp}/nbd"}})
    qemu("block-export-add", type="nbd", id="e", node_name="disk", writable=True)
    subprocess.run([f"{tmp}/{suite}/qemu-io", "-f", "raw", f"nbd+unix:///disk?socket={tmp}/nbd", "-c", "write 0 8M"],
                   check=True, stdout=subprocess.DEVNULL)
    disk, nodes = with_nodes(qemu)
    qemu.end()
    print(f"{suite}: NBD export: 8388608 bytes written; the disk: {disk}; the nodes: {nodes}")
    return disk == nodes["disk"] == {"wr_highest_offset": 8 << 20}


verdict(all([part(suite) for suite in ("bullseye", "trixie") for part in (copy_on_read, export)]))
PY
