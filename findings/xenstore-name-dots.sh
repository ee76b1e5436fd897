#!/bin/bash
# Which characters may a xenstore node's name have?
# Guess: all but / and NUL, as in a file system; or what host names, versions and MAC addresses need: dots and colons.
# Seen: neither a dot nor a colon: only letters, digits, - _ and @. So no host name, file name or address
# can be a key. What makes a path wrong, also an empty part or a final /, is not said. Both xenstoreds of
# Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 bare <<'SH'
cat >/check <<'CHECK'
written= refused=
for name in Az9 a_b a-b a@b a.b a:b a+b a,b a=b a%b; do
    if xenstore-write "/t/$name" 1 2>/dev/null; then written="$written $name"; else refused="$refused $name"; fi
done
echo "written:$written"
echo "refused:$refused"
for path in /t/Az9 /t/Az9/ //t/Az9 /t//Az9; do echo "$path: $(xenstore-read "$path" 2>&1)"; done
CHECK
both sh /check
SH
cat "$seen"
for daemon in xenstored oxenstored; do
    cat <<END
$daemon: written: Az9 a_b a-b a@b
$daemon: refused: a.b a:b a+b a,b a=b a%b
$daemon: /t/Az9: 1
$daemon: /t/Az9/: xenstore-read: couldn't read path /t/Az9/
$daemon: //t/Az9: xenstore-read: couldn't read path //t/Az9
$daemon: /t//Az9: xenstore-read: couldn't read path /t//Az9
END
done >"$tmp/known"
echo "guess: dots and colons are written, too"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: only letters, digits, - _ and @"
