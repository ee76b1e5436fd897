#!/bin/bash
# In which order does xentop -b list the domains?
# Guess: by domid, as xl list does, so Domain-0 is the first row; a script that skips it takes the rest.
# Seen: by name, without regard to upper and lower case. Domain-0 is somewhere among the guests, and a new guest shifts
# the rows of others. Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 guest <<'SH'
guest web paused
guest App paused
guest cache paused
echo xl list: $(xl list | awk '$2 ~ /^[0-9]+$/ { print $1 }')
echo xentop: $(xentop -b -f -i 1 | awk '$1 != "NAME" { print $1 }')
SH
cat "$seen"
cat >"$tmp/known" <<'END'
xl list: Domain-0 web App cache
xentop: App cache Domain-0 web
END
echo "guess: the same order"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: xentop sorts by name"
