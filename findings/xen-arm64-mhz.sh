#!/bin/bash
# The MHz that xl info (cpu_mhz) and xentop ("CPUs: 2 @ ...MHz") show on arm64.
# Guess: the clock of the CPUs, as on x86, where it is that of the TSC.
# Seen: the frequency of the generic timer, the counter behind the clock, whatever the CPUs do: 24 MHz, which this
# machine was given (cntfrq). Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 plain <<'SH'
echo "xl info: $(xl info | awk '$1 == "cpu_mhz" { print $3 }')"
screen() { xentop -f -d 1 -i 1 </dev/null 2>/dev/null | tr '\033' '\n'; }
echo "xentop: $(screen | sed -n 's/.*CPUs: \([0-9]* @ [0-9]*MHz\).*/\1/p' | head -n 1)"
SH
cat "$seen"
cat >"$tmp/known" <<'END'
xl info: 24.000
xentop: 2 @ 24MHz
END
echo "guess: the clock of the emulated Neoverse N1, or nothing"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: cntfrq, the frequency of the generic timer, which this machine was given"
