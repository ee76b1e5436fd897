"""Runs the daemon while dom0 changes, and with fewer privileges. Each function checks one thing."""

import glob
import os
import re
import subprocess
import time

import dom0
import falsify
import machine
import tools
from dom0 import check, note, run, wait
from tools import Daemon, ends_in_zeros, ours


def guests_come_and_go():
    """A daemon polls while a guest is created, runs, is paused and destroyed, and another is rebooted."""
    daemon = Daemon()

    def latest(gauge):
        return (daemon.read() or [{}])[-1].get(gauge)

    old = dom0.domid("web01")
    dom0.create("born", kernel="grub", memory=16)
    daemon.more(2)
    memory, paused = latest("born.mem_k"), latest("born.state.paused")
    check(
        "created while polling",
        (memory, paused) == (dom0.memory_k("born"), 1),
        f"born: mem_k {memory}, state.paused {paused}",
    )

    def percents(paused):
        """CPU(%) of the polls with this value of state.paused. A poll that took long has no CPU(%)."""
        polls = [poll for poll in daemon.read() if poll.get("born.state.paused") == paused]
        return [poll["born.cpu_percent"] for poll in polls if "born.cpu_percent" in poll]

    run("xl", "unpause", "born")
    wait("a poll while it runs", lambda: any(percents(paused=0)))
    seen = len(percents(paused=1))
    run("xl", "pause", "born")
    wait("three polls more", lambda: len(percents(paused=1)) >= seen + 3)
    ran, stands = percents(paused=0), percents(paused=1)
    check("paused while polling", max(ran) > 0 and stands[-1] == 0, f"born: cpu_percent {ran}, then paused {stands}")

    run("xl", "destroy", "born")
    memory = [poll.get("born.mem_k") for poll in daemon.more(7)]
    check("destroyed while polling: three zeros and no more", ends_in_zeros(memory), f"born: mem_k {memory}")

    run("xl", "reboot", "web01")
    new = wait("web01 to reboot", lambda: new_domid("web01", old))
    polls = daemon.more(4)
    seconds = [poll["web01.cpu_sec"] for poll in polls if "web01.cpu_sec" in poll]
    used = [poll["web01.cpu_percent"] for poll in polls if "web01.cpu_percent" in poll]
    fell = seconds[-1] < max(seconds)
    compared = f"web01: domid {old}, then {new}; cpu_sec {max(seconds)}, then {seconds[-4:]}; cpu_percent {used[-4:]}"
    check("rebooted while polling", fell and used and all(0 <= percent <= 101 for percent in used), compared)
    daemon.end_without_errors("guests that come and go")


def uuids():
    """UUIDs are xl's. By {uuid} a guest keeps its metrics' names when it is renamed and rebooted."""
    listed = re.findall(r"^([0-9a-f-]{36}) +(\d+) ", run("xl", "vm-list"), re.MULTILINE)
    theirs = {int(domid): uuid for uuid, domid in listed}
    document, _ = ours()
    own = {domain["domid"]: domain["uuid"] for domain in document["domains"]}
    # Domain-0's is all zeros, which is none.
    zeros = theirs.pop(0, "none").strip("0-")
    same = own.pop(0) is None and not zeros and own == theirs and len(theirs) >= 4
    check("UUIDs are equal to xl vm-list's", same, f"{len(theirs)} guests: {own}")

    old = dom0.domid("web01")
    uuid = theirs[old]
    daemon = Daemon("--template", "xen.dom0.{uuid}.{metric}")
    wait("a poll", lambda: daemon.read())
    names = {name for name in daemon.read()[0] if name.endswith(".mem_k")}
    run("xl", "rename", "web01", "www")
    renamed = [poll.get(f"{uuid}.mem_k") for poll in daemon.more(2)]
    run("xl", "rename", "www", "web01")
    run("xl", "reboot", "web01")
    new = wait("web01 to reboot", lambda: new_domid("web01", old))
    polls = daemon.more(2)
    daemon.end()
    rebooted = polls[-1].get(f"{uuid}.mem_k")
    others = {name for poll in polls for name in poll if name.endswith(".mem_k")} - names
    check(
        "by {uuid} a guest keeps its names over a rename and a reboot",
        all(renamed) and rebooted and not others and "Domain-0-dom0.mem_k" in names,
        f"web01: domid {old}, then {new}; {uuid}.mem_k {renamed} while renamed, {rebooted} at the end; new names {others}",
    )


