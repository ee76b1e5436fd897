#!/bin/bash
# libxenstore: xenstored goes away while a program waits for watches with poll(2) on the descriptor of xs_fileno().
# libxenstore4 4.17.7 of Debian 12. The server is a script that speaks xenstore's protocol: it answers XS_WATCH,
# sends one event, and closes the connection.
# Good guess: the descriptor becomes readable, as that of any closed socket or pipe, and xs_check_watch() says why.
# Seen: it never becomes readable. xs_check_watch() returns NULL, as where there is no event, and only errno differs:
# EINVAL instead of EAGAIN. So a program that waits for the descriptor waits for ever.
# Needs apt-get, dpkg-deb, python3 on an amd64 Debian, but no root, and nothing is installed.
# Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
# shellcheck source=lib/apt.sh
. "$(dirname "$0")/lib/apt.sh"
unseen() { echo "not seen: $1"; exit 2; }
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"
sources bookworm
apt update
v=4.17.5+72-g01140da4e8-1
apt download "libxenstore4=$v" "libxentoolcore1=$v"
for deb in ./*.deb; do dpkg-deb -x "$deb" .; done
cat >ask.py <<'PY'
import ctypes, os, select, socket, struct, threading

os.environ["XENSTORED_PATH"] = os.path.abspath("socket")
listener = socket.socket(socket.AF_UNIX)
listener.bind("socket")
listener.listen()
xs = ctypes.CDLL("libxenstore.so.4", use_errno=True)
xs.xs_open.restype = xs.xs_check_watch.restype = ctypes.c_void_p
xs.xs_watch.restype = ctypes.c_bool
xs.xs_fileno.argtypes = xs.xs_check_watch.argtypes = [ctypes.c_void_p]
xs.xs_watch.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
WATCH, EVENT = 4, 15
handle = xs.xs_open(0)
server, _ = listener.accept()


def answer():
    kind, request, transaction, size = struct.unpack("IIII", server.recv(16, socket.MSG_WAITALL))
    assert kind == WATCH
    server.recv(size, socket.MSG_WAITALL)
    server.sendall(struct.pack("IIII", WATCH, request, transaction, 3) + b"OK\0")


def look(what):
    readable = bool(select.select([fd], [], [], 1)[0])
    ctypes.set_errno(0)
    event = xs.xs_check_watch(handle)
    print(f"{what}: readable {readable}, event {bool(event)}, {os.strerror(ctypes.get_errno())}")


thread = threading.Thread(target=answer)
thread.start()
assert xs.xs_watch(handle, b"@releaseDomain", b"token")
thread.join()
fd = xs.xs_fileno(handle)
look("nothing happened")
body = b"@releaseDomain\0token\0"
server.sendall(struct.pack("IIII", EVENT, 0, 0, len(body)) + body)
look("an event")
server.close()
for _ in range(3):
    look("closed")
PY
LD_LIBRARY_PATH=$(echo "$tmp"/usr/lib/*/) python3 ask.py >seen || unseen "the library did not load or connect"
cat seen
cat >known <<'END'
nothing happened: readable False, event False, Resource temporarily unavailable
an event: readable True, event True, Success
closed: readable False, event False, Invalid argument
closed: readable False, event False, Invalid argument
closed: readable False, event False, Invalid argument
END
echo "guess: the descriptor becomes readable when the connection is closed"
cmp -s known seen || { echo "CHANGED"; exit 1; }
echo "as known: it never becomes readable"
