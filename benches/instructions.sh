#!/bin/sh
# Instructions of a poll of 1000 domains, counted by callgrind: the same whatever else the machine does. Fails if they
# are more by far than they were; processors and C libraries differ by some per cent.
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

# The same host, but at each poll one more domain comes, and is gone at the next.
{
    cat "$scratch/host.toml"
    for n in $(seq 0 40); do
        printf '[[domain]]\nid = %d\nname = "short%d"\nfrom_poll = %d\nuntil_poll = %d\n' \
            $((10000 + n)) "$n" "$n" $((n + 1))
    done
} >"$scratch/changing.toml"

# The instructions of so many polls. The first polls allocate what later ones use again.
count() {
    host=$1 polls=$2
    shift 2
    XENSTAT_SCENARIO=$scratch/$host.toml valgrind --tool=callgrind --callgrind-out-file=/dev/null "$new" \
        --libxenstat "$shim" --vifs libxenstat --host h --log off --statsd "udp://127.0.0.1:$(cat "$scratch/port")" \
        --interval 200ms --count "$polls" "$@" 2>&1 | sed -n 's/.*Collected : //p'
}

new=$1 shim=$2 status=0

# Prints a row: what it is, the goal and the limit in millions, the host, and more options.
row() {
    what=$1 goal=$2 limit=$3 host=$4
    shift 4
    few=$(count "$host" 8 "$@") many=$(count "$host" 28 "$@")
    each=$(((many - few) / 20))
    echo "| $what | $((each / 1000000)).$((each / 100000 % 10)) | $goal |"
    if [ "$each" -gt $((limit * 1000000)) ]; then
        echo "more than $limit million instructions: $what" >&2
        status=1
    fi
}

echo '| a poll of 1000 domains | million instructions | goal |'
echo '|---|---|---|'
row 'default options' 10.5 14 host
# What all was before it had memory, which is mostly the fake xenstore's work.
row '`--detail vcpus,vifs,vbds,rates`' 21 28 host --detail vcpus,vifs,vbds,rates
row 'one comes and one goes' '' 17 changing
exit $status
