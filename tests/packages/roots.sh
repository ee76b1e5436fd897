# Clean Debian 12 roots, with the fake libxenstat in place of Xen.

# start_listener: sets port; received lines are in $work/statsd.
start_listener() {
    python3 $here/listen.py >"$work/statsd" &
    listeners=$!
    until_true 10 test -s "$work/statsd" || fail "the listener did not start"
    port=$(head -n 1 "$work/statsd")
}

# gauges_arrive: waits until new gauges of a guest arrive.
gauges_arrive() {
    : >"$work/statsd"
    until_true 20 grep -q '^xen\.dom0\.web01\.cpu_percent:' "$work/statsd"
}
no_gauges_arrive() {
    : >"$work/statsd"
    sleep 2.5
    [ ! -s "$work/statsd" ]
}

# unpack NAME: creates a root as an overlay over the one in the cache; sets root.
unpack() {
    base=$CACHE/root-bookworm-3
    # Built again after a month, to have Debian's updates.
    if [ ! -e "$base" ] || [ -n "$(find "$base" -maxdepth 0 -mtime +30)" ]; then
        rm -rf --one-file-system "$base" "$base.new"
        mkdir -p "$CACHE"
        echo "building a Debian 12 root in $base, a few minutes, once a month"
        # The packages of OpenRC are only downloaded: they conflict with systemd. The unit needs the kill of procps.
        mmdebstrap --quiet --format=directory --variant=minbase --include=systemd,systemd-sysv,dbus,procps \
            --customize-hook='cd "$1" && mkdir opt/openrc && chroot . apt-get update -qq &&
                chroot . sh -c "cd /opt/openrc && apt-get download -qq openrc libeinfo1 librc1 insserv"' \
            bookworm "$base.new" >"$work/said" 2>&1 || { cat "$work/said" >&2; fail "mmdebstrap failed"; }
        touch "$base.new"
        mv "$base.new" "$base"
    fi
    root=$work/root-$1
    mkdir "$root" "$root.upper" "$root.work"
    mount -t overlay -o "lowerdir=$base,upperdir=$root.upper,workdir=$root.work" overlay "$root"
    roots="$roots $root"
    mkdir "$root/opt/xen"
    cp "$SHIM" "$root/opt/xen/libxenstat.so"
    cp tests/shim/scenarios/demo.toml "$root/opt/xen/demo.toml"
    cp "$DEB" "$root/opt/this.deb"
    next_deb 99.1 "$root/opt/next.deb" :
    next_deb 99.2 "$root/opt/other.deb" 'echo "# One more line." >>etc/default/xenmonitor'
}

# next_deb VERSION FILE CHANGE: builds the package of a later version, with a change to its files.
next_deb() {
    rm -rf "$work/next"
    dpkg-deb -R "$DEB" "$work/next"
    sed -i "s/^Version: .*/Version: $1-1/" "$work/next/DEBIAN/control"
    (cd "$work/next" && eval "$3")
    dpkg-deb -b --root-owner-group -Znone "$work/next" "$2" >/dev/null
}

# settings: prints a script that enables all defaults in the settings file, and adds the values for this test.
settings() {
    cat <<EOF
sed -i 's/^#XENMONITOR/XENMONITOR/' /etc/default/xenmonitor
cat >>/etc/default/xenmonitor <<END
XENMONITOR_STATSD=udp://127.0.0.1:$port
XENMONITOR_INTERVAL=1s
XENMONITOR_HOST=dom0
XENMONITOR_LIBXENSTAT=/opt/xen/libxenstat.so
XENSTAT_SCENARIO=/opt/xen/demo.toml
END
EOF
}

# files: lists the files of the root, except those that apt, dpkg and booting write by themselves.
files() {
    (cd "$root" && find . -xdev \( -path ./run -o -path ./tmp -o -path ./dev -o -path ./proc -o -path ./sys -o -path ./opt \
        -o -path ./var/log -o -path ./var/cache -o -path ./var/tmp -o -path ./var/lib/apt \
        -o -path './var/lib/dpkg/*-old' -o -path './var/lib/dpkg/lock*' \) -prune -o -print | sort)
}

# nothing_more_than LIST: fails if there are other files than those of the list; prints the other files.
nothing_more_than() {
    files | comm -13 "$1" - >"$work/more"
    cat "$work/more"
    [ ! -s "$work/more" ]
}
