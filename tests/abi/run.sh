#!/bin/bash
# The interface of the shared libraries: what the headers declare is what they export, and both are what
# tests/abi/interface.txt lists (docs/abi.md).
#   run.sh SOURCE BUILD                    compares
#   run.sh SOURCE BUILD --write            adds what is new to the list; refuses if something is gone or changed
#   run.sh SOURCE BUILD --write --break    takes that over too: the SONAME's number must have risen since the last release
# CC and NM name the compiler and nm of the build (gcc, nm).
set -u
export LC_ALL=C
source=$1 build=$2
shift 2
list=$source/tests/abi/interface.txt
passed=0 failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

# expect WHAT FILE: the file holds the lines that are wrong.
expect() {
    if [ ! -s "$2" ]; then
        passed=$((passed + 1))
        return
    fi
    failed=$((failed + 1))
    echo "FAILED: $1:"
    sed 's/^/    /' "$2"
}

exported() { "${NM:-nm}" -D --defined-only --format=posix "$1" | awk '$2 != "A" { print $1 }' | sort; }

defined() { "${NM:-nm}" -g --defined-only --format=posix "$1" | awk 'NF > 1 { print $1 }' | sort -u; }

soversion=$(sed -n 's/^set(ESPL_SOVERSION \([0-9]*\))$/\1/p' "$source/CMakeLists.txt")
for header in "$source"/include/espalier/*.h; do
    echo "#include \"espalier/${header##*/}\""
done | (cd "$source" && "${CC:-gcc}" -std=c17 -Iinclude '-D__attribute__(x)=' -E -dD -xc -) |
    awk -f "$source/tests/abi/declarations.awk" >"$folder/declared"
sed -n 's/^function [^(]* \(espl_[a-z0-9_]*\) (.*/\1/p' "$folder/declared" | sort >"$folder/functions"

version=$(sed -n 's/^project(espalier VERSION \([0-9.]*\) .*/\1/p' "$source/CMakeLists.txt")
# The list: "runtime" is what both libraries have.
{
    echo "soversion $soversion"
    awk 'NR == FNR { runtime[$1] = 1; next }
         $1 != "function" { print; next }
         { name = $0; sub(/ \(.*/, "", name); sub(/.* /, "", name); print (name in runtime ? "runtime" : "toolkit"), $0 }' \
        <(defined "$build/libespalier-rt.a") "$folder/declared"
} | sort >"$folder/interface"
touch "$folder/before"
[ -f "$list" ] && grep -v '^#' "$list" | sort >"$folder/before"
comm -23 "$folder/before" "$folder/interface" >"$folder/gone"
comm -13 "$folder/before" "$folder/interface" >"$folder/new"
comm -23 "$folder/functions" <(defined "$build/libespalier.a") >"$folder/undefined"
if [ "${1:-}" = --write ]; then
    expect "declared, but not in $build/libespalier.a: build it first" "$folder/undefined"
    [ $failed -eq 0 ] || exit 1
    if [ -s "$folder/gone" ] && [ "${2:-}" != --break ]; then
        expect "gone or changed, so nothing is written without --break (docs/abi.md)" "$folder/gone"
        exit 1
    fi
    { echo "# Made by tests/abi/run.sh SOURCE BUILD --write from include/espalier; docs/abi.md says what a change means."
        cat "$folder/interface"; } >"$list"
    exit 0
fi

for library in espalier espalier-rt; do
    so=$build/lib$library.so
    [ -f "$so" ] || { echo "FAILED: $so is not there"; exit 1; }
    node=$(echo "${library}_$soversion" | tr 'a-z-' 'A-Z_')
    exported "$so" >"$folder/$library.versioned"
    sed 's/@.*//' "$folder/$library.versioned" >"$folder/$library"
    grep -v "@@$node\$" "$folder/$library.versioned" >"$folder/wrong"
    expect "lib$library.so: symbols that are not of version $node" "$folder/wrong"
    comm -13 "$folder/functions" "$folder/$library" >"$folder/wrong"
    expect "lib$library.so: exported, but no header declares them" "$folder/wrong"
    comm -23 <(defined "$build/lib$library.a" | comm -12 - "$folder/functions") "$folder/$library" >"$folder/wrong"
    expect "lib$library.so: not exported (new? --write, build again)" "$folder/wrong"
    readelf -d "$so" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p' | grep -vx "lib$library.so.$soversion" >"$folder/wrong"
    expect "lib$library.so: its SONAME" "$folder/wrong"
done
expect "declared, but nowhere defined" "$folder/undefined"
readelf -d "$build/libespalier-rt.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p' |
    grep -vE '^(libc|libm|libpthread|ld-linux.*)\.so' >"$folder/wrong"
expect "libespalier-rt.so: needs more than the C library" "$folder/wrong"

# Other places that name the version.
sed -n 's/^## \([0-9.]*\).*/\1/p' "$source/CHANGELOG.md" | head -n 1 | grep -vx "$version" >"$folder/wrong"
expect "CHANGELOG.md: its newest version, where CMakeLists.txt has $version" "$folder/wrong"
sed -n '1s/^espalier (\([0-9.]*\)-.*/\1/p' "$source/debian/changelog" | grep -vx "$version" >"$folder/wrong"
expect "debian/changelog: its newest version, where CMakeLists.txt has $version" "$folder/wrong"
# The packages of the runtime and of the toolkit share the headers out by whose functions they declare.
for header in "$source"/include/espalier/*.h; do
    name=${header##*/}
    package=libespalier-rt-dev
    grep -ohE '\bespl_[a-z0-9_]+ ?\(' "$header" | tr -d ' (' | sort -u >"$folder/named"
    sed -n 's/^toolkit function [^(]* \(espl_[a-z0-9_]*\) (.*/\1/p' "$folder/interface" | sort | comm -12 - "$folder/named" |
        grep -q . && package=libespalier-dev
    grep -qx "usr/include/espalier/$name" "$source/debian/$package.install" || echo "$name: not in debian/$package.install"
done >"$folder/wrong"
expect "Debian packages" "$folder/wrong"
expect "gone or changed since tests/abi/interface.txt; if that is meant, read docs/abi.md" "$folder/gone"
expect "not in tests/abi/interface.txt yet; tests/abi/run.sh SOURCE BUILD --write adds them, then build again" "$folder/new"
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
