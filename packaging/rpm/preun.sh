# The systemd of CentOS 7 does not support disable --now.
if [ $1 -eq 0 ] && [ -x /usr/bin/systemctl ]; then
    systemctl --no-reload disable xenmonitor.service >/dev/null 2>&1 || :
    systemctl stop xenmonitor.service >/dev/null 2>&1 || :
fi
