# Runs the example for Ansible (packaging/ansible) in a container, on that container.

# play ARG...: runs the playbook; its output is in $work/said.
play() {
    inside env LC_ALL=C.UTF-8 HOME=/root XENSTAT_SCENARIO=/opt/xen/demo.toml \
        ansible-playbook -i /opt/inventory.yml /opt/xenmonitor.yml "$@" >"$work/said" 2>&1
}
# changed N: did the last run change that many things?
changed() {
    grep -q "^dom0 .* changed=$1 .* failed=0 " "$work/said"
}

test_ansible() {
    unpack ansible
    boot "the example for Ansible" || return 0
    apt update
    apt install ansible-core python3-apt
    cp packaging/ansible/xenmonitor.yml "$root/opt"
    # One host, which is the container, and one server.
    sed -e 's/xen1.example.com:/dom0: {ansible_connection: local}/; /xen2/d; s|statsd1.example.com:8125|127.0.0.1:'"$port"'|' \
        -e '/statsd2/d; s|: xenmonitor.deb|: /opt/this.deb|; s/10s/1s/; s|ALIGN: .*|LIBXENSTAT: /opt/xen/libxenstat.so|' \
        packaging/ansible/inventory.yml >"$root/opt/inventory.yml"
    inside sh -c 'mkdir -p /dev/xen /etc/systemd/system/xenmonitor.service.d && touch /dev/xen/privcmd
        printf "[Service]\nEnvironment=XENSTAT_SCENARIO=/opt/xen/demo.toml\n" \
            >/etc/systemd/system/xenmonitor.service.d/scenario.conf'

    play || { cat "$work/said" >&2; fail "the playbook fails"; }
    gauges_arrive || { inside journalctl -n 20 -u xenmonitor >&2; fail "no gauge arrives after the playbook"; }
    play || { cat "$work/said" >&2; fail "the playbook fails the second time"; }
    changed 0 || { cat "$work/said" >&2; fail "the playbook changes something the second time"; }
    ok "ansible: installs, configures and starts the service; a second run changes nothing"

    before=$(pid_inside)
    play -e xenmonitor_deb=/opt/next.deb || { cat "$work/said" >&2; fail "the playbook fails to upgrade"; }
    [ "$(inside dpkg-query -f '${Version}' -W xenmonitor)" = "$(dpkg-deb -f "$root/opt/next.deb" Version)" ] || fail "the playbook does not upgrade"
    [ "$(pid_inside)" != "$before" ] || fail "the old program runs after the playbook's upgrade"
    grep -q '^XENMONITOR_INTERVAL=1s$' "$root/etc/default/xenmonitor" || fail "an upgrade loses the playbook's settings"
    gauges_arrive || fail "no gauge arrives after the playbook's upgrade"
    sed -i 's/INTERVAL: 1s/INTERVAL: 1x/' "$root/opt/inventory.yml"
    cp "$root/etc/default/xenmonitor" "$work/settings"
    ! play -e xenmonitor_deb=/opt/next.deb || fail "the playbook succeeds with a wrong setting"
    grep -q "invalid value '1x' for" "$work/said" || { cat "$work/said" >&2; fail "the playbook does not say what is wrong"; }
    cmp -s "$root/etc/default/xenmonitor" "$work/settings" || fail "the playbook writes settings that do not work"
    ok "ansible: upgrades the service; a wrong setting is reported and not written"
    halt
}
