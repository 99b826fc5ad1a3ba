#!/bin/sh
# Grows the partition of / and its file system to the disk: once, at the first boot.
#
#   grow-root                         the root file system
#   grow-root partition DISK NUMBER   a partition only, for tests
set -u
PATH=/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
LC_ALL=C
export PATH LC_ALL

say() {
    echo "grow-root: $*" >&2
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# Makes a partition as long as there is room behind it. sfdisk moves the second table of a GPT to the disk's end
# too; the disk is in use, so it must not ask for that, and tells the kernel of what changed alone.
stretch() {
    if has sfdisk; then
        echo ', +' | sfdisk --quiet --no-reread --force -N "$2" "$1"
    elif has growpart; then
        growpart "$1" "$2"
        [ $? -le 1 ] # 1 says that there is nothing to grow
    else
        say "neither sfdisk nor growpart is installed"
        return 1
    fi
}

# The number of the extended partition, in which those from 5 on are on an MBR disk.
extended() {
    sfdisk --dump "$1" | while read -r name rest; do
        case "$rest" in
        *type=5 | *type=5,* | *type=f | *type=f,* | *type=85 | *type=85,*)
            name=${name#"$1"}
            echo "${name#p}"
            ;;
        esac
    done
}

grow_partition() {
    if [ "$2" -ge 5 ] && has sfdisk; then
        outer=$(extended "$1")
        [ -z "$outer" ] || stretch "$1" "$outer" || return 1
    fi
    stretch "$1" "$2" || return 1
    if [ -b "$1" ] && has partx; then
        partx --update --nr "$2" "$1"
    fi
    return 0
}

# Sets number (major:minor), type and source of what is mounted on /.
find_root() {
    source=
    while read -r _ _ this _ point _ rest; do
        [ "$point" = / ] || continue
        number=$this
        rest=${rest#*- }
        type=${rest%% *}
        rest=${rest#* }
        source=${rest%% *}
    done </proc/self/mountinfo
    [ -n "$source" ]
}

# Sets block, the directory that the kernel has of the device. btrfs has numbers of its own.
find_block() {
    block=$(readlink -f "/sys/dev/block/$number")
    if [ ! -d "$block" ]; then
        device=$(readlink -f "$source")
        block=$(readlink -f "/sys/class/block/${device##*/}")
    fi
    [ -d "$block" ]
}

# The name in /dev of what the kernel has in a directory, where it writes ! for the slashes of some.
node() {
    echo "${1##*/}" | tr '!' /
}

grow_file_system() {
    case "$1" in
    ext2 | ext3 | ext4)
        has resize2fs && resize2fs "$2" && return 0
        ;;
    xfs)
        has xfs_growfs && xfs_growfs / && return 0
        ;;
    btrfs)
        has btrfs && btrfs filesystem resize max / && return 0
        ;;
    *)
        say "a file system of type $1 cannot be grown"
        return 1
        ;;
    esac
    for tool in /usr/lib/systemd/systemd-growfs /lib/systemd/systemd-growfs; do
        [ -x "$tool" ] && "$tool" / && return 0
    done
    say "the tool for file systems of type $1 is not installed, or failed"
    return 1
}

grow_root() {
    find_root && find_block || {
        say "the device of / is not to be found"
        return 1
    }
    device=/dev/$(node "$block")
    if [ -e "$block/partition" ]; then
        disk=${block%/*}
        grow_partition "/dev/$(node "$disk")" "$(cat "$block/partition")" || {
            say "the partition $device stays as long as it is"
            return 1
        }
    fi
    grow_file_system "$type" "$device"
}

case "${1-}" in
partition)
    grow_partition "$2" "$3"
    ;;
*)
    grow_root || exit 1
    mkdir -p /var/lib/kiln && : >/var/lib/kiln/grow-root.done
    ;;
esac
