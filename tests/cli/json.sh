#!/bin/bash
# Standard input is JSON and has these keys: json.sh KEY... (python3 parses it where there is one). A KEY=VALUE must have
# that very value at the top.
text=$(cat)
if command -v python3 >/dev/null && python3 -c '' 2>/dev/null; then
    printf '%s' "$text" | python3 -c '
import json, sys
root = json.load(sys.stdin)
for word in sys.argv[1:]:
    key, _, value = word.partition("=")
    if key not in root: sys.exit("no key " + key)
    if value and root[key] != json.loads(value): sys.exit(key + " is " + json.dumps(root[key]))
' "$@"
    exit
fi
for word in "$@"; do
    case $word in
        *=*) pattern="^  \"${word%%=*}\": ${word#*=},?\$" ;;
        *) pattern="^  \"$word\": " ;;
    esac
    printf '%s\n' "$text" | grep -qE -- "$pattern" || { echo "no $word" >&2; exit 1; }
done
