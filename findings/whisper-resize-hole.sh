#!/bin/bash
# whisper: what remains of the coarse archive after whisper-resize.py has made the fine one longer.
# whisper 1.1.10. A file of 10s:1h,1m:4h is full; it becomes 10s:2h,1m:2d; points go on coming for three hours (the
# clock that the library reads is moved).
# Good guess: nothing is lost, as both archives only become longer: all minutes of the past remain.
# Seen: the minutes between one and two hours before the change disappear: fifty of sixty or more. The coarse
# archive's points of that time are moved to the fine archive, one slot of six each, too few (xFilesFactor 0.5) to
# be in the coarse one as well; and as the fine archive moves on, they are overwritten. --aggregate does not help.
# Until then perSecond gives nothing for that hour either, as its points have no neighbours.
# Needs python3 with pip; downloads 50 kB. Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
unseen() { echo "not seen: $1"; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
python3 -m pip -q --disable-pip-version-check install --root-user-action=ignore --target lib \
    whisper==1.1.10 six==1.17.0 || unseen "packages could not be installed"
cat >ask.py <<'PY'
import subprocess, sys, time

import whisper

NOW, clock = int(time.time()) // 60 * 60, time.time


def write(path, since, until):
    """A point every 10 seconds, each written at its own time."""
    for at in range(since, until, 10):
        whisper.time.time = lambda: at
        whisper.update(path, at, at)
    whisper.time.time = clock


def minutes(path, since, until, now):
    """How many minutes of that time the file still has."""
    (_, _, step), values = whisper.fetch(path, since, until, now=now)
    at = since // step * step + step
    return len({(at + i * step) // 60 for i, value in enumerate(values) if value is not None})


counts = {}
for options in ([], ["--aggregate"]):
    path = "x%d.wsp" % len(options)
    whisper.create(path, [(10, 360), (60, 240)], 0.5, "last")
    write(path, NOW - 4 * 3600, NOW)
    before = minutes(path, NOW - 2 * 3600, NOW - 3600, NOW)
    resize = [sys.executable, "lib/bin/whisper-resize.py", path, "10s:2h", "1m:2d", *options]
    subprocess.run(resize, check=True, stdout=subprocess.DEVNULL)
    write(path, NOW, NOW + 3 * 3600)
    after = [minutes(path, NOW - hour * 3600, NOW - (hour - 1) * 3600, NOW + 3 * 3600) for hour in (3, 2, 1)]
    print("minutes of the hour from two hours before to one:", before, *options)
    print("the same, after the change and three hours more:", after[1], "(guess: 60)")
    print("the hour before that one, and the hour after it:", after[0], after[2])
    counts[len(options)] = before, after
known = all(before >= 59 and after[1] <= 10 and min(after[0], after[2]) >= 58 for before, after in counts.values())
print("as known: an hour is lost" if known else "CHANGED")
raise SystemExit(not known)
PY
PYTHONPATH=lib python3 ask.py 2>errors && exit
status=$?
grep -q Traceback errors || exit "$status"
tail -n 3 errors
exit 2
