#!/bin/bash
# libxenstore: a program opens xenstore only to read, xs_open(XS_OPEN_READONLY), as libxenstat does.
# libxenstore3.0 4.14 of Debian 11 and libxenstore4 4.17 of Debian 12; two sockets listen where xenstored's would.
# Good guess: there is one socket, `socket`, and a daemon whose user may connect to it can read.
# Seen: 4.14 connects to `socket_ro` beside it, which has an owner and a mode of its own. 4.17 ignores the flag.
# Needs apt-get, dpkg-deb, python3 on an amd64 Debian, but no root, and nothing is installed.
# Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
# shellcheck source=lib/apt.sh
. "$(dirname "$0")/lib/apt.sh"
unseen() { echo "not seen: $1"; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
sources bullseye bookworm
apt update
old=4.14.6-1 new=4.17.5+72-g01140da4e8-1
apt download "libxenstore3.0=$old" "libxenstore4=$new" "libxentoolcore1=$new"
for deb in ./*.deb; do dpkg-deb -x "$deb" .; done
cat >ask.py <<'PY'
import ctypes, os, socket, sys

os.environ["XENSTORED_RUNDIR"] = os.getcwd()
listeners = {}
for name in ["socket", "socket_ro"]:
    if os.path.exists(name):
        os.remove(name)
    listeners[name] = socket.socket(socket.AF_UNIX)
    listeners[name].bind(name)
    listeners[name].listen()
    listeners[name].settimeout(1)
library = sys.argv[1]
xs = ctypes.CDLL(library)
xs.xs_open.restype = ctypes.c_void_p
for flag, what in [(0, "xs_open(0)"), (1, "xs_open(XS_OPEN_READONLY)")]:
    assert xs.xs_open(flag)
    for name, listener in listeners.items():
        try:
            listener.accept()
            print(f"{library}: {what} connects to {name}")
        except TimeoutError:
            pass
PY
for library in libxenstore.so.3.0 libxenstore.so.4; do
    LD_LIBRARY_PATH=$(echo "$tmp"/usr/lib/*/) python3 ask.py $library || unseen "the library did not load or connect"
done >seen
cat seen
cat >known <<'END'
libxenstore.so.3.0: xs_open(0) connects to socket
libxenstore.so.3.0: xs_open(XS_OPEN_READONLY) connects to socket_ro
libxenstore.so.4: xs_open(0) connects to socket
libxenstore.so.4: xs_open(XS_OPEN_READONLY) connects to socket
END
echo "guess: both connect to socket, with each version"
cmp -s known seen || { echo "CHANGED"; exit 1; }
echo "as known: to read, 4.14 connects to another socket"
