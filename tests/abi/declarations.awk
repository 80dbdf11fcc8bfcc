# Reads the output of `cc -E -dD` and prints what files under include/espalier/ declare, one declaration a line with its
# parts set apart by single spaces: function, object, type; an enumerator is a line of its own with its number in the list,
# so that one more at the end changes no other line; a macro is one that stands for a number.
/^# [0-9]+ "/ {
    split($0, quoted, "\"")
    ours = quoted[2] ~ /include\/espalier\//
    next
}
!ours { next }
/^#define ESPL_[A-Z0-9_]+ [-(0-9]/ { print "macro", substr($0, 9) }
/^#/ { next }
{
    text = $0
    while (match(text, /"([^"\\]|\\.)*"|[A-Za-z0-9_]+|[^ \t]/)) {
        token(substr(text, RSTART, RLENGTH))
        text = substr(text, RSTART + RLENGTH)
    }
}

function token(t) {
    if (t == ";" && !braces) {
        finish()
        return
    }
    braces += (t == "{") - (t == "}")
    parens += (t == "(") - (t == ")")
    words[++count] = t
    said = said (said == "" ? "" : " ") t
    if (t == "(" && !braces) calls = 1
    if (t == "}" && !braces && words[1] == "static") finish() # a function that stands in the header
}

function finish() {
    if (said == "") return
    if (words[1] == "typedef" && words[2] == "enum" || words[1] == "enum") enumerators()
    else if (words[1] == "typedef" || words[1] == "struct" || words[1] == "union") print "type", said
    else if (words[1] == "static") print "inline", said
    else print calls ? "function" : "object", said
    said = ""
    count = calls = 0
}

function enumerators(   i, n, name, line, name_of) {
    name_of = words[1] == "typedef" ? words[count] : words[2] == "{" ? "-" : words[2]
    for (i = 1; words[i] != "{" && i <= count; i++) {}
    for (i++; i <= count && words[i] != "}"; i++) {
        if (words[i] == ",") {
            if (line != "") print "enum", name_of, n++, line
            line = ""
        } else {
            line = line (line == "" ? "" : " ") words[i]
        }
    }
    if (line != "" && line !~ /_COUNT$/) print "enum", name_of, n + 0, line # a last one that counts the others moves
}
