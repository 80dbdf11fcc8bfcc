#!/usr/bin/env python3
"""Writes src/ops/letters.inc.h: Unicode's simple mappings of letters to lower and upper case, one code point to one, which
no language changes. Python has the full mappings; a simple one is the full one where that is one code point, and else, to
upper case, the one to title case where that is one (U+1F80 and its like) or none (U+00DF); to lower case U+0130 becomes i.

    python3 scripts/make_letters.py > src/ops/letters.inc.h"""
import unicodedata


def lower(c):
    return 0x69 if c == 0x130 else ord(chr(c).lower()) if len(chr(c).lower()) == 1 else c


def upper(c):
    if len(chr(c).upper()) == 1:
        return ord(chr(c).upper())
    title = chr(c).title()
    return ord(title) if len(title) == 1 else c


def runs(mapping):
    """[first, count, step, delta]: code points first, first + step, ... go to themselves + delta."""
    out = []
    for c in range(0x110000):
        delta = 0 if 0xD800 <= c < 0xE000 else mapping(c) - c
        if not delta:
            continue
        last = out[-1] if out else None
        if last and last[3] == delta and last[1] == 1 and c - last[0] <= 2:
            last[1:3] = 2, c - last[0]
        elif last and last[3] == delta and c == last[0] + last[1] * last[2]:
            last[1] += 1
        else:
            out.append([c, 1, 1, delta])
    return out


def table(name, mapping):
    rows = ["{0x%x, %d, %d, %d}" % tuple(r) for r in runs(mapping)]
    lines = [", ".join(rows[i:i + 4]) for i in range(0, len(rows), 4)]
    return "static const letters %s[] = {\n    %s};\n" % (name, ",\n    ".join(lines))


print("/* Simple case mappings of Unicode %s; made by scripts/make_letters.py. */" % unicodedata.unidata_version)
print("/* clang-format off */")
print(table("to_lower", lower), end="")
print(table("to_upper", upper), end="")
print("/* clang-format on */")
