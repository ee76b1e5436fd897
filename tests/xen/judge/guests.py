"""Guests of other kinds than those that `judge` starts, with disks of QEMU. Each function checks one kind."""

import compare
import dom0
from dom0 import check, destroyed, file_for_disk, qdisk, run, wait
from tools import ours, xentop


@destroyed("pvh01")
def pvh_with_a_qdisk(name="pvh01"):
    """A PVH guest: GRUB, which reads its disk once."""
    disk = qdisk("xvda", file_for_disk(name, 16))
    domid = dom0.create(name, kind="pvh", kernel="grub-pvh", memory=64, disks=[disk])
    run("xl", "unpause", name)
    wait(f"{name} to read its disk", lambda: dom0.qemus_disks(domid)["xvda"]["rd"])
    run("xl", "pause", name)
    before, (document, gauges), after = dom0.qemus_disks(domid), ours(), dom0.qemus_disks(domid)
    result = compare.with_counters(name, before, gauges, after)
    check("PVH: the disk has QEMU's counters", not result.differing, f"{result}; after: {after}")
    only = [domain for domain in document["domains"] if domain["name"] == name]
    table = {name: xentop("-v", "-n", "-x")[0][name]}
    result = compare.with_xentop(table, {"domains": only}, gauges, table, True, qemus=[name])
    check("PVH: equal to xentop", not result.differing and result.compared > 10, result)
