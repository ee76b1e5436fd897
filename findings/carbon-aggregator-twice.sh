#!/bin/bash
# carbon-aggregator: the sum of gauges when one of them arrives twice in a bucket.
# carbon 1.1.10 (carbon-c-relay 3.7.3 does the same). The rule sums mem_k of all domains every 5 seconds. In one bucket
# web01 has 100 and then 150, web02 has 7. (So it is when a flush comes a little early, or at a shorter interval.)
# Good guess: 157: each domain counts once, with its latest value.
# Seen: 257: each value counts, so the host seems to use more memory than it does. A value that comes late, when
# the sum has been sent, is added to that sum, and it is sent again, larger.
# Needs Python 3.8 to 3.11 with pip and venv; downloads some 10 MB of Python packages.
# Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
unseen() { echo "not seen: $1"; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
for python in python3.11 python3.10 python3.9 python3.8 python3; do
    "$python" -c 'import sys; sys.exit(not (3, 8) <= sys.version_info < (3, 12))' 2>/dev/null && break
    python=
done
[ "$python" ] || unseen "there is no Python 3.8 to 3.11"
"$python" -m venv v || unseen "no virtual environment could be made"
GRAPHITE_NO_PREFIX=True v/bin/pip -q --disable-pip-version-check install \
    carbon==1.1.10 whisper==1.1.10 Twisted==24.3.0 txAMQP==0.8.2 cachetools==5.3.3 urllib3==2.2.3 six==1.17.0 ||
    unseen "packages could not be installed"
cat >ask.py <<'PY'
import os, socket, subprocess, sys, threading, time

HERE = os.getcwd()


def free():
    with socket.create_server(("127.0.0.1", 0)) as held:
        return held.getsockname()[1]


def write(name, text):
    with open(name, "w") as file:
        file.write(text)


def until(what, happens):
    for _ in range(300):
        try:
            if happens():
                return
        except OSError:
            pass
        time.sleep(0.1)
    print("not seen:", what, open("log").read()[-500:])
    raise SystemExit(2)


def send(port, lines):
    with socket.create_connection(("127.0.0.1", port)) as server:
        server.sendall("".join(line + "\n" for line in lines).encode())
    return True


def run(program):
    command = [sys.executable, "v/bin/" + program, "--config=carbon.conf", "--nodaemon", "--pidfile=pid", "start"]
    with open("log", "w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ, GRAPHITE_ROOT=HERE))


line, pickle = free(), free()
sink = socket.create_server(("127.0.0.1", 0))
received = []


def serve():
    while True:
        connection, _ = sink.accept()
        threading.Thread(target=read, args=(connection,), daemon=True).start()


def read(connection):
    for text in connection.makefile():
        if text.startswith("all."):
            received.append(text.split())


threading.Thread(target=serve, daemon=True).start()
write("carbon.conf", """[aggregator]
LOG_DIR = %s
CONF_DIR = %s
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = %d
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = %d
FORWARD_ALL = False
DESTINATIONS = 127.0.0.1:%d:a
DESTINATION_PROTOCOL = line
MAX_AGGREGATION_INTERVALS = 20
""" % (HERE, HERE, line, pickle, sink.getsockname()[1]))
write("aggregation-rules.conf", "all.<host>.mem_k (5) = sum xen.<host>.<domain>.mem_k\n")
write("rewrite-rules.conf", "")
write("storage-schemas.conf", "[default]\npattern = .*\nretentions = 60s:1d\n")
carbon = run("carbon-aggregator.py")
try:
    until("carbon listens", lambda: send(line, []))
    bucket = int(time.time()) // 5 * 5
    values = ("web01", 100, 0), ("web01", 150, 2), ("web02", 7, 0)
    send(line, ["xen.xen1.%s.mem_k %d %d" % (domain, value, bucket + at) for domain, value, at in values])
    until("a sum arrives", lambda: received)
    send(line, ["xen.xen1.web03.mem_k 1000 %d" % (bucket + 1)])
    until("a second sum arrives", lambda: len(received) > 1)
finally:
    carbon.terminate()
    carbon.wait()
sums = [float(value) for _, value, _ in received]
same = {int(at) for _, _, at in received} == {bucket}
print("sum:", sums[0], "(guess: 157), and after a late value of 1000:", sums[1], "of the same time:", same)
known = sums[:2] == [257, 1257] and same
print("as known: every value counts" if known else "CHANGED")
raise SystemExit(not known)
PY
v/bin/python ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
