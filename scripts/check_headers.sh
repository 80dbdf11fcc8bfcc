#!/bin/bash
# Every public header compiles alone, as C17 and as C++11, without warnings, and declares nothing but espl_ and ESPL_.
cd "$(dirname "$0")/.." || exit 1
bad=0
for header in include/espalier/*.h; do
    name=espalier/${header##*/}
    for compiler in ${CC:-gcc} clang; do
        command -v "$compiler" >/dev/null || continue
        echo "#include \"$name\"" |
            "$compiler" -std=c17 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only -xc - || bad=1
    done
    for compiler in g++ clang++; do
        command -v "$compiler" >/dev/null || continue
        echo "#include \"$name\"" |
            "$compiler" -std=c++11 -Wall -Wextra -Wpedantic -Werror -Iinclude -fsyntax-only -xc++ - || bad=1
    done
    # What the header itself adds: macros, and the names that its lines declare.
    foreign=$(sed -nE 's/^[ \t]*#[ \t]*define[ \t]+([A-Za-z0-9_]+).*/\1/p' "$header" |
        grep -vE '^(ESPL_|ESPALIER_)' | grep -vxE 'X|ROW')
    [ -n "$foreign" ] && { echo "$header: macros without ESPL_: $foreign"; bad=1; }
    foreign=$(echo "#include \"$name\"" | "${CC:-gcc}" -std=c17 -Iinclude -E -xc - |
        awk -f scripts/declared.awk | grep -v -e '^espl_' -e '^ESPL_')
    [ -n "$foreign" ] && { echo "$header: names without espl_: $foreign"; bad=1; }
done
exit $bad
