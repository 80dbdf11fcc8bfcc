#!/usr/bin/env python3
"""Tabulates what checkkern --bench says of the integer and f32 kernels of this machine.

    cmake --build build --target checkkern && bench/peers/.venv/bin/python bench/peers/kernels.py [--write]
"""
import argparse
import re
import subprocess
import sys
import time

import common

LINE = re.compile(r"^(\w+)\s+(\w+)\s+(.+?)\s+([\d.]+) (G\w+/s)(?:\s+(\d+) % of peak)?\s*$")


def rows(text):
    for line in text.splitlines():
        found = LINE.match(line)
        if found:
            yield found.groups()


def page(text):
    """A row a kernel and case, a column an instruction set."""
    cases, sets = {}, []
    for kernel, isa, case, rate, unit, share in rows(text):
        if isa not in sets:
            sets.append(isa)
        cases.setdefault((kernel, case, unit), {})[isa] = rate + (f" ({share} %)" if share else "")
    return common.table(["kernel", "case", "unit"] + sets,
                        [[f"`{k}`", c, u] + [cell.get(i, "") for i in sets] for (k, c, u), cell in cases.items()],
                        ["---", "---", "---"] + ["---:"] * len(sets))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="puts the table into docs/benchmarks.md (or ESPL_PAGE)")
    args = parser.parse_args()
    program = common.BUILD / "tests" / "checkkern" / "checkkern"
    if not program.exists():
        sys.exit("there is no checkkern: cmake --build build --target checkkern")
    before = common.load()
    done = subprocess.run([program, "--bench"], capture_output=True, text=True, check=True)
    text = common.conditions(time.strftime("%Y-%m-%d"), before) + "\n\n" + page(done.stdout)
    print(text)
    if args.write:
        common.replace_section(common.PAGE, "kernels", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
