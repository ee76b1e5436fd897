"""Runs the two programs that are compared: the real xentop, and xenmonitor."""

import json
import os
import re
import socket
import subprocess
import threading
import time

import falsify
import machine
from dom0 import check, run, wait

with open("/sys/hypervisor/version/major") as major, open("/sys/hypervisor/version/minor") as minor:
    XEN = f"{major.read().strip()}.{minor.read().strip()}"

# /usr/sbin/xentop is a script that calls this one.
XENTOP = f"/usr/lib/xen-{XEN}/bin/xentop"
# Sets the buffer size beyond net.core.rmem_max; needs root.
SO_RCVBUFFORCE = 33
# A datagram of a server to itself.
DRAIN = b"drain"
OURS = os.path.abspath("xenmonitor")


class Row:
    """What xentop shows of one domain: `columns` by heading, and the detail lines below."""

    def __init__(self, columns):
        self.columns = columns
        self.vcpus, self.nets, self.vbds = {}, [], []


def tables(text):
    """Parses every table in xentop's output into a dictionary of rows by name. Names may contain spaces."""
    found, row = [], None
    for line in text.splitlines():
        if re.match(r" *NAME  STATE ", line):
            headings = line.split()[1:]
            found.append({})
        elif line.startswith("VCPUs(sec):"):
            row.vcpus = {int(n): int(seconds) for n, seconds in re.findall(r"(\d+): *(\d+)s", line)}
        elif line.startswith("Net"):
            row.nets.append([int(number) for number in re.findall(r"(\d+)(?:bytes|pkts|err|drop)", line)])
        elif line.startswith("VBD "):
            kind, dev = line.split()[1:3]
            row.vbds.append((kind, int(dev), [int(number) for number in re.findall(r"[A-Z]: *(\d+)", line)]))
        else:
            name, *columns = line.replace("no limit", "no-limit").rsplit(None, len(headings))
            row = found[-1][name.strip()] = Row(dict(zip(headings, columns)))
    return falsify.tables(found)


def xentop(*options, times=1):
    """Returns the tables of `times` iterations."""
    return tables(run(XENTOP, "-b", "-f", "-i", str(times), "-d", "1", *options))


class Server:
    """A statsd server that keeps every line."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self.socket.bind(("127.0.0.1", 0))
        self.url = f"udp://127.0.0.1:{self.socket.getsockname()[1]}"
        self.lines, self.drained = [], threading.Event()
        self.number = falsify.next_server()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while True:
            datagram = self.socket.recv(65536)
            if datagram == DRAIN:
                self.drained.set()
                continue
            for line in filter(None, datagram.decode(errors="replace").split("\n")):
                self.lines += falsify.line(line, self.number)

    def drain(self):
        """Returns when everything is in `lines` that was sent before this call."""
        self.drained.clear()
        self.socket.sendto(DRAIN, self.socket.getsockname())
        self.drained.wait()

    def names(self):
        return [line.rsplit(":", 1)[0] for line in list(self.lines)]

    def gauges(self):
        """The latest value of each metric."""
        return {name: float(value) for name, value in (line[:-2].rsplit(":", 1) for line in self.lines)}

    def polls(self):
        """Returns each poll as a dictionary of its metrics. The last metric of every poll is collector.vbd."""
        polls, poll = [], {}
        for line in list(self.lines):
            name, value = line[:-2].rsplit(":", 1)
            poll[name.removeprefix("xen.dom0.")] = float(value)
            if name == "xen.dom0.xenmonitor.collector.vbd":
                polls.append(poll)
                poll = {}
        return polls


def ours(*options, times=1, interval="20s", qmp_timeout="10s"):
    """Runs xenmonitor; returns its last JSON document and the metrics it sent."""
    server = Server()
    how = f"--print json --detail all --spread 0 --log warn --count {times} --interval {interval}".split()
    printed = run(OURS, *how, "--qmp-timeout", qmp_timeout, "--statsd", server.url, *options)
    server.drain()
    if not server.lines:
        raise RuntimeError("xenmonitor sent nothing")
    return falsify.document(json.loads(printed.splitlines()[-1])), server.gauges()


class Daemon:
    """A running xenmonitor. `by`: a command that starts it."""

    running = []

    def __init__(self, *options, interval="2s", by=()):
        self.server = Server()
        self.log = open(f"out/daemon{time.monotonic_ns()}.log", "w+")
        command = [*by, OURS, "--statsd", self.server.url, "--detail", "all", "--interval", interval, *options]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        Daemon.running.append(self)

    def read(self):
        """Those of the polls that read the domains. If one is late, the daemon's own metrics are sent alone."""
        return [poll for poll in self.server.polls() if "node.domains" in poll]

    def more(self, polls):
        """Waits until the domains have been read so many times more, and returns all that were read."""
        seen = len(self.read())
        wait(f"{polls} polls more", lambda: len(self.read()) >= seen + polls)
        return self.read()

    def end_without_errors(self, what):
        """Checks that no poll failed, and that SIGTERM ends the daemon."""
        polls = self.read()
        failed = polls[-1].get("xenmonitor.poll_errors")
        took, status = self.end()
        compared = f"poll_errors {failed} of {len(polls)} polls; SIGTERM: exit code {status} after {took:.2f} s"
        check(f"{what}: no poll fails", failed == 0 and status == 0, compared)

    def end(self):
        """Sends SIGTERM; returns how long the daemon took to exit, and its exit code."""
        Daemon.running.remove(self)
        start = time.monotonic()
        self.process.terminate()
        try:
            status = falsify.code(self.process.wait(60 * machine.PATIENCE))
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "none"
        return time.monotonic() - start, status


def ends_in_zeros(values):
    """Whether there were values, then three zeros, then nothing. Each value is that of a poll, None if it had none."""
    last = max((place for place, value in enumerate(values) if value), default=-1)
    rest = values[last + 1 :]
    return last >= 0 and rest[:3] == [0] * 3 and rest[3:] == [None] * len(rest[3:]) and len(rest) > 3
