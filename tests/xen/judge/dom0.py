"""Guests, counters of the kernel and of QEMU, and the results of checks."""

import contextlib
import json
import os
import re
import socket
import subprocess
import time

import falsify
import machine

DISKS = "/e2e/disks"
# The name of a guest.
ODD = "odd name; $(x).y"
# Names of disks by device number.
DEVICES = {51712: "xvda", 51728: "xvdb", 51744: "xvdc", 768: "hda", 832: "hdb"}

results = []


def say(line):
    """Prints a line on the console; `run` on the host shows lines with this prefix."""
    print(f"e2e: {line}")


def check(name, holds, compared):
    """Records and prints the result of a judgement, with the values it compared."""
    if falsify.current:
        verdict = "holds although what it judges is false" if holds else "seen to fail"
        record(f"{verdict}: {name}", not holds, compared)
    else:
        record(name, holds, compared)


def record(name, good, compared):
    results.append(bool(good))
    line = f"{'ok  ' if good else 'FAIL'} {name}: {compared}"
    with open("out/checks.txt", "a") as file:
        file.write(line + "\n")
    say(line)


def note(name, text):
    """Adds text to a file of the results."""
    with open(f"out/{name}", "a") as file:
        file.write(text if text.endswith("\n") else text + "\n")


def run(*command):
    """Returns what a command prints. The command has to succeed within five minutes."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=300 * machine.PATIENCE)
    if done.returncode != 0:
        raise RuntimeError(f"{command} failed with exit code {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout.decode(errors="replace")


def wait(what, holds):
    """Waits until `holds()` is true, ten minutes at most, and returns its value."""
    limit = 600 * machine.PATIENCE
    end = time.monotonic() + limit
    while not (value := holds()):
        if time.monotonic() > end:
            raise RuntimeError(f"waited {limit} s for {what}")
        time.sleep(1)
    return value


def bridge():
    """Creates the bridge, without which xentop shows no networks, of all VIFs. The guests talk to its address."""
    run("ip", "link", "add", "xenbr0", "type", "bridge", "forward_delay", "0")
    run("ip", "addr", "add", "10.77.0.1/24", "dev", "xenbr0")
    run("ip", "link", "set", "xenbr0", "up")
    for name in filter(place_of, interfaces()):
        run("ip", "link", "set", name, "master", "xenbr0")


def ping(address):
    """Tries to reach an address that nobody has, which makes ARP send a broadcast. Returns True."""
    subprocess.run(["ping", "-c", "1", "-W", "1", address], capture_output=True)
    return True


@contextlib.contextmanager
def busy():
    """All of dom0's vcpus have something to do."""
    load = [subprocess.Popen(["nice", "-n", "19", "sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for process in load:
            process.kill()
            process.wait()


# --- guests -----------------------------------------------------------------------------------------------------


def file_for_disk(name, megabytes):
    os.makedirs(DISKS, exist_ok=True)
    path = f"{DISKS}/{name}"
    with open(path, "wb") as file:
        file.truncate(megabytes << 20)
    return path


def bootable(path):
    """Writes the boot sector for HVM guests to a disk, which then reads and writes all the time."""
    with open("/e2e/guest/boot-sector", "rb") as sector, open(path, "r+b") as file:
        file.write(sector.read())
    return path


def phy(vdev, name, megabytes, access="w"):
    """The configuration of a disk that blkback serves."""
    return phy_of(vdev, file_for_disk(name, megabytes), access)


def phy_of(vdev, path, access="w"):
    loop = run("losetup", "-f", "--show", path).strip()
    return f"vdev={vdev},access={access},backendtype=phy,script=/e2e/block,target={loop}"


def qdisk(vdev, path, form="raw"):
    """The configuration of a disk that QEMU serves from a file."""
    return f"vdev={vdev},access=w,backendtype=qdisk,format={form},target={path}"


def create(
    name,
    *,
    kind=machine.GUEST_TYPE,
    kernel="vmlinux",
    memory=machine.LINUX,
    vcpus=1,
    maxvcpus=1,
    vifs=(),
    disks=(),
    stays=False,
):
    """Creates a paused guest and returns its domid. `stays`: xl keeps running, so that the guest can reboot.

    Without GRUB a guest of Linux stands for it, with more memory. If it has no disk, it uses all the CPU time it gets.
    """
    more = ""
    if kernel == "grub" and not machine.GRUB:
        kernel, memory, more = "vmlinux", machine.LINUX, "" if disks else " e2e.spin"
    create.memory[name] = memory
    vifs = [f"mac=00:16:3e:00:00:{mac:02x},script=/e2e/vif{more}" for mac, more in vifs]
    boot = f'kernel = "/e2e/guest/{kernel}"\nextra = "console=hvc0 quiet nokaslr mitigations=off{more}"\n'
    if kernel == "vmlinux":
        boot += 'ramdisk = "/e2e/guest/initrd"\n'
    if kind == "hvm":
        boot = 'boot = "c"\nvga = "none"\nvnc = 0\n'
    config = f"/run/guest{time.monotonic_ns()}.cfg"
    with open(config, "w") as file:
        file.write(
            f'name = "{name}"\ntype = "{kind}"\n{boot}memory = {memory}\n'
            f"vcpus = {vcpus}\nmaxvcpus = {maxvcpus}\n"
            f"vif = {json.dumps(vifs)}\ndisk = {json.dumps(list(disks))}\n"
        )
    for attempt in range(3):
        try:
            run("xl", "create", "-q", "-p", *([] if stays else ["-e"]), config)
            return domid(name)
        except RuntimeError as error:
            # libxl has time limits that an emulated machine may exceed.
            say(f"{name} is not created: {error}")
            if attempt == 2:
                raise


create.memory = {}


@contextlib.contextmanager
def destroyed(*names):
    """Destroys the guests of these names at the end, if they exist."""
    try:
        yield
    finally:
        for name in names:
            subprocess.run(["xl", "destroy", name], capture_output=True)


def memory_k(name):
    """The memory of a guest in KiB, as it was created."""
    return (create.memory[name] << 10) + machine.ADDED_K


def domid(name):
    return int(run("xl", "domid", name))


def connected(domids):
    """Whether all devices of these guests are connected, according to xenstore."""
    states = re.findall(
        r"/backend/(?:vbd|vif|qdisk)/(\d+)/\d+/state = \"(\d)\"", run("xenstore-ls", "-f", "/local/domain/0/backend")
    )
    return all(any(int(of) == domid for of, _ in states) for domid in domids) and all(
        state == "4" for of, state in states if int(of) in domids
    )


# --- counters ---------------------------------------------------------------------------------------------------

VIF = ["rx_bytes", "rx_packets", "rx_errs", "rx_drop", "tx_bytes", "tx_packets", "tx_errs", "tx_drop"]


def interfaces():
    """The kernel's counters of every network interface, by its name."""
    found = {}
    with open("/proc/net/dev") as file:
        for line in file.readlines()[2:]:
            name, columns = line.split(":")
            columns = [int(column) for column in columns.split()]
            found[name.strip()] = dict(zip(VIF, columns[0:4] + columns[8:12]))
    return found


def place_of(interface):
    """Domid and number of an interface that is a VIF, from its device in xenstore, or None."""
    try:
        with open(f"/sys/class/net/{interface}/device/nodename") as node:
            _, kind, of, number = node.read().strip().split("/")
    except OSError:
        return None
    return int(of), int(number)


def kernels_vifs():
    """The kernel's counters of every VIF, by domid and number."""
    places = {name: (place_of(name), counters) for name, counters in interfaces().items()}
    return {place: counters for place, counters in places.values() if place}


def blkback(of, name):
    """blkback's counters of a disk, by the device's name."""
    dev = next(number for number, each in DEVICES.items() if each == name)
    counters = {"oo": "oo_req", "rd": "rd_req", "wr": "wr_req", "rsect": "rd_sect", "wsect": "wr_sect"}
    values = {}
    for key, file in counters.items():
        with open(f"/sys/bus/xen-backend/devices/vbd-{of}-{dev}/statistics/{file}") as counter:
            values[key] = int(counter.read())
    return values


def qemus_disks(of):
    """QEMU's counters of each disk that it serves to a PV driver, by the disk's name."""
    return {disk.get("node-name", "").split("-")[0]: counters for disk, counters in query_blockstats(of)}


def emulated_disks(of):
    """QEMU's counters of each emulated disk, by its drive: ide0-hd0 and so on."""
    return {disk["device"]: counters for disk, counters in query_blockstats(of) if disk.get("device")}


def query_blockstats(of):
    """Each disk in QEMU's answer, with its counters. QEMU serves one client at a time."""
    with socket.socket(socket.AF_UNIX) as qmp:
        qmp.settimeout(60 * machine.PATIENCE)
        qmp.connect(f"/run/xen/qmp-libxenstat-{of}")
        lines = qmp.makefile("rw")
        lines.readline()
        for command in ["qmp_capabilities", "query-blockstats"]:
            lines.write(json.dumps({"execute": command}))
            lines.flush()
            while "return" not in (answer := json.loads(lines.readline())):
                pass
    disks = []
    for disk in answer["return"]:
        stats = disk["stats"]
        counters = {
            "rd": stats["rd_operations"],
            "wr": stats["wr_operations"],
            "rsect": stats["rd_bytes"] // 512,
            "wsect": stats["wr_bytes"] // 512,
        }
        disks.append((disk, counters))
    return disks
