"""Networks of dom0 other than one bridge of all VIFs. Each function checks one kind, and restores the bridge."""

import re

import compare
import dom0
from dom0 import check, interfaces, note, ping, place_of, run, wait
from tools import ours, xentop

CONTROL = "/usr/share/openvswitch/scripts/ovs-ctl"
# The counters that Open vSwitch's are compared with.
COMMON = ["rx_bytes", "rx_packets", "tx_bytes", "tx_packets"]


def open_vswitch():
    """A real Open vSwitch beside a bridge, then alone. Our counters are the kernel's and its own."""
    web, db = dom0.domid("web01"), dom0.domid("db01")
    run(CONTROL, "start", "--system-id=e2e", "--no-record-hostname")
    try:
        note("ovs.txt", run("ovs-vsctl", "--version"))
        # Broadcasts of dom0's own would change counters of paused guests.
        run("ovs-vsctl", "add-br", "ovsbr0")
        run("sysctl", "-q", "net.ipv6.conf.ovsbr0.disable_ipv6=1")
        ports = [f"vif{web}.0", f"vif{db}.0"]
        for port, options in zip(ports, [[], ["tag=42"]]):
            run("ip", "link", "set", port, "nomaster")
            run("ovs-vsctl", "add-port", "ovsbr0", port, *options)
        beside_a_switch("Open vSwitch beside a bridge", ports)

        run("ip", "link", "del", "xenbr0")
        run("ip", "addr", "add", "10.77.0.1/24", "dev", "ovsbr0")
        run("ip", "link", "set", "ovsbr0", "up")
        for port in filter(place_of, interfaces()):
            if port not in ports:
                ports.append(port)
                run("ovs-vsctl", "add-port", "ovsbr0", port)
        before = interfaces()[f"vif{web}.0"]["rx_bytes"]
        wait("web01's packets", lambda: interfaces()[f"vif{web}.0"]["rx_bytes"] > before + 4000)
        beside_a_switch("Open vSwitch alone", ports)
        nets = {name: int(row.columns["NETS"]) for name, row in xentop("-n")[0].items()}
        check("Open vSwitch alone: xentop shows no network (if it does, update the docs)", not any(nets.values()), nets)
    finally:
        run("ovs-vsctl", "del-br", "ovsbr0")
        run(CONTROL, "stop")
        if "xenbr0" in interfaces():
            run("ip", "link", "del", "xenbr0")
        dom0.bridge()


def beside_a_switch(what, ports):
    """While the guests are paused, the switch's counters become the kernel's: it reads them every five seconds."""
    run("xl", "pause", "web01")
    try:
        wait("Open vSwitch's counters", lambda: all(switchs(port) == common(interfaces()[port]) for port in ports))
        kernels, own = dom0.kernels_vifs(), {port: switchs(port) for port in ports}
        document, gauges = ours()
        result = compare.with_kernel(kernels, document, gauges, dom0.kernels_vifs())
        names = {domain["domid"]: domain["metric_name"] for domain in document["domains"]}
        for port, before in own.items():
            (domid, number), after = place_of(port), switchs(port)
            for key, low in before.items():
                gauge = gauges.get(f"xen.dom0.{names[domid]}.vif.{number}.{key}")
                result.number(f"{port} {key} of Open vSwitch", low, gauge, after[key])
        result.number("bytes of a port", 1, max(counters["rx_bytes"] for counters in own.values()), float("inf"))
        compared = f"{result}; Open vSwitch: {own}"
        check(f"{what}: every VIF is sent, with the kernel's and the switch's counters", not result.differing, compared)
    finally:
        run("xl", "unpause", "web01")


def switchs(port):
    """Open vSwitch's own counters of a port."""
    found = dict(re.findall(r"(\w+)=(\d+)", run("ovs-vsctl", "get", "Interface", port, "statistics")))
    return {key: int(found.get(key, -1)) for key in COMMON}


def common(counters):
    return {key: counters.get(key) for key in COMMON}


def vlan_and_bond():
    """A VLAN on a VIF and a bond of a renamed VIF are no networks of the guest; the VIFs are."""
    web = dom0.domid("web01")
    vlan = f"vif{web}.0.100"
    run("ip", "link", "add", "link", f"vif{web}.0", "name", vlan, "type", "vlan", "id", "100")
    run("ip", "addr", "add", "10.78.0.1/24", "dev", vlan)
    run("ip", "link", "set", vlan, "up")
    run("ip", "link", "add", "bond0", "type", "bond", "mode", "active-backup")
    run("ip", "link", "set", "web-lan", "nomaster", "down")
    run("ip", "link", "set", "web-lan", "master", "bond0")
    run("ip", "addr", "add", "10.79.0.1/24", "dev", "bond0")
    run("ip", "link", "set", "bond0", "up")
    try:
        for name, address in [(vlan, "10.78.0.2"), ("bond0", "10.79.0.2")]:
            wait(f"packets on {name}", lambda: ping(address) and interfaces()[name]["tx_bytes"] > 0)
        before, (document, gauges), after = dom0.kernels_vifs(), ours(), dom0.kernels_vifs()
        result = compare.with_kernel(before, document, gauges, after)
        result.same("NETS of web01", 2, gauges.get("xen.dom0.web01.nets"))
        extra = {name: interfaces()[name]["tx_bytes"] for name in [vlan, "bond0"]}
        compared = f"{result}; not counted, with tx_bytes: {extra}"
        check("a VLAN on a VIF and a bond of a VIF are not counted", not result.differing, compared)
        nets = xentop("-n")[0]["web01"].columns["NETS"]
        check("xentop counts the VLAN as a network (if not, update the docs)", nets == "3", f"NETS {nets}")
    finally:
        run("ip", "link", "del", vlan)
        run("ip", "link", "del", "bond0")
        run("ip", "link", "set", "web-lan", "master", "xenbr0", "up")
