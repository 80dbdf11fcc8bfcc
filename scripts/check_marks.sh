#!/bin/bash
# Left-overs that must not be committed: marks of unfinished work, conflict marks, paths of a developer's machine.
cd "$(dirname "$0")/.." || exit 1
bad=0
list() {
    git ls-files -z --cached --others --exclude-standard 2>/dev/null ||
        find . \( -name .git -o -name 'build*' \) -prune -o -type f -print0
}
# Each pattern is written so that it does not find itself.
report() {
    local what=$1 pattern=$2
    list | grep -zvE '^(\./)?(LICENSE|scripts/check_marks\.sh)$|\.(onnx|png|npy|pb|gz|jpg|espl)$' |
        xargs -0 grep -InE -- "$pattern" /dev/null | sed "s/^/$what: /" | grep . && bad=1
}
report "unfinished work" '\b(TODO|FIXME|XXX|HACK)\b'
report "conflict" '^(<<<<<<<|>>>>>>>|=======)( |$)'
report "path of one machine" '(^|[^A-Za-z0-9_.$}])/(work|home/[a-z]+|Users|root)/'
report "trailing space" '[ 	]+$'
exit $bad
