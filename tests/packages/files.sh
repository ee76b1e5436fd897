# Checks the content of the packages without installing them.

assets=$BUILT/assets

test_files() {
    lintian --allow-root --tag-display-limit 0 --display-info --fail-on error,warning,info "$DEB" ||
        fail "lintian reports errors in $DEB"
    ok "lintian: $(basename "$DEB") is clean, except for packaging/deb/lintian-overrides"

    said=$(MANWIDTH=100 man -l --warnings -E UTF-8 "$assets/xenmonitor.8.gz" 2>&1 >/dev/null)
    [ -z "$said" ] || fail "man: $said"
    man -l -E UTF-8 "$assets/xenmonitor.8.gz" 2>/dev/null | grep -q -- '--resolve-every' || fail "no option in the man page"
    ok "man: no warnings"

    for script in packaging/sysv/xenmonitor packaging/openrc/xenmonitor packaging/deb/p* packaging/rpm/*.sh; do
        quiet sh -n "$script"
    done
    ok "sh -n: the scripts"

    # Each shell completes `xenmonitor --stat`.
    found=$(bash -euc 'complete() { function=$4; }; . "$1"; COMP_WORDS=(xenmonitor --stat) COMP_CWORD=1
        _xenmonitor xenmonitor --stat xenmonitor; echo "${COMPREPLY[@]}"' bash "$assets/xenmonitor.bash" 2>&1)
    [ "$found" = --statsd ] || fail "bash completes --stat as '$found'"
    found=$(zsh -fc 'autoload -U compinit; compinit -D; . "$1"; print $_comps[xenmonitor]' zsh "$assets/_xenmonitor" 2>&1)
    [ "$found" = _xenmonitor ] || fail "zsh completes xenmonitor by '$found'"
    found=$(fish -Nc 'source $argv[1]; complete -C "xenmonitor --stat"' "$assets/xenmonitor.fish" 2>&1 | cut -f1)
    [ "$found" = --statsd ] || fail "fish completes --stat as '$found'"
    ok "completions: bash, zsh, fish"
}

# in_common LIST: prints a list of files, without those that only one way of installing has.
in_common() {
    sed 's|^\./|/|; s|/zsh/[a-z-]*/|/zsh/|; s|^/usr/local/|/usr/|' "$1" |
        grep -vE '/$|/lintian/|changelog.Debian.gz$|^/etc/(init|logrotate).d/' | sort
}

test_install() {
    destination=$work/destination
    for init in systemd sysv openrc; do
        make -s install FROM="$BUILT" DESTDIR="$destination" INIT=$init >"$work/said" || fail "make install INIT=$init"
    done
    find "$destination" -type f | sed "s|^$destination||" >"$work/installed"
    dpkg-deb -c "$DEB" | awk '{print $6}' >"$work/deb"
    rpm -qlp "$RPM" >"$work/rpm" 2>/dev/null
    for list in deb rpm installed; do in_common "$work/$list" >"$work/$list.common"; done
    [ "$(wc -l <"$work/deb.common")" -ge 10 ] || fail "the package is empty"
    for list in rpm installed; do
        diff "$work/deb.common" "$work/$list.common" || fail "deb and $list have different files"
    done
    ok "deb, rpm and make install have the same $(wc -l <"$work/deb.common") files"

    # The tarball has all that make install installs for systemd, and the scripts for the others.
    tar -xzf "$TARBALL" -C "$work" || fail "$TARBALL cannot be unpacked"
    release=$work/$(basename "$TARBALL" .tar.gz)
    (cd "$release" && find . -type f) | sed 's|.*/||' | sort >"$work/release"
    sed 's|^/etc/default/xenmonitor$|settings|; s|^/etc/logrotate.d/xenmonitor$|xenmonitor.logrotate|; s|.*/||' "$work/installed" |
        sort | comm -23 - "$work/release" >"$work/lacks"
    [ ! -s "$work/lacks" ] || fail "the tarball lacks $(cat "$work/lacks")"
    cmp "$release/xenmonitor" "$destination/usr/local/sbin/xenmonitor" || fail "the tarball has another program"
    (cd "$(dirname "$TARBALL")" && sha256sum --quiet -c SHA256SUMS) || fail "SHA256SUMS is wrong"
    for package in "$TARBALL" "$DEB" "$RPM"; do
        grep -q " $(basename "$package")$" "$(dirname "$TARBALL")/SHA256SUMS" || fail "$package is not in SHA256SUMS"
    done
    [ "$(tar -tvzf "$TARBALL" | awk '{print $2, $4, $5}' | sort -u | wc -l)" = 1 ] || fail "the tarball depends on when or by whom it is built"
    ok "the tarball has the same program and files; SHA256SUMS lists all packages"

    ! make -s install FROM="$BUILT" DESTDIR="$destination" INIT=other >"$work/said" 2>&1 && grep -q "^INIT is" "$work/said" ||
        fail "make install accepts any INIT"
    make -s install FROM="$BUILT" DESTDIR="$work/elsewhere" INIT=systemd sysconfdir=/opt/etc >"$work/said"
    grep -q /opt/etc/default/xenmonitor "$work/elsewhere/usr/local/lib/systemd/system/xenmonitor.service" ||
        fail "the unit does not read the settings in sysconfdir"

    for starter in usr/local/lib/systemd/system/xenmonitor.service etc/init.d/xenmonitor; do
        grep -q /usr/local/sbin/xenmonitor "$destination/$starter" || fail "$starter does not start this program"
        ! grep -q '[= ]/usr/sbin' "$destination/$starter" || fail "$starter names /usr/sbin, too"
    done
    echo XENMONITOR_INTERVAL=2s >>"$destination/etc/default/xenmonitor"
    make -s install FROM="$BUILT" DESTDIR="$destination" >"$work/said"
    grep -q 2s "$destination/etc/default/xenmonitor" || fail "make install overwrites the settings"
    make -s uninstall FROM="$BUILT" DESTDIR="$destination" >"$work/said"
    grep -q "removed $destination/etc/init.d/xenmonitor" "$work/said" || fail "make uninstall does not print what it removes"
    [ "$(find "$destination" -type f)" = "$destination/etc/default/xenmonitor" ] ||
        fail "make uninstall leaves other files than changed settings: $(find "$destination" -type f)"
    cp "$assets/settings" "$destination/etc/default/xenmonitor"
    make -s uninstall FROM="$BUILT" DESTDIR="$destination" >"$work/said"
    [ -z "$(find "$destination" -type f -o -name '*xenmonitor*')" ] || fail "make uninstall leaves unchanged settings"
    grep -q "removed $destination/etc/default/xenmonitor" "$work/said" || fail "make uninstall removes settings silently"
    ok "make install keeps existing settings; make uninstall leaves changed settings and nothing else"
}
