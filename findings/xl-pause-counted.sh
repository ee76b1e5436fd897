#!/bin/bash
# A guest that is paused already is paused once more. Does one xl unpause let it run?
# Guess: yes. Paused is a state, in xl list as in xentop, so the second xl pause changes nothing.
# Seen: no. Xen counts the pauses of the toolstack, one for xl create -p too: each needs an xl unpause of its own, and
# neither xl list nor xentop shows how many are left. One unpause too many prints an error, and xl exits with 0.
# Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 guest <<'SH'
show() {
    in_xl=$(xl list | awk '$1 == "web" { print ($5 ~ /p/) ? "paused" : "not paused" }')
    in_xentop=$(xentop -b -f -i 1 | awk '$1 == "web" { print ($2 ~ /p/) ? "paused" : "not paused" }')
    echo "$1: $in_xl, $in_xentop"
}
guest web paused
show 'xl create -p'
for command in pause unpause unpause unpause; do
    xl $command web 2>/errors
    show "xl $command (exit code $?, $(grep -c error /errors) errors)"
done
SH
cat "$seen"
cat >"$tmp/known" <<'END'
xl create -p: paused, paused
xl pause (exit code 0, 0 errors): paused, paused
xl unpause (exit code 0, 0 errors): paused, paused
xl unpause (exit code 0, 0 errors): not paused, not paused
xl unpause (exit code 0, 1 errors): not paused, not paused
END
echo "guess: not paused from the first xl unpause on"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: it takes as many xl unpause as there were pauses, that of xl create -p included"
