#!/bin/sh
# Tests the results of `make deb rpm install` as an admin uses them, see `make test-packages`. No Xen is needed: the
# daemon loads the fake libxenstat. The Debian 12 roots are overlays over one that is kept in the cache.
set -eu
cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "test-packages: needs root, to install packages in a separate root" >&2; exit 1; }
here=tests/packages
work=$(mktemp -d)
passed=0
skipped=0
listeners=
container=
chrooted=
roots=

end() {
    status=$?
    set +e
    [ -z "$container" ] || { kill "$container"; wait "$container"; }
    # Its child ends together with all processes in the namespace.
    [ -z "$chrooted" ] || pkill -P "$chrooted"
    for listener in $listeners; do kill "$listener"; done
    for root in $roots; do umount -l "$root"; done
    rm -rf --one-file-system "$work"
    [ "$status" = 0 ] || echo "test-packages: FAILED"
    exit "$status"
} 2>/dev/null
trap end EXIT

# fail WORDS...: prints what failed, and exits.
fail() {
    echo "FAILED: $*" >&2
    exit 1
}
# ok WORDS...: prints what passed.
ok() {
    echo "ok: $*"
    passed=$((passed + 1))
}
# quiet COMMAND...: fails unless the command succeeds without output.
quiet() {
    said=$("$@" 2>&1) || fail "$*: $said"
    [ -z "$said" ] || fail "$* prints: $said"
}
# until_true SECONDS COMMAND...: repeats the command until it succeeds.
until_true() {
    left=$(($1 * 5))
    shift
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || return 1
        sleep 0.2
    done
}

. $here/files.sh
. $here/roots.sh
. $here/systemd.sh
. $here/ansible.sh
. $here/sysv.sh
. $here/rpm.sh

start_listener
test_files
test_install
test_systemd
test_ansible
test_sysv
test_openrc
test_rpm
echo "$passed passed, 0 failed, $skipped skipped"
