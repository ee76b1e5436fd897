if [ -d /run/systemd/system ]; then
    systemctl daemon-reload >/dev/null 2>&1 || :
    [ $1 -lt 1 ] || systemctl try-restart xenmonitor.service >/dev/null 2>&1 || :
fi
# No package owns these directories.
[ $1 -ge 1 ] || find /usr/share/doc/xenmonitor -depth -type d -empty -delete >/dev/null 2>&1 || :
