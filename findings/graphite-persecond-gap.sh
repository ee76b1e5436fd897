#!/bin/bash
# Graphite: perSecond of a counter that is stored at every second slot of its archive.
# graphite-web 1.1.10, whisper 1.1.10. A counter that grows by 10 per second is stored every 20 seconds; the archive
# has slots of 10 seconds. (So it is when a poll takes place every 20 seconds and the schema says 10s, and the server
# in between forgets gauges at each flush.)
# Good guess: null, and every 20 seconds 10 per second, since that is the difference by the time between.
# Seen: null everywhere. perSecond needs two neighbouring slots; after a gap there is no difference to a value before
# it. After a gap in a full series the first rate is missing too. compressPeriodicGaps finds the true step.
# Needs Python 3.8 to 3.11 with pip and venv, and the library libcairo.so.2; downloads some 15 MB of Python packages.
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
    graphite-web==1.1.10 whisper==1.1.10 Django==3.0.14 django-tagging==0.4.3 cairocffi==1.7.1 \
    pyparsing==3.1.4 pytz==2024.2 sqlparse==0.5.1 six==1.17.0 urllib3==2.2.3 || unseen "packages could not be installed"
mkdir -p conf storage/whisper storage/log/webapp
export GRAPHITE_ROOT=$tmp GRAPHITE_STORAGE_DIR=$tmp/storage DJANGO_SETTINGS_MODULE=graphite.settings
cat >ask.py <<'PY'
import json, time
import django, whisper
from django.conf import settings

settings.DATABASES["default"]["NAME"] = ":memory:"
django.setup()
from django.test import Client

STEP, START = 10, int(time.time()) // 60 * 60 - 1200


def store(name, values):
    """One value for each 10 seconds; None: nothing was stored."""
    path = "storage/whisper/%s.wsp" % name
    whisper.create(path, [(STEP, 720)])
    points = [(START + i * STEP, v) for i, v in enumerate(values) if v is not None]
    whisper.update_many(path, points)


def render(target, count):
    """What Graphite's own web application answers."""
    window = {"from": START - 1, "until": START + count * STEP - 1}
    answer = Client().get("/render", {"target": target, "format": "json", "noCache": 1, **window})
    return [value for value, _ in json.loads(answer.content)[0]["datapoints"]]


store("half", [1000, None, 1200, None, 1400, None, 1600, None, 1800, None, 2000, None])
store("gap", [100, 200, 300, None, None, 600, 700, 800])
half = render("perSecond(half)", 12)
gap = render("perSecond(gap)", 8)
packed = render("perSecond(compressPeriodicGaps(half))", 12)
print("every second slot:", half, "(guess: 10.0 at every second slot)")
print("a gap of two slots:", gap, "(guess: 10.0 at the sixth, too)")
print("with compressPeriodicGaps:", packed)
known = not any(half) and gap == [None, 10, 10, None, None, None, 10, 10] and 10 in packed
print("as known: no rate across a gap" if known else "CHANGED")
raise SystemExit(not known)
PY
v/bin/python ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
