# shellcheck shell=bash
# Sourced by the scripts on QEMU: unpacks a Debian QEMU into a temp folder, $tmp, which is removed at the end.
# Needs apt-get, dpkg-deb, tar and python3, on an amd64 Debian. Nothing is installed.
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
trap 'exit 130' INT TERM
lib=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH=$lib PYTHONDONTWRITEBYTECODE=1

# get_qemu SUITE VERSION - provides that version of the packages qemu-system-x86 and qemu-utils, with the libraries that
# the suite has, as the commands $tmp/SUITE/{qemu-system-x86_64,qemu-img,qemu-io}.
get_qemu() {
    local suite=$1 version=$2 uri root name apt
    root=$tmp/$suite/root
    mkdir -p "$tmp/$suite"/{lists/partial,cache/archives/partial} "$root"/usr/{bin,sbin,lib,lib64}
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
    # The machine's own mirror.
    # shellcheck disable=SC2016
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$')
    echo "deb [arch=amd64] $uri $suite main" >"$tmp/$suite/sources"
    apt=(apt-get -qq -o "Dir::Etc::SourceList=$tmp/$suite/sources" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::Cache=$tmp/$suite/cache" -o "Dir::State=$tmp/$suite" -o "Dir::State::Lists=$tmp/$suite/lists"
        -o Dir::State::status=/dev/null -o APT::Sandbox::User=root -o APT::Architecture=amd64 -o Debug::NoLocking=1
        -o Acquire::Languages=none -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false)
    "${apt[@]}" update
    "${apt[@]}" install -y --download-only --no-install-recommends \
        "qemu-system-x86=$version" "qemu-utils=$version" >/dev/null
    for name in "$tmp/$suite/cache/archives"/*.deb; do
        dpkg-deb --fsys-tarfile "$name" | tar -x --keep-directory-symlink -C "$root"
        rm "$name"
    done
    for name in qemu-system-x86_64 qemu-img qemu-io; do
        {
            echo '#!/bin/sh'
            echo "export QEMU_MODULE_DIR=$root/usr/lib/x86_64-linux-gnu/qemu"
            # By its own loader, so that the machine's libraries do not matter.
            echo "exec $root/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path \\"
            echo "$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu/pulseaudio \\"
            echo "$root/usr/bin/$name \\"
            case $name in
            qemu-system-x86_64)
                echo "-L $root/usr/share/qemu -L $root/usr/share/seabios -L $root/usr/lib/ipxe/qemu \\"
                ;;
            esac
            echo '"$@"'
        } >"$tmp/$suite/$name"
        chmod +x "$tmp/$suite/$name"
    done
    "$tmp/$suite/qemu-system-x86_64" --version | head -n 1 || exit 2
}

# boot_disk FILE read|write - makes a disk of 1 MiB whose boot sector has the BIOS read or write 64 sectors of the first
# disk, from sector 64 on, in one call; it then writes D to the debug console, or E if the BIOS reports an error.
# Needs as and ld.
boot_disk() {
    local call=0x42
    [ "$2" = read ] || call=0x43
    cat >"$tmp/boot.S" <<SH
        .code16
        ljmp \$0, \$start
start:  xor %ax, %ax
        mov %ax, %ds
        mov %ax, %ss
        mov \$0x7c00, %sp
        mov \$packet, %si
        mov \$0x80, %dl
        mov \$$call, %ah
        int \$0x13
        mov \$'D', %al
        jnc 1f
        mov \$'E', %al
1:      out %al, \$0xe9
2:      hlt
        jmp 2b
        .balign 4
packet: .word 16, 64, 0x8000, 0, 64, 0, 0, 0
        .org 510
        .word 0xaa55
SH
    as --32 -o "$tmp/boot.o" "$tmp/boot.S"
    ld -m elf_i386 -Ttext 0x7c00 --oformat binary -e 0 -o "$1" "$tmp/boot.o"
    truncate -s 1M "$1"
}
