#!/bin/bash
# libxenstore: a program reads values of xenstore one by one, as libxenstat reads the name of each domain.
# libxenstore3.0 4.14 of Debian 11, libxenstore4 4.17 of Debian 12 and 4.20 of Debian 13; a stand-in answers instead of
# xenstored.
# Good guess: a read takes two system calls, one to ask and one for the answer, with each version.
# Seen: 6 with 4.14 and 4.17, which write and read header and body apart, and set SIGPIPE's handler before and after
# that; 3 with 4.20, which writes both at once and leaves the signal alone.
# Needs apt-get, dpkg-deb, python3, cc, strace on an amd64 Debian, but no root, and nothing is installed.
# Exits 1 if the behaviour has changed, 2 if nothing could be seen.
set -eu
# shellcheck source=lib/apt.sh
. "$(dirname "$0")/lib/apt.sh"
unseen() { echo "not seen: $1" >&2; exit 2; }
for tool in strace cc; do command -v $tool >/dev/null || unseen "no $tool"; done
tmp=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$tmp"' EXIT
cd "$tmp"
sources bullseye bookworm trixie
apt update
for each in 4.14:libxenstore3.0=4.14.6-1 4.17:libxenstore4=4.17.5+72-g01140da4e8-1 \
    4.20:libxenstore4=4.20.4+63-g7abfd2bce2-0+deb13u1; do
    apt download "${each#*:}"
    dpkg-deb -x ./*.deb "${each%%:*}"
    rm ./*.deb
done
apt download libxentoolcore1=4.17.5+72-g01140da4e8-1 libc6=2.41-12+deb13u5
for deb in ./*.deb; do dpkg-deb -x "$deb" core; done
cat >store.py <<'PY'
import socket, struct, sys

listener = socket.socket(socket.AF_UNIX)
listener.bind("socket")
listener.listen()
while True:
    stream = listener.accept()[0].makefile("rwb")
    while len(header := stream.read(16)) == 16:
        kind, request, transaction, length = struct.unpack("4I", header)
        stream.read(length)
        stream.write(struct.pack("4I", kind, request, transaction, 5) + b"web01")
        stream.flush()
PY
cat >ask.c <<'C'
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

int main(int count, char **arguments)
{
    void *library = dlopen(arguments[1], RTLD_NOW);
    void *(*open)(unsigned long) = library && count == 3 ? dlsym(library, "xs_open") : NULL;
    void *(*read)(void *, unsigned, const char *, unsigned *) = open ? dlsym(library, "xs_read") : NULL;
    void *handle = read ? open(0) : NULL;
    unsigned length;
    for (int n = handle ? atoi(arguments[2]) : 0; n > 0; n--) {
        char *value = read(handle, 0, "/local/domain/1/name", &length);
        if (!value || strcmp(value, "web01"))
            return 1;
        free(value);
    }
    return handle ? 0 : 1;
}
C
cc -o ask ask.c -ldl
python3 store.py &
while [ ! -S socket ]; do kill -0 $! || unseen "no stand-in for xenstored"; sleep 0.1; done
calls() { # of so many reads, by the library of a release and the C library of the newest
    XENSTORED_RUNDIR=$tmp strace -f -o trace core/usr/lib64/ld-linux-x86-64.so.2 --library-path \
        "$(echo "$tmp/$1"/usr/lib/*/):$(echo "$tmp"/core/usr/lib/*/)" ./ask "$2" "$3" || return 1
    grep -c '(' trace
}
for each in 4.14:libxenstore.so.3.0 4.17:libxenstore.so.4 4.20:libxenstore.so.4; do
    if ! few=$(calls "${each%:*}" "${each#*:}" 10) || ! many=$(calls "${each%:*}" "${each#*:}" 110); then
        unseen "the library did not load or connect"
    fi
    echo "${each%:*}: $(((many - few) / 100)) system calls for each xs_read"
done >seen
cat seen
cat >known <<'END'
4.14: 6 system calls for each xs_read
4.17: 6 system calls for each xs_read
4.20: 3 system calls for each xs_read
END
echo "guess: 2 with each version"
cmp -s known seen || { echo "CHANGED"; exit 1; }
echo "as known: 6 until 4.17, 3 with 4.20"
