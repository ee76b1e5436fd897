#!/bin/bash
# VictoriaMetrics: two values of a gauge in one step of its Graphite API.
# victoria-metrics 1.112.0 (Debian 13; 1.145.0 of sid does the same). A gauge changes from 0 to 1, and is sent twice in
# ten seconds (a poll every 5 seconds, or two daemons).
# Good guess: the last value, 1, as in a slot of a whisper file.
# Seen: the mean, 0.5: a state that is 0 or 1 is neither. consolidateBy(series, "last") does not change it;
# storage_step=5s shows both values.
# Needs apt-get, dpkg-deb, python3 on an amd64 Debian, but no root, and nothing is installed.
# Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
# shellcheck source=lib/apt.sh
. "$(dirname "$0")/lib/apt.sh"
unseen() { echo "not seen: $1"; exit 2; }
tmp=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; wait; rm -rf "$tmp"' EXIT
cd "$tmp"
sources trixie
apt update
apt download victoria-metrics=1.112.0+ds1-2
for deb in ./*.deb; do dpkg-deb -x "$deb" .; done

read -r http graphite < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
usr/bin/victoria-metrics -storageDataPath=data -retentionPeriod=1y -search.latencyOffset=0s \
    -httpListenAddr="127.0.0.1:$http" -graphiteListenAddr="127.0.0.1:$graphite" 2>log &
server=$!
cat >ask.py <<'PY'
import json, socket, sys, time
from urllib.parse import urlencode
from urllib.request import urlopen

HTTP, GRAPHITE = "http://127.0.0.1:" + sys.argv[1], int(sys.argv[2])
START = int(time.time()) // 60 * 60 - 1200


def ask(path, **query):
    return urlopen(HTTP + path + "?" + urlencode(query), timeout=20).read()


def until(what, happens):
    for _ in range(300):
        try:
            if happens():
                return
        except OSError:
            pass
        time.sleep(0.1)
    print("not seen:", what)
    raise SystemExit(2)


def store(points):
    """{NAME: [(seconds after START, value)]}, by the Graphite protocol."""
    lines = ["%s %s %d\n" % (name, value, START + at) for name, all in points.items() for at, value in all]
    with socket.create_connection(("127.0.0.1", GRAPHITE)) as server:
        server.sendall("".join(lines).encode())
    query = {"match[]": "{__name__!=\"\"}", "start": START - 1, "end": START + 1200}

    def stored():
        ask("/internal/force_flush")
        series = [json.loads(line) for line in ask("/api/v1/export", **query).splitlines()]
        return sum(len(one["values"]) for one in series) == len(lines)

    until("what was sent is stored", stored)


def render(target, seconds, **more):
    """Values and times of what the Graphite API answers."""
    window = {"from": START - 1, "until": START + seconds - 1}
    series = json.loads(ask("/render", target=target, format="json", **window, **more))[0]["datapoints"]
    return [value for value, _ in series], [at - START for _, at in series]


until("the server answers", lambda: ask("/health"))
store({"state": [(1, 0), (6, 1), (11, 1), (16, 1)]})
plain, _ = render("state", 20)
last, _ = render("consolidateBy(state, \"last\")", 20)
both, _ = render("state", 20, storage_step="5s")
print("state:", plain, "(guess: 1, 1)")
print("consolidateBy last:", last, "(guess: 1, 1), with storage_step=5s:", both)
known = plain == last == [0.5, 1] and both[:2] == [0, 1]
print("as known: the mean" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py "$http" "$graphite" 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
