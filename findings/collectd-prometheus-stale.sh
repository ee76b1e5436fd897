#!/bin/bash
# collectd's write_prometheus and Prometheus: how long a gauge lives in Prometheus after collectd has forgotten it.
# collectd 5.12.0 (Debian 12), statsd plugin with DeleteGauges true; Prometheus 2.53.3 (Debian 13).
# Good guess: the gauge disappears from collectd's page, so Prometheus marks it stale at the next scrape, and queries no
# longer return it.
# Seen: its last value is returned on and on (for the lookback of five minutes): collectd gives each value a timestamp,
# and Prometheus marks no series stale that has timestamps of its own. With honor_timestamps: false in the
# scrape configuration it ends at the next scrape. Prometheus 3.5.3 does the same.
# Needs apt-get, dpkg-deb, python3 on an amd64 Debian, but no root, and nothing is installed.
# Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
# shellcheck source=lib/apt.sh
. "$(dirname "$0")/lib/apt.sh"
unseen() { echo "not seen: $1"; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
sources bookworm trixie
apt update
apt download collectd-core=5.12.0-14 libprotobuf-c1=1.4.1-1+b1 libmicrohttpd12=0.9.75-6 prometheus=2.53.3+ds1-2
for deb in ./*.deb; do dpkg-deb -x "$deb" .; done
cat >ask.py <<'PY'
import json, os, socket, subprocess, time
from urllib.parse import urlencode
from urllib.request import urlopen

held = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_STREAM)]
for one in held:
    one.bind(("127.0.0.1", 0))
statsd, page, prometheus = (one.getsockname()[1] for one in held)
for one in held:
    one.close()
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
LoadPlugin write_prometheus
<Plugin statsd>
  Host "127.0.0.1"
  Port "{1}"
  DeleteGauges true
</Plugin>
<Plugin write_prometheus>
  Host "127.0.0.1"
  Port "{2}"
</Plugin>
""".format(here, statsd, page))
with open("prometheus.yml", "w") as file:
    file.write("""global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
- job_name: default
  static_configs: [{{targets: ["127.0.0.1:{0}"]}}]
- job_name: ignoring
  honor_timestamps: false
  static_configs: [{{targets: ["127.0.0.1:{0}"]}}]
""".format(page))


def exported():
    """The values of the gauge on collectd's page."""
    text = urlopen("http://127.0.0.1:%d/metrics" % page, timeout=10).read().decode()
    return [line.split() for line in text.splitlines() if "xen.web01.mem_k" in line]


def stored():
    """The jobs of which an instant query returns the gauge."""
    query = urlencode({"query": 'collectd_statsd_gauge{statsd="xen.web01.mem_k"}'})
    answer = json.load(urlopen("http://127.0.0.1:%d/api/v1/query?%s" % (prometheus, query), timeout=10))
    return {series["metric"]["job"] for series in answer["data"]["result"]}


def until(what, happens, before=lambda: None):
    for _ in range(240):
        before()
        try:
            if happens():
                return
        except OSError:
            pass
        time.sleep(0.25)
    print("not seen:", what, open("collectd.log").read()[-300:])
    raise SystemExit(2)


def send():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"xen.web01.mem_k:2097152|g\n", ("127.0.0.1", statsd))


commands = {
    "collectd": ["usr/sbin/collectd", "-f", "-C", "collectd.conf"],
    "prometheus": ["usr/bin/prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                   "--web.listen-address=127.0.0.1:%d" % prometheus],
}
libraries = dict(os.environ, LD_LIBRARY_PATH=here + "/usr/lib/x86_64-linux-gnu")
running = []
try:
    for name, command in commands.items():
        log = open(name + ".log", "w")
        running.append(subprocess.Popen(command, stdout=log, stderr=log, env=libraries if name == "collectd" else None))
    until("both jobs have the gauge", lambda: stored() == {"default", "ignoring"}, send)
    line = exported()
    until("collectd has forgotten it", lambda: not exported())
    until("the job that ignores timestamps has ended it", lambda: "ignoring" not in stored())
    since = time.time()
    later = []
    while time.time() - since < 15:
        later.append(stored())
        time.sleep(1)
finally:
    for one in running:
        one.terminate()
        one.wait()
if line:
    print("collectd's page while it lived:", *line[0])
print("gone from the page; 15 seconds later Prometheus returns it for:", *(later[-1] or ["no job"]), "(guess: no job)")
known = all(one == {"default"} for one in later)
print("as known: no staleness with collectd's timestamps" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