def new_domid(name, old):
    found = re.search(rf"^{name} +(\d+)", run("xl", "list"), re.MULTILINE)
    return found and int(found[1]) != old and int(found[1])


def hostile_name():
    """xl rename accepts any name: it forges no line and sends no control character to a terminal."""
    name = dom0.ODD
    domid = dom0.domid(name)
    hostile = "evil\nxen.dom0.web01.mem_k:1|g\x1b[31m"
    run("xl", "rename", name, hostile)
    server = tools.Server()
    table = run(tools.OURS, "--print", "table", "--once", "--statsd", server.url)
    server.drain()
    document, gauges = ours()
    run("xl", "rename", str(domid), name)
    renamed = {domain["domid"]: domain for domain in document["domains"]}[domid]
    forged = [line for line in server.lines if not re.fullmatch(r"xen\.dom0\.[A-Za-z0-9_.-]+:[0-9.]+\|g", line)]
    memory = gauges.get("xen.dom0.web01.mem_k")
    rows = table.splitlines()
    check(
        "a name with a newline and ESC",
        renamed["name"] == hostile
        and server.lines
        and not forged
        and "\x1b" not in table
        and len(rows) == len(document["domains"]) + 1
        and memory == dom0.memory_k("web01"),
        f"as {renamed['metric_name']!r}; {len(rows)} rows of table; {len(server.lines)} lines, "
        f"malformed: {forged}; web01.mem_k {memory}",
    )


def as_the_service():
    """systemd starts the packaged unit."""
    server = tools.Server()
    run("install", "-m", "755", tools.OURS, "/usr/sbin/xenmonitor")
    run("install", "-m", "644", "xenmonitor.service", "/etc/systemd/system/")
    with open("/etc/default/xenmonitor", "w") as file:
        file.write(
            f"XENMONITOR_STATSD={server.url}\nXENMONITOR_DETAIL=all\n"
            "XENMONITOR_INTERVAL=20s\nXENMONITOR_QMP_TIMEOUT=10s\n"
        )
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "xenmonitor")
    missing = lacking(metrics_of_root(), server)
    service = server.gauges()
    pid = run("systemctl", "show", "-p", "MainPID", "--value", "xenmonitor").strip()
    with open(f"/proc/{pid}/status") as status:
        may = re.findall(r"^(CapEff|CapBnd|NoNewPrivs|Seccomp):\s*(\S+)", falsify.text(status.read()), re.MULTILINE)
    check(
        "the packaged service sends all metrics that root sends",
        not missing,
        f"{len(service)} metrics; missing: {missing[:5]}; {may}",
    )
    check("the service has no privileges", dict(may)["CapEff"] == "0" * 16 and dict(may)["NoNewPrivs"] == "1", may)
    start = time.monotonic()
    run("systemctl", "stop", "xenmonitor")
    took = time.monotonic() - start
    result = falsify.text(run("systemctl", "show", "-p", "Result,ExecMainStatus", "xenmonitor")).split()
    note("service.txt", run("journalctl", "--no-pager", "-u", "xenmonitor"))
    check("systemctl stop", result == ["Result=success", "ExecMainStatus=0"], f"{took:.1f} s, {result}")


def metrics_of_root():
    """The names of root's metrics, of a poll with the disks of `files` if it has a QEMU."""

    def answered():
        _, gauges = ours()
        return gauges if "xen.dom0.files.vbds" in gauges or not machine.QEMU else None

    return {name.removeprefix("xen.dom0.") for name in wait("QEMU's disks, as root", answered)}


