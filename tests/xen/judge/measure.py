"""Measures the cost in a real dom0: the C library's calls by flag, our own part of a poll, and system calls."""

import ctypes
import re
import resource
import statistics
import subprocess
import time

import dom0
import machine
import tools
from dom0 import check, note, run

# From xenstat.h.
FLAGS = {"0": 0, "VCPU": 1, "NETWORK": 2, "XEN_VERSION": 4, "VBD": 8, "ALL": 15}

# Seconds for creating more guests.
PATIENCE = 90


def all_of_it():
    """Measures with the present guests, then with many small ones added. All are paused and use no CPU time."""
    if machine.QEMU:
        run("xl", "destroy", "files")
    run("xl", "pause", "web01")
    at("the guests above without that of QEMU's disks")
    made = tiny_guests()
    at(f"{made} more, each with a network card and a disk")


def at(what):
    domains = len(tools.xentop()[0])
    note("measured.md", f"### {domains} domains: {what}\n\n")
    library = by_flag()
    table(["`xenstat_get_node`", "wall, ms", "CPU, ms"], [[flag, *both] for flag, both in library.items()])
    polls = {vifs: our_polls("--vifs", vifs) for vifs in ["kernel", "libxenstat"]}
    table(
        ["xenmonitor, ms per poll", "reading", "of which libxenstat", "other sources", "sending", "CPU"],
        [[f"`--vifs {vifs}`", *poll.values()] for vifs, poll in polls.items()],
    )
    for program, command in [("xentop", [tools.XENTOP, "-b", *"-f -v -n -x -d 1".split()]), ("xenmonitor", daemon())]:
        counts = calls(*command)
        most = ", ".join(f"{name} {count:.0f}" for name, count in sorted(counts.items(), key=lambda item: -item[1])[:8])
        note("measured.md", f"System calls per poll, {program}: {sum(counts.values()):.0f} ({most})\n\n")

    ours, theirs = polls["kernel"]["rest"] + polls["kernel"]["sending"], library["ALL"][0]
    part = f"{ours:.2f} ms, xenstat_get_node(ALL) {theirs:.1f} ms: {ours / theirs:.1%}; below 10 %"
    check(f"{domains} domains: the daemon's own part of a poll is small", ours < 0.1 * theirs, part)


def table(headings, rows):
    lines = [headings, ["---"] * len(headings)]
    lines += [[cell if isinstance(cell, str) else f"{cell:.2f}" for cell in row] for row in rows]
    note("measured.md", "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n")


def by_flag(times=15):
    """Returns the median wall and CPU time of a call for each flag."""
    xenstat = ctypes.CDLL(f"libxenstat.so.{tools.RELEASE}")
    xenstat.xenstat_init.restype = xenstat.xenstat_get_node.restype = ctypes.c_void_p
    xenstat.xenstat_get_node.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    xenstat.xenstat_free_node.argtypes = xenstat.xenstat_uninit.argtypes = [ctypes.c_void_p]
    handle = xenstat.xenstat_init()
    measured = {name: [] for name in FLAGS}
    # Interleaved, so that other load of the machine affects all flags.
    for _ in range(times + 1):
        for name, flags in FLAGS.items():
            wall, cpu = time.perf_counter(), time.process_time()
            node = xenstat.xenstat_get_node(handle, flags)
            measured[name].append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)))
            xenstat.xenstat_free_node(node)
            # As between polls: a call right after another one is faster.
            time.sleep(0.1)
    xenstat.xenstat_uninit(handle)
    # Without the first call, which opens files that stay open.
    return {name: tuple(map(statistics.median, zip(*calls[1:]))) for name, calls in measured.items()}


def daemon():
    """The command line of a daemon with a short interval. Its debug log has the time of each part of a poll."""
    return [tools.OURS, "--interval", "500ms", "--spread", "0", "--log", "debug", "--statsd", tools.Server().url]


UNITS = {"ns": 1e-6, "µs": 1e-3, "ms": 1.0, "s": 1e3}


def milliseconds(duration):
    number, unit = re.fullmatch(r"([0-9.]+)(\D+)", duration).groups()
    return float(number) * UNITS[unit]


def our_polls(*options, times=20):
    """Returns the median times of a poll from our debug log, and the CPU time of a poll."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [*daemon(), *options, "--count", str(times)]
    log = subprocess.run(command, capture_output=True, text=True, timeout=300).stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.findall(r"read in (\S+), of which libxenstat (\S+); \w+ in (\S+)", log)
    # Without the first poll, which loads the library.
    polls = [[milliseconds(part) for part in poll] for poll in found][1:]
    return {
        "reading": statistics.median(read for read, _, _ in polls),
        "libxenstat": statistics.median(library for _, library, _ in polls),
        "rest": statistics.median(read - library for read, library, _ in polls),
        "sending": statistics.median(sent for _, _, sent in polls),
        "cpu": 1e3 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / times,
    }


def calls(program, *options):
    """Returns system calls per poll by name: those of seven polls minus those of two."""
    counts = []
    for times in ["2", "7"]:
        number = "--count" if program == tools.OURS else "-i"
        run("strace", "-f", "-c", "-o", "/run/strace", program, *options, number, times)
        with open("/run/strace") as file:
            rows = [line.split() for line in file if re.match(r" *\d+\.\d+ ", line)]
        counts.append({row[-1]: int(row[3]) for row in rows if row[-1] != "total"})
    few, many = counts
    return {name: (count - few.get(name, 0)) / 5 for name, count in many.items() if count > few.get(name, 0)}


def tiny_guests():
    """Creates small guests for PATIENCE seconds, as many as there is memory for, and returns their number."""
    most = 60 if machine.GRUB else 3
    end = time.monotonic() + PATIENCE
    made = 0
    while time.monotonic() < end and made < most:
        disk = dom0.phy("xvda", f"tiny{made}", 1)
        dom0.create(f"tiny{made}", kernel="grub", memory=8, vifs=[(0x80 + made, "")], disks=[disk])
        made += 1
    return made
