#!/bin/bash
# File systems that are full or must not be written: disk.sh PROGRAM
#
# In a mount namespace of its own (skipped where there can be none), on a tmpfs of some sizes that holds an older result:
# either the command ends well and its files are those that it writes elsewhere, or it says that there is no room, and what
# was there is there, whole, and nothing else.
set -u
if [ "${2:-}" != inside ]; then
    unshare -rm true 2>/dev/null || { echo "skipped: no namespaces here"; exit 77; }
    exec unshare -rm "$0" "$(realpath "$1")" inside
fi
program=$1
top=$(mktemp -d) || exit 1
trap 'umount "$top/disk" 2>/dev/null; rm -rf "$top"' EXIT
mkdir "$top/disk" "$top/free"
cd "$top" || exit 1
export XDG_CACHE_HOME=/dev/null ESPL_TUNE=0
passed=0 failed=0

complain() { echo "FAILED $*"; sed 's/^/    /' err; failed=$((failed + 1)); }

printf 'kind: digits\ncount: 64\n' >few.yaml
"$program" new mlp -q -o mlp.onnx || exit 1
mount -t tmpfs none disk 2>/dev/null || { echo "skipped: no tmpfs may be mounted"; exit 77; }
umount disk

# What is examined: the last word of each is the output, below $1.
commands=("new lenet5 -q -o net.onnx" "export mlp.onnx -q -o net.espl" "data few.yaml -q -o arrays" "masks mlp.onnx -q -o pictures"
    "compress mlp.onnx --recipe s8-pow2 --data few.yaml --max-drop 100 --threads 1 -q -o small"
    "train lenet5 --data few.yaml --epochs 1 --threads 1 -q --restart -o trained.onnx")

# run FOLDER COMMAND: with its output in the folder.
run() {
    # shellcheck disable=SC2086
    set -- "$1" $2
    local folder=$1
    shift
    "$program" "${@:1:$#-1}" "$folder/${!#}" >/dev/null 2>err
}

# The files that must be the same every time, with their sums.
sums() { (cd "$1" && find . -type f ! -name report.json ! -name '*.ckpt' | sort | xargs -r cksum); }

for command in "${commands[@]}"; do
    name=${command%% *} output=${command##* }
    run free "$command" || { complain "$name does not work"; continue; }
    for size in 0 40 100 300 4000; do # thousands of bytes beside the older result
        mount -t tmpfs -o size=64m none disk
        case $output in *.*) echo old >"disk/$output" ;; *) mkdir "disk/$output"; echo old >"disk/$output/notes" ;; esac
        sums disk >before
        mount -o remount,size=$((size / 4 * 4 + 8))k disk
        run disk "$command"
        code=$?
        sums disk >after
        mkdir wanted
        cp -r "free/$output" wanted/
        [ -d "free/$output" ] && echo old >"wanted/$output/notes"
        sums wanted >new
        rm -rf wanted
        if find disk | grep -q '\.part'; then complain "$name, $size kB: something is left"
        elif [ $code -eq 0 ] && cmp -s new after; then passed=$((passed + 1))
        elif [ $code -eq 2 ] && cmp -s before after && grep -q 'No space left on device; make room' err; then passed=$((passed + 1))
        else complain "$name, $size kB: exit code $code"; diff before after; fi
        [ $size -eq 4000 ] && [ $code -ne 0 ] && complain "$name: never ends well"
        umount disk
    done
    mount -t tmpfs none disk
    mount -o remount,ro disk
    run disk "$command"
    code=$?
    if [ $code -eq 2 ] && grep -q 'Read-only file system; give' err; then passed=$((passed + 1)); else complain "$name, read-only: exit code $code"; fi
    umount disk
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
