#!/bin/bash
# Does a VIF's drop counter in dom0 show what a traffic shaper on it throws away? (tc qdisc add dev vif9.0 root tbf ...)
# Guess: yes, the packets to the guest that the shaper drops are in the drop column of /proc/net/dev and `ip -s link`.
# Seen: no. A shaper's drops are counted by `tc -s qdisc` alone; the interface's columns count what came through it. A
# guest that loses 99 % of its packets to its limit has a drop counter of 0.
# Linux 6.18.44: of 1000 packets some 990 dropped by tbf, column 0.
# Needs: see lib/vif.sh; tc, and tbf in the kernel. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
# shellcheck source=/dev/null
. "$(dirname "$0")/lib/vif.sh"
tc qdisc add dev vif9.0 root tbf rate 80kbit burst 3000 limit 3000 || unseen "tc's tbf"
frames vif9.0 ffffffffffff 88b5 1000
shaper=$(tc -s qdisc show dev vif9.0 | sed -n 's/.*(dropped \([0-9]*\),.*/\1/p')
read -r _ _ passed drop < <(counters vif9.0)
echo "Linux $(uname -r): 1000 packets sent to vif9.0"
echo "tc -s qdisc: dropped $shaper; /proc/net/dev: tx packets $passed, tx drop $drop (guess: $shaper)"
if [ "$shaper" -lt 500 ] || [ "$passed" -gt 500 ] || [ "$drop" != 0 ]; then
    echo "CHANGED"
    exit 1
fi
echo "as known"
