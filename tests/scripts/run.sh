#!/bin/bash
# Shows each check of scripts/ a tree with a fault in it: it must find the fault, and nothing in the tree without it.
set -u
root=$(realpath "$(dirname "$0")/../..")
passed=0 failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

expect() {
    if [ "$2" = "$3" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED %s\n    expected: %s\n    came:     %s\n' "$1" "$2" "$3"
    fi
}

# --- the floor rule -------------------------------------------------------------------------
fresh() {
    rm -rf "$folder/tree"
    mkdir -p "$folder"/tree/{src/base,src/graph,src/kernels/conv,tools/espalier,include/espalier,scripts}
    cp "$root/scripts/floors.txt" "$folder/tree/scripts/"
    printf '#include "espalier/a.h"\n#include "base/base.h"\n#include <stdio.h>\n' >"$folder/tree/src/graph/graph.c"
    printf '#include "kernels/conv/conv.h"\n#include "conv.h"\n' >"$folder/tree/src/kernels/conv/conv.c"
    printf '#include "espalier/a.h"\n#include "cmd.h"\n' >"$folder/tree/tools/espalier/cmd.c"
}
# floors FILE LINE WORDS: adds LINE to FILE and expects a complaint that begins with its place and contains WORDS.
floors() {
    fresh
    mkdir -p "$(dirname "$folder/tree/$1")"
    printf '%s\n' "$2" >>"$folder/tree/$1"
    local out rc
    out=$("$root/scripts/check_floors.sh" "$folder/tree")
    rc=$?
    [ -z "$3" ] || case $out in "$1:"*"$3"*) out=found ;; esac
    expect "floors, $1: $2" "$([ -n "$3" ] && echo found 1 || echo 0)" "$out${out:+ }$rc"
}
floors src/graph/graph.c '#include "espalier/b.h"' ''
floors src/base/base.c '#include "graph/graph.h"' 'not below floor 0'
floors src/graph/graph.c '#include "kernels/conv/conv.h"' 'not below floor 2'
floors src/graph/graph.c ' #  include "../base/base.h"' 'leaves its folder'
floors src/graph/graph.c '#include "unheard/of.h"' 'no folder'
floors tools/espalier/cmd.c '#include "base/base.h"' 'not a public header'
floors include/espalier/a.h '#include "base/base.h"' 'public header'
floors src/unlisted/a.c 'int a;' 'not in scripts/floors.txt'

# --- the summary ----------------------------------------------------------------------------
# summary EXPECTED LOG-LINE...: what scripts/summarise.awk makes of a log of ctest -V.
summary() {
    local expected=$1
    shift
    expect "summary of: $*" "$expected" "$(printf '%s\n' "$@" | awk -f "$root/scripts/summarise.awk")"
}
group='[==========] Running 3 test(s).'
summary '3 0 0' "1: $group" '1: [  PASSED  ] 3 test(s).' '1/1 Test #1: a ....   Passed    0.10 sec'
summary '1 1 1' "1: $group" '1: [  PASSED  ] 1 test(s).' '1: [  SKIPPED ] 1 test(s), listed below:' \
    '1: [  FAILED  ] 1 test(s), listed below:' '1: [  FAILED  ] b' '1/1 Test #1: a ....***Failed    0.10 sec'
# cmocka 1.1.7 names the group.
summary '3 0 0' '1: [==========] tests: Running 3 test(s).' '1: [  PASSED  ] 3 test(s).' '1/1 Test #1: a .. Passed 0.10 sec'
# A crash in the second of two groups, a program that counts nothing, one that hangs, one that could not start.
summary '3 1 0' "1: $group" '1: [  PASSED  ] 3 test(s).' "1: $group" '1/1 Test #1: a ....***Exception: SegFault  0.1 sec'
summary '1 0 0' '1/1 Test #1: a ....   Passed    0.10 sec'
summary '0 1 0' '1/1 Test #1: a ....***Timeout 900.00 sec'
summary '0 1 0' '1/1 Test #1: a ....***Not Run   0.00 sec'
summary '0 0 1' '1/1 Test #1: a ....***Skipped   0.00 sec'
# It ends well, yet the group never closed: someone called exit.
summary '0 1 0' "1: $group" '1/1 Test #1: a ....   Passed    0.10 sec'
# Two programs at once, one with a closing line of its own.
summary '10 1 2' "1: $group" '2: 7 passed, 1 failed, 2 skipped' '1: [  PASSED  ] 3 test(s).' \
    '2/2 Test #2: b ....***Failed    0.10 sec' '1/2 Test #1: a ....   Passed    0.10 sec'

# --- left-over marks ------------------------------------------------------------------------
marks() {
    rm -rf "$folder/tree" && mkdir -p "$folder/tree/scripts"
    cp "$root/scripts/check_marks.sh" "$folder/tree/scripts/"
    printf '%s\n' "$2" >"$folder/tree/a.c"
    "$folder/tree/scripts/check_marks.sh" >/dev/null 2>&1
    expect "marks, $2" "$1" $?
}
marks 0 'int a; /* all done, see http://example.org/home/work */'
marks 1 "/* TO""DO: the rest */"
marks 1 "<<<<<""<< ours"
marks 1 'fopen("/ho''me/someone/model.onnx")'
marks 1 'int a; '

# --- names of public headers ----------------------------------------------------------------
printf '# 1 "include/espalier/a.h"\n%s\n# 1 "/usr/include/b.h"\nint foreign(void);\n' \
    'typedef enum { ESPL_A, ESPL_B = 3 } espl_e; struct espl_s { int x; }; int espl_f(int (*g)(void), int y);
     static inline int espl_h(int z) { return call(z); } extern int espl_object;
     typedef void (*espl_fn)(void *user, int (*inner)(void)); struct espl_s *espl_make(void);' >"$folder/pre"
expect "declared names" "ESPL_A ESPL_B espl_e espl_s espl_f espl_h espl_object espl_fn espl_s espl_make" \
    "$(awk -f "$root/scripts/declared.awk" "$folder/pre" | tr '\n' ' ' | sed 's/ $//')"

echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
