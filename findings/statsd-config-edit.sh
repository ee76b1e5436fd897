#!/bin/bash
# npm's statsd: deleteGauges is switched on in the configuration file, to get rid of gauges of machines that are gone.
# statsd 0.9.0, node 18 or later.
# Good guess: nothing happens until statsd is restarted.
# Seen: the running statsd reads the file again as soon as it is written, and forgets gauges that stop from now on. But
# the very gauges that had stopped before are repeated as long as it runs: only a gauge that is received after the edit
# has a time to live. A restart, or delgauges at the management port, removes them. (automaticConfigReload: false
# switches the reading off.)
# Needs node, npm, python3. Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
unseen() { echo "not seen: $1"; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
npm install --silent --no-fund --no-audit --omit=optional statsd@0.9.0 >/dev/null ||
    unseen "statsd could not be installed"
cat >ask.py <<'PY'
import socket, subprocess, sys, time

UDP = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
UDP.bind(("127.0.0.1", 0))
graphite = socket.create_server(("127.0.0.1", 0))
graphite.settimeout(30)
admin = socket.create_server(("127.0.0.1", 0))
port, admin_port = UDP.getsockname()[1], admin.getsockname()[1]
UDP.close()
admin.close()


def configure(delete):
    with open("config.js", "w") as file:
        file.write("""{port: %d, mgmt_port: %d, address: "127.0.0.1", mgmt_address: "127.0.0.1", flushInterval: 500,
            backends: ["./backends/graphite"], graphiteHost: "127.0.0.1", graphitePort: %d,
            graphite: {legacyNamespace: false}, deleteGauges: %s, gaugesMaxTTL: 2}
            """ % (port, admin_port, graphite.getsockname()[1], delete))


def send(line):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(line.encode(), ("127.0.0.1", port))


def flush():
    """Which of the gauges the next flush sends to Graphite; each flush has a connection of its own."""
    connection, _ = graphite.accept()
    with connection, connection.makefile() as lines:
        text = lines.read()
    return {name for name in ("old", "new") if ".gauges.%s " % name in text}


def until(what, happens):
    for _ in range(60):
        if happens():
            return
    print("not seen:", what)
    raise SystemExit(2)


configure("false")
with open("log", "w") as log:
    server = subprocess.Popen(["node", "node_modules/statsd/stats.js", "config.js"], stdout=log, stderr=log)
try:
    flush()  # It is up.
    send("old:1|g")
    until("the old gauge is repeated", lambda: "old" in flush())
    configure("true")
    until("the file is read again", lambda: flush() is not None and open("log").read().count("reading config") > 1)
    send("new:1|g")
    until("the new gauge is sent", lambda: "new" in flush())
    later = [flush() for _ in range(12)]
finally:
    server.terminate()
    server.wait()
print("gauges in the twelve flushes after the last receipt:", *(",".join(sorted(one)) or "-" for one in later))
print("(guess: old,new in all of them, as nothing was restarted)")
known = "new" not in later[-1] and all("old" in one for one in later)
print("as known: the setting works at once, but not for what is stale already" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
