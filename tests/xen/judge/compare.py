"""Compares xentop's tables with our metrics, number by number."""

import machine
from dom0 import DEVICES, VIF

whole = int


def memory(kib):
    return int(kib) * machine.XENTOPS_MEMORY


def one_decimal(value):
    return float(f"{value:.1f}")


# The numeric columns of xentop except CPU(%): our metric, and how xentop formats the value.
COLUMNS = {
    "CPU(sec)": ("cpu_sec", whole),
    "MEM(k)": ("mem_k", memory),
    "MEM(%)": ("mem_percent", one_decimal),
    "MAXMEM(k)": ("maxmem_k", memory),
    "MAXMEM(%)": ("maxmem_percent", one_decimal),
    "VCPUS": ("vcpus", whole),
    "NETS": ("nets", whole),
    "NETTX(k)": ("nettx_k", whole),
    "NETRX(k)": ("netrx_k", whole),
    "VBDS": ("vbds", whole),
    "VBD_OO": ("vbd_oo", whole),
    "VBD_RD": ("vbd_rd", whole),
    "VBD_WR": ("vbd_wr", whole),
    "VBD_RSECT": ("vbd_rsect", whole),
    "VBD_WSECT": ("vbd_wsect", whole),
    "SSID": ("ssid", whole),
}
STATES = {"d": "dying", "s": "shutdown", "b": "blocked", "c": "crashed", "p": "paused", "r": "running"}
TYPES = {"BlkBack": 1}


class Comparison:
    """Counts comparisons and collects differences. Each number of ours has to lie between `before` and `after`."""

    def __init__(self):
        self.compared, self.still, self.differing = 0, 0, []

    def number(self, what, before, ours, after):
        self.compared += 1
        self.still += before == after
        if ours is None or not before <= ours <= after:
            self.differing.append(f"{what} is {ours}, not from {before} to {after}")

    def same(self, what, theirs, ours):
        self.compared += 1
        self.still += 1
        if ours != theirs:
            self.differing.append(f"{what} is {ours}, not {theirs}")

    def __str__(self):
        if self.differing:
            return "; ".join(self.differing[:8]) + f" ({len(self.differing)} of {self.compared} differ)"
        return f"{self.compared} compared; {self.still} did not change between the two readings and are equal"


def with_xentop(before, document, gauges, after, states, qemus=()):
    """All columns and details of all domains, except the disks of domains in `qemus`."""
    result = Comparison()
    names = {domain["name"]: domain["metric_name"] for domain in document["domains"]}
    result.same("the domains", sorted(before), sorted(names))
    for name, metric_name in names.items():
        if name not in before or name not in after:
            continue
        one, other = before[name], after[name]
        stem = f"xen.dom0.{metric_name}."
        own = {metric.removeprefix(stem): value for metric, value in gauges.items() if metric.startswith(stem)}
        for column, (metric, as_xentop) in COLUMNS.items():
            if name in qemus and column.startswith("VBD"):
                continue
            value = own.get(metric)
            if one.columns[column] in ("no-limit", "n/a"):
                result.same(f"{name} {column}", None, value)
            else:
                written = None if value is None else as_xentop(value)
                result.number(f"{name} {column}", float(one.columns[column]), written, float(other.columns[column]))
        if states:
            letters = "".join(letter if own.get(f"state.{state}") else "-" for letter, state in STATES.items())
            result.same(f"{name} STATE", one.columns["STATE"], letters)
        details(result, name, one, own, other)
        if name not in qemus:
            disks(result, name, one, own, other)
    return result


def with_kernel(before, document, gauges, after):
    """All VIFs of all domains with the kernel's counters, by domid and number."""
    result, found = Comparison(), []
    for domain in document["domains"]:
        found += [(domain["domid"], vif["id"]) for vif in domain["vif"]]
        for vif in domain["vif"]:
            place = domain["domid"], vif["id"]
            for key in VIF:
                gauge = gauges.get(f"xen.dom0.{domain['metric_name']}.vif.{vif['id']}.{key}")
                result.number(f"vif{place} {key}", before[place][key], gauge, after[place][key])
    result.same("the VIFs", sorted(before), sorted(found))
    return result


def with_counters(name, before, gauges, after):
    """The disks of a guest with counters by the disk's name, as of its QEMU or blkback."""
    result = Comparison()
    result.same("the number of disks", len(before), gauges.get(f"xen.dom0.{name}.vbds"))
    for disk, counters in before.items():
        for key, low in counters.items():
            result.number(f"{disk} {key}", low, gauges.get(f"xen.dom0.{name}.vbd.{disk}.{key}"), after[disk][key])
    return result


def details(result, name, one, own, other):
    """Compares xentop -v -n with --detail vcpus,vifs."""
    vcpus = range(int(one.columns["VCPUS"]))
    result.same(f"{name} online vcpus", list(one.vcpus), [n for n in vcpus if own.get(f"vcpu.{n}.online")])
    for n, seconds in one.vcpus.items():
        value = own.get(f"vcpu.{n}.cpu_sec")
        result.number(f"{name} vcpu {n}", seconds, None if value is None else int(value), other.vcpus[n])
    for n, net in enumerate(one.nets):
        for key, before, after in zip(VIF, net, other.nets[n]):
            result.number(f"{name} vif {n} {key}", before, own.get(f"vif.{n}.{key}"), after)


def disks(result, name, one, own, other):
    """Compares xentop -x with --detail vbds."""
    for (kind, dev, before), (_, _, after) in zip(one.vbds, other.vbds):
        device = f"vbd.{DEVICES[dev]}"
        result.same(f"{name} {device} type", TYPES[kind], own.get(f"{device}.type"))
        for key, low, high in zip(["oo", "rd", "wr", "rsect", "wsect"], before, after):
            result.number(f"{name} {device} {key}", low, own.get(f"{device}.{key}"), high)
