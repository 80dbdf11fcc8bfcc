#!/bin/bash
# What a cross build links with: Debian's packages for another architecture, unpacked into a folder. The host's own list of
# architectures and its package database stay as they are.
#   scripts/cross_sysroot.sh arm64|armhf FOLDER
# The packages are those of packages.txt under "Libraries" (without oneDNN and OpenMPI, which cross builds leave out), the C
# library and cmocka. apt checks signatures as always. A folder that is complete already is left alone.
set -u
cd "$(dirname "$0")/.." || exit 1
arch=$1 folder=$2
case $arch in arm64 | armhf) ;; *) echo "cross_sysroot: $arch: only arm64 and armhf" >&2; exit 1 ;; esac

die() {
    echo "cross_sysroot: $*" >&2
    exit 1
}

packages=(libc6-dev libcmocka-dev)
for package in $(sed -n '/^# Libraries/,/^$/p' packages.txt | sed 's/#.*//' | grep -E '^lib'); do
    case $package in libdnnl-dev | libopenmpi-dev) ;; *) packages+=("$package") ;; esac
done
complete="$arch ${packages[*]}"
[ "$(cat "$folder/complete" 2>/dev/null)" = "$complete" ] && exit 0
for tool in apt-get dpkg-deb; do
    command -v $tool >/dev/null || die "$tool is missing: this works on Debian only"
done

# The host's Debian sources, asked for the other architecture; Ubuntu keeps its ARM packages on another server.
source=${ESPL_CROSS_SOURCE:-/etc/apt/sources.list.d/debian.sources}
[ -f "$source" ] || source=/etc/apt/sources.list
[ -f "$source" ] || die "no $source: ESPL_CROSS_SOURCE may name a file of apt sources"
work=$(mktemp -d) || die "no temporary folder can be made"
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/conf"
touch "$work/status"
cat >"$work/apt.conf" <<CONF
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Dir::Etc::sourcelist "$(realpath "$source")";
Dir::Etc::sourceparts "$work/conf";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
CONF
export APT_CONFIG=$work/apt.conf
apt() {
    apt-get -q -y "$@" </dev/null >"$work/log" 2>&1 || { tail -n 8 "$work/log" >&2; return 1; }
}
echo "cross_sysroot: fetching ${#packages[@]} packages for $arch and what they need"
# One list out of date on the mirror (its last lines are shown) need not matter: installing says whether it does.
apt update || echo "cross_sysroot: apt-get update was not complete" >&2
apt --download-only install "${packages[@]}" || die "the packages for $arch could not be fetched"

rm -rf "$folder"
mkdir -p "$folder" || die "$folder cannot be made"
for deb in "$work"/cache/archives/*.deb; do
    dpkg-deb -x "$deb" "$folder" || die "$deb cannot be unpacked"
done
# Links to /lib/... must stay inside the folder.
find "$folder" -type l -lname '/*' -print0 | while IFS= read -r -d '' link; do
    ln -sfnr "$folder$(readlink "$link")" "$link"
done
echo "$complete" >"$folder/complete"
