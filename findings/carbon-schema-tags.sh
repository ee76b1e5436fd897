#!/bin/bash
# carbon: a storage schema whose pattern ends with the name, and metrics with Graphite tags.
# carbon 1.1.10, whisper 1.1.10. The schema says \.mem_k$, with 7 seconds; all else gets 60 seconds.
# Good guess: it is for xen.mem_k;host=x;domain=web01 as well, since the tags are no part of the name.
# Seen: a tagged metric gets the 60 seconds: the pattern is searched for in name and tags together, tags sorted by key.
# So $ means the end of the last tag. The same pattern finds tagged lines in a match rule of carbon-c-relay 3.7.3.
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


import glob

import whisper

line, pickle, query = free(), free(), free()
write("carbon.conf", """[cache]
LOCAL_DATA_DIR = %s/whisper
LOG_DIR = %s
CONF_DIR = %s
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = %d
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = %d
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = %d
MAX_CREATES_PER_MINUTE = inf
ENABLE_TAGS = False
CARBON_METRIC_INTERVAL = 0
""" % (HERE, HERE, HERE, line, pickle, query))
write("storage-schemas.conf", """[memory]
pattern = \\.mem_k$
retentions = 7s:700s
[default]
pattern = .*
retentions = 60s:1d
""")
carbon = run("carbon-cache.py")


def files():
    return glob.glob("whisper/**/*.wsp", recursive=True)


try:
    lines = ["%s 5 %d" % (name, time.time()) for name in ("xen.web01.mem_k", "xen.mem_k;host=x;domain=web01")]
    until("carbon listens", lambda: send(line, lines))
    until("both files are there", lambda: len(files()) == 2)
finally:
    carbon.terminate()
    carbon.wait()
steps = {}
for path in files():
    steps["tagged" if "_tagged" in path else "plain"] = whisper.info(path)["archives"][0]["secondsPerPoint"]
print("seconds of the first archive:", steps, "(guess: 7 for both)")
known = steps == {"plain": 7, "tagged": 60}
print("as known: the end of the pattern is the end of the tags" if known else "CHANGED")
raise SystemExit(not known)
PY
v/bin/python ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
