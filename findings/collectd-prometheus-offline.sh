#!/bin/bash
# collectd's write_prometheus with Host "127.0.0.1", started before the machine has an address besides loopback.
# collectd 5.12.0 (Debian 12) in a network namespace of its own.
# Good guess: it listens, as 127.0.0.1 can always be bound; or collectd ends, or it tries again once there is a network.
# Seen: "Opening a listening socket for [127.0.0.1]:9103 failed"; collectd unloads the plugin for good, and
# runs on without it. An address that comes a second later changes nothing. With that address at the start it listens.
# Needs apt-get, dpkg-deb, python3, ip, and root or user namespaces, on an amd64 Debian; nothing is installed.
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
apt download collectd-core=5.12.0-14 libprotobuf-c1=1.4.1-1+b1 libmicrohttpd12=0.9.75-6
for deb in ./*.deb; do dpkg-deb -x "$deb" .; done
cat >ask.py <<'PY'
import os, socket, subprocess, time

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
  Port "8125"
</Plugin>
<Plugin write_prometheus>
  Host "127.0.0.1"
  Port "9103"
</Plugin>
""".format(here))


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


def listens():
    try:
        socket.create_connection(("127.0.0.1", 9103), timeout=5).close()
        return True
    except OSError:
        return False


def started():
    log = open("collectd.log", "w")
    libraries = dict(os.environ, LD_LIBRARY_PATH=here + "/usr/lib/x86_64-linux-gnu")
    one = subprocess.Popen(["usr/sbin/collectd", "-f", "-C", "collectd.conf"], stdout=log, stderr=log, env=libraries)
    for _ in range(240):
        said = open("collectd.log").read()
        if "Initialization complete" in said:
            return one, said
        time.sleep(0.25)
    one.kill()
    print("not seen: collectd did not start:", said[-300:])
    raise SystemExit(2)


def seen(what, one):
    result = what, listens(), one.poll() is None
    print("{}: listens {}, runs {}".format(*result))
    return result


ip("link", "set", "lo", "up")
one, said = started()
print(*[line for line in said.splitlines() if "write_prometheus" in line], sep="\n")
first = seen("only loopback has an address", one)
ip("link", "add", "network", "type", "veth", "peer", "name", "other")
ip("address", "add", "192.0.2.1/24", "dev", "network")
for end in "network", "other":
    ip("link", "set", end, "up")
time.sleep(10)
later = seen("ten seconds after another address came", one)
one.terminate()
one.wait()
one, _ = started()
again = seen("started again", one)
one.terminate()
one.wait()
print("guess: it listens in all three cases")
known = [first[1:], later[1:], again[1:]] == [(False, True), (False, True), (True, True)]
print("as known: it runs, and does not listen until it is started again" if known else "CHANGED")
raise SystemExit(not known)
PY
unshare -rn python3 ask.py 2>errors && exit
status=$?
[ -s errors ] || exit "$status"
tail -n 3 errors
exit 2
