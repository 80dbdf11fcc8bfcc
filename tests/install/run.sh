#!/bin/bash
# Installs BUILD, moves the tree, and builds the consumer against it by pkg-config and by find_package.
#   run.sh SOURCE BUILD COMPILER
set -u
source=$1 build=$2 compiler=$3
# shellcheck source=tests/check.sh
. "$source/tests/check.sh"


staged() {
    cmake --install "$build" --prefix "$folder/first" && mv "$folder/first" "$folder/moved"
}
check "install" staged
prefix=$folder/moved
pc=$(dirname "$(find "$prefix" -name espalier.pc)")
export PKG_CONFIG_PATH=$pc

check "program runs" bash -c "'$prefix/bin/espalier' --version | grep -E '^espalier [0-9.]+'"
for header in "$source"/include/espalier/*.h; do
    check "header ${header##*/} is installed" cmp "$header" "$prefix/include/espalier/${header##*/}"
done
for page in "$prefix"/share/man/man1/espalier-{compress,train,help}.1 "$prefix/share/man/man1/espalier.1" \
    "$prefix/share/bash-completion/completions/espalier" "$prefix/share/zsh/site-functions/_espalier"; do
    check "${page#"$prefix/"} is installed" test -s "$page"
done
check "nothing internal is installed" bash -c \
    "! grep -rlE '\\b(espl_options|espl_internal|espl_base)' '$prefix'/lib*/cmake '$pc'"
check "no path of the build is installed" bash -c \
    "! grep -rlF -e '$source' -e '$build' -e '$folder/first' '$prefix'/include '$prefix'/lib*/cmake '$pc'"

# by_pkg_config PACKAGE FLAG: a plain compiler line, which takes the shared library.
export LD_LIBRARY_PATH=${pc%/pkgconfig}
by_pkg_config() {
    # shellcheck disable=SC2046
    "$compiler" -std=c17 -Wall -Wextra -Wpedantic -Werror "$2" "$source/tests/install/consumer/main.c" \
        -o "$folder/$1" $(pkg-config --cflags --libs "$1") && "$folder/$1"
}
needed() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }
# needs_only FILE PATTERN
needs_only() { ! needed "$1" | grep -vE "^($2|libc|libm|libpthread|ld-linux.*)\\.so"; }
check "consumer of espalier-rt by pkg-config" by_pkg_config espalier-rt -DRUNTIME_ONLY
check "consumer of espalier by pkg-config" by_pkg_config espalier -DTOOLKIT
# The example: zeros give the scores that the program gives.
example() {
    # shellcheck disable=SC2046
    "$compiler" -std=c17 -Wall -Wextra -Wpedantic -Werror "$source/examples/run.c" -o "$folder/run" \
        $(pkg-config --cflags --libs espalier-rt) &&
        "$prefix/bin/espalier" export "$source/examples/digits.onnx" -o "$folder/digits.espl" &&
        "$folder/run" "$folder/digits.espl" | grep -E '^scores:( -?[0-9.]+){10}$' && ! "$folder/run" "$folder/none.espl"
}
check "examples/run.c with the runtime alone" example
check "a program needs the runtime alone" needs_only "$folder/espalier-rt" libespalier-rt
check "a program needs the toolkit alone" needs_only "$folder/espalier" libespalier
check "the runtime brings no library along" needs_only "$LD_LIBRARY_PATH/libespalier-rt.so" none
# static PACKAGE FLAG: the same line with the static library. (With the toolkit's it needs what the developers' packages of
# Debian do not all bring along.)
static() {
    local flags
    flags=$(pkg-config --static --cflags --libs "$1") || return
    # shellcheck disable=SC2086
    "$compiler" -std=c17 -Werror "$2" "$source/tests/install/consumer/main.c" -o "$folder/$1-static" \
        ${flags//-l$1 /-l:lib$1.a } && "$folder/$1-static" && ! needed "$folder/$1-static" | grep libespalier
}
check "consumer of the static espalier-rt" static espalier-rt -DRUNTIME_ONLY
check "the static runtime brings no library along" needs_only "$folder/espalier-rt-static" none

# by_cmake WANT: find_package.
by_cmake() {
    cmake -S "$source/tests/install/consumer" -B "$folder/cmake-$1" -DCMAKE_PREFIX_PATH="$prefix" -DWANT="$1" \
        -DCMAKE_C_COMPILER="$compiler" && cmake --build "$folder/cmake-$1" && "$folder/cmake-$1/consumer"
}
check "consumer of espalier::rt by find_package" by_cmake rt
check "consumer of espalier::espalier by find_package" by_cmake espalier
check "consumer of espalier::rt_static by find_package" by_cmake rt_static
check "consumer of espalier::espalier_static by find_package" by_cmake espalier_static

# Where the shared libraries were not built, espalier::rt is the static one.
rm -r "$LD_LIBRARY_PATH"/libespalier*.so* "$LD_LIBRARY_PATH"/cmake/espalier/*-shared*.cmake "$folder/cmake-rt"
check "consumer of espalier::rt without the shared libraries" by_cmake rt
check "it needs no library of ours" bash -c "! readelf -d '$folder/cmake-rt/consumer' | grep libespalier"

# make install and make uninstall, where others have files too.
export DESTDIR=$folder/root
others() { mkdir -p "$DESTDIR/usr/local/"{bin,share/man/man1} && touch "$DESTDIR/usr/local/share/man/man1/other.1"; }
tree() { (cd "$DESTDIR" && find . | sort); }
check "files of others" others
tree >"$folder/before"
check "make install" "$source/scripts/install.sh" install "$build" /usr/local
check "make install again" "$source/scripts/install.sh" install "$build" /usr/local
check "the program is there" test -x "$DESTDIR/usr/local/bin/espalier"
check "make uninstall" "$source/scripts/install.sh" uninstall /usr/local
tree >"$folder/after"
check "nothing is left, nothing of others is gone" diff "$folder/before" "$folder/after"
check "a second make uninstall says why not" bash -c \
    "! '$source/scripts/install.sh' uninstall /usr/local 2>'$folder/err' && grep -q 'make install was not here' '$folder/err'"

finish
