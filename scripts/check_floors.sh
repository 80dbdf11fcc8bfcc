#!/bin/bash
# The floor rule: a file includes only headers of lower floors, folders on one floor do not include each other, and the
# programs use the public headers only. scripts/floors.txt says which folder is on which floor.
# Arguments: the root of the tree (default: this one).
cd "${1:-$(dirname "$0")/..}" || exit 1
find src tools include -name '*.[ch]' | sort | xargs awk '
    FILENAME == "scripts/floors.txt" {
        if ($0 !~ /^#/ && NF) { floor[$2] = $1; public_only[$2] = $3 == "public" }
        next
    }
    # "src/onnx/read.c" is in folder src/onnx, whatever lies below it.
    FNR == 1 {
        split(FILENAME, part, "/")
        folder = part[1] "/" part[2]
        if (part[1] != "include" && !(folder in floor)) {
            print FILENAME ": " folder " is not in scripts/floors.txt"
            bad = 1
        }
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        split($0, quoted, "\"")
        split(quoted[2], part, "/")
        header = quoted[2]
        place = FILENAME ":" FNR ": "
        if (part[1] == "espalier") next
        if (folder ~ /^include\//) {
            print place "a public header includes \"" header "\", which is not public"
            bad = 1
        } else if (header !~ /\//) {
            next # beside the file
        } else if (header ~ /\.\./) {
            print place "\"" header "\" leaves its folder by .."
            bad = 1
        } else if (public_only[folder]) {
            print place "\"" header "\" is not a public header"
            bad = 1
        } else if ("src/" part[1] != folder && !("src/" part[1] in floor)) {
            print place "\"" header "\" is of no folder in scripts/floors.txt"
            bad = 1
        } else if ("src/" part[1] != folder && floor["src/" part[1]] >= floor[folder]) {
            print place "\"" header "\" is on floor " floor["src/" part[1]] ", not below floor " floor[folder]
            bad = 1
        }
    }
    END { exit bad }
' scripts/floors.txt || exit 1
