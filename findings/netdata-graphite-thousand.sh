#!/bin/bash
# netdata: statsd gauges in Graphite, by netdata's exporting engine with the data source "as collected".
# netdata 1.37.1 (Debian 12). One gauge is 0.195, the other 2147483649.
# Good guess: as collected means as received: 0.195 and 2147483649; only an average could be rounded.
# Seen: 195 and 2147483649000: netdata collects gauges in thousandths, and this source hands on the thousandths. The
# source average gives 0.195 and 2147484000, as netdata keeps 24 bits of a value. So neither has both values right.
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
apt download netdata-core=1.37.1-2 libuv1=1.44.2-1+deb12u1 libjson-c5=0.16-2 liblz4-1=1.9.4-1
for deb in ./*.deb; do dpkg-deb -x "$deb" .; done
cat >ask.py <<'PY'
import getpass, os, socket, subprocess, threading, time

HERE = os.getcwd()
SENT = {"small": "0.195", "large": "2147483649"}
received = {}


def listen(source):
    """A Graphite server; keeps the latest value of each gauge."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=read, args=(connection,), daemon=True).start()

    def read(connection):
        for line in connection.makefile():
            for gauge in SENT:
                if "statsd_xen.web01.%s_gauge.gauge" % gauge in line:
                    received[source, gauge] = float(line.rsplit(None, 2)[1])

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


held = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
for one in held:
    one.bind(("127.0.0.1", 0))
statsd, web = (one.getsockname()[1] for one in held)
for one in held:
    one.close()
os.makedirs("netdata/none")
with open("netdata/netdata.conf", "w") as file:
    file.write("""[global]
  run as user = {user}
[db]
  mode = ram
[directories]
  config = {here}
  stock config = {here}/none
  plugins = {here}/none
  web = {here}/none
  log = {here}
  cache = {here}
  lib = {here}
[web]
  bind to = 127.0.0.1
  default port = {web}
[health]
  enabled = no
[plugins]
  enable running new plugins = no
  proc = no
  cgroups = no
  tc = no
  idlejitter = no
  diskspace = no
  timex = no
  netdata monitoring = no
[statsd]
  bind to = udp:127.0.0.1:{statsd}
  create private charts for metrics matching = xen.*
""".format(user=getpass.getuser(), here=HERE + "/netdata", web=web, statsd=statsd))
with open("netdata/exporting.conf", "w") as file:
    file.write("[exporting:global]\n  enabled = yes\n")
    for source in ("as collected", "average"):
        file.write("""[graphite:%s]
  enabled = yes
  destination = 127.0.0.1:%d
  data source = %s
  update every = 5
  send charts matching = statsd_xen.*
""" % (source.replace(" ", "_"), listen(source), source))
libraries = dict(os.environ, LD_LIBRARY_PATH=HERE + "/usr/lib/x86_64-linux-gnu")
with open("log", "w") as log:
    command = ["usr/sbin/netdata", "-D", "-c", HERE + "/netdata/netdata.conf"]
    netdata = subprocess.Popen(command, stdout=log, stderr=log, env=libraries)
lines = "".join("xen.web01.%s:%s|g\n" % gauge for gauge in SENT.items()).encode()
try:
    # An average of the first seconds may be of another number of values: until all four are there and not 0.
    for _ in range(240):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(lines, ("127.0.0.1", statsd))
        if len(received) == 4 and all(received.values()):
            break
        time.sleep(0.5)
finally:
    netdata.terminate()
    netdata.wait()
if len(received) < 4:
    print("not seen:", received, open("log").read()[-300:])
    raise SystemExit(2)
collected, average = ([received[source, gauge] for gauge in SENT] for source in ("as collected", "average"))
print("sent:", *SENT.values())
print("as collected:", *("%.15g" % value for value in collected), "(guess: as sent)")
print("average:", *("%.15g" % value for value in average))
known = collected == [195, 2147483649000] and average[0] == 0.195 and 0 < abs(average[1] - 2147483649) < 1000
print("as known: a thousand times as much" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
