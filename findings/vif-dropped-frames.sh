#!/bin/bash
# What makes the rx drop counter of a VIF grow, that is, of what the guest sent?
# Guess: what dom0 does not pass on, for want of buffers or as a firewall forbids it; not a frame of an odd kind, which
# is counted as received and nothing more.
# Seen: the reverse. What a firewall drops is counted as received, and in no drop column. What counts as dropped is each
# frame that no one in dom0 has asked for: any unknown EtherType on a VIF without a bridge, and even on a bridge's port
# the LLDP frames that a guest's lldpd sends every half minute, as bridges do not forward those.
# Linux 6.18.44: of 100 frames each: firewall 0, unknown EtherType 100 (on a bridge 0), LLDP on a bridge 100.
# Needs: see lib/vif.sh; nft. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
# shellcheck source=/dev/null
. "$(dirname "$0")/lib/vif.sh"
changed=
hundred() { # WHAT DESTINATION ETHERTYPE EXPECTED GUESS: the guest sends 100 frames
    local packets drop before_packets before_drop
    read -r before_packets before_drop _ < <(counters vif9.0)
    frames eth0 "$2" "$3" 100
    sleep 0.5
    read -r packets drop _ < <(counters vif9.0)
    echo "$1: 100 sent; rx packets $((packets - before_packets)), rx drop $((drop - before_drop)) (guess: $5)"
    [ "$((packets - before_packets)) $((drop - before_drop))" = "100 $4" ] || changed=1
}
echo "Linux $(uname -r)"
nft add table netdev t || unseen "nft"
nft add chain netdev t c '{ type filter hook ingress device "vif9.0" priority 0; policy drop; }'
hundred "dropped by a firewall" ffffffffffff 88b5 0 100
nft delete table netdev t
hundred "unknown EtherType, no bridge" ffffffffffff 88b5 100 0
ip link add xenbr0 type bridge
ip link set xenbr0 up
ip link set vif9.0 master xenbr0
hundred "unknown EtherType, on a bridge" ffffffffffff 88b5 0 0
hundred "LLDP, on a bridge" 0180c200000e 88cc 100 0
[ -z "$changed" ] || { echo "CHANGED"; exit 1; }
echo "as known"
