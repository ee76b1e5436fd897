# shellcheck shell=bash
# Sourced by the scripts on network interfaces: two network namespaces that end with the script. The script's own one is
# dom0, with vif9.0; the other one is the guest, with eth0. The two are a veth pair, which the kernel's network stack
# treats as it treats a VIF. Needs root, unshare, nsenter, ip and python3.
if [ "${1-}" != inside ]; then exec unshare -n "$0" inside; fi
unseen() {
    echo "not seen: $*"
    exit 2
}
unshare -n sleep 3600 <&- &
guest=$!
trap 'kill "$guest"' EXIT
for _ in {1..100}; do
    [ "$(readlink "/proc/$guest/ns/net")" = "$(readlink /proc/$$/ns/net)" ] || break
    sleep 0.1
done
guest() { nsenter -t "$guest" -n "$@"; }
# No IPv6, so that the kernel sends nothing by itself.
for side in "" guest; do $side sh -c 'echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6' || true; done
ip link add vif9.0 type veth peer name eth0 netns "$guest" || unseen "a veth pair"
guest ip link set eth0 up
ip link set vif9.0 up
until ip -o link show vif9.0 | grep -q LOWER_UP; do sleep 0.1; done

counters() { # INTERFACE: rx packets, rx drop, tx packets, tx drop of /proc/net/dev
    sed -n "s/^ *$1: *//p" /proc/net/dev | awk '{ print $2, $4, $10, $12 }'
}

frames() { # INTERFACE DESTINATION ETHERTYPE NUMBER: sends such frames from the interface, which is vif9.0 or eth0
    local where=env
    [ "$1" != eth0 ] || where=guest
    "$where" python3 "$(dirname "${BASH_SOURCE[0]}")/frames.py" "$@"
}
