#!/bin/bash
# A value with a backslash, and one with a letter beyond ASCII, by xenstore-write and xenstore-read.
# Guess: values are bytes, and the tools take and print them as they are: C:\new stays C:\new, and ü stays ü.
# Seen: xenstore-write C:\new stores a newline in place of \n, but ü as it is. xenstore-read prints \xc3\xbc for ü, and
# two backslashes for one. Only with -R either leaves all bytes alone. xl list and xentop always show the
# bytes, so a domain's name differs between them and xenstore-read. Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 plain <<'SH'
xenstore-write /t/path 'C:\new'
echo "C:\\new written: $(xenstore-read -R /t/path | od -An -c | tr -s ' ')"
xenstore-write /t/letter ü
echo "ü written: $(xenstore-read -R /t/letter | od -An -tx1)"
xenstore-write -R /t/raw 'C:\new'
echo "with -R: $(xenstore-read -R /t/raw | od -An -c | tr -s ' ')"
xenstore-write -R /t/name 'bü\'
echo "read: $(xenstore-read /t/name)"
echo "with -R: $(xenstore-read -R /t/name | od -An -tx1)"
xenstore-write -R /local/domain/0/name 'bü\'
echo "xl list: $(xl list | awk '$2 == 0 { printf "%s", $1 }' | od -An -tx1)"
echo "xentop: $(xentop -b -f -i 1 | awk '$1 != "NAME" { printf "%s", $1 }' | od -An -tx1)"
SH
cat "$seen"
cat >"$tmp/known" <<'END'
C:\new written:  C : \n e w
ü written:  c3 bc
with -R:  C : \ n e w
read: b\xc3\xbc\\
with -R:  62 c3 bc 5c
xl list:  62 c3 bc 5c
xentop:  62 c3 bc 5c
END
echo "guess: C : \\ n e w, and the bytes of the name, with and without -R"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: without -R what is read is neither what was written nor what xl list and xentop show"
