#!/bin/sh
# glibc.sh FILE... - fails if a program needs a newer glibc than 2.17, the version in the dom0 of XCP-ng 8.
set -eu
most=2.17
for file in "$@"; do
    # ld-linux and libgcc_s are installed with every glibc.
    versions=$(objdump -T "$file" | grep -o 'GLIBC_[0-9.]*' | sort -u)
    [ -n "$versions" ] || { echo "$file: no symbols of glibc found: is it a program?" >&2; exit 1; }
    newest=$(printf '%s\n' "$versions" GLIBC_$most | sort -V | tail -n 1)
    if [ "$newest" != GLIBC_$most ]; then
        echo "$file needs $newest, but only GLIBC_$most is available everywhere:" >&2
        objdump -T "$file" | grep -F "($newest)" >&2
        exit 1
    fi
    needed=$(objdump -p "$file" | sed -n 's/^ *NEEDED *//p' | grep -vE '^(lib(c|m|dl|pthread|rt|gcc_s)|ld-linux.*)\.so' || true)
    [ -z "$needed" ] || { echo "$file needs libraries that are not part of glibc: $needed" >&2; exit 1; }
    echo "$file: runs with glibc $most"
done
