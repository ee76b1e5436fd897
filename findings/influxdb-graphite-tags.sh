#!/bin/bash
# InfluxDB: Graphite lines with tags (NAME;KEY=VALUE), by its Graphite listener.
# influxdb 1.6.7 (Debian 13).
# Good guess: the tags of the line become tags of the point: both know NAME, tags and value.
# Seen: the tags stay in the name of the measurement, so that each series is a measurement of its own, without any tag.
# Nothing can be grouped by host or domain.
# Needs apt-get, dpkg-deb, python3 on an amd64 Debian, but no root, and nothing is installed.
# Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
# shellcheck source=lib/apt.sh
. "$(dirname "$0")/lib/apt.sh"
unseen() { echo "not seen: $1"; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
sources trixie
apt update
apt download influxdb=1.6.7~rc0-2+b12
for deb in ./*.deb; do dpkg-deb -x "$deb" .; done
cat >ask.py <<'PY'
import json, socket, subprocess, time
from urllib.parse import urlencode
from urllib.request import urlopen

TEMPLATES = [[]]
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 + len(TEMPLATES))]
http, internal, *graphite = (one.getsockname()[1] for one in held)
for one in held:
    one.close()
with open("influxdb.conf", "w") as file:
    file.write("""reporting-disabled = true
bind-address = "127.0.0.1:%d"
[meta]
  dir = "meta"
[data]
  dir = "data"
  wal-dir = "wal"
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:%d"
""" % (internal, http))
    for database, (port, templates) in enumerate(zip(graphite, TEMPLATES)):
        file.write("""[[graphite]]
  enabled = true
  bind-address = "127.0.0.1:%d"
  database = "db%d"
  batch-timeout = "100ms"
  templates = %s
""" % (port, database, json.dumps(templates)))


def query(database, text):
    address = "http://127.0.0.1:%d/query?%s" % (http, urlencode({"db": "db%d" % database, "q": text}))
    return json.load(urlopen(address, timeout=10))["results"][0].get("series", [])


def measurements(database):
    """{measurement: its tags}"""
    found = {}
    for series in query(database, "SELECT * FROM /.*/ GROUP BY *"):
        found[series["name"]] = {key: value for key, value in (series.get("tags") or {}).items() if value}
    return found


def until(what, happens):
    for _ in range(300):
        try:
            if happens():
                return
        except OSError:
            pass
        time.sleep(0.1)
    print("not seen:", what, open("log").read()[-300:])
    raise SystemExit(2)


def send(database, lines):
    with socket.create_connection(("127.0.0.1", graphite[database])) as server:
        server.sendall("".join("%s %d\n" % (line, time.time()) for line in lines).encode())
    return True


with open("log", "w") as log:
    server = subprocess.Popen(["usr/bin/influxd", "-config", "influxdb.conf"], stdout=log, stderr=log)
try:
    lines = ["xen.mem_k;host=xen1;domain=web01 5", "xen.mem_k;host=xen1;domain=web02 6"]
    until("the server answers", lambda: send(0, lines))
    until("both points are stored", lambda: sum(len(one["values"]) for one in query(0, "SELECT * FROM /.*/")) > 1)
    found = measurements(0)
finally:
    server.terminate()
    server.wait()
for name, tags in sorted(found.items()):
    print("measurement:", name, "tags:", tags)
print("(guess: one measurement xen.mem_k with the tags host and domain)")
known = found == {"xen.mem_k;host=xen1;domain=web0%d" % n: {} for n in (1, 2)}
print("as known: tags stay in the name" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
