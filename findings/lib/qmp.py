"""A QEMU and its QMP socket, for the scripts of this folder."""
import json
import os
import socket
import subprocess
import sys
import time


def sys_exit_unseen(why):
    print("not seen:", why)
    sys.exit(2)


class Qemu:
    """The emulator of $tmp/SUITE, started with these arguments and stopped by end()."""

    def __init__(self, suite, *args):
        tmp = os.environ["tmp"]
        path, self.console, self.events = f"{tmp}/qmp", f"{tmp}/console", []
        for old in (path, self.console):
            if os.path.exists(old):
                os.unlink(old)
        self.process = subprocess.Popen(
            [f"{tmp}/{suite}/qemu-system-x86_64", "-M", "pc", "-accel", "tcg", "-m", "16", "-S", "-nodefaults",
             "-display", "none", "-qmp", f"unix:{path},server=on,wait=off", "-debugcon", f"file:{self.console}", *args],
            stdin=subprocess.DEVNULL)
        self.socket = socket.socket(socket.AF_UNIX)
        for _ in range(1200):
            try:
                self.socket.connect(path)
                break
            except OSError:
                if self.process.poll() is not None:
                    sys_exit_unseen("QEMU does not start")
                time.sleep(0.1)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self("qmp_capabilities")

    def __call__(self, command, **arguments):
        """Sends a command ('_' for '-' in arguments) and returns its answer. A refusal ends the script."""
        arguments = {key.replace("_", "-"): value for key, value in arguments.items()}
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            message = json.loads(self.file.readline() or '{"error": "QEMU has ended"}')
            if "event" in message:
                self.events.append(message)
            elif "error" in message:
                self.end()
                sys_exit_unseen(f"{command}: {message['error']}")
            else:
                return message["return"]

    def io(self, device, command):
        """One request on a device's drive, by QEMU's own tester, counted as the guest's."""
        self("human-monitor-command", **{"command_line": f'qemu-io -d {device} "{command}"'})

    def until(self, what, condition):
        """Waits, two minutes at most, until a condition holds."""
        for _ in range(1200):
            value = condition()
            if value:
                return value
            time.sleep(0.1)
        self.end()
        sys_exit_unseen(what)

    def guest_done(self):
        """Lets the guest run until its boot sector has done its call, or QEMU has stopped it; D, E, or ''."""
        self("cont")
        self.until("the guest's end", lambda: self.said() or self("query-status")["status"] != "running")
        return self.said()

    def said(self):
        with open(self.console, "rb") as file:
            return file.read().decode("ascii", "replace")[-1:]

    def end(self):
        self.process.kill()
        self.process.wait()


def busy(stats):
    """The counters that are not 0."""
    return {key: value for key, value in sorted(stats.items())
            if value and key not in ("account_failed", "account_invalid", "timed_stats", "idle_time_ns")
            and not key.endswith("_time_ns")}


def verdict(as_known):
    print("as known" if as_known else "CHANGED")
    sys.exit(0 if as_known else 1)
