#!/bin/bash
# Golden tests of the command line: run.sh PROGRAM FILE.test...
#
# A .test file is a list of cases; a case begins with its command and ends at the next command:
#
#   # a comment
#   $ espalier inspect missing.onnx          run by bash in an empty folder of the file's own; `espalier` is PROGRAM
#   ? 2                                      its exit code (0 if the line is left out)
#   > the whole line of standard output      these lines, in this order, one after another
#   2> the whole line of standard error      the same for standard error
#   ~ missing\.onnx: .*No such file          an extended regular expression that some line of either must match
#   ! core dumped                            one that no line of either may match
#   @ examples/digits.onnx                   skip the case where this file is missing ($ROOT and $ASSETS are known)
#
# Cases of one file follow each other and share the folder, and a cache that is theirs alone; the locale is C.UTF-8. $ROOT
# is the source tree, $ASSETS the folder of real models and data. A command may say `caught PID` to wait until an espalier in
# the background has its handlers of signals. Ends with "N passed, N failed, N skipped".
set -u
export LC_ALL=C.UTF-8 # figures have points, and lists one order
program=$(realpath "$1") || exit 1
shift
ROOT=$(realpath "$(dirname "$0")/../..")
ASSETS=$(realpath -m "${ESPL_ASSETS:-$ROOT/../shared}")
export ROOT ASSETS
passed=0 failed=0 skipped=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/bin" && ln -s "$program" "$folder/bin/espalier"
export PATH="$folder/bin:$PATH" XDG_CACHE_HOME=$folder/cache

# Waits until this process is espalier and has a handler of SIGINT, the second bit of SigCgt; fails if it ends before. In
# an emulator, which catches everything for the program, it can only be given time.
caught() {
    local name
    while name=$(cat "/proc/$1/comm" 2>/dev/null) && [ "$name" ]; do
        case $name in qemu*) sleep 10; return ;; esac
        [ "$name" = espalier ] && grep -qs '^SigCgt:.*[2367abef]$' "/proc/$1/status" && return
        sleep 0.02
    done
    return 1
}
export -f caught

# Clears the case being read.
begin() {
    command=$1 where=$2 code=0 needs=
    expect_out=() expect_err=() match=() refuse=()
}

complain() { problems+="      $1"$'\n'; }

# Compares the lines of a file with those expected, if any are.
compare() {
    local name=$1 file=$2
    shift 2
    [ $# -eq 0 ] && return
    printf '%s\n' "$@" | diff -u - "$file" >"$folder/diff" && return
    complain "standard $name differs (- expected, + came):"
    problems+=$(sed '1,2d; s/^/        /' "$folder/diff")$'\n'
}

finish() {
    [ -z "$command" ] && return
    if [ -n "$needs" ] && [ ! -e "$(eval echo "$needs")" ]; then
        echo "skipped $where: no ${needs/'$ASSETS'/assets}: $command"
        skipped=$((skipped + 1))
        return
    fi
    local problems='' got pattern
    (cd "$folder/work" && exec timeout "${ESPL_TIMEOUT:-600}" bash -c "$command" </dev/null) >"$folder/out" 2>"$folder/err"
    got=$?
    [ "$got" -eq "$code" ] || complain "exit code $got, expected $code"
    compare output "$folder/out" "${expect_out[@]}"
    compare error "$folder/err" "${expect_err[@]}"
    for pattern in "${match[@]}"; do
        cat "$folder/out" "$folder/err" | grep -qE -- "$pattern" || complain "no line matches: $pattern"
    done
    for pattern in "${refuse[@]}"; do
        cat "$folder/out" "$folder/err" | grep -qE -- "$pattern" && complain "a line matches: $pattern"
    done
    if [ -z "$problems" ]; then
        passed=$((passed + 1))
        return
    fi
    failed=$((failed + 1))
    echo "FAILED $where: $command"
    printf '%s' "$problems"
    for stream in out err; do
        [ -s "$folder/$stream" ] && sed "s/^/      $stream: /" "$folder/$stream" | tail -n 20
    done
}

for file in "$@"; do
    rm -rf "$folder/work" "$folder/cache" && mkdir "$folder/work"
    begin '' ''
    number=0
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        case $line in
            '$ '*) finish; begin "${line#'$ '}" "$(basename "$file"):$number" ;;
            '? '*) code=${line#'? '} ;;
            '2> '* | '2>') line=${line#'2>'}; expect_err+=("${line# }") ;;
            '> '* | '>') line=${line#'>'}; expect_out+=("${line# }") ;;
            '~ '*) match+=("${line#'~ '}") ;;
            '! '*) refuse+=("${line#'! '}") ;;
            '@ '*) needs=${line#'@ '} ;;
            '' | '#'*) ;;
            *) echo "$(basename "$file"):$number: not understood: $line"; failed=$((failed + 1)) ;;
        esac
    done <"$file"
    finish
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
