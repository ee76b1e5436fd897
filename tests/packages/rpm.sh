# Installs the .rpm with rpm. The root is a Debian, so dependencies on packages are not checked.

test_rpm() {
    [ "$(rpm -qp --qf '%{PAYLOADCOMPRESSOR}' "$RPM" 2>/dev/null)" = gzip ] || fail "the rpm of CentOS 7 supports gzip and xz only"
    # rpm 4.11 supports these.
    rpm -qp --requires "$RPM" 2>/dev/null | grep rpmlib |
        grep -vE 'CompressedFileNames|FileDigests|PayloadFilesHavePrefix' && fail "the rpm of CentOS 7 lacks this"
    unpack rpm
    files >"$work/before"
    by_rpm -i "$RPM"
    chroot "$root" sh -euc "$(settings)"
    cp "$root/etc/default/xenmonitor" "$work/settings"
    in_chroot "XENMONITOR_LIBXENSTAT=/opt/xen/libxenstat.so XENSTAT_SCENARIO=/opt/xen/demo.toml \
        xenmonitor --check --statsd udp://127.0.0.1:$port" || { cat "$work/said"; fail "xenmonitor --check"; }
    by_rpm -U "$NEXT_RPM"
    cmp -s "$root/etc/default/xenmonitor" "$work/settings" || fail "an upgrade changes the settings"
    by_rpm -e xenmonitor
    rm -r "$root/var/lib/rpm"
    # These directories do not exist in a minimal Debian; in an RPM system they belong to other packages.
    nothing_more_than "$work/before" | grep -vE '^\./usr/share/(fish|zsh)(/[a-z_.-]+)?$' >"$work/said" || true
    [ "$(cat "$work/said")" = ./etc/default/xenmonitor.rpmsave ] || fail "rpm -e leaves other files than changed settings: $(cat "$work/said")"
    ok "rpm: installs, upgrades and keeps the settings; rpm -e leaves changed settings only"
}
by_rpm() {
    rpm --root "$root" --nodeps --dbpath /var/lib/rpm "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; fail "rpm $*"; }
}