def lacking(expected, server, has_ended=lambda: False):
    """What is missing in the most complete of a daemon's first five polls. In one xenstored or a QEMU may be late."""

    def missing():
        return min((expected - poll.keys() for poll in server.polls()), key=len, default=expected)

    wait("polls", lambda: not missing() or len(server.polls()) >= 5 or has_ended())
    return sorted(missing())


def as_another_user():
    """A user whose group may open the files that xenmonitor opens gets every metric. Owners and modes stay changed."""
    user = 990
    sockets = [f"/run/xen/{name}" for name in os.listdir("/run/xen") if name.startswith("qmp-libxenstat-")]
    # For libxenstat Xen 4.14 has a socket of its own.
    stores = glob.glob("/run/xenstored/socket*")
    for path in ["/dev/xen/privcmd", "/dev/xen/hypercall", *stores, *sockets]:
        os.chown(path, 0, user)
        os.chmod(path, 0o660)
    os.chown("/run/xen", 0, user)
    os.chmod("/run/xen", 0o750)
    by = [
        "setpriv",
        f"--reuid={user}",
        f"--regid={user}",
        "--clear-groups",
        "--bounding-set=-all",
        "--no-new-privs",
    ]
    # First: falsify.py loses a metric of the first server.
    daemon = Daemon("--qmp-timeout", "10s", interval="20s", by=by)
    roots = metrics_of_root()
    missing = lacking(roots, daemon.server, lambda: daemon.process.poll() is not None)
    daemon.end()
    gauges = daemon.server.gauges()
    disks = gauges.get("xen.dom0.files.vbds")
    compared = f"{len(gauges)} metrics, root: {len(roots)}; missing: {missing[:5]}; QEMU's disks: {disks}"
    check(
        "another user, by group, sends all metrics that root sends",
        not missing and disks == (2 if machine.QEMU else None),
        compared,
    )


def xenstored_dies():
    """The last check, because xenstored cannot be restarted. No domain gets zeros, and SIGTERM works during a hang."""
    daemon = Daemon()
    wait("a poll", lambda: daemon.read())
    run("pkill", "-9", "xenstored")
    # One poll shows no domains, and the next one hangs.
    wait("a failed poll", lambda: daemon.server.gauges().get("xen.dom0.xenmonitor.poll_errors", 0) >= 1)
    seen = len(daemon.server.polls())
    wait("three polls more", lambda: len(daemon.server.polls()) >= seen + 3)
    polls = daemon.server.polls()
    gone = [name for poll in polls[1:] for name, value in poll.items() if name.endswith(".mem_k") and value == 0]
    up = daemon.server.gauges()["xen.dom0.xenmonitor.up"]
    took, status = daemon.end()
    check(
        "xenstored dies under the daemon: no domain gets zeros",
        not gone and up == 0,
        f"xenmonitor.up {up}, zeros: {gone}",
    )
    compared = f"exit code {status} after {took:.2f} s"
    check("xenstored dies under the daemon: SIGTERM", status == 0, compared)

    # libxenstat blocks indefinitely; the daemon continues to send its own metrics.
    blocked = Daemon()
    wait("the poll to be given up", lambda: blocked.server.polls())
    sent = blocked.server.gauges()
    domains, up = [name for name in sent if name.endswith("mem_k")], sent.get("xen.dom0.xenmonitor.up")
    took, status = blocked.end()
    compared = f"xenmonitor.up {up}, metrics of domains: {domains}; SIGTERM: exit code {status} after {took:.2f} s"
    check("started without xenstored: SIGTERM", not domains and up == 0 and status == 0, compared)
    start = time.monotonic()
    done = subprocess.run([tools.OURS, "--check"], capture_output=True, text=True, timeout=120 * machine.PATIENCE)
    took, status = time.monotonic() - start, falsify.code(done.returncode)
    line = next((line for line in done.stdout.splitlines() if line.startswith("libxenstat")), done.stdout)
    check(
        "--check without xenstored",
        status == 1 and "BAD" in line and "xenstored" in line,
        f"exit code {status} after {took:.1f} s: {line}",
    )
