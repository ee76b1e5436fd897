#!/bin/bash
# xentop -b -d 0.5: how often does it print a table?
# Guess: every half second; or an error, as its help says "seconds". And -d 1.9 is nearly two seconds.
# Seen: -d 0.5 is -d 0, a table as soon as the last one is printed. -d 1.9 is one second. The
# number is read up to the first character that is no digit, without a word. Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 plain <<'SH'
# Tables within 20 seconds.
tables() { echo "$1 $(timeout 20 xentop -b -d "$1" | grep -c '^ *NAME ')"; }
tables 0.5
tables 1
tables 1.9
SH
cat "$seen"
echo "guess: 40, 20 and 10 tables in 20 seconds"
read -r half one nearly_two <<<"$(awk '{ printf "%s ", $2 }' "$seen")" || true
[ "${one:-0}" -ge 15 ] || cannot "the machine is too slow for a table a second"
if [ "$half" -le 60 ] || [ "$nearly_two" -lt 15 ]; then
    echo "CHANGED"
    exit 1
fi
echo "as known: 0.5 is no pause at all, 1.9 is one second"
