#!/bin/bash
# make install and make uninstall.
#   scripts/install.sh install BUILD PREFIX     installs the build, and writes down which files and folders are new
#   scripts/install.sh uninstall PREFIX         removes those, and nothing else
# DESTDIR in the environment goes before every path, for packagers. The list is PREFIX/share/espalier/manifest.
set -eu
die() {
    echo "install: $*" >&2
    exit 1
}
destdir=${DESTDIR:-}
action=$1
build=$2
prefix=$(realpath -m -s "${!#}")
manifest=share/espalier/manifest

install() {
    local path
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    local stage=$scratch/tree
    # What there will be: installed elsewhere first.
    DESTDIR=$stage cmake --install "$build" --prefix "$prefix" >"$scratch/log" || { cat "$scratch/log" >&2; die "cmake --install failed"; }
    mkdir -p "$stage$prefix/${manifest%/*}"
    {
        [ -f "$destdir$prefix/$manifest" ] && cat "$destdir$prefix/$manifest"
        find "$stage" -mindepth 1 -type d -printf '/%P\n' | while read -r path; do
            [ -d "$destdir$path" ] || echo "folder $path"
        done
        find "$stage" -mindepth 1 ! -type d -printf 'file /%P\n'
    } | sort -u >"$scratch/manifest"
    cmake --install "$build" --prefix "$prefix" >/dev/null
    cp "$scratch/manifest" "$destdir$prefix/$manifest"
    echo "installed $(grep -c ^file "$scratch/manifest") files below $destdir$prefix; make uninstall removes them"
}

uninstall() {
    local list path kind removed=0
    [ -f "$destdir$prefix/$manifest" ] || die "$destdir$prefix/$manifest: no such file, so make install was not here"
    list=$(sort -r "$destdir$prefix/$manifest")
    rm "$destdir$prefix/$manifest"
    while read -r kind path; do
        case $path in *..*) continue ;; "$prefix"/*) ;; *) [ "$kind" = folder ] || continue ;; esac
        [ "$kind" = file ] && rm -f -- "$destdir$path" && removed=$((removed + 1))
    done <<<"$list"
    # Deepest first; what others have put something into stays.
    while read -r kind path; do
        [ "$kind" = folder ] && [ -d "$destdir$path" ] && rmdir --ignore-fail-on-non-empty -- "$destdir$path"
    done <<<"$list"
    echo "removed $removed files below $destdir$prefix"
}

case $action in
install) install ;;
uninstall) uninstall ;;
*) die "$action: neither install nor uninstall" ;;
esac
