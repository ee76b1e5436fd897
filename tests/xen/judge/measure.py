"""Measures what a poll costs in a real dom0: the CPU time and the system calls of a whole process, beside xentop's."""

import glob
import re
import statistics
import subprocess

import dom0
import machine
import tools
from dom0 import note, run, wait

# Seconds between polls. Under strace a poll may take longer than one.
INTERVAL, INTERVAL_WITH_STRACE = 1, 10
# Polls that are measured, after those that load libraries and open files, and how often each program is started. Up to
# the fifth poll each delivery wakes the daemon (`WELL` in src/statsd/sender.rs).
POLLS, FIRST, ROUNDS = 5, 6, 2

PROGRAMS = {
    "`xentop -b -f`": [tools.XENTOP, "-b", "-f"],
    "`xenmonitor`": [tools.OURS],
    "`xentop -b -f -v -n -x`": [tools.XENTOP, "-b", "-f", "-v", "-n", "-x"],
    "`xenmonitor --detail all`": [tools.OURS, "--detail", "all"],
}


def cost_of_a_poll():
    """Measures with the present guests, then with small ones instead of that with a QEMU. All are paused."""
    for guest in ["web01"] + ["files"] * machine.QEMU:
        run("xl", "pause", guest)
    at("the guests above")
    if machine.QEMU:
        run("xl", "destroy", "files")
    tiny_guests(15 if machine.GRUB else 3)
    at("small ones with a VIF and a disk, and none with a QEMU")


def tiny_guests(number):
    for n in range(number):
        disk = dom0.phy("xvda", f"tiny{n}", 1)
        dom0.create(f"tiny{n}", kernel="grub", memory=8, vifs=[(0x80 + n, "")], disks=[disk])


def at(what):
    """Prints a table. The programs run one after the other: QEMU does not bear two that ask it."""
    domains = len(tools.xentop()[0])
    cpu = {name: [] for name in PROGRAMS}
    for _ in range(ROUNDS):
        for name, command in PROGRAMS.items():
            cpu[name].append(cpu_of_polls(command))
    lines = ["| domains | program | CPU, ms | system calls | most of them |", "| --- | --- | --- | --- | --- |"]
    for name, command in PROGRAMS.items():
        total, most = "?", "a poll under strace took longer than the interval"
        if counts := calls(command):
            total = f"{sum(counts.values()):.0f}"
            most = ", ".join(f"{call} {n:.0f}" for call, n in sorted(counts.items(), key=lambda item: -item[1])[:6])
        lines.append(f"| {domains} | {name} | {statistics.mean(cpu[name]):.1f} | {total} | {most} |")
        dom0.say(f"cost of a poll of {domains} domains, {name}: CPU {cpu[name]} ms, {total} system calls: {most}")
    how = f"A poll every {INTERVAL} s, under strace every {INTERVAL_WITH_STRACE} s"
    note("measured.md", f"{domains} domains: {what}. {how}.\n\n" + "\n".join(lines) + "\n\n")


def started(command, *, count=None, interval=INTERVAL):
    """The whole command line. `count`: of polls. Ours sends to a server that reads everything, and does not look it up
    again each minute, which would be part of one poll."""
    if command[0] == tools.XENTOP:
        return [*command, "-d", str(interval), *([] if count is None else ["-i", str(count)])], None
    server = tools.Server()
    how = ["--interval", f"{interval}s", "--spread", "0", "--resolve-every", "1h", "--statsd", server.url]
    return [*command, *how, *([] if count is None else ["--count", str(count)])], server


def cpu_of_polls(command):
    """CPU time of all threads per poll, in milliseconds: from the end of one poll to the end of a later one."""
    command, server = started(command)
    with open("/run/measured", "w+") as out:

        def polls():
            if server:
                return sum(name.endswith(".node.domains") for name in server.names())
            out.seek(0)
            return len(re.findall("^ *NAME  STATE ", out.read(), re.MULTILINE))

        # Appends: the offset is shared, and moved above.
        with open("/run/measured", "a") as appended:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=appended, stderr=subprocess.STDOUT)
        try:
            first = wait("the first polls", lambda: (n := polls()) >= FIRST and n)
            before = cpu_ns(process.pid)
            last = wait("more polls", lambda: (n := polls()) >= first + POLLS and n)
            return round((cpu_ns(process.pid) - before) / 1e6 / (last - first), 1)
        finally:
            process.kill()
            process.wait()


def cpu_ns(pid):
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/schedstat"):
        with open(path) as file:
            total += int(file.read().split()[0])
    return total


def calls(command):
    """Returns system calls per poll by name: the mean of two polls. None if polls were skipped."""
    counts = []
    for times in [FIRST, FIRST + 2]:
        line, server = started(command, count=times, interval=INTERVAL_WITH_STRACE)
        run("strace", "-f", "-c", "-o", "/run/strace", *line)
        if server:
            server.drain()
            if server.gauges()["xen.dom0.xenmonitor.skipped_polls"]:
                return None
        with open("/run/strace") as file:
            rows = [line.split() for line in file if re.match(r" *\d+\.\d+ ", line)]
        counts.append({row[-1]: int(row[3]) for row in rows if row[-1] != "total"})
    few, many = counts
    return {name: (count - few.get(name, 0)) / 2 for name, count in many.items() if count > few.get(name, 0)}
