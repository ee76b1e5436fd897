#!/bin/bash
# A program counts the domains that end by watching @releaseDomain. How many events does one domain cause?
# Guess: one, when it is destroyed, as @introduceDomain is one when it is created.
# Seen: two: one as soon as the guest has powered off, while the domain still exists (for good with
# on_poweroff="preserve"), and one when it is destroyed. The event names no domain. C xenstored of Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 python guest <<'SH'
cat >/watch.py <<'PY'
import os, sys
sys.path.insert(0, "/")
from xs import Client

client = Client()
client.watch("@introduceDomain")
client.watch("@releaseDomain")
open("/watching", "w").close()
while not os.path.exists("/end"):
    for path in client.events(1):
        print(path, flush=True)
PY
python3.13 /watch.py >/events &
until_true '[ -e /watching ]'
guest web off 'on_poweroff = "preserve"'
until_true 'xl list web | grep -q -e ---s'
sleep 5
echo "created and powered off:$(sed 's/^/ /' /events | tr -d '\n'); xl list: $(xl list web | awk '$1 == "web" { print $5 }')"
xl destroy web
sleep 5
echo "and destroyed:$(sed 's/^/ /' /events | tr -d '\n')"
: >/end
wait
SH
cat "$seen"
cat >"$tmp/known" <<'END'
created and powered off: @introduceDomain @releaseDomain; xl list: ---s--
and destroyed: @introduceDomain @releaseDomain @releaseDomain
END
echo "guess: @introduceDomain, and @releaseDomain once"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: two"
