"""Compares metrics with xentop, the kernel and QEMU. Each function checks one thing."""

import os
import re
import signal
import subprocess
import time

import compare
import dom0
import falsify
import machine
import tools
from dom0 import check, note, run, wait
from tools import ours, xentop

# Options that make xentop print a line for each vcpu, network and disk.
DETAILS = ("-v", "-n", "-x")

# Guests that run a load; the others are paused.
BUSY = ["web01", "files"] if machine.QEMU else ["web01"]


def library_of_the_running_xen():
    # As for the daemon in `ours`: an emulated QEMU may need longer than a second.
    command = [tools.OURS, "--check", "--qmp-timeout", "10s", "--statsd", tools.Server().url]
    done = subprocess.run(command, capture_output=True, text=True)
    said = {line.split()[0]: line for line in falsify.text(done.stdout).splitlines()}
    note("check.txt", done.stdout + done.stderr)
    library = said.get("libxenstat", "")
    check(
        "the library is the running Xen's", f"libxenstat.so.{tools.XEN} (the running Xen's own)" in library, library
    )
    bad = [line for line in falsify.text(done.stdout).splitlines() if " BAD " in line]
    status = falsify.code(done.returncode)
    check("--check finds no problem", status == 0 and not bad, f"exit code {status}, BAD: {bad}")


def beside_xentop():
    """Every column and detail, with running and with paused guests. For QEMU's disks see disks_of_qemu."""
    wait("web01 to write", lambda: dom0.blkback(dom0.domid("web01"), "xvda")["wr"])
    for what, states in [("guests running", False), ("guests paused", True)]:
        if states:
            for guest in BUSY:
                run("xl", "pause", guest)
            # Requests that are under way still complete.
            time.sleep(3)
        before, (document, gauges), after = xentop(*DETAILS)[0], ours(), xentop(*DETAILS)[0]
        # Domain-0 keeps running, and is on a CPU whenever its state is read.
        result = compare.with_xentop(before, document, gauges, after, states, qemus=["files"])
        if states:
            note("tables.txt", run(tools.XENTOP, "-b", "-f", "-i", "1"))
            note(
                "tables.txt", run(tools.OURS, "--print", "table", "--once", "--interval", "20s", "--qmp-timeout", "10s")
            )
        check(f"equal to xentop, {what}", not result.differing and result.compared > 100, result)
    for guest in BUSY:
        run("xl", "unpause", guest)


