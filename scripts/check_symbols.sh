#!/bin/bash
# What the libraries show and need. Argument: the build folder.
# - External symbols begin with espl_ (which the internal espl__ does too).
# - Nothing in them prints, exits or aborts.
# - libespalier-rt needs libc, libm and pthreads only.
build=${1:-build}
bad=0
for library in "$build/libespalier-rt.a" "$build/libespalier.a"; do
    [ -f "$library" ] || { echo "$library: is not there"; exit 1; }
    foreign=$(nm --defined-only --extern-only --format=posix "$library" | awk 'NF > 1 && $1 !~ /^espl_/ { print $1 }')
    [ -n "$foreign" ] && { echo "$library: symbols without espl_:" $foreign; bad=1; }
    forbidden=$(nm --undefined-only --format=posix "$library" | awk 'NF > 1 { print $1 }' | sort -u |
        grep -xE '_?(v?printf|puts|putchar|perror|exit|_exit|_Exit|quick_exit|abort|__assert_fail|stdout|stderr|stdin)')
    [ -n "$forbidden" ] && { echo "$library: uses" $forbidden; bad=1; }
done

# Linked whole, with nothing left open, against no other library.
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
"${CC:-gcc}" -shared -o "$folder/rt.so" -Wl,--whole-archive "$build/libespalier-rt.a" -Wl,--no-whole-archive \
    -Wl,-z,defs -lm -lpthread || { echo "libespalier-rt.a: needs more than libc, libm and pthreads"; bad=1; }
if [ -f "$folder/rt.so" ]; then
    needed=$(readelf -d "$folder/rt.so" | sed -n 's/.*(NEEDED).*\[\(.*\)\].*/\1/p' |
        grep -vE '^(libc|libm|libpthread|libgcc_s|ld-linux.*)\.so')
    [ -n "$needed" ] && { echo "libespalier-rt.a: needs" $needed; bad=1; }
fi
exit $bad
