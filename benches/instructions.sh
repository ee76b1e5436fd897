#!/bin/sh
# Instructions of a steady poll of 1000 domains, counted by callgrind: the same whatever else the machine does.
# usage: instructions.sh NEW SHIM
set -eu
scratch=$(mktemp -d)
# A server that reads.
python3 -c 'import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
while True: s.recv(65536)' >"$scratch/port" &
trap 'kill $!; rm -rf "$scratch"' EXIT
until [ -s "$scratch/port" ]; do sleep 0.1; done
cat >"$scratch/host.toml" <<HOST
[[domain]]
id = 0
name = "Domain-0"
cpu_ns = { per_poll = "250ms" }
[[domain]]
id = 1
count = 999
name = "vm{i}"
vcpus = 2
cpu_ns = { start = "100s", per_poll = "150us", per_domain = "1s" }
[[domain.network]]
rbytes = { start = 100000, per_poll = 1000 }
[[domain.vbd]]
rd_reqs = { start = 1000, per_poll = 10 }
rd_sects = { start = 8000, per_poll = 80 }
HOST

# The instructions of so many polls. The first polls allocate what later ones use again.
count() {
    polls=$1
    shift
    XENSTAT_SCENARIO=$scratch/host.toml valgrind --tool=callgrind --callgrind-out-file=/dev/null "$new" \
        --libxenstat "$shim" --vifs libxenstat --host h --log off --statsd "udp://127.0.0.1:$(cat "$scratch/port")" \
        --interval 200ms --count "$polls" "$@" 2>&1 | sed -n 's/.*Collected : //p'
}

new=$1 shim=$2
echo '| a poll of 1000 domains | million instructions | goal |'
echo '|---|---|---|'
for row in '10.5:' '21:--detail all'; do
    # shellcheck disable=SC2086
    few=$(count 8 ${row#*:}) many=$(count 28 ${row#*:})
    echo "| with ${row#*:} | $(((many - few) / 20000000)).$(((many - few) / 2000000 % 10)) | ${row%%:*} |" |
        sed 's/with  *|/default options |/'
done
