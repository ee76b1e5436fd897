#!/bin/bash
# In which order does xenstore-list /local/domain list the domains?
# Guess: as they were created, so ascending domids, with any xenstored.
# Seen: C xenstored: as they were created; what is removed and created again comes last. oxenstored: sorted as text, so
# 10 comes before 9. libxenstore and xenstore-ls keep the order that they get. C xenstored and oxenstored of
# Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 bare <<'SH'
cat >/check <<'CHECK'
for domid in 0 8 9 10 11; do xenstore-write "/local/domain/$domid/name" "vm$domid"; done
echo "created 0 8 9 10 11:" $(xenstore-list /local/domain)
xenstore-rm /local/domain/9
xenstore-write /local/domain/9/name again
echo "9 removed and created:" $(xenstore-list /local/domain)
CHECK
both sh /check
SH
cat "$seen"
cat >"$tmp/known" <<'END'
xenstored: created 0 8 9 10 11: 0 8 9 10 11
xenstored: 9 removed and created: 0 8 10 11 9
oxenstored: created 0 8 9 10 11: 0 10 11 8 9
oxenstored: 9 removed and created: 0 10 11 8 9
END
echo "guess: 0 8 9 10 11 with both"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: oxenstored sorts, C xenstored does not"
