#!/bin/bash
# xenstored is replaced while programs are connected to its socket. Do they have to connect again?
# Guess: yes. The process that they talk to is gone, libxenstore does not reconnect, and xentop shows no domains from
# then on, as it does when xenstored is killed. "xenstored cannot be restarted."
# Seen: no. `xenstore-control live-update` hands the open sockets to the new program, and a xentop that runs all the
# while lists Domain-0 in every table. C xenstored of Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 plain <<'SH'
xentop -b -f -d 1 -i 1000 >/tables &
xentop=$!
rows() { awk '$1 == "NAME" { tables++ } $1 == "Domain-0" { rows++ } END { print tables + 0, rows + 0 }' /tables; }
until_true '[ "$(rows | cut -d " " -f 1)" -ge 3 ]'
started=$(tr '\0' ' ' <"/proc/$(cat /run/xenstored.pid)/cmdline")
xenstore-control live-update /usr/lib/xen-4.20/bin/xenstored
at=$(rows | cut -d ' ' -f 1)
echo "xenstored before: $started"
echo "xenstored after: $(tr '\0' ' ' <"/proc/$(cat /run/xenstored.pid)/cmdline")"
until_true "[ \"\$(rows | cut -d ' ' -f 1)\" -ge $((at + 5)) ]"
kill $xentop
echo "after $at tables five more: $(rows)"
SH
cat "$seen"
echo "guess: tables without Domain-0"
read -r tables rows <<<"$(sed -n 's/^after .* five more: //p' "$seen")" || true
if ! grep -q '^xenstored after: .* -U' "$seen"; then cannot "xenstored was not replaced"; fi
# The last table may be unfinished.
if [ "${tables:-0}" -lt 8 ] || [ $((tables - rows)) -gt 1 ]; then
    echo "CHANGED"
    exit 1
fi
echo "as known: $rows of $tables tables list it"
