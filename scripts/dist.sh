#!/bin/bash
# make dist: the committed tree as FOLDER/espalier-VERSION.tar.xz, the same bytes for the same commit. Prints its path.
#   scripts/dist.sh [FOLDER]     (build/dist)
set -eu -o pipefail
folder=$(realpath -m "${1:-$(dirname "$0")/../build/dist}")
cd "$(dirname "$0")/.."
version=$(sed -n 's/^project(espalier VERSION \([0-9.]*\) .*/\1/p' CMakeLists.txt)
name=espalier-$version
git rev-parse --verify -q HEAD >/dev/null || { echo "dist: this is no clone, so it has no commit to pack" >&2; exit 1; }
git diff --quiet HEAD -- || echo "dist: what is not committed is left out" >&2
mkdir -p "$folder"
# The times in it are the commit's; one thread, since xz cuts the data into blocks for several.
git -c tar.umask=0022 archive --format=tar --prefix="$name/" HEAD | xz -9 -T1 >"$folder/$name.tar.xz.new"
mv "$folder/$name.tar.xz.new" "$folder/$name.tar.xz"
echo "$folder/$name.tar.xz"
