"""Guests of other kinds than those that `judge` starts, with disks of QEMU. Each function checks one kind."""

import compare
import dom0
from dom0 import bootable, check, destroyed, file_for_disk, phy_of, ping, qdisk, run, wait
from tools import ours, xentop


def total(*counters):
    """The sum of several disks' or interfaces' counters."""
    return {key: sum(each.get(key, 0) for each in counters) for key in counters[0]}


@destroyed("pvh01")
def pvh_with_a_qdisk():
    """A PVH guest: GRUB, which reads its disk once."""
    name = "pvh01"
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


@destroyed("hvm01", "hvm02")
def hvm():
    """HVM guests of a boot sector that reads and writes by its BIOS: all I/O is that of QEMU's IDE disks."""
    base = file_for_disk("hvm-b", 16)
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, f"{dom0.DISKS}/hvm-overlay")
    disks = [
        qdisk("hda", bootable(file_for_disk("hvm-a", 16))),
        qdisk("hdb", f"{dom0.DISKS}/hvm-overlay", "qcow2"),
        dom0.phy("xvdc", "hvm-c", 8),
        f"vdev=hdd,devtype=cdrom,access=r,format=raw,target={file_for_disk('hvm-cd', 1)}",
    ]
    one = dom0.create("hvm01", kind="hvm", memory=64, vifs=[(0x21, ",model=e1000")], disks=disks)
    other = dom0.create(
        "hvm02",
        kind="hvm",
        memory=64,
        vifs=[(0x22, ",model=e1000,vifname=hvm-lan")],
        disks=[phy_of("xvda", bootable(file_for_disk("hvm-d", 16)))],
    )
    taps = [f"vif{domid}.0-emu" for domid in (one, other)]
    for tap in taps:
        run("ip", "link", "set", tap, "master", "xenbr0", "up")
    for name, domid in [("hvm01", one), ("hvm02", other)]:
        run("xl", "unpause", name)
        wait(f"{name} to write", lambda: dom0.emulated_disks(domid)["ide0-hd0"]["wr"])
    wait("hvm01 to write to its second disk", lambda: dom0.emulated_disks(one)["ide0-hd1"]["wr"])
    # ARP for an address that nobody has reaches every port of the bridge.
    for tap in taps:
        wait(f"a packet to {tap}", lambda: ping("10.77.0.250") and dom0.interfaces()[tap]["tx_bytes"])

    for what, paused in [("running", False), ("paused", True)]:
        if paused:
            for name in ["hvm01", "hvm02"]:
                run("xl", "pause", name)
        disks, networks = disks_of(one, other), networks_of(one, other)
        document, gauges = ours()
        disks_after, networks_after = disks_of(one, other), networks_of(one, other)
        for name in disks:
            result = compare.with_counters(name, disks[name], gauges, disks_after[name])
            compared = f"{result}; after: {disks_after[name]}"
            check(f"HVM, {what}: the disks of {name} have the counters of QEMU's IDE", not result.differing, compared)
        own = {"domains": [domain for domain in document["domains"] if domain["domid"] in (one, other)]}
        result = compare.with_kernel(networks, own, gauges, networks_after)
        compared = f"{result}; after: {networks_after}"
        check(f"HVM, {what}: a network card and its tap are one network", not result.differing, compared)

    table = xentop("-n", "-x")[0]
    shown = {name: {key: table[name].columns[key] for key in ["NETS", "VBDS", "VBD_RD"]} for name in ["hvm01", "hvm02"]}
    wrong = shown["hvm01"]["NETS"] == shown["hvm02"]["NETS"] == "2" and shown["hvm02"]["VBD_RD"] == "0"
    check("HVM: xentop counts each card twice, and no I/O of hvm02 (if not, update the docs)", wrong, shown)


def disks_of(one, other):
    """Counters of the disks of hvm01 and hvm02, which a guest reaches by IDE and by its PV driver."""
    ide, pv = dom0.emulated_disks(one), dom0.qemus_disks(one)
    return {
        "hvm01": {
            "hda": total(ide["ide0-hd0"], pv.get("hda", {})),
            "hdb": total(ide["ide0-hd1"], pv.get("hdb", {})),
            "xvdc": total(ide["ide1-hd0"], dom0.blkback(one, "xvdc")),
        },
        "hvm02": {"xvda": total(dom0.emulated_disks(other)["ide0-hd0"], dom0.blkback(other, "xvda"))},
    }


def networks_of(one, other):
    """Counters of their networks, which a guest reaches by the tap and by the VIF."""
    vifs, interfaces = dom0.kernels_vifs(), dom0.interfaces()
    return {(domid, 0): total(vifs[domid, 0], interfaces[f"vif{domid}.0-emu"]) for domid in (one, other)}