def beside_xl():
    """Memory of the host and of each domain, and the host's CPUs, by another way to Xen than libxenstat's."""

    def read():
        info = dict(re.findall(r"^(\w+) *: (.*)$", run("xl", "info"), re.MULTILINE))
        rows = re.findall(r"^(.*\S) +(\d+) +(\d+) +\d+ +\S+ +\S+$", run("xl", "list"), re.MULTILINE)
        return info, {name: int(mebibytes) for name, _, mebibytes in rows}

    (info, memory), (document, gauges), (later, after) = read(), ours(), read()
    result = compare.Comparison()
    for domain in document["domains"]:
        name = domain["name"]
        own = gauges.get(f"xen.dom0.{domain['metric_name']}.mem_k")
        result.number(f"{name}, MiB", memory[name], own and own // 1024, after[name])
    result.number(
        "total_memory",
        int(info["total_memory"]),
        gauges["xen.dom0.node.mem_total_k"] // 1024,
        int(later["total_memory"]),
    )
    free = sorted([int(info["free_memory"]), int(later["free_memory"])])
    result.number("free_memory", free[0], gauges["xen.dom0.node.mem_free_k"] // 1024, free[1])
    result.same("nr_cpus", int(info["nr_cpus"]), gauges["xen.dom0.node.cpus"])
    # On arm64 xl and xentop show the frequency of the generic timer.
    mhz = None if machine.ARM else int(float(info["cpu_mhz"]))
    result.same("cpu_mhz", mhz, gauges.get("xen.dom0.node.cpu_mhz"))
    result.same("the domains", sorted(memory), sorted(domain["name"] for domain in document["domains"]))
    xl = f"xl info: {info['total_memory']} MiB, {info['cpu_mhz']} MHz; xl list: {memory}"
    compared = f"{result}; pages of {os.sysconf('SC_PAGE_SIZE') >> 10} KiB; {xl}"
    check("memory and CPUs as xl shows them", not result.differing, compared)


def cpu_percent():
    """Both programs measure twenty seconds each. The load is constant: dom0 has no idle time, one guest is capped at
    20 %, the others are paused. So it hardly matters that they are not the same twenty seconds."""
    run("xl", "sched-credit2", "-d", "spin", "-c", "20")
    run("xl", "unpause", "spin")
    for guest in BUSY:
        run("xl", "pause", guest)
    with dom0.busy():
        time.sleep(2)
        command = [tools.XENTOP, "-b", "-f", "-i", "2", "-d", "20"]
        theirs = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        _, gauges = ours(times=2)
        rows = tools.tables(theirs.communicate()[0])[1]
    run("xl", "pause", "spin")
    _, idle = ours(times=2, interval="9s")
    for guest in BUSY:
        run("xl", "unpause", guest)
    # On a busy machine the hypervisor itself may get too little time to let the guest reach its cap.
    for name, low, high in [("spin", 5, 25), ("web01", 0, 0)]:
        xentops, own = float(rows[name].columns["CPU(%)"]), gauges.get(f"xen.dom0.{name}.cpu_percent", -9)
        check(f"CPU(%) of {name}", abs(xentops - own) <= 1 and low <= own <= high, f"xentop {xentops}, ours {own}")
    xentops = sum(float(row.columns["CPU(%)"]) for row in rows.values())
    own = gauges.get("xen.dom0.node.cpu_percent", -9)
    each = {name: value for name, value in gauges.items() if name.endswith(".cpu_percent") and ".vcpu." not in name}
    each.pop("xen.dom0.node.cpu_percent", None)
    total = sum(each.values())
    check("node.cpu_percent is the sum of the domains'", abs(own - total) <= 0.1, f"{own}, the domains' {total:.3f}")
    compared = f"xentop {xentops:.1f}, ours {own}"
    check("node.cpu_percent is the sum of xentop's CPU(%)", abs(own - xentops) <= 1, compared)
    for what, percents in [("dom0 busy", gauges), ("dom0 idle", idle)]:
        pcpus(what, percents)


def pcpus(what, gauges):
    """They are what the domains and Xen itself use. The emulated Xen uses up to a tenth of a CPU."""
    node = gauges.get("xen.dom0.node.cpu_percent", float("nan"))
    each = {name: value for name, value in gauges.items() if re.search(r"\.node\.pcpu\.\d+\.percent$", name)}
    number = gauges.get("xen.dom0.node.cpus") == len(each)
    within = all(0 <= percent <= 100 for percent in each.values()) and -1 <= sum(each.values()) - node <= 10 * len(each)
    check(f"node.pcpu.N.percent, {what}", number and within, f"{each}; node.cpu_percent {node}")


def memory():
    """xenstore's own tool reads the same target and limit. A poll on a busy machine may not get the answers in time."""

    def read(domid, path):
        done = subprocess.run(["xenstore-read", f"/local/domain/{domid}/memory/{path}"], capture_output=True)
        return int(done.stdout) if done.returncode == 0 else None

    theirs = {}
    for domain in ours()[0]["domains"]:
        for key, path in {"target_k": "target", "static_max_k": "static-max"}.items():
            theirs[f"{domain['metric_name']}.memory.{key}"] = read(domain["domid"], path)
    expected = {name for name, value in theirs.items() if value is not None}
    daemon = tools.Daemon()
    wait("a poll with all of it", lambda: any(expected <= set(poll) for poll in daemon.read()))
    own = next(poll for poll in daemon.read() if expected <= set(poll))
    daemon.end()
    result = compare.Comparison()
    for name, value in theirs.items():
        result.same(name, value, own.get(name))
    check("memory.* is xenstore's", not result.differing and len(expected) >= 8, result)


def without_a_bridge():
    """xentop shows no network; xenmonitor sends every VIF with the kernel's counters."""
    web = dom0.domid("web01")
    # Routed, so that the guest can still reach dom0.
    run("ip", "link", "del", "xenbr0")
    run("ip", "addr", "add", "10.77.0.1", "peer", "10.77.0.111", "dev", f"vif{web}.0")
    table = xentop("-n")[0]
    nets = {name: int(row.columns["NETS"]) for name, row in table.items()}
    check("without a bridge xentop shows no network (if it does, update the docs)", not any(nets.values()), nets)
    document, _ = ours("--vifs", "libxenstat")
    own = {domain["name"]: domain["nets"] for domain in document["domains"]}
    check("without a bridge --vifs libxenstat shows what xentop shows", own == nets and not any(own.values()), own)

    before, (document, gauges), after = dom0.kernels_vifs(), ours(), dom0.kernels_vifs()
    result = compare.with_kernel(before, document, gauges, after)
    result.number("web01's bytes from the guest", 1, before[web, 0]["rx_bytes"], float("inf"))
    check("without a bridge every VIF is sent, with the kernel's counters", not result.differing, result)
    found = [(domain["domid"], vif["id"]) for domain in document["domains"] for vif in domain["vif"]]
    interfaces = os.listdir("/sys/class/net")
    renamed = "web-lan" in interfaces and f"vif{web}.1" not in interfaces
    check("a renamed VIF is sent", renamed and (web, 1) in found, f"web-lan is VIF 1 of domain {web}; found {found}")
    run("ip", "addr", "flush", "dev", f"vif{web}.0")
    dom0.bridge()


def disks_of_qemu():
    """xentop shows no disk, or two with one number; xenmonitor sends QEMU's counters."""
    name = "files"
    domid = dom0.domid(name)
    shown = [sorted({vbd[1] for vbd in table[name].vbds}) for table in xentop("-x", times=5)]
    wrong = all(numbers != [51712, 51728] for numbers in shown)
    check("xentop does not show QEMU's two disks in any of 5 polls", wrong, f"numbers of its VBDs: {shown}")
    wait(f"{name} to write", lambda: all(disk["wr"] for disk in dom0.qemus_disks(domid).values()))
    for what, paused in [("guest running", False), ("guest paused", True)]:
        if paused:
            run("xl", "pause", name)
            time.sleep(3)
        before, (_, gauges), after = dom0.qemus_disks(domid), ours(), dom0.qemus_disks(domid)
        result = compare.with_counters(name, before, gauges, after)
        check(f"QEMU's disks have QEMU's counters, {what}", not result.differing, f"{result}; after: {after}")
    run("xl", "unpause", name)


def a_hung_qemu():
    """The disks of its guest are omitted, those of other guests are sent."""
    name = "files"
    qemu = int(run("pgrep", "-f", f"qemu.*-name {name}").split()[0])
    os.kill(qemu, signal.SIGSTOP)
    try:
        document, gauges = ours(qmp_timeout="1s")
    finally:
        os.kill(qemu, signal.SIGCONT)
    sent = {key for key in gauges if key.startswith(f"xen.dom0.{name}.vbd")}
    others = gauges.get("xen.dom0.web01.vbds")
    took = gauges["xen.dom0.xenmonitor.poll_ms"]
    compared = f"its disk gauges: {sorted(sent)}; web01's VBDS {others}; the poll took {took} ms"
    check("a hung QEMU affects its own guest's disks only", not sent and others == 2 and took >= 1000, compared)
