#!/bin/bash
# InfluxDB: the order of the filters among the templates of its Graphite listener.
# influxdb 1.6.7 (Debian 13). Two filters: xen.* for all metrics (with host and domain), and xen.*.*.vbd.* for disks,
# with a tag device. One listener has the general filter first, the other the specific one.
# Good guess: the order does not matter, as the most specific filter that matches is used.
# Seen: with the specific filter first, xen.xen1.web01.mem_k matches no filter, and is stored under its whole name,
# without tags. With the general one first, both kinds are taken apart as wanted.
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

ALL, DISKS = "xen.* .host.domain.measurement*", "xen.*.*.vbd.* .host.domain.measurement.device.field*"
TEMPLATES = [[ALL, DISKS], [DISKS, ALL]]
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
    lines = ["xen.xen1.web01.mem_k 5", "xen.xen1.web01.vbd.xvda.rd 6"]
    for database in (0, 1):
        until("the server answers", lambda: send(database, lines))
        until("both are stored", lambda: sum(len(one["values"]) for one in query(database, "SELECT * FROM /.*/")) > 1)
    general, specific = measurements(0), measurements(1)
finally:
    server.terminate()
    server.wait()
print("the general filter first:", general)
print("the specific filter first:", specific, "(guess: the same)")
tags = {"host": "xen1", "domain": "web01"}
known = general == {"mem_k": tags, "vbd": {"device": "xvda", **tags}}
known = known and specific == {"xen.xen1.web01.mem_k": {}, "vbd": {"device": "xvda", **tags}}
print("as known: the order decides" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
