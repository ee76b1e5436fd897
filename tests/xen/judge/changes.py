"""Changes of one guest while a daemon polls, beside xl, xenstore and the kernel. Each function checks several."""

import itertools
import os
import re

import compare
import dom0
import machine
from dom0 import check, destroyed, ping, run, wait
from tools import Daemon, ends_in_zeros

GUEST = "moving"


class Watched:
    """A guest of Linux with two vcpus, and a daemon that polls."""

    def __enter__(self):
        dom0.create(GUEST, vcpus=2, maxvcpus=2, vifs=[(0x31, "")], disks=[dom0.phy("xvda", "moving", 16)])
        run("xl", "unpause", GUEST)
        wait("the guest's devices", lambda: dom0.connected([dom0.domid(GUEST)]))
        wait("the guest's disk", lambda: dom0.blkback(dom0.domid(GUEST), "xvda")["wr"])
        self.daemon = Daemon(interval="1s")
        self.daemon.more(3)
        return self

    def __exit__(self, *_):
        if self.daemon in Daemon.running:
            self.daemon.end()

    def latest(self):
        """The guest's metrics in a poll that began after this call: the first may have begun before."""
        return of_guest(self.daemon.more(3)[-1])


def of_guest(poll):
    return {name.removeprefix(f"{GUEST}."): value for name, value in poll.items() if name.startswith(f"{GUEST}.")}


def as_gauges(own):
    return {f"xen.dom0.{GUEST}.{name}": value for name, value in own.items()}


def runs(values):
    """The values with the number of polls in a row that had each: 0 x3, None x4."""
    return ", ".join(f"{value} x{len(list(group))}" for value, group in itertools.groupby(values))


@destroyed(GUEST)
def devices_come_and_go():
    with Watched() as guest:
        vcpus(guest)
        if machine.MEM_SET:
            memory(guest)
        else:
            dom0.say("SKIPPED xl mem-set: libxl fails on arm64")
        disk(guest)
        network(guest)
        guest.daemon.end_without_errors("changes of devices")


def vcpus(guest):
    """xl shows a vcpu that is offline with the state `--p`."""

    def xls():
        rows = re.findall(rf"^{GUEST} +\d+ +(\d+) +\S+ +(\S+)", run("xl", "vcpu-list", GUEST), re.MULTILINE)
        return {int(number): state != "--p" for number, state in rows}

    had = xls()
    run("xl", "vcpu-set", GUEST, "1")
    theirs = wait("xl's vcpus", lambda: (found := xls()) == {0: True, 1: False} and found)
    own = guest.latest()
    sent = {n: own.get(f"vcpu.{n}.online") for n in theirs}
    same = own.get("vcpus") == 2 and sent == theirs and had == {0: True, 1: True}
    available = run("xenstore-read", f"/local/domain/{dom0.domid(GUEST)}/cpu/1/availability").strip()
    compared = f"xl: {had}, then {theirs}, xenstore: {available}; ours: {sent}, VCPUS {own.get('vcpus')}"
    check("xl vcpu-set: the vcpus that are online", same, compared)


def memory(guest):
    for mebibytes in [machine.LINUX - 16, machine.LINUX]:
        run("xl", "mem-set", GUEST, f"{mebibytes}m")
        target = int(run("xenstore-read", f"/local/domain/{dom0.domid(GUEST)}/memory/target"))
        xls = wait("xl's memory", lambda: (found := listed()) == mebibytes and found)
        own = guest.latest()
        same = own.get("mem_k") == target + machine.ADDED_K and own["mem_k"] // 1024 == xls == target // 1024
        limit = own.get("maxmem_k", 0)
        compared = f"xl: {xls} MiB, xenstore: {target}; ours: mem_k {own.get('mem_k')}, maxmem_k {limit}"
        check(f"xl mem-set {mebibytes}: the memory", same and target < limit <= target + 2048, compared)


def listed():
    """The guest's memory, in MiB."""
    return int(re.findall(rf"^{GUEST} +\d+ +(\d+)", run("xl", "list", GUEST), re.MULTILINE)[0])


def backends(kind):
    """xenstore's numbers of the guest's devices that are connected."""
    domid = dom0.domid(GUEST)
    tree = run("xenstore-ls", "-f", "/local/domain/0/backend")
    return sorted(map(int, re.findall(rf"/backend/{kind}/{domid}/(\d+)/state = \"4\"", tree)))


def disk(guest):
    domid = dom0.domid(GUEST)
    before = backends("vbd")
    run("xl", "block-attach", GUEST, dom0.phy("xvdc", "moving-c", 8))
    attached = wait("the disk", lambda: (found := backends("vbd")) != before and found)
    wait("its first read", lambda: dom0.blkback(domid, "xvdc")["rd"])
    low = {name: dom0.blkback(domid, name) for name in ["xvda", "xvdc"]}
    own = guest.latest()
    result = compare.with_counters(GUEST, low, as_gauges(own), {name: dom0.blkback(domid, name) for name in low})
    result.same("the number of disks in xenstore", len(attached), own.get("vbds"))
    check("xl block-attach: the disk is sent, with blkback's counters", not result.differing, result)

    xl_until("the disk to go", "block-detach", "xvdc", lambda: backends("vbd") == before)
    polls = detached("xl block-detach", guest, "vbds", "vbd.xvdc.rd", len(before))
    types = [poll.get("vbd.xvdc.type") for poll in polls]
    first = next((place for place, kind in enumerate(types) if kind is not None), 0)
    compared = f"vbd.xvdc.type: {runs(types)}"
    check("xl block-detach: its gauges get three zeros and no more", ends_in_zeros(types[first:]), compared)


