"""What a poll costs, beside the build before and the real xentop: `make bench` prints the table.

All programs of a row run at the same time, on the fake libxenstat, each with a server that reads. A value is the median
of several windows, in brackets the least and the largest: load of the machine meets all of them alike.

usage: beside.py OLD NEW XENTOP SHIM [ROW...]
"""

import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WINDOWS = 7
DOMAIN_0 = """[[domain]]
id = 0
name = "Domain-0"
state = ["running"]
cpu_ns = { per_poll = "250ms" }
vcpus = 4
"""
GUESTS = """[[domain]]
id = 1
count = %d
name = "vm{i}"
vcpus = 2
cpu_ns = { start = "100s", per_poll = "150us", per_domain = "1s" }
[[domain.network]]
rbytes = { start = 100000, per_poll = 1000 }
tbytes = { start = 5000, per_poll = 2000 }
[[domain.vbd]]
rd_reqs = { start = 1000, per_poll = 10 }
wr_reqs = { start = 1000, per_poll = 20 }
rd_sects = { start = 8000, per_poll = 80 }
wr_sects = { start = 8000, per_poll = 160 }
"""
# A server: reads and discards.
READ = "import socket, sys\ns = socket.socket(fileno=int(sys.argv[1]))\nwhile True: s.recv(65536)"


class Bench:
    def __init__(self, old, new, xentop, shim, scratch):
        self.daemons = {"old": old, "new": new, "changing": new}
        self.xentop, self.shim, self.scratch = xentop, Path(shim), Path(scratch)

    def environment(self, domains, changes=False):
        """The environment for a host with so many busy domains, each with a disk and a network card. If it `changes`,
        one more domain comes at every poll and is gone at the next."""
        scenario = self.scratch / f"{domains}-{changes}.toml"
        more = "".join(
            f'[[domain]]\nid = {10000 + n}\nname = "short{n}"\nfrom_poll = {n}\nuntil_poll = {n + 1}\n'
            for n in range(300)
        )
        scenario.write_text(DOMAIN_0 + GUESTS % (domains - 1) + (more if changes else ""))
        return os.environ | {"XENSTAT_SCENARIO": str(scenario), "LD_LIBRARY_PATH": str(self.shim.parent)}

    def daemon(self, name, port, interval, more):
        command = [self.daemons[name], "--libxenstat", str(self.shim), "--host", "h", "--log", "off"]
        return command + ["--interval", f"{interval}s", "--statsd", f"udp://127.0.0.1:{port}", *more]

    def beside(self, domains, interval, names, more=("--vifs", "libxenstat")):
        """For each program, the CPU milliseconds of a poll in each window, and its resident memory in MB."""
        running, servers = {}, []
        try:
            for name in names:
                environment = self.environment(domains, name == "changing")
                if name == "xentop":
                    command = [self.xentop, "-b", "-f", "-d", str(interval)]
                else:
                    port, server = start_server()
                    servers.append(server)
                    command = self.daemon(name, port, interval, more)
                running[name] = subprocess.Popen(
                    command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            # The first polls allocate what later ones use again.
            time.sleep(6 * interval)
            spent = {name: [] for name in names}
            window = max(interval, 10)
            for _ in range(WINDOWS):
                before = {name: cpu(process) for name, process in running.items()}
                time.sleep(window)
                for name, process in running.items():
                    if process.poll() is not None:
                        sys.exit(f"the program `{name}` ended with exit code {process.returncode}")
                    spent[name].append((cpu(process) - before[name]) / (window / interval))
            return spent, {name: resident(process) for name, process in running.items()}
        finally:
            for process in [*running.values(), *servers]:
                process.kill()
                process.wait()

    def hot(self, domains):
        """The same without pauses between polls, one run after the other."""
        environment, names = self.environment(domains), ["old", "new", "xentop"]
        spent = {name: [] for name in names}
        for _ in range(WINDOWS):
            for name in names:
                port, server = start_server()

                def run(polls):
                    command = [self.xentop, "-b", "-f", "-d", "0", "-i", str(polls)]
                    if name != "xentop":
                        more = ["--vifs", "libxenstat", "--count", str(polls)]
                        command = self.daemon(name, port, 0.02, more)
                    before = cpu_of_children()
                    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                    subprocess.run(command, env=environment, check=True, **quiet)
                    return cpu_of_children() - before

                few = run(10)
                spent[name].append((run(110) - few) / 100)
                server.kill()
                # Its CPU time counts when it has been waited for, and not in one of the runs.
                server.wait()
        return spent


def start_server():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    command = [sys.executable, "-c", READ, str(server.fileno())]
    process = subprocess.Popen(command, pass_fds=[server.fileno()])
    port = server.getsockname()[1]
    server.close()
    return port, process


def cpu(process):
    """CPU milliseconds so far: of all threads, in user and system mode."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


def cpu_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * 1000


def resident(process):
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


def compare(what, spent, other, goal, of="new"):
    ratios = [new / other for new, other in zip(spent[of], spent[other])]
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    each = ", ".join(f"{name} {statistics.median(of):.2f}" for name, of in spent.items())
    print(f"| {what} | {middle:.2f} x [{low:.2f}–{high:.2f}] ({each} ms) | {goal} |", flush=True)


def main():
    *files, rows = *sys.argv[1:5], sys.argv[5:]
    wanted = rows or ["1s", "10s", "hot", "detail", "changes", "interfaces"]
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(*files, scratch)
        if "1s" in wanted:
            spent, memory = bench.beside(1000, 1, ["old", "new", "xentop"])
            compare("1000 domains, every second, relative to the old build", spent, "old", "0.55")
            compare("the same, relative to `xentop -b -f -d 1`", spent, "xentop", "1.3")
            print(f"| resident memory at 1000 domains | {memory['new']:.1f} MB (old {memory['old']:.1f}) | 11.5 MB |")
        if "10s" in wanted:
            spent, memory = bench.beside(8000, 10, ["old", "new", "xentop"])
            compare("8000 domains, every 10 s, relative to `xentop -b -f -d 10`", spent, "xentop", "0.9")
            print(f"| resident memory at 8000 domains | {memory['new']:.1f} MB (old {memory['old']:.1f}) | 60 MB |")
        if "hot" in wanted:
            compare("1000 domains, every 20 ms, relative to `xentop -b -f -d 0`", bench.hot(1000), "xentop", "0.85")
        if "detail" in wanted:
            spent, _ = bench.beside(1000, 1, ["old", "new"], ["--vifs", "libxenstat", "--detail", "vcpus,vifs,vbds,rates"])
            compare("1000 domains, every second, `--detail vcpus,vifs,vbds,rates`, relative to the old build", spent, "old", "0.5")
        if "changes" in wanted:
            spent, _ = bench.beside(1000, 1, ["new", "changing"])
            what = "1000 domains, every second, of which one comes and one goes, relative to none"
            compare(what, spent, "new", "1.1", of="changing")
        if "interfaces" in wanted:
            # In a network namespace of its own.
            pairs = [f"ip link add a{n} type veth peer name b{n}" for n in range(20)]
            again = " && ".join(["ip link set lo up", *pairs, 'exec "$0" "$@"'])
            unshare = ["unshare", "--net"] + ([] if os.geteuid() == 0 else ["--map-root-user"])
            subprocess.run([*unshare, "sh", "-c", again, sys.executable, __file__, *files, "here"], check=True)
        if "here" in wanted:
            spent, _ = bench.beside(10, 1, ["old", "new"], [])
            compare("10 domains, 40 interfaces that are no VIFs, relative to the old build", spent, "old", "0.6")


main()
