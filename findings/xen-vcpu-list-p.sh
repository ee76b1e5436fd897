#!/bin/bash
# What does the p in the State of `xl vcpu-list` mean?
# Guess: paused, as in `xl list` and xentop: each vcpu of a paused domain has it.
# Seen: it means that the vcpu is offline. The vcpus of a paused domain have no letter (---); a vcpu that the running
# Domain-0 has unplugged, or that a guest has not started yet, has --p. Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 guest <<'SH'
guest web paused 'vcpus = 2'
echo 0 >/sys/devices/system/cpu/cpu1/online
until_true 'xl list 0 | grep -q " 1  *r"'
echo "paused web, xl list: $(xl list web | awk '$1 == "web" { print $5 }')"
echo "paused web, its online vcpu: $(xl vcpu-list web | awk '$3 == 0 { print $5 }')"
echo "paused web, its other vcpu: $(xl vcpu-list web | awk '$3 == 1 { print $5 }')"
echo "Domain-0, its offline vcpu: $(xl vcpu-list 0 | awk '$3 == 1 { print $5 }')"
SH
cat "$seen"
cat >"$tmp/known" <<'END'
paused web, xl list: --p---
paused web, its online vcpu: ---
paused web, its other vcpu: --p
Domain-0, its offline vcpu: --p
END
echo "guess: both vcpus of web --p, the offline one of Domain-0 ---"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: p is an offline vcpu, not a paused one"
