#!/bin/bash
# collectd: the value of a gauge that collectdctl getval, and every client of the unixsock plugin, gets.
# collectd 5.12.0 (Debian 12). A statsd gauge of 2147483649 (KiB, or a sum of sectors).
# Good guess: 2147483649, as the csv plugin writes it.
# Seen: value=2.147484e+09: seven digits, whatever the value. Two readings of a counter a minute apart may be equal, and
# a rate made from them is wrong. The csv file of the same value has all digits.
# Needs apt-get, dpkg-deb, python3 on an amd64 Debian, but no root, and nothing is installed.
# Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
# shellcheck source=lib/apt.sh
. "$(dirname "$0")/lib/apt.sh"
unseen() { echo "not seen: $1"; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
sources bookworm
apt update
apt download collectd-core=5.12.0-14
for deb in ./*.deb; do dpkg-deb -x "$deb" .; done
cat >ask.py <<'PY'
import glob, os, socket, subprocess, time

held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
held.bind(("127.0.0.1", 0))
port = held.getsockname()[1]
held.close()
here = os.getcwd()
with open("collectd.conf", "w") as file:
    file.write("""Hostname "xen1"
FQDNLookup false
Interval 1
BaseDir "{0}"
PIDFile "{0}/pid"
PluginDir "{0}/usr/lib/collectd"
TypesDB "{0}/usr/share/collectd/types.db"
LoadPlugin statsd
LoadPlugin csv
LoadPlugin unixsock
<Plugin statsd>
  Host "127.0.0.1"
  Port "{1}"
</Plugin>
<Plugin csv>
  DataDir "{0}/csv"
</Plugin>
<Plugin unixsock>
  SocketFile "{0}/socket"
</Plugin>
""".format(here, port))
with open("log", "w") as log:
    collectd = subprocess.Popen(["usr/sbin/collectd", "-f", "-C", "collectd.conf"], stdout=log, stderr=log)
got, written = None, None
try:
    for _ in range(200):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"xen.web01.mem_k:2147483649|g\n", ("127.0.0.1", port))
        time.sleep(0.1)
        files = glob.glob("csv/xen1/statsd/gauge-xen.web01.mem_k-*")
        rows = [line.split(",")[1] for path in files for line in open(path).read().splitlines()[1:]]
        if not rows:
            continue
        written = float(rows[-1])
        with socket.socket(socket.AF_UNIX) as client:
            client.connect("socket")
            client.sendall(b"GETVAL \"xen1/statsd/gauge-xen.web01.mem_k\"\n")
            answer = client.makefile()
            if answer.readline().startswith("1 "):
                got = answer.readline().strip()
                break
finally:
    collectd.terminate()
    collectd.wait()
if got is None:
    print("not seen:", open("log").read()[-300:])
    raise SystemExit(2)
print("csv: %.0f" % written)
print("GETVAL:", got, "(guess: 2147483649)")
known = (written, got) == (2147483649, "value=2.147484e+09")
print("as known: seven digits" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
