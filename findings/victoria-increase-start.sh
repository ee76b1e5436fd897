#!/bin/bash
# VictoriaMetrics: increase() of a counter that was not at 0 when it was first seen.
# victoria-metrics 1.112.0 (Debian 13; 1.145.0 of sid does the same). Two counters are sent for the first time while
# they run: one is at 1000 and grows by 10 at each step, the other is at 1000 and grows by 200. (So it is for each
# domain when xenmonitor starts on a host, or a host gets another name.)
# Good guess: 40 and 800, since what was before the first value is unknown; Prometheus answers so, too.
# Seen: 40 and 1800. If the first value is not much more than the difference to the next (some ten times), the counter
# is taken to have begun at 0, and its first value is part of the increase. rate() leaves it out.
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
store({name: [(10 * i, 1000 + step * i) for i in range(5)] for name, step in (("slow", 10), ("fast", 200))})


def query(text):
    result = json.loads(ask("/api/v1/query", query=text, time=START + 40))["data"]["result"]
    return float(result[0]["value"][1])


slow, fast = query("increase(slow[2m])"), query("increase(fast[2m])")
rate = query("rate(fast[2m])")
print("1000, 1010 ... 1040: increase", slow, "(guess: 40)")
print("1000, 1200 ... 1800: increase", fast, "(guess: 800), rate", rate)
known = (slow, fast, rate) == (40, 1800, 20)
print("as known: a first value that is small counts as an increase" if known else "CHANGED")
raise SystemExit(not known)
PY
python3 ask.py "$http" "$graphite" 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
