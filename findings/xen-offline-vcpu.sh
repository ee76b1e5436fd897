#!/bin/bash
# A vcpu goes offline. What do xl list and xentop show?
# Guess: both show one vcpu less; or both still show it. xentop -v lists every vcpu, so that its times add up to CPU(sec).
# Seen: the column VCPUs of xl list counts the vcpus that are online, VCPUS of xentop all. CPU(sec) keeps the time of the
# offline one, but xentop -v does not list it: that time is in no line. Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 plain <<'SH'
show() {
    echo "$1: xl list $(xl list 0 | awk '$1 == "Domain-0" { print $4 }')," \
        "xentop $(xentop -b -f -i 1 | awk '$1 == "Domain-0" { print $9 }')," \
        "xentop -v lists" $(xentop -b -f -v -i 1 | sed -n 's/^VCPUs(sec)://p' | grep -oE '[0-9]+:' | tr -d ':')
}
show 'two online'
echo 0 >/sys/devices/system/cpu/cpu1/online
until_true 'xl vcpu-list 0 | grep -q -e --p'
show 'one offline'
SH
cat "$seen"
cat >"$tmp/known" <<'END'
two online: xl list 2, xentop 2, xentop -v lists 0 1
one offline: xl list 1, xentop 2, xentop -v lists 0
END
echo "guess: xl list and xentop agree, and xentop -v lists 0 1"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: xl counts what is online, xentop all, xentop -v lists what is online"
