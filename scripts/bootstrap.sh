#!/bin/bash
# Installs the packages of packages.txt that are missing; says which before it acts, says nothing if none is.
# For Debian and Ubuntu, as root or with sudo. ESPL_BOOTSTRAP=no turns it off: then what is missing is the user's to get.
set -u
cd "$(dirname "$0")/.." || exit 1
[ "${ESPL_BOOTSTRAP:-yes}" = no ] && exit 0

die() {
    echo "bootstrap: $*" >&2
    exit 1
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    die "this system has no apt-get; install what packages.txt lists by its own means and set ESPL_BOOTSTRAP=no"
fi

missing=()
for package in $(sed 's/#.*//' packages.txt); do
    state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)
    [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "bootstrap: installing ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        die "you are not root and there is no sudo; as root run: apt-get install ${missing[*]}"
    as_root=(sudo)
    [ -t 0 ] || as_root=(sudo -n)
    "${as_root[@]}" true || die "sudo refused; as root run: apt-get install ${missing[*]}"
fi

log=$(mktemp) || die "no temporary file can be made"
trap 'rm -f "$log"' EXIT
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@" \
        </dev/null >"$log" 2>&1
}
install() { apt install --no-install-recommends "${missing[@]}"; }

# The package lists of a fresh machine are empty or old: then they are fetched, once.
install && exit 0
echo "bootstrap: updating the package lists"
apt update || { tail -n 8 "$log" >&2; die "apt-get update failed (its last lines are above); is there a network?"; }
install && exit 0
tail -n 8 "$log" >&2
die "apt-get install failed (its last lines are above); is there a network, and has it all of packages.txt?"