def network(guest):
    domid = dom0.domid(GUEST)
    before = backends("vif")
    run("xl", "network-attach", GUEST, "mac=00:16:3e:00:00:32", "script=/e2e/vif")
    attached = wait("the network", lambda: (found := backends("vif")) != before and found)
    # A broadcast, so that there is something to count.
    run("ip", "neigh", "flush", "dev", "xenbr0")
    wait("a packet", lambda: ping("10.77.0.250") and dom0.kernels_vifs()[domid, 1]["tx_bytes"])
    low = dom0.kernels_vifs()
    own = guest.latest()
    high = dom0.kernels_vifs()
    result = compare.Comparison()
    for place in [(domid, 0), (domid, 1)]:
        for key, value in low[place].items():
            result.number(f"vif{place} {key}", value, own.get(f"vif.{place[1]}.{key}"), high[place][key])
    result.same("the number of networks in xenstore", len(attached), own.get("nets"))
    check("xl network-attach: the VIF is sent, with the kernel's counters", not result.differing, result)

    xl_until("the network to go", "network-detach", "1", lambda: (domid, 1) not in dom0.kernels_vifs())
    detached("xl network-detach", guest, "nets", "vif.1.tx_bytes", len(before))


def xl_until(what, command, device, holds):
    """xl gives up while the guest uses the device."""

    def once():
        try:
            run("xl", command, GUEST, device)
        except RuntimeError:
            return holds()
        return wait(what, holds)

    wait(what, once)


def detached(command, guest, number, counter, left):
    """A counter of the device grows, and is sent no more once the device is gone. When the guest's driver disconnects,
    the kernel's counters become 0, which a poll may see."""
    polls = [of_guest(poll) for poll in guest.daemon.more(7)]
    values = [poll.get(counter) for poll in polls]
    sent = [value for value in values if value is not None]
    connected = sent[: max((place for place, value in enumerate(sent, 1) if value), default=0)]
    numbers = [poll.get(number) for poll in polls]
    good = connected and connected[0] >= 0 and connected == sorted(connected) and values[-3:] == [None] * 3
    good = good and numbers[-1] == left and set(numbers) == {left, left + 1}
    compared = f"{counter}: {runs(values)}; {number}: {runs(numbers)}"
    check(f"{command}: the device is not sent any more, its counters grew until it disconnected", good, compared)
    return polls


@destroyed(GUEST)
def save_and_restore():
    with Watched() as guest:
        before = guest.latest()
        old = dom0.domid(GUEST)
        file = f"{dom0.DISKS}/saved"
        run("xl", "save", GUEST, file)
        polls = guest.daemon.more(7)
        memory = [of_guest(poll).get("mem_k") for poll in polls]
        check("xl save: three zeros and no more", ends_in_zeros(memory), f"mem_k {runs(memory)}")

        run("xl", "restore", "-e", file)
        os.remove(file)
        arrived("xl restore", guest, before, old, seen=len(polls))
        guest.daemon.end_without_errors("xl save and restore")


def arrived(command, guest, before, old, seen):
    """The guest works at its new place, where its counters began at 0; nothing that was sent since is false."""
    new = dom0.domid(GUEST)
    wait("its devices", lambda: dom0.connected([new]))
    wait("its disk", lambda: dom0.blkback(new, "xvda")["wr"])
    disks, vifs = {"xvda": dom0.blkback(new, "xvda")}, dom0.kernels_vifs()[new, 0]
    own = guest.latest()
    result = compare.with_counters(GUEST, disks, as_gauges(own), {"xvda": dom0.blkback(new, "xvda")})
    high = dom0.kernels_vifs()[new, 0]
    for key, value in vifs.items():
        result.number(f"vif {key}", value, own.get(f"vif.0.{key}"), high[key])
    result.same("domids that differ", True, new != old)
    for key in ["vcpus", "maxmem_k"]:
        result.same(key, before[key], own.get(key))
    # xl shows whole MiB; the target is exact.
    target = int(run("xenstore-read", f"/local/domain/{new}/memory/target"))
    result.same("mem_k", target + machine.ADDED_K, own.get("mem_k"))
    since = [of_guest(poll) for poll in guest.daemon.read()[seen:]]
    # While it is being built it has a part of its memory and devices, and no vcpu.
    for key in ["mem_k", "vcpus", "vbds", "nets"]:
        beyond = [poll[key] for poll in since if key in poll and not 0 <= poll[key] <= before[key]]
        result.same(f"{key} beyond the guest's", [], beyond)
    percents = [poll["cpu_percent"] for poll in since if "cpu_percent" in poll]
    result.same("percentages above 200", [], [percent for percent in percents if not 0 <= percent <= 200])
    check(f"{command}: a new domid, new counters, the same name", not result.differing, f"domid {new}: {result}")
