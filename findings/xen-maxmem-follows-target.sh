#!/bin/bash
# What is xentop's MAXMEM(k)?
# Guess: the most memory that the domain may ever get, memory= or maxmem= of its configuration; only `xl mem-max` changes
# it, and MEM(k) is never larger.
# Seen: `xl mem-set` changes it too. It is the limit that the hypervisor enforces now, and libxl sets it to the target
# of the balloon and 1 MiB more. So it falls at once, below MEM(k) while the guest has not given the memory back (here
# never, as it is paused), and what `xl mem-max` said is lost at the next `xl mem-set`. The configured maximum is
# memory/static-max in xenstore. Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 guest <<'SH'
guest web paused
show() {
    xentop -b -f -i 1 | awk -v after="$1" '$1 == "web" { printf "%s: MEM(k) %s, MAXMEM(k) %s", after, $5, $7 }'
    echo ", static-max $(xenstore-read "/local/domain/$(xl domid web)/memory/static-max")"
}
show created
for command in 'mem-set web 96' 'mem-max web 256' 'mem-set web 128'; do
    xl $command || echo "failed: $command"
    show "$command"
done
SH
cat "$seen"
cat >"$tmp/known" <<'END'
created: MEM(k) 131088, MAXMEM(k) 132096, static-max 131072
mem-set web 96: MEM(k) 131088, MAXMEM(k) 99328, static-max 131072
mem-max web 256: MEM(k) 131088, MAXMEM(k) 263168, static-max 262144
mem-set web 128: MEM(k) 131088, MAXMEM(k) 132096, static-max 262144
END
echo "guess: MAXMEM(k) 132096 132096 263168 263168"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: MAXMEM(k) follows the balloon's target"
