# Without systemd: the .deb with its init script, and the script for OpenRC.

# in_chroot SCRIPT: runs the script in a PID namespace; all its processes end with it.
in_chroot() {
    mkdir -p "$root/dev/xen"
    touch "$root/dev/xen/privcmd"
    [ -c "$root/dev/null" ] || fail "$root/dev has no null"
    unshare --mount --pid --fork --kill-child env -i PATH=/usr/sbin:/usr/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive \
        chroot "$root" sh -euc "mount -t proc proc /proc; $1" </dev/null >"$work/said" 2>&1
}
# The steps inside and outside the root wait for each other with files.
words() {
    printf 'refused() { if "$@"; then echo "$* did not fail"; exit 1; fi; }\n'
    printf 'reached() { touch "/opt/$1"; while [ ! -e "/opt/$1.seen" ]; do sleep 0.1; done; }\n'
}
reached() {
    until_true 60 test -e "$root/opt/$1" || { cat "$work/said" >&2; fail "step $1 was not reached"; }
}
seen() {
    touch "$root/opt/$1.seen"
}

test_sysv() {
    unpack sysv
    files >"$work/before"
    python3 $here/listen.py "$root/dev/log" >"$work/syslog" &
    listeners="$listeners $!"
    until_true 10 test -s "$work/syslog" || fail "the syslog listener did not start"
    in_chroot "$(words)
        apt-get -qq -y --no-install-recommends install /opt/this.deb
        $(settings)
        ls /etc/rc2.d/S??xenmonitor
        script=/etc/init.d/xenmonitor
        \$script restart; \$script status; reached running
        before=\$(pidof xenmonitor); \$script start; \$script reload; \$script status
        sleep 1; [ \"\$(pidof xenmonitor)\" = \"\$before\" ]
        \$script stop; refused \$script status; reached stopped
        echo XENMONITOR_SPREAD=2 >>/etc/default/xenmonitor; refused \$script start
        apt-get -qq -y purge xenmonitor" &
    chrooted=$!
    reached running
    gauges_arrive || { cat "$work/said" >&2; fail "no gauge arrives"; }
    seen running
    reached stopped
    no_gauges_arrive || fail "the daemon is still running after a stop"
    seen stopped
    wait "$chrooted" || { cat "$work/said" >&2; fail "the init script failed"; }
    chrooted=
    grep -q 'xenmonitor: .*libxenstat' "$work/syslog" || fail "the daemon's log is not in syslog"
    grep -q 'xenmonitor: .*--spread' "$work/syslog" || fail "the error about the bad setting is not in syslog"
    nothing_more_than "$work/before" || fail "apt purge leaves these files"
    ok "sysv: the init script starts, reloads, stops, reports its status and logs; with a bad setting it fails;" \
        "a purge leaves nothing"
}

test_openrc() {
    unpack openrc
    make -s install FROM="$BUILT" DESTDIR="$root" INIT=openrc PREFIX=/usr >"$work/said"
    in_chroot "$(words)
        dpkg -i --force-all /opt/openrc/*.deb
        $(settings)
        mkdir -p /run/openrc && touch /run/openrc/softlevel
        rc-service --nodeps xenmonitor start; rc-service xenmonitor status; reached running
        before=\$(pidof xenmonitor); rc-service xenmonitor reload; rc-service xenmonitor status
        sleep 1; [ \"\$(pidof xenmonitor)\" = \"\$before\" ]
        rc-service xenmonitor stop; refused rc-service xenmonitor status; reached stopped" &
    chrooted=$!
    reached running
    gauges_arrive || { cat "$work/said" >&2; fail "no gauge arrives"; }
    seen running
    reached stopped
    no_gauges_arrive || fail "the daemon is still running after a stop"
    seen stopped
    wait "$chrooted" || { cat "$work/said" >&2; fail "the script for OpenRC failed"; }
    chrooted=
    grep -q libxenstat "$root/var/log/xenmonitor.log" || fail "the daemon's log is not in /var/log/xenmonitor.log"
    ok "openrc: the script starts, reloads, stops, reports its status and logs"
}
