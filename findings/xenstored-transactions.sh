#!/bin/bash
# Two clients of xenstored: while one has a transaction open, the other writes. Does the commit succeed?
# Guess: if the transaction only read, yes; else no (EAGAIN) if the other wrote a node that the transaction read or
# wrote, in every xenstored, as the protocol is one.
# Seen: C xenstored refuses whenever the other wrote a node that the transaction has used, or added to a directory that
# it has added to, even if the transaction only read, or the value is the same. oxenstored executes the requests again
# and refuses only if an answer differs: it commits all of these but one. A blind write in it overwrites the other's.
# C xenstored and oxenstored of Xen 4.20.4+63 (arm64).
# Needs: see lib/xen-arm64. Exit: 1 if this has changed, 2 if it could not be seen.
set -eu
. "$(dirname "$0")/lib/xen-arm64"
dom0 python bare <<'SH'
cat >/check.py <<'PY'
import sys
sys.path.insert(0, "/")
from xs import Client

one, other = Client(), Client()


def case(name, mine, theirs, last=lambda transaction: None):
    for path in "/t/x", "/t/y":
        one.write(path, "1")
    transaction = one.start()
    mine(transaction)
    theirs()
    last(transaction)
    print(f"{name}: {one.commit(transaction)}")


def read_x(transaction):
    one.read("/t/x", transaction)


def write_y(transaction):
    one.write("/t/y", "2", transaction)


case("reads x; other changes x", read_x, lambda: other.write("/t/x", "9"))
case("reads x; other writes x, the same value; writes y", read_x, lambda: other.write("/t/x", "1"), write_y)
case("writes y; other writes y", write_y, lambda: other.write("/t/y", "9"))
case("adds a; other adds b", lambda transaction: one.write("/t/a", "", transaction), lambda: other.write("/t/b", ""))
case("reads x; other changes x; writes y", read_x, lambda: other.write("/t/x", "9"), write_y)
PY
both python3.13 /check.py
SH
cat "$seen"
cat >"$tmp/known" <<'END'
xenstored: reads x; other changes x: EAGAIN
xenstored: reads x; other writes x, the same value; writes y: EAGAIN
xenstored: writes y; other writes y: EAGAIN
xenstored: adds a; other adds b: EAGAIN
xenstored: reads x; other changes x; writes y: EAGAIN
oxenstored: reads x; other changes x: OK
oxenstored: reads x; other writes x, the same value; writes y: OK
oxenstored: writes y; other writes y: OK
oxenstored: adds a; other adds b: OK
oxenstored: reads x; other changes x; writes y: EAGAIN
END
echo "guess, for both: OK EAGAIN EAGAIN OK EAGAIN"
cmp -s "$tmp/known" "$seen" || { echo "CHANGED"; exit 1; }
echo "as known: the two disagree in four of five cases"
