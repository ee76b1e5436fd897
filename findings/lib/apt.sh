# shellcheck shell=bash
# Sourced by scripts that unpack Debian's packages in a temp folder, $tmp, and define `unseen`. Needs apt-get, on an amd64
# Debian, but no root. Nothing is installed.

# sources SUITE... - has `apt` use these suites, from the machine's own mirror.
sources() {
    local uri suite
    mkdir -p "$tmp/lists/partial" "$tmp/cache/archives/partial"
    uri=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/*.sources | grep -m1 '/debian/*$') ||
        unseen "no source of Debian"
    for suite in "$@"; do echo "deb [arch=amd64] $uri $suite main"; done >"$tmp/sources"
}

# apt ... - runs apt-get as on an empty machine, with these sources only.
apt() {
    apt-get -qq -o Dir::Etc::SourceList="$tmp/sources" -o Dir::Etc::SourceParts=/dev/null -o Dir::Cache="$tmp/cache" \
        -o Dir::State="$tmp" -o Dir::State::Lists="$tmp/lists" -o Dir::State::status=/dev/null \
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o Debug::NoLocking=1 \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false \
        -o APT::Architecture=amd64 -o APT::Architectures::=amd64 "$@" || unseen "packages could not be had"
}
