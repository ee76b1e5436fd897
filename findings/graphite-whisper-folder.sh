#!/bin/bash
# graphite-web: it is started before carbon has stored its first metric, so that the folder whisper does not exist yet.
# graphite-web 1.1.10, whisper 1.1.10.
# Good guess: it answers with no series until the first metric is stored, and with that metric from then on.
# Seen: it never finds a metric, without a message, until it is started again. It looks for the folder only at its start.
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
mkdir -p conf storage/log/webapp
export GRAPHITE_ROOT=$tmp GRAPHITE_STORAGE_DIR=$tmp/storage DJANGO_SETTINGS_MODULE=graphite.settings
cat >ask.py <<'PY'
import json, os, sys, time
import django, whisper
from django.conf import settings

settings.DATABASES["default"]["NAME"] = ":memory:"
settings.FIND_CACHE_DURATION = 0
django.setup()
from django.test import Client


def names():
    """What Graphite's own web application finds."""
    answer = Client().get("/render", {"target": "stats.*", "format": "json", "noCache": 1, "from": "-10min"})
    return [one["target"] for one in json.loads(answer.content)]


if sys.argv[1] == "first":
    before = names()
    # As carbon does it.
    os.makedirs("storage/whisper/stats")
    whisper.create("storage/whisper/stats/x.wsp", [(10, 360)])
    whisper.update("storage/whisper/stats/x.wsp", 7, int(time.time()) - 20)
    print("before the first metric:", before, "(guess: none)")
    running, know = names(), []
    print("after it:", running, "(guess: stats.x)")
else:
    running, know = names(), ["stats.x"]
    print("graphite-web started again:", running)
raise SystemExit(running != know)
PY
set +e
v/bin/python ask.py first 2>errors && v/bin/python ask.py again 2>errors
status=$?
if grep -q Traceback errors; then tail -n 3 errors; exit 2; fi
[ "$status" = 0 ] && echo "as known: it has to be started again" || echo CHANGED
exit "$status"
