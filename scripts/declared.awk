# Reads the output of `cc -E` and prints the names that files under include/espalier/ declare at file scope: functions,
# typedefs, struct, union and enum tags, and enumeration constants.
BEGIN { keyword = "^(__.*|void|char|short|int|long|float|double|signed|unsigned|_Bool|const)$" }
/^# [0-9]+ "/ {
    split($0, quoted, "\"")
    ours = quoted[2] ~ /include\/espalier\//
    next
}
!ours { next }
{
    text = $0
    gsub(/"([^"\\]|\\.)*"/, " ", text)
    while (match(text, /[A-Za-z_][A-Za-z0-9_]*|[^ \t]/)) {
        token(substr(text, RSTART, RLENGTH))
        text = substr(text, RSTART + RLENGTH)
    }
}

function is_name(t) { return t ~ /^[A-Za-z_]/ }

function token(t) {
    if (t == "(") {
        if (!braces && !parens && is_name(last) && last !~ keyword) print last # a function
        parens++
    } else if (t == ")") {
        parens--
    } else if (t == "{") {
        if (!braces) in_enum = is_enum
        braces++
    } else if (t == "}") {
        braces--
        if (!braces) in_enum = is_enum = 0
    } else if (t == ";") {
        if (!braces && !parens && is_name(last)) print last # a typedef or an object
        if (!braces) is_enum = 0
    } else if (is_name(t)) {
        if (!braces && parens == 1 && last == "*" && before == "(") print t # a pointer to a function
        if (!braces && (last == "struct" || last == "union" || last == "enum")) print t
        if (in_enum && braces == 1 && !parens && (last == "{" || last == ",")) print t
        if (!braces && t == "enum") is_enum = 1
    }
    before = last
    last = t
}
