#!/bin/bash
# Graphite: diffSeries(total, used) where the total is missing.
# graphite-web 1.1.10, whisper 1.1.10. Total memory 100, used memory 30; each misses one value.
# Good guess: null, since nothing is known there.
# Seen: 30, the used memory itself, shown as if it were the free: nulls are dropped first, and the first series that is
# left counts as positive. Where the used memory is missing, all memory is free. If the total does not exist at all
# (its host is renamed), the result is the used memory throughout. (multiplySeries, in contrast, gives null.)
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


store("total", [100, 100, None, 100, 100])
store("used", [30, 30, 30, None, 30])
free = render("diffSeries(total, used)", 5)
absent = render("diffSeries(nosuch, used)", 5)
product = render("multiplySeries(total, used)", 5)
print("free:", free, "(guess: 70, 70, null, null, 70)")
print("the total does not exist:", absent, "(guess: no series, or nulls)")
print("multiplySeries:", product)
known = free == [70, 70, 30, 100, 70] and absent == [30, 30, 30, None, 30]
known = known and product == [3000, 3000, None, None, 3000]
print("as known: used memory in place of the free" if known else "CHANGED")
raise SystemExit(not known)
PY
v/bin/python ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
