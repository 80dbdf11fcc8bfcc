#!/bin/bash
# Builds the Debian packages from the committed tree, installs them in a clean system, runs the README's example and a program
# that uses the libraries there, removes them again, and proves that nothing is left.
#   scripts/check_deb.sh [FOLDER]     (root; needs debootstrap, debhelper, and lintian if it is to be asked too)
# FOLDER is kept with the bare system for a second run; without it all is done in a temporary one. SUITE: bookworm.
# MIRROR: of Debian. Ends with 77 and a sentence where something that it needs is missing.
set -u
source=$(realpath "$(dirname "$0")/..")
suite=${SUITE:-bookworm}
mirror=${MIRROR:-http://deb.debian.org/debian}

skip() {
    echo "skipped: $*"
    exit 77
}
[ "$(id -u)" -eq 0 ] || skip "a clean system is made as root"
command -v debootstrap >/dev/null || skip "debootstrap is missing"
command -v dh >/dev/null || skip "debhelper is missing"
command -v unshare >/dev/null || skip "unshare (util-linux) is missing"
(cd "$source" && dpkg-checkbuilddeps) 2>/dev/null || skip "a package is missing: $(cd "$source" && dpkg-checkbuilddeps 2>&1)"
git -C "$source" rev-parse -q --verify HEAD >/dev/null 2>&1 || skip "the tree is no clone"

if [ $# -gt 0 ]; then
    folder=$(realpath -m "$1")
    mkdir -p "$folder"
else
    folder=$(mktemp -d) || exit 1
    trap 'rm -rf --one-file-system "$folder"' EXIT
fi
bare=$folder/$suite-bare root=$folder/$suite
passed=0 failed=0
check() {
    local what=$1
    shift
    if "$@" >"$folder/log" 2>&1 </dev/null; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $what"
        tail -n 40 "$folder/log" | sed 's/^/    /'
        return 1
    fi
}

# --- the packages ----------------------------------------------------------------------------------
pack() {
    rm -rf "$folder/build" && mkdir -p "$folder/build" &&
        tar -C "$folder/build" -xf "$("$source/scripts/dist.sh" "$folder/build")" &&
        cd "$folder"/build/espalier-*/ && DEB_BUILD_OPTIONS=${DEB_BUILD_OPTIONS:-parallel=$(nproc)} dpkg-buildpackage -us -uc -b
}
if [ -z "${ESPL_DEBS:-}" ]; then
    check "dpkg-buildpackage" pack || exit 1
    ESPL_DEBS=$folder/build
fi
command -v lintian >/dev/null &&
    check "lintian" lintian --allow-root --fail-on error,warning --tag-display-limit 0 "$ESPL_DEBS"/espalier_*.changes

# --- a clean system --------------------------------------------------------------------------------
bootstrap() {
    [ -e "$bare/usr/bin/gcc" ] ||
        debootstrap --variant=minbase --include=gcc,libc6-dev,pkg-config "$suite" "$bare" "$mirror"
}
check "debootstrap" bootstrap || exit 1
rm -rf --one-file-system "$root"
cp -a "$bare" "$root"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
grep -rhs Acquire /etc/apt/apt.conf.d >"$root/etc/apt/apt.conf.d/99host" || true
# Packages' examples and documents are part of what is tested; minimal systems may drop them.
rm -f "$root"/etc/dpkg/dpkg.cfg.d/*
mkdir -p "$root/srv/debs" "$root/srv/source/tests/install"
cp "$ESPL_DEBS"/*.deb "$root/srv/debs/"
cp -r "$source/debian" "$root/srv/source/"
cp -r "$source/tests/install/consumer" "$root/srv/source/tests/install/"

# inside COMMAND: in the clean system, as root, with mounts that go with the command.
inside() {
    # shellcheck disable=SC2016
    unshare --mount --pid --fork bash -c '
        mount --make-rprivate / && mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && mount -t tmpfs tmpfs "$0/tmp"
        chroot "$0" env -i HOME=/tmp DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -c "$1"' "$root" "$1"
}
# Every file, but what apt and dpkg write down about what they did.
files() {
    (cd "$root" && find . -xdev \( -path ./proc -o -path ./dev -o -path ./tmp -o -path ./var/cache -o -path ./var/log \
        -o -path ./var/lib/apt -o -path ./var/lib/dpkg \) -prune -o -print | sort)
}
ours=$(cd "$ESPL_DEBS" && for deb in *.deb; do dpkg-deb -f "$deb" Package; done | grep -v -- -dbgsym | tr '\n' ' ')
rm -f "$root"/srv/debs/*-dbgsym_*.deb

check "apt-get update" inside "apt-get update -q"
# What ours depend on comes first, so that what is new after that is ours alone.
check "their dependencies" inside "apt-get -s install --no-install-recommends /srv/debs/*.deb | sed -n 's/^Inst \([^ ]*\).*/\1/p' |
    grep -vxE '${ours// /|}' | xargs apt-get install -q -y --no-install-recommends"
files >"$folder/before"
# shellcheck disable=SC2086
check "they install" inside "apt-get install -q -y --no-install-recommends /srv/debs/*.deb && dpkg --audit && dpkg -V $ours"
check "something came" bash -c "! diff -q '$folder/before' <(cd '$root' && find . -xdev | sort) && [ -x '$root/usr/bin/espalier' ]"
check "the README's example" inside "sh /srv/source/debian/tests/example"
grep -E '^(top-1|latency|file)' "$folder/log"
check "programs that use the libraries" inside "cd /srv/source && sh debian/tests/consumer"
check "the manual is where man looks" inside "zcat /usr/share/man/man1/espalier-compress.1.gz | grep -q '^.TH ESPALIER'"
check "they are purged" inside "apt-get purge -q -y $ours"
files >"$folder/after"
check "nothing is left" diff "$folder/before" "$folder/after"
check "nothing of that name is left" bash -c "! find '$root' -xdev -iname '*espalier*' ! -path '$root/srv/*' ! -path '*/var/lib/apt/*' \
    ! -path '*/var/cache/*' | grep ."
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
