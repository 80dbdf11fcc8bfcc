# Reads the output of `ctest -V` and prints "passed failed skipped", counted as the test programs count: by cmocka's
# closing lines or by a line "N passed, N failed, N skipped" of their own. A test that prints neither counts as one;
# one that crashes, hangs or ends before its last group has closed counts as failed besides what it counted.
# With -v names=1 prints a line for each test that failed instead.
{ sub(/\r$/, "") }

# "12: text" is output of test 12.
/^[0-9]+: / {
    id = $1 + 0
    line = substr($0, index($0, ": ") + 2)
    if (line ~ /^\[==========\].* Running [0-9]+ test\(s\)/) {
        match(line, /Running [0-9]+/)
        announced[id] += substr(line, RSTART + 8, RLENGTH - 8)
        counted[id] = 1
    } else if (line ~ /^\[  PASSED  \] [0-9]+ test\(s\)/) {
        passed[id] += number(line)
    } else if (line ~ /^\[  FAILED  \] [0-9]+ test\(s\)/) {
        failed[id] += number(line)
    } else if (line ~ /^\[  SKIPPED \] [0-9]+ test\(s\)/) {
        skipped[id] += number(line)
    } else if (line ~ /^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$/) {
        split(line, word, " ")
        passed[id] += word[1]
        failed[id] += word[3]
        skipped[id] += word[5]
        announced[id] += word[1] + word[3] + word[5]
        counted[id] = 1
    }
    next
}

# " 3/12 Test #12: test_base ......   Passed    0.10 sec"
/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: / {
    match($0, /#[0-9]+/)
    id = substr($0, RSTART + 1, RLENGTH - 1) + 0
    rest = substr($0, RSTART + RLENGTH + 2)
    name[id] = substr(rest, 1, index(rest " ", " ") - 1)
    result[id] = rest ~ / Passed +[0-9.]+ sec/ ? "passed" : rest ~ /\*\*\*Skipped|Not Run \(Disabled\)/ ? "skipped" : "failed"
}

function number(text) {
    match(text, /\] [0-9]+/)
    return substr(text, RSTART + 2, RLENGTH - 2) + 0
}

END {
    for (id in result) {
        sum = passed[id] + failed[id] + skipped[id]
        if (!counted[id] && result[id] == "passed") passed[id] = 1
        if (!counted[id] && result[id] == "skipped") skipped[id] = 1
        if (counted[id] && sum < announced[id]) failed[id]++
        else if (result[id] == "failed" && !failed[id]) failed[id]++
        p += passed[id]; f += failed[id]; s += skipped[id]
        if (names && failed[id]) print id, name[id]
    }
    if (!names) print p + 0, f + 0, s + 0
}
