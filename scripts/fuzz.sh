#!/bin/bash
# make fuzz: builds the fuzz targets (tests/fuzz/targets.list) with libFuzzer and runs each for some minutes.
#   scripts/fuzz.sh [MINUTES [TARGET...]]      5 minutes of every target
# What it learns stays in build-fuzz/corpus, so that the next run goes on from there; inputs that fail, in build-fuzz/found.
# Ends with a line for each target; exit code 1 if an input failed.
set -u
cd "$(dirname "$0")/.." || exit 1
minutes=${1:-5}
[ $# -gt 0 ] && shift
[[ $minutes =~ ^[0-9]+(\.[0-9]+)?$ ]] || { echo "fuzz: MINUTES=$minutes is no number" >&2; exit 2; }
# The runtime of libFuzzer comes with clang; on Debian it is the package libclang-rt-*-dev, which clang recommends.
if ! echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n); int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return n > 9 && d[0]; }' |
    clang -x c - -fsanitize=fuzzer,address -o /dev/null 2>/dev/null; then
    echo "fuzz: there is no clang with libFuzzer here; install clang and its compiler runtime (libclang-rt-dev)." \
        "make check replays the committed corpus with any compiler." >&2
    exit 2
fi
build=build-fuzz
mkdir -p $build
log=$build/build.log
cmake --preset fuzz >"$log" 2>&1 && cmake --build --preset fuzz -j "$(getconf _NPROCESSORS_ONLN)" >>"$log" 2>&1 ||
    { tail -n 20 "$log" >&2; echo "fuzz: the targets do not build: $log" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ASAN_OPTIONS=${ASAN_OPTIONS:-quarantine_size_mb=16} TMPDIR=$work
names=("$@")
[ $# -gt 0 ] || mapfile -t names < <(grep -oE '^[a-z]+' tests/fuzz/targets.list)

# ONNX's own test models have every operator, where the package libonnx-testdata is installed.
seeds_of() {
    echo "tests/fuzz/corpus/$1"
    [ "$1" = onnx ] || return
    mkdir -p $build/operators
    for model in /usr/share/libonnx-testdata/data/*/*/model.onnx; do
        [ -f "$model" ] && [ "$(stat -c %s "$model")" -lt 20000 ] &&
            cp -n "$model" "$build/operators/$(basename "$(dirname "$model")").onnx"
    done
    echo "$build/operators"
}

# Runs the target $1; its line goes to the summary.
summary=() failed=0
fuzz() {
    local name=$1 corpus=$build/corpus/$1 found=$build/found/$1 log=$build/$1.log most dictionary=() seeds
    most=$(awk -v name="$name" '$1 == name { print $2 }' tests/fuzz/targets.list)
    [ -n "$most" ] || { echo "fuzz: $name is no target of tests/fuzz/targets.list" >&2; exit 2; }
    [ -f "tests/fuzz/dictionaries/$name" ] && dictionary=("-dict=tests/fuzz/dictionaries/$name")
    mkdir -p "$corpus" "$found"
    mapfile -t seeds < <(seeds_of "$name")
    echo "$name: $minutes minutes, log $log"
    "$build/tests/fuzz/fuzz_$name" -max_total_time="$(awk -v m="$minutes" 'BEGIN { print int(60 * m + 0.5) }')" \
        -max_len="$most" -timeout=60 -report_slow_units=30 -rss_limit_mb=1024 -close_fd_mask=1 -print_final_stats=1 \
        -artifact_prefix="$found/" "${dictionary[@]}" "$corpus" "${seeds[@]}" >"$log" 2>&1
    local code=$? runs edges input
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    edges=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)
    if [ $code -eq 0 ]; then
        summary+=("$(printf '%-11s %9s runs, %s, %s inputs kept: no finding' "$name" "$runs" "$edges" "$(find "$corpus" -type f | wc -l)")")
    else
        failed=1
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        summary+=("$(printf '%-11s FAILED: %s fails; why: %s' "$name" "${input:-an input}" "$log")")
    fi
}

for name in "${names[@]}"; do fuzz "$name"; done
printf '%s\n' "${summary[@]}"
exit $failed
