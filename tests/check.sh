# Sourced by the tests that run commands one by one: a folder that goes when they end, and what passed.
passed=0 failed=0
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT

# check WHAT COMMAND...: the command succeeds; what it prints is shown only if it does not.
check() {
    local what=$1
    shift
    if "$@" >"$folder/log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $what"
        tail -n 30 "$folder/log" | sed 's/^/    /'
    fi
}

# The last line of the test, and its exit code.
finish() {
    echo "$passed passed, $failed failed, 0 skipped"
    [ $failed -eq 0 ]
}
