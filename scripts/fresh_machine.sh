#!/bin/bash
# Rehearses a fresh machine: a minimal Debian with only git and make in it, a clone of HEAD, and what a stranger types.
#   scripts/fresh_machine.sh FOLDER [SUITE [COMMAND]]     (root; needs debootstrap)
# FOLDER is kept, so that a second run starts from the same bare system. SUITE: bookworm. COMMAND: make demo && make check.
set -eu
source=$(realpath "$(dirname "$0")/..")
folder=$(realpath -m "$1")
suite=${2:-bookworm}
command=${3:-make demo && make check}
mirror=${MIRROR:-http://deb.debian.org/debian}
bare=$folder/$suite-bare root=$folder/$suite

if [ ! -e "$bare/usr/bin/make" ]; then
    debootstrap --variant=minbase --include=git,make "$suite" "$bare" "$mirror"
fi
rm -rf "$root"
cp -a "$bare" "$root"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
grep -rhs Acquire /etc/apt/apt.conf.d >"$root/etc/apt/apt.conf.d/99host" || true
rm -rf "$root"/var/lib/apt/lists/* # as in a container image
git clone -q "$source" "$root/srv/espalier"
# A mount namespace of its own: nothing is left mounted, whatever happens.
exec unshare --mount --pid --fork bash -c '
    mount --make-rprivate / && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/tmp"
    chroot "$0" env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        bash -c "cd /srv/espalier && { $1; }" </dev/null' "$root" "$command"
