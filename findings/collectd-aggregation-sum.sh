#!/bin/bash
# collectd: the sum of gauges by its aggregation plugin.
# collectd 5.12.0 (Debian 12). Three statsd gauges, 10, 20 and 30, never change; collectd reads them every second, and
# the aggregation plugin has an interval of two seconds.
# Good guess: 60, the sum of the three current values, whatever the intervals are.
# Seen: 60, 120, 180 and others by turns: it sums all values that came since it last ran. With equal intervals the two
# plugins race: mostly 60, but at times nothing and then 120 (4 times in 46 seconds, in another run never).
# The average is right but for intervals that have a part of the values.
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
import collections, glob, os, socket, subprocess, time

held = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
held.bind(("127.0.0.1", 0))
port = held.getsockname()[1]
held.close()
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
<LoadPlugin aggregation>
  Interval 2
</LoadPlugin>
<Plugin statsd>
  Host "127.0.0.1"
  Port "{1}"
</Plugin>
<Plugin csv>
  DataDir "{0}/csv"
</Plugin>
<Plugin aggregation>
  <Aggregation>
    Plugin "statsd"
    Type "gauge"
    GroupBy "Host"
    CalculateSum true
    CalculateAverage true
  </Aggregation>
</Plugin>
""".format(os.getcwd(), port))


def values(kind):
    """What the csv plugin has written, without the first, of which part of an interval is missing."""
    rows = []
    for path in glob.glob("csv/xen1/aggregation-statsd-%s/gauge-*" % kind):
        rows += [float(line.split(",")[1]) for line in open(path).read().splitlines()[1:]]
    return rows[1:]


with open("log", "w") as log:
    collectd = subprocess.Popen(["usr/sbin/collectd", "-f", "-C", "collectd.conf"], stdout=log, stderr=log)
try:
    for _ in range(240):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"web01:10|g\nweb02:20|g\nweb03:30|g\n", ("127.0.0.1", port))
        time.sleep(0.25)
        if len(values("sum")) >= 9:
            break
finally:
    collectd.terminate()
    collectd.wait()
sums, averages = values("sum"), values("average")
if len(sums) < 9:
    print("not seen:", sums, open("log").read()[-300:])
    raise SystemExit(2)
print("sums:", *("%g" % one for one in sums), "(guess: 60)")
print("averages:", *("%g" % one for one in averages))
known = sum(one != 60 for one in sums) > 1 and max(sums) >= 110
print("as known: every value counts" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
