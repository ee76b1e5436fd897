# Installs the .deb under systemd, which boots in a container.

# inside COMMAND...: runs the command in the container.
inside() {
    nsenter -t "$leader" -m -u -i -p -r -w env -i PATH=/usr/sbin:/usr/bin LC_ALL=C DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}
apt() {
    inside apt-get -qq -y --no-install-recommends "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; fail "apt-get $*"; }
}
leader_is_there() {
    leader=$(pgrep -P "$container") && [ "$(cat "/proc/$leader/comm")" = systemd ]
}
booted() {
    leader_is_there && inside systemctl is-system-running | grep -qE '^(running|degraded)$'
}
pid_inside() {
    inside systemctl show -P MainPID xenmonitor
}

# boot TEST: boots the root as a container that shares the host's network. Where that is impossible, says that TEST is
# skipped.
boot() {
    systemd-nspawn --quiet --register=no --keep-unit --console=pipe -D "$root" --boot </dev/null >"$work/boot" 2>&1 &
    container=$!
    until_true 60 booted && return
    tail -n 5 "$work/boot" >&2
    echo "SKIPPED: systemd does not boot in a container here: $1"
    skipped=$((skipped + 1))
    halt
    return 1
}
halt() {
    kill "$container" 2>/dev/null || true
    wait "$container" || true
    container=
}

test_systemd() {
    unpack systemd
    boot ".deb under systemd" || return 0
    files >"$work/before"

    apt install /opt/this.deb
    [ "$(inside systemctl is-enabled xenmonitor)" = enabled ] || fail "the service is not enabled"
    [ "$(inside systemctl show -P ConditionResult xenmonitor)" = no ] || fail "the service is started without Xen"
    quiet inside systemd-analyze verify --man=no /usr/lib/systemd/system/xenmonitor.service
    ok "systemd: installed, enabled, and not started without Xen"

    inside env XENMONITOR_LIBXENSTAT=/opt/xen/libxenstat.so XENSTAT_SCENARIO=/opt/xen/demo.toml \
        xenmonitor --check --statsd "udp://127.0.0.1:$port" >"$work/said" 2>&1 || { cat "$work/said"; fail "xenmonitor --check"; }
    grep -q '^hypervisor  *ok ' "$work/said" || fail "xenmonitor --check does not mention the hypervisor"
    ok "xenmonitor --check, in a system without Rust"

    inside sh -c 'mkdir -p /dev/xen && touch /dev/xen/privcmd'
    inside sh -c "$(settings)"
    cp "$root/etc/default/xenmonitor" "$work/settings"
    inside systemctl restart xenmonitor
    gauges_arrive || { inside journalctl -n 20 -u xenmonitor >&2; fail "no gauge arrives"; }
    ok "systemd: gauges arrive, with every default of /etc/default/xenmonitor enabled"

    before=$(pid_inside)
    inside systemctl reload xenmonitor
    gauges_arrive || fail "no gauge arrives after a reload"
    [ "$(pid_inside)" = "$before" ] || fail "a reload restarts the service"
    for package in next other; do
        before=$(pid_inside)
        apt -o Dpkg::Options::=--force-confold install /opt/$package.deb
        cmp -s "$root/etc/default/xenmonitor" "$work/settings" || fail "an upgrade changes the settings"
        [ "$(inside systemctl is-active xenmonitor)" = active ] || fail "the service is not running after an upgrade"
        [ "$(pid_inside)" != "$before" ] || fail "an upgrade leaves the old program running"
        gauges_arrive || fail "no gauge arrives after an upgrade"
    done
    ok "systemd: an upgrade keeps the settings and starts the new program"

    apt remove xenmonitor
    no_gauges_arrive || fail "the service is still running after apt remove"
    nothing_more_than "$work/before" >/dev/null || true
    # The settings remain, and what Debian's tools keep until the purge: the service's enabling link and its mask.
    grep -vE '^\./etc/(default|init\.d)/xenmonitor|^\./var/lib/dpkg/info/xenmonitor\.(list|postrm)$' "$work/more" |
        grep -vE '^\./(var/lib/systemd/deb-systemd-helper-|etc/systemd/system/(.*/)?xenmonitor.service$)' >"$work/left" || true
    [ ! -s "$work/left" ] || fail "apt remove leaves $(cat "$work/left")"
    apt purge xenmonitor
    nothing_more_than "$work/before" || fail "apt purge leaves these files"
    ok "systemd: apt remove stops the service and keeps the settings; apt purge leaves nothing"
    halt
}
