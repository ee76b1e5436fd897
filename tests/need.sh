#!/bin/sh
# need.sh HAVE:PACKAGE ... - installs the Debian packages of those that are missing, or prints how to.
# HAVE is a command, or a file (which may be a pattern). The package `xentop` stands for the xen-utils of this release
# of Debian, whichever version of Xen that is. OLDEST_RUST is a version of Rust, if that of Cargo.toml is too old.
set -eu
missing=
for pair in "$@"; do
    have=${pair%:*}
    case $have in
        /*) ls $have >/dev/null 2>&1 || missing="$missing ${pair##*:}" ;; # unquoted: a pattern
        *) command -v "$have" >/dev/null || missing="$missing ${pair##*:}" ;;
    esac
done
oldest=${OLDEST_RUST:-$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")}
command -v cargo >/dev/null || { echo "cargo is missing: install Rust $oldest or later, see rustup.rs" >&2; exit 1; }
version=$(cargo --version | cut -d' ' -f2)
[ -n "$version" ] || exit 1 # cargo has said why
if [ "$(printf '%s\n' "$oldest" "$version" | sort -V | head -n 1)" != "$oldest" ]; then
    echo "this is Rust $version, from $(command -v cargo): install Rust $oldest or later, see rustup.rs" >&2
    exit 1
fi
[ -n "$missing" ] || exit 0

sudo=
if [ "$(id -u)" != 0 ]; then
    sudo="sudo -n"
    if ! $sudo true 2>/dev/null; then
        echo "missing, and not root to install it; please run:" >&2
        echo "  sudo apt-get install$missing" | sed "s/ xentop/ 'xen-utils-4.*'/" >&2
        exit 1
    fi
fi
# Others of this clone may install at the same time.
exec 9<"$0"
flock 9
echo "installing:$missing" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
{
    $sudo apt-get update -q
    xentop=$(apt-cache search --names-only '^xen-utils-4' | cut -d' ' -f1 | sort -V | tail -n 1)
    missing=$(echo "$missing" | sed "s/ xentop/ $xentop/")
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing
} >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
