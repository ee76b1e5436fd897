#!/bin/bash
# npm's statsd: datagrams that pass its proxy (proxy.js), which spreads names over several statsd servers.
# statsd 0.9.0 with hashring 3.2.0, node 18 or later.
# Good guess: the lines of a datagram that belong to one server leave in one datagram; with a single server the datagram
# leaves as it came.
# Seen: each line leaves in a datagram of its own. A receive buffer holds as many small datagrams as large ones, so a
# sender's packing and pacing are lost: 30 lines are 30 datagrams, in one burst.
# Needs node, npm, python3. Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
unseen() { echo "not seen: $1"; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
npm install --silent --no-fund --no-audit statsd@0.9.0 hashring@3.2.0 --omit=optional >/dev/null ||
    unseen "statsd could not be installed"
cat >ask.py <<'PY'
import socket, subprocess, threading

held = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
for one in held:
    one.bind(("127.0.0.1", 0))
port, admin = (one.getsockname()[1] for one in held)
for one in held:
    one.close()
node = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
node.bind(("127.0.0.1", 0))
health = socket.create_server(("127.0.0.1", 0))
asked = threading.Event()


def healthy():
    """The node's management port, which says that it is up."""
    while True:
        connection, _ = health.accept()
        asked.set()
        threading.Thread(target=answer, args=(connection,), daemon=True).start()


def answer(connection):
    try:
        while connection.recv(1024):
            connection.sendall(b"health: up\n")
    except OSError:
        pass


threading.Thread(target=healthy, daemon=True).start()
with open("config.js", "w") as file:
    file.write("""{nodes: [{host: "127.0.0.1", port: %d, adminport: %d}], host: "127.0.0.1", port: %d,
        mgmt_address: "127.0.0.1", mgmt_port: %d, udp_version: "udp4", forkCount: 0, checkInterval: 1000,
        server: "./servers/udp"}""" % (node.getsockname()[1], health.getsockname()[1], port, admin))
lines = ["xen.xen1.web%02d.mem_k:%d|g" % (i, i) for i in range(30)]
datagrams = []
node.settimeout(2)
with open("log", "w") as log:
    proxy = subprocess.Popen(["node", "node_modules/statsd/proxy.js", "config.js"], stdout=log, stderr=log)
try:
    asked.wait(30)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(10):
            if datagrams:
                break
            sender.sendto("\n".join(lines).encode(), ("127.0.0.1", port))
            try:
                while sum(len(one.split()) for one in datagrams) < len(lines):
                    datagrams.append(node.recv(65536).decode())
            except socket.timeout:
                pass
finally:
    proxy.terminate()
    proxy.wait()
if sorted("\n".join(datagrams).split()) != sorted(lines):
    print("not seen:", datagrams[:3], open("log").read()[-300:])
    raise SystemExit(2)
print("one datagram of", len(lines), "lines;", len(datagrams), "leave, the first:", datagrams[0], "(guess: 1)")
known = len(datagrams) == 30
print("as known: a datagram for each line" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
