"""Two programs that poll one QEMU in a dom0 without idle time. Each function checks one pair."""

import ast
import glob
import json
import os
import re
import subprocess
import time

import dom0
import falsify
import machine
import tools
from dom0 import check, destroyed, note, run, wait
from tools import Daemon

GUEST = "polled"
# How long QEMU has to answer; a poll comes each second.
QMP_TIMEOUT = "500ms"


@destroyed(GUEST)
def ours_twice():
    """Both daemons read every answer, and QEMU lives."""
    with Polled() as guest:
        daemons = [guest.daemon(), guest.daemon()]
        guest.wait_with(daemons)
        asked = [guest.end(daemon) for daemon in daemons]
        alive = guest.is_alive()
        compared = f"{machine.POLLERS_MINUTES} min; questions, unanswered: {asked}; QEMU is alive: {alive}"
        check("two of ours: QEMU lives, no question is left unanswered", good(asked) and alive, compared)


@destroyed(GUEST)
def ours_and_xentop():
    """xentop may leave questions unanswered, and QEMU may not survive that; ours leaves none."""
    with Polled() as guest:
        command = [tools.XENTOP, "-b", "-f", "-x", "-d", "1"]
        theirs = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            daemons = [guest.daemon()]
            guest.wait_with(daemons)
            asked = [guest.end(daemon) for daemon in daemons]
            xentop = theirs.poll() is None
        finally:
            theirs.kill()
            theirs.wait()
        alive = f"QEMU is alive: {guest.is_alive()}, xentop: {xentop}"
        compared = f"{machine.POLLERS_MINUTES} min; questions, unanswered: {asked}; {alive}"
        check("ours beside xentop: no question is left unanswered", good(asked), compared)


def good(asked):
    return all(unanswered == 0 and questions > 10 for questions, unanswered in asked)


class Polled:
    """A guest with a disk of a QEMU, and a load of dom0's vcpus."""

    def __enter__(self):
        disk = dom0.qdisk("xvda", dom0.file_for_disk(GUEST, 16))
        self.domid = dom0.create(GUEST, kernel="grub", memory=16, disks=[disk])
        run("xl", "unpause", GUEST)
        wait("the guest to read its disk", lambda: dom0.qemus_disks(self.domid)["xvda"]["rd"])
        run("xl", "pause", GUEST)
        self.disk = dom0.qemus_disks(self.domid)["xvda"]
        self.qemu = int(run("pgrep", "-f", f"qemu.*-name {GUEST}").split()[0])
        self.load = dom0.busy()
        self.load.__enter__()
        return self

    def __exit__(self, *_):
        self.load.__exit__(None, None, None)
        for daemon in list(Daemon.running):
            daemon.end()

    def is_alive(self):
        """Whether the same QEMU runs, and answers with the same counters."""
        try:
            os.kill(self.qemu, 0)
            return dom0.qemus_disks(self.domid)["xvda"] == self.disk
        except (OSError, ValueError):
            return False

    def daemon(self):
        """A daemon whose talk with QEMU is recorded: a file for each thread. -D: strace is not its parent."""
        trace = f"{dom0.DISKS}/talk{time.monotonic_ns()}"
        calls = "trace=connect,read,recvfrom,write,sendto,close"
        by = ["strace", "-D", "-ff", "--seccomp-bpf", "-s", "1000000", "-e", calls, "-o", trace]
        daemon = Daemon("--qmp-timeout", QMP_TIMEOUT, interval="1s", by=by)
        daemon.trace = trace
        return daemon

    def wait_with(self, daemons):
        """Waits for the time that is configured, and for polls of each."""
        time.sleep(60 * machine.POLLERS_MINUTES)
        for daemon in daemons:
            wait("polls", lambda: len(daemon.read()) >= 10)

    def end(self, daemon):
        """Ends a daemon; returns how many questions it asked, and how many of them it left unanswered."""
        polls = [poll.get(f"{GUEST}.vbd.xvda.rd") for poll in daemon.read()]
        sent = [number for number in polls if number is not None]
        took, status = daemon.end()
        traces = glob.glob(f"{daemon.trace}.*")
        wait("strace to end", lambda: all(map(is_complete, traces)))
        note("pollers.txt", f"{len(polls)} polls, {len(sent)} with the disk; exit code {status} after {took:.1f} s")
        right = all(number == self.disk["rd"] for number in sent) and sent
        check("each poll has QEMU's counter or none", right, f"QEMU: {self.disk['rd']}; ours: {sorted(set(sent))}")
        asked = tuple(map(sum, zip(*map(talk, traces))))
        for path in traces:
            os.remove(path)
        return asked


def is_complete(path):
    """Whether strace has written the end of this thread."""
    return run("tail", "-n", "1", path).startswith("+++ ")


def talk(path):
    """The questions of one thread, and how many were unanswered when it closed their connection."""
    questions, unanswered, connections = 0, 0, {}

    def close(fd):
        nonlocal questions, unanswered
        asked, answers, ended = connections.pop(fd)
        # The last line may be incomplete.
        said = map(json.loads, falsify.text(answers).split("\n")[:-1])
        # Answers to our questions have an id. Beside xentop there was once one answer more.
        answered = sum("id" in each and not {"return", "error"}.isdisjoint(each) for each in said)
        asked = asked.count("\n")
        questions += asked
        # A QEMU that ends answers nothing more.
        unanswered += 0 if ended else max(0, asked - answered)

    with open(path) as file:
        for line in file:
            if not (call := re.match(r"(\w+)\((\d+)(?:, (.*))?\) += (-?\d+)", line)):
                continue
            name, fd, arguments, result = call[1], call[2], call[3] or "", int(call[4])
            quoted = re.search(r'"(?:[^"\\]|\\.)*"', arguments)
            text = ast.literal_eval(f"b{quoted[0]}").decode(errors="replace") if quoted else ""
            if name == "connect" and "qmp-libxenstat-" in text and result == 0:
                connections[fd] = ["", "", False]
            elif fd not in connections:
                continue
            elif name == "close":
                close(fd)
            elif name in ("write", "sendto"):
                connections[fd][0] += text if result > 0 else ""
            elif result > 0:
                connections[fd][1] += text
            elif result == 0 or "ECONNRESET" in line:
                connections[fd][2] = True
    for fd in list(connections):
        close(fd)
    return questions, unanswered
