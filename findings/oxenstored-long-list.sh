#!/bin/bash
# A directory of xenstore whose names take more than 4096 bytes, the most that one message holds: as /local/domain with
# more than 800 domains whose domids have four digits. Can xenstore-list show it?
# Guess: yes, with any xenstored. libxenstore asks for the rest when the answer is E2BIG (XS_DIRECTORY_PART).
# Seen: with C xenstored only. oxenstored puts all into one message, longer than the protocol allows; libxenstore
# refuses it. C xenstored and oxenstored of Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 python bare <<'SH'
cat >/fill.py <<'PY'
import sys
sys.path.insert(0, "/")
from xs import Client

client = Client()
for n in range(int(sys.argv[1]), int(sys.argv[2])):
    client.write(f"/many/domain{n:03}", "")
answer = client.ask("DIRECTORY", "/many\0")
print(f"{sys.argv[2]} names, answer to DIRECTORY: {answer if answer.isalnum() else len(answer)}")
PY
cat >/check <<'CHECK'
for names in '0 409' '409 410'; do
    python3.13 /fill.py $names
    xenstore-list /many >/listed 2>/dev/null
    echo "xenstore-list: exit code $?, $(wc -l </listed) names"
done
CHECK
both sh /check
SH
cat "$seen"
cat >"$tmp/known" <<'END'
xenstored: 409 names, answer to DIRECTORY: 4090
xenstored: xenstore-list: exit code 0, 409 names
xenstored: 410 names, answer to DIRECTORY: E2BIG
xenstored: xenstore-list: exit code 0, 410 names
oxenstored: 409 names, answer to DIRECTORY: 4090
oxenstored: xenstore-list: exit code 0, 409 names
oxenstored: 410 names, answer to DIRECTORY: 4100
oxenstored: xenstore-list: exit code 1, 0 names
END
echo "guess: 410 names with both"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: C xenstored lists 410 names, oxenstored sends a message that libxenstore refuses"
