#!/bin/bash
# make coverage: which lines of src/ the tests run. Builds with counters into build-coverage/, runs every test that is not
# labelled `long` or `release`, prints a table, and fails if all of src/ is below 90 % or what reads files below 95 %.
#   scripts/coverage.sh            everything
#   scripts/coverage.sh --count    only counts what earlier runs have left
# build-coverage/html/index.html shows every line. Needs gcovr. Vector kernels are not counted (cmake/EspalierBuild.cmake).
set -u
cd "$(dirname "$0")/.." || exit 1
least_all=90 least_parsers=95
jobs=$(getconf _NPROCESSORS_ONLN)
folder=build-coverage
failed=0
# What reads files that others made.
parsers='^src/(onnx|yaml|data)/|^src/tensor/npy\.c|^src/runtime/container_(read|data)|^src/train/checkpoint\.c'

command -v gcovr >/dev/null || { echo "coverage: gcovr is missing (apt-get install gcovr)" >&2; exit 1; }
if [ "${1:-}" != --count ]; then
    cmake --preset coverage >/dev/null && cmake --build --preset coverage -j "$jobs" --target all || exit 1
    find $folder -name '*.gcda' -delete
    # Processes that are killed in the middle of their work leave counters that are cut short.
    ctest --preset coverage -j "$jobs" --timeout 1800 -LE 'long|release' -E kill_resume || failed=1
fi

mkdir -p $folder/html
# Threads count without locks, so that a count may come out below 0.
gcovr --root . --object-directory $folder --filter 'src/' --exclude '.*\.pb-c\..*' --gcov-ignore-parse-errors \
    --csv $folder/coverage.csv --html-details $folder/html/index.html $folder 2>$folder/gcovr.log ||
    { tail $folder/gcovr.log >&2; exit 1; }

awk -F, -v parsers="$parsers" -v least_all=$least_all -v least_parsers=$least_parsers '
    function say(name, total, run) { printf "%-18s %7d %7d %7.1f %%\n", name, total, run, total ? 100 * run / total : 100 }
    NR == 1 { next }
    {
        split($1, part, "/")
        name = part[1] "/" part[2]
        if (!(name in total)) order[++count] = name
        total[name] += $2; run[name] += $3; all += $2; all_run += $3
        if ($1 ~ parsers) { read += $2; read_run += $3 }
    }
    END {
        printf "%-18s %7s %7s %9s\n", "folder", "lines", "run", "share"
        for (i = 1; i <= count; i++) say(order[i], total[order[i]], run[order[i]])
        say("all of src", all, all_run)
        say("what reads files", read, read_run)
        if (100 * all_run < least_all * all) { print "coverage: all of src is below " least_all " %"; bad = 1 }
        if (100 * read_run < least_parsers * read) { print "coverage: what reads files is below " least_parsers " %"; bad = 1 }
        exit bad
    }' $folder/coverage.csv && [ $failed -eq 0 ]
