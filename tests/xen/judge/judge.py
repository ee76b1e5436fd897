"""Starts the guests and runs all checks of xenmonitor against the real xentop."""

import time
import traceback

import changes
import checks
import daemons
import dom0
import falsify
import guests
import machine
import measure
import networks
import pollers
import tools
from dom0 import create, note, phy, qdisk, record, run, say, wait


def start_guests():
    dom0.bridge()
    # The guest with a QEMU comes first: later the machine is busier.
    linux = []
    if machine.QEMU:
        base = dom0.file_for_disk("base", 16)
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, f"{dom0.DISKS}/overlay")
        raw, qcow2 = dom0.file_for_disk("files-a", 16), f"{dom0.DISKS}/overlay"
        linux += [create("files", disks=[qdisk("xvda", raw), qdisk("xvdb", qcow2, "qcow2")])]
    linux += [
        create(
            "web01",
            vifs=[(0x11, ""), (0x12, ",vifname=web-lan")],
            disks=[phy("xvda", "web-a", 16), phy("xvdb", "web-b", 16, "r")],
            stays=True,
        )
    ]
    # These boot GRUB instead of Linux. GRUB reads its disk once, and then uses all the CPU time it gets.
    create("spin", kernel="grub", memory=16)
    create("db01", kernel="grub", memory=16, maxvcpus=2, vifs=[(0x13, "")], disks=[phy("xvda", "db-a", 16)])
    create(dom0.ODD, kernel="grub", memory=16, vifs=[(0x14, "")], disks=[phy("xvda", "odd-a", 8)])
    early = ["db01", dom0.ODD]
    if not machine.GRUB:
        for guest in early + checks.BUSY:
            run("xl", "unpause", guest)
    for guest in early:
        if machine.GRUB:
            run("xl", "unpause", guest)
        wait(f"{guest} to read its disk", lambda: int(tools.xentop()[0][guest].columns["VBD_RD"]) > 0)
        run("xl", "pause", guest)
    if machine.GRUB:
        for guest in checks.BUSY:
            run("xl", "unpause", guest)
    wait("the guests' devices", lambda: dom0.connected(linux))


def main():
    start_guests()
    note("guests.txt", run("xl", "list", "-v"))
    say("judging")
    ran, skipped = [], []
    for run_check in [
        checks.library_of_the_running_xen,
        checks.beside_xentop,
        checks.beside_xl,
        checks.cpu_percent,
        checks.memory,
        checks.without_a_bridge,
        checks.disks_of_qemu,
        checks.a_hung_qemu,
        # Each run of xentop asks every QEMU, and may crash that of `files`: the checks that need it come first.
        daemons.as_the_service,
        daemons.as_another_user,
        daemons.guests_come_and_go,
        daemons.uuids,
        daemons.hostile_name,
        networks.vlan_and_bond,
        networks.open_vswitch,
        changes.devices_come_and_go,
        changes.save_and_restore,
        guests.pvh_with_a_qdisk,
        guests.hvm,
        *[measure.cost_of_a_poll] * ("cost_of_a_poll" in machine.ONLY),
        pollers.ours_twice,
        pollers.ours_and_xentop,
        daemons.xenstored_dies,
    ]:
        name = run_check.__name__
        if machine.ONLY and name not in machine.ONLY:
            continue
        if reason := machine.exception(name):
            skipped.append(name)
            say(f"SKIPPED {name}: {reason}")
            continue
        ran.append(name)
        start = time.monotonic()
        falsify.during(name if machine.FALSIFY else None)
        try:
            run_check()
        except Exception as error:
            note("errors.txt", traceback.format_exc())
            record("no check raises an exception", False, repr(error))
            for daemon in list(tools.Daemon.running):
                daemon.end()
        falsify.during(None)
        note("times.txt", f"{time.monotonic() - start:4.0f} s {name}")
    if not ran:
        record("a check runs", False, f"of {', '.join(machine.ONLY)} none")
    also = f"; skipped: {', '.join(skipped)}" if skipped else ""
    with open("out/verdict", "w") as file:
        file.write(f"e2e-xen {machine.RELEASE}: {sum(dom0.results)} passed, {dom0.results.count(False)} failed{also}\n")


if __name__ == "__main__":
    main()
