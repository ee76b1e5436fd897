#!/bin/bash
# xenstore-write local/domain/0/x 5, run in dom0 with a path that does not begin with /. What happens?
# Guess: an error, as there is no current directory: relative paths are for guests, whose connection has a domain; the
# socket in dom0 belongs to no domain.
# Seen: it is written below /local/domain/0, by both xenstoreds, and xenstore-read finds it there by the same path. A
# forgotten / is no error, but another node. Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 bare <<'SH'
cat >/check <<'CHECK'
xenstore-write local/domain/0/x 5 2>&1
echo "exit code $?:" $(xenstore-ls -f / 2>/dev/null | grep 'x = "5"')
echo "read by the same path: $(xenstore-read local/domain/0/x 2>&1)"
CHECK
both sh /check
SH
cat "$seen"
cat >"$tmp/known" <<'END'
xenstored: exit code 0: /local/domain/0/local/domain/0/x = "5"
xenstored: read by the same path: 5
oxenstored: exit code 0: /local/domain/0/local/domain/0/x = "5"
oxenstored: read by the same path: 5
END
echo "guess: an error"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: below /local/domain/0"
