#!/bin/bash
# carbon-c-relay: an aggregation over lines with Graphite tags.
# carbon-c-relay 3.7.3 (Debian 13). A rule "aggregate ^xen\.mem_k every 5 seconds ... compute sum" gets three lines of
# one bucket: xen.mem_k 4, and xen.mem_k with tags 1 and 2. A match rule ^xen\.mem_k$ gets tagged lines too.
# Good guess: the sum is 7, as the rule matches all three; or tagged lines are refused and an error is logged.
# Seen: the sum is 4. Tagged lines are left out of each aggregation without a word, and passed on to the next rules.
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
apt download carbon-c-relay=3.7.3-2+b4
for deb in ./*.deb; do dpkg-deb -x "$deb" .; done
cat >ask.py <<'PY'
import socket, subprocess, threading, time

received, more = [], threading.Condition()


def serve(listener):
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=read, args=(connection,), daemon=True).start()


def read(connection):
    for line in connection.makefile():
        with more:
            received.append(line.split())
            more.notify()


sink = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(sink,), daemon=True).start()
held = socket.create_server(("127.0.0.1", 0))
port = held.getsockname()[1]
held.close()
with open("relay.conf", "w") as file:
    file.write("""listen type linemode 127.0.0.1:%d proto tcp ;
statistics submit every 60 seconds prefix with relay ;
cluster sink forward 127.0.0.1:%d ;
aggregate ^xen\\.mem_k
    every 5 seconds expire after 7 seconds
    compute sum write to sum.mem_k
    send to sink ;
match ^xen\\.mem_k$ send to sink stop ;
""" % (port, sink.getsockname()[1]))
with open("log", "w") as log:
    relay = subprocess.Popen(["usr/bin/carbon-c-relay", "-f", "relay.conf"], stdout=log, stderr=log)
try:
    for _ in range(100):
        try:
            client = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            time.sleep(0.1)
    else:
        print("not seen: the relay does not listen:", open("log").read()[-300:])
        raise SystemExit(2)
    at = int(time.time())
    lines = ["xen.mem_k 4", "xen.mem_k;domain=web01;host=x 1", "xen.mem_k;domain=web02;host=x 2"]
    client.sendall("".join("%s %d\n" % (line, at) for line in lines).encode())
    client.close()
    with more:
        more.wait_for(lambda: any(line[0].startswith("sum.") for line in received), timeout=60)
finally:
    relay.terminate()
    relay.wait()
sums = [line for line in received if line[0].startswith("sum.")]
passed = sorted(float(line[1]) for line in received if line[0].startswith("xen."))
if not sums or passed != [1, 2, 4]:
    print("not seen:", received, open("log").read()[-300:])
    raise SystemExit(2)
print("passed on by the match rule:", passed)
print("aggregated:", *sums, "(guess: 7)")
known = [(name, float(value)) for name, value, _ in sums] == [("sum.mem_k", 4)]
print("as known: tagged lines are not in the sum" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
