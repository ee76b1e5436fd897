# The .rpm, by rpm itself. The root is Debian's, so what it requires by name is not looked at.

test_rpm() {
    [ "$(rpm -qp --qf '%{PAYLOADCOMPRESSOR}' "$RPM" 2>/dev/null)" = gzip ] || fail "CentOS 7's rpm reads no other than gzip and xz"
    # rpm 4.11 knows these.
    rpm -qp --requires "$RPM" 2>/dev/null | grep rpmlib |
        grep -vE 'CompressedFileNames|FileDigests|PayloadFilesHavePrefix' && fail "CentOS 7's rpm lacks this"
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
    # Directories that a Debian has not by itself belong to the packages of an RPM system.
    nothing_more_than "$work/before" | grep -vE '^\./usr/share/(fish|zsh)(/[a-z_.-]+)?$' >"$work/said" || true
    [ "$(cat "$work/said")" = ./etc/default/xenmonitor.rpmsave ] || fail "rpm -e leaves more than changed settings: $(cat "$work/said")"
    ok "rpm: installs, keeps its settings, and is gone but for these"
}
by_rpm() {
    rpm --root "$root" --nodeps --dbpath /var/lib/rpm "$@" >"$work/said" 2>&1 || { cat "$work/said" >&2; fail "rpm $*"; }
}
