#!/bin/bash
# make check: builds with both compilers and with the sanitizers, runs the tests, and ends with the totals.
#   scripts/check.sh               everything that is not labelled `long`
#   scripts/check.sh --long        that too, the coverage, and the whole suite on the other processors
#   scripts/check.sh --cross ARCH  (aarch64, armhf) only that suite, in qemu
# WERROR=ON makes warnings errors, as continuous integration does. ESPL_ASSETS names the folder of real models and data
# (default ../shared); tests that need it are skipped without it. Logs of every step stay in build/check/.
set -u
export LC_ALL=C.UTF-8
case "${1:-}" in
    '' | --long | --cross) ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/.." || exit 1
werror=${WERROR:-OFF}
jobs=$(getconf _NPROCESSORS_ONLN)
long=(-LE long)
[ "${1:-}" = --long ] && long=()
logs=$PWD/build/check
passed=0 failed=0 skipped=0
mkdir -p "$logs"

# Thread and address sanitizers of older compilers do not stand the address layouts of newer kernels.
plain_layout=()
setarch "$(uname -m)" -R true 2>/dev/null && plain_layout=(setarch "$(uname -m)" -R)

say() { printf '%-34s %s\n' "$1" "$2"; }

add() { passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3)); }

# One check that is one command: step NAME COMMAND...
step() {
    local name=$1 log="$logs/${1// /-}.log"
    shift
    local begin=$SECONDS
    if "$@" </dev/null >"$log" 2>&1; then
        add 1 0 0
        say "$name" "ok, $((SECONDS - begin)) s"
    else
        add 0 1 0
        say "$name" "FAILED, $((SECONDS - begin)) s: $log"
        # Of a compiler the complaints, of anything else the last words.
        { grep -E '(error|warning|undefined reference)[: ]' "$log" || tail -n 40 "$log"; } | head -n 60 | sed 's/^/    | /'
        return 1
    fi
}

# build PRESET TARGET...; $setting: what differs from the preset
build() {
    local preset=$1
    shift
    step "build $preset" bash -c "cmake --preset $preset -DESPL_WERROR=$werror ${setting:-} &&
        cmake --build --preset $preset -j $jobs --target $* -- -k 0"
}

# tests PRESET CTEST-ARGUMENT...: runs ctest in the preset's folder and adds what its programs counted.
tests() {
    local preset=$1 log="$logs/tests-$1.log" begin=$SECONDS
    shift
    "${plain_layout[@]}" ctest --preset "$preset" -V -j "$jobs" --timeout "${timeout:-900}" --no-tests=error "$@" \
        </dev/null >"$log" 2>&1
    local rc=$? counts
    counts=$(awk -f scripts/summarise.awk "$log")
    # shellcheck disable=SC2086
    set -- $counts
    # ctest failed though no test did: it could not run at all.
    [ $rc -ne 0 ] && [ "$2" -eq 0 ] && set -- "$1" 1 "$3"
    add "$1" "$2" "$3"
    say "tests $preset" "$1 passed, $2 failed, $3 skipped, $((SECONDS - begin)) s"
    [ "$2" -eq 0 ] && return
    echo "    | the whole log: $log"
    awk -v names=1 -f scripts/summarise.awk "$log" | while read -r id name; do
        echo "    | $name:"
        # What says FAILED with the lines before it that say why; of a crash the last words.
        grep "^$id: " "$log" | sed "s/^$id: //" |
            { grep -vE '^\[( RUN |       OK )' || true; } | tail -n 40 | sed 's/^/    |   /'
    done
}

# cross ARCH WHAT: for another processor; `kernels`: the golden checksums of every kernel, which needs three floors only;
# `all`: the whole suite. Skips where compiler or emulator are missing. qemu takes ten to fifty times as long.
cross() {
    local preset=$1 what=$2 compiler=aarch64-linux-gnu-gcc emulator=qemu-aarch64 sysroot=arm64 tool
    [ "$preset" = armhf ] && compiler=arm-linux-gnueabihf-gcc emulator=qemu-arm sysroot=armhf
    for tool in "$compiler" "$emulator"; do
        command -v "$tool" >/dev/null || command -v "$tool-static" >/dev/null && continue
        say "cross $preset" "skipped: no $tool"
        add 0 0 1
        return
    done
    if [ "$what" = kernels ]; then
        if [ -f build-sysroot-$sysroot/complete ]; then
            build "$preset" checkkern && tests "$preset" -R '^golden_kernels$'
        else
            say "cross $preset" "skipped: no build-sysroot-$sysroot, which make check-cross makes"
            add 0 0 1
        fi
    elif step "libraries $preset" scripts/cross_sysroot.sh $sysroot build-sysroot-$sysroot; then
        build "$preset" all && ESPL_TIMEOUT=6000 timeout=20000 tests "$preset" -LE long
    fi
}

finish() {
    echo
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed -eq 0 ]
    exit
}

if [ "${1:-}" = --cross ]; then
    cross "${2:?scripts/check.sh --cross aarch64 or armhf}" all
    finish
fi

step "floors" scripts/check_floors.sh
step "marks" scripts/check_marks.sh
step "headers" scripts/check_headers.sh

if build release all; then
    tests release "${long[@]}"
    step "symbols" scripts/check_symbols.sh build
fi
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
build asan all && tests asan -LE 'long|release'
build tsan threads && tests tsan -L threads
if [ ${#long[@]} -gt 0 ]; then
    build clang all && tests clang -L unit
    cross aarch64 kernels
else
    setting=-DESPL_SPECIALISE=ON build clang all && tests clang -L unit
    cross aarch64 all
    cross armhf all
    if command -v gcovr >/dev/null; then
        step "coverage" scripts/coverage.sh
    else
        add 0 0 1
        say "coverage" "skipped: no gcovr (apt-get install gcovr)"
    fi
fi
finish
