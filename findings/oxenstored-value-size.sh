#!/bin/bash
# How long may a value be that dom0 writes to xenstore?
# Guess: what one message holds, 4096 bytes with the path, with any xenstored: the quotas are for guests.
# Seen: with C xenstored so. oxenstored takes 2048 bytes, from dom0 too: its quota of the size of an entry makes no
# exception for domain 0. C xenstored and oxenstored of Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 bare <<'SH'
cat >/check <<'CHECK'
text() { head -c "$1" /dev/zero | tr '\0' x; }
for size in 2048 2049 4000; do
    xenstore-write /t/value "$(text $size)" 2>/dev/null
    echo "$size bytes: exit code $?"
done
CHECK
both sh /check
SH
cat "$seen"
cat >"$tmp/known" <<'END'
xenstored: 2048 bytes: exit code 0
xenstored: 2049 bytes: exit code 0
xenstored: 4000 bytes: exit code 0
oxenstored: 2048 bytes: exit code 0
oxenstored: 2049 bytes: exit code 1
oxenstored: 4000 bytes: exit code 1
END
echo "guess: 4000 bytes are written by both"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: oxenstored refuses more than 2048 bytes"
