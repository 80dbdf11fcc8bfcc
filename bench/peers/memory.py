#!/usr/bin/env python3
"""Peak memory and time to the first run, of ONNX Runtime and Espalier on the same networks.

    bench/peers/setup.sh && bench/peers/.venv/bin/python bench/peers/memory.py [NAME...] [--write]

NAME is a network of networks.py or a model of ESPL_ASSETS; without one, all. Every figure comes from a process of its own
that has loaded both libraries but nothing else: it opens the file, makes a session, and runs it twice. Memory is how far
that drives the process's resident set up at most (VmHWM of Linux, counted from the start of the work). Ready is the time
from opening the file, which is in the page cache, to a session that can run. The programs take turns, --rounds times over:
the table has the median of the memory and the shortest time. Exit 1 if Espalier takes more memory anywhere.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import time

import numpy as np

import common
import ort

MIB = 1024
PROGRAMS = ("ORT f32", "f32", "ORT int8", "s8")


# --- one process ----------------------------------------------------------------------------------------------------


def resident(key):
    """KiB of the process's memory: VmRSS now, VmHWM at most."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise SystemExit(f"/proc/self/status says nothing of {key}")


def open_ort(path, shapes):
    options = common.ort_options()
    begin = time.perf_counter()
    session = common.ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    ready = time.perf_counter() - begin
    feed = {i.name: np.zeros(s, np.float32) for i, s in zip(session.get_inputs(), shapes)}
    return ready, lambda: session.run(None, feed)


def open_ours(path, _):
    begin = time.perf_counter()
    session = common.Espalier(path)
    return time.perf_counter() - begin, session.run


def child(kind, path, shapes):
    """Prints KiB and seconds of one program."""
    common.library()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = resident("VmRSS")
    ready, run = {"ort": open_ort, "ours": open_ours}[kind](path, shapes)
    run()
    run()
    print(json.dumps([resident("VmHWM") - before, ready]))


def measured(kind, path, shapes):
    done = subprocess.run([sys.executable, __file__, "--child", kind, str(path), json.dumps(shapes)], check=True,
                          capture_output=True, text=True)
    return json.loads(done.stdout)


# --- all of them -----------------------------------------------------------------------------------------------------


def measure(case, rounds, keep):
    """{program: (MiB, ms)}; ONNX Runtime's integer form is the one that takes least memory."""
    files, _ = ort.files(case, keep)
    session = common.Espalier(files["f32"])
    shapes = session.shapes
    session.close()
    wanted = {n: f for n, f in files.items() if n in ("ORT f32", "f32", "s8") + ort.INTEGER}
    rows = {n: [] for n in wanted}
    for _ in range(rounds):
        for name, path in wanted.items():
            rows[name].append(measured("ort" if name.startswith("ORT") else "ours", path, shapes))
    found = {n: (float(np.median([r[0] for r in given])) / MIB, 1e3 * min(r[1] for r in given))
             for n, given in rows.items()}
    integer = min((n for n in ort.INTEGER if n in found), key=found.get)
    found["ORT int8"] = found.pop(integer)
    return {n: found[n] for n in PROGRAMS}


def table(results):
    head = ["network", "ORT f32, MiB", "f32", "ours ÷ ORT", "ORT int8, MiB", "s8", "ours ÷ ORT", "ready: ORT f32, ms", "f32",
            "ORT int8, ms", "s8"]
    rows = []
    for name, r in results.items():
        memory, ready = [r[p][0] for p in PROGRAMS], [r[p][1] for p in PROGRAMS]
        share = [f"**{memory[i + 1] / memory[i]:.2f}**" for i in (0, 2)]
        rows.append([name, f"{memory[0]:.1f}", f"{memory[1]:.1f}", share[0], f"{memory[2]:.1f}", f"{memory[3]:.1f}",
                     share[1]] + [f"{t:.1f}" for t in ready])
    return common.table(head, rows)


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2], sys.argv[3], json.loads(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", action="store_true", help="compressed files of an older program are good enough")
    parser.add_argument("--write", action="store_true", help="puts the table into docs/benchmarks.md (or ESPL_PAGE)")
    args = parser.parse_args()
    before, begin = common.load(), time.strftime("%Y-%m-%d")
    results = {}
    for case in ort.cases(args.names):
        results[case.name] = r = measure(case, args.rounds, args.keep)
        print(f"{case.name:34} " + "  ".join(f"{n} {m:.1f} MiB {t:.1f} ms" for n, (m, t) in r.items()), file=sys.stderr,
              flush=True)
    text = common.conditions(begin, before) + f" {args.rounds} rounds.\n\n" + table(results)
    print(text)
    if args.write:
        common.replace_section(common.PAGE, "memory", text)
    return 1 if any(r[ours][0] > r[theirs][0] for r in results.values()
                    for theirs, ours in (PROGRAMS[:2], PROGRAMS[2:])) else 0


if __name__ == "__main__":
    sys.exit(main())
