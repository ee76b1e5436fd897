#!/bin/bash
# Graphite: keepLastValue(series, 3) on a gap of four slots.
# graphite-web 1.1.10, whisper 1.1.10.
# Good guess: the value is repeated for three slots, then null until the next value: at most 30 seconds old.
# Seen: nothing of that gap is filled; the limit is for the whole gap, and a longer one stays as it is. So at the end
# of a series that has stopped, the last value is there for three slots and then disappears from all three, afterwards.
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


store("x", [1, 2, None, None, None, None, 7, 8, None, None, None])
inside = render("keepLastValue(x, 3)", 8)
short = render("keepLastValue(x, 4)", 8)
end = [render("keepLastValue(x, 3)", n)[7:] for n in (10, 11, 12)]
print("limit 3:", inside, "(guess: 1, 2, 2, 2, 2, null, 7, 8)")
print("limit 4:", short)
print("at the end, 20 s, 30 s and 40 s after the last value:", end, "(guess: 8, 8, 8, 8, null)")
known = inside == [1, 2, None, None, None, None, 7, 8] and short == [1, 2, 2, 2, 2, 2, 7, 8]
known = known and end == [[8, 8, 8], [8, 8, 8, 8], [8, None, None, None, None]]
print("as known: a gap beyond the limit is not filled at all" if known else "CHANGED")
raise SystemExit(not known)
PY
v/bin/python ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
