#!/bin/bash
# The source archive: twice the same bytes; unpacked, where no git is, it builds, runs, installs and goes again.
#   run.sh SOURCE COMPILER
set -u
source=$1 compiler=$2
# shellcheck source=tests/check.sh
. "$source/tests/check.sh"
git -C "$source" rev-parse -q --verify HEAD >/dev/null 2>&1 || { echo "skipped: the tree is no clone"; exit 77; }
check "make dist" "$source/scripts/dist.sh" "$folder/one"
check "make dist again" env TZ=Asia/Tokyo bash -c "umask 077; '$source/scripts/dist.sh' '$folder/two'"
archive=$(echo "$folder"/one/espalier-*.tar.xz)
check "the same bytes" cmp "$archive" "$folder/two/${archive##*/}"
check "it unpacks into one folder" tar -C "$folder" -xf "$archive"
tree=$folder/$(basename "$archive" .tar.xz)
cd "$tree" || exit 1
unset GIT_DIR
export CC=$compiler GIT_CEILING_DIRECTORIES=$folder PREFIX=/opt/espalier DESTDIR=$folder/root
check "every file of the commit is in it" bash -c "diff <(git -C '$source' ls-tree -r --name-only HEAD | sort) \
    <(find . -type f -printf '%P\n' | sort)"
check "make" make -j "$(getconf _NPROCESSORS_ONLN)" PREFIX=$PREFIX
check "make install" make install PREFIX=$PREFIX DESTDIR="$DESTDIR"
program=$DESTDIR$PREFIX/bin/espalier
check "the program" bash -c "'$program' --version | grep -F '${tree##*-}'"
check "a network is compressed" "$program" compress examples/digits.onnx --chip x86-avx2 --data digits -o out
check "the result runs" "$program" eval out/model.espl --data digits --count 200
check "make uninstall" make uninstall PREFIX=$PREFIX DESTDIR="$DESTDIR"
check "nothing is left" bash -c "! find '$DESTDIR' -mindepth 1 | grep ."
finish
