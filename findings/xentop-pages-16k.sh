#!/bin/bash
# An arm64 dom0 whose kernel has pages of 16 KiB (linux-image-arm64-16k of Debian). Memory by xentop and by xl.
# Guess: the same. Xen's pages are 4 KiB whatever the kernel's are, and both tools ask the same Xen.
# Seen: xentop shows four times as much, for each domain as for the host: libxenstat multiplies Xen's number of pages
# by sysconf(_SC_PAGE_SIZE), the kernel's. Only MEM(%) is right. Xen 4.20.4+63 (arm64), Linux 6.12.
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 pages=16k <<'SH'
echo "Domain-0 by xl list: $(xl list | awk '$2 == 0 { print $3 * 1024 }') KiB"
echo "Domain-0 by xentop: $(xentop -b -f -i 1 | awk '$1 == "Domain-0" { print $5 " KiB, " $6 }') %"
echo "host by xl info: $(xl info | awk '$1 == "total_memory" { print $3 * 1024 }') KiB"
screen() { xentop -f -d 1 -i 1 </dev/null 2>/dev/null | tr '\033' '\n'; }
echo "host by xentop: $(screen | sed -n 's/.*Mem: \([0-9]*\)k.*/\1/p' | head -n 1) KiB"
SH
cat "$seen"
cat >"$tmp/known" <<'END'
Domain-0 by xl list: 1048576 KiB
Domain-0 by xentop: 4194304 KiB, 50.0 %
host by xl info: 2097152 KiB
host by xentop: 8388608 KiB
END
echo "guess: 1048576 and 2097152 KiB by both"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: four times as much by xentop"
