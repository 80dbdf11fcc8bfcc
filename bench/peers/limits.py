#!/usr/bin/env python3
"""Measures what this machine can do at all: arithmetic in registers (checkkern --peak) and reading (espalier chip probe).

    cmake --build build --target checkkern && bench/peers/.venv/bin/python bench/peers/limits.py [--write]
"""
import argparse
import sys
import time

import common


def reading():
    """A row a memory: one thread, all threads."""
    one, every = (common.espalier("chip", "probe", "--threads", n)["memories"] for n in (1, 0))
    for a, b in zip(one, every):
        yield [a["name"], size(a["bytes"]), f"{a['gb_per_s']:.0f}", f"{b['gb_per_s']:.0f}" if b["shared"] else "each the same"]


def size(count):
    step = (count.bit_length() - 1) // 10
    return f"{count / 1024 ** step:.3g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[step]}"


def page():
    arithmetic = [[name, f"{p['s8']:.0f}", f"{p['f32']:.0f}"] for name, p in reversed(common.peaks().items())]
    return (common.table(["instruction set", "s8, GOP/s", "f32, GFLOP/s"], arithmetic) + "\n\n" +
            common.table(["memory", "size", "one thread reads, GB/s", f"{common.machine()['cores']} threads"], reading()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="puts the tables into docs/benchmarks.md (or ESPL_PAGE)")
    args = parser.parse_args()
    before = common.load()
    text = common.conditions(time.strftime("%Y-%m-%d"), before) + "\n\n" + page()
    print(text)
    if args.write:
        common.replace_section(common.PAGE, "limits", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
