#!/usr/bin/env python3
"""Times a matrix of few bits times one row or 16, beside ONNX Runtime's MatMulNBits, interleaved in one process, on one thread.

    apt-get install libopenblas-dev       # sparse.c wants it
    bench/peers/.venv/bin/python bench/peers/weightonly.py [ROWSxCOLUMNS...] [--rounds N] [--write]

How runs take turns, where weights lie, and what the bandwidth is: sparse.py, whose forms these are. Ours have f16 scales for 32
inputs or one for each channel, and rows of f32, or rounded to s8 as they come ("x s8"). ONNX Runtime has f32 scales for 32 inputs
and both of its ways: accuracy_level 1 computes in f32, 4 rounds the rows to s8; ours is compared with the faster.
"""
import argparse
import math
import os
import sys
import time

import paths


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=["4096x4096"], metavar="ROWSxCOLUMNS")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", type=int, default=300, help="MB of copies of a form: more than the caches have")
    parser.add_argument("--write", action="store_true", help="puts the table into docs/benchmarks.md (or ESPL_PAGE)")
    return parser.parse_args()


if __name__ == "__main__":  # the libraries look at these once
    args = arguments()
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnx

import common
import networks
import sparse

# (name, bits, inputs of a scale; 0: a channel, bytes of an input, rows of x, most of ORT's time, least of the bandwidth)
OURS = (("s4, f16 scale for 32", 4, 32, 3, 1, 0.75, 0.9), ("s4, f16 scale for 32, x s8", 4, 32, 1, 1, None, None),
        ("s8, scale a channel", 8, 0, 3, 1, None, 0.9), ("s8, f16 scale for 32", 8, 32, 3, 1, None, 0.9),
        ("s2, f16 scale for 32", 2, 32, 3, 1, None, None), ("s4, f16 scale for 32", 4, 32, 3, 16, None, None),
        ("s4, f16 scale for 32, x s8", 4, 32, 1, 16, 0.4, None))
HALVES = (("f16", 1, None, 0.9), ("bf16", 1, None, 0.9))
LEVELS = {1: "f32", 4: "x s8"}


class Ours(sparse.Ours):
    def __init__(self, library, row, shape, memory):
        name, bits, group, planes, self.batch, self.time, self.share = row
        super().__init__(library, name, "wonly", "s8" if planes == 3 else "f32", shape, memory, bits, group or shape[1], planes,
                         self.batch)


class Halves(sparse.Ours):
    """Weights of 16 bits, which are computed in f32."""

    def __init__(self, library, row, shape, memory):
        values, self.batch, self.time, self.share = row
        super().__init__(library, values, "dense f32", values, shape, memory)


class Ort:
    """Sessions that take turns."""

    def __init__(self, level, batch, shape, memory):
        rows, columns = shape
        self.name, self.batch, self.turn = f"ORT, 4 bits, {LEVELS[level]}", batch, 0
        path = paths.WORK / "weightonly" / f"{rows}x{columns}.{batch}.{level}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        b = networks.Builder("weightonly")
        x, w = b.input(batch, columns), b.normal(rows, columns, spread=columns ** -0.5)
        b.finish(networks.four_bits(b, x, w, level=level), batch, rows)
        onnx.save(b.model(), path)
        self.bytes = rows * columns * (0.5 + 4 / 32)
        self.sessions = [common.OnnxRuntime(path) for _ in range(max(1, math.ceil(memory / self.bytes)))]
        given = np.random.default_rng(1).uniform(-1, 1, (batch, columns)).astype(np.float32)
        for session in self.sessions:
            session.bind([given])

    def run(self):
        times = []
        for _ in range(4 if self.batch > 1 else 12):
            session = self.sessions[self.turn]
            self.turn = (self.turn + 1) % len(self.sessions)
            begin = time.perf_counter()
            session.run()
            times.append(time.perf_counter() - begin)
        return min(times), math.nan

    def close(self):
        self.sessions = []


def table(library, shape, args):
    memory = args.memory * 1000000
    forms = [Ours(library, row, shape, memory) for row in OURS]
    forms += [Halves(library, row, shape, memory) for row in HALVES]
    forms += [Ort(level, batch, shape, memory) for batch in (1, 16) for level in LEVELS]
    times = {f: [] for f in forms}
    for _ in range(args.rounds):
        for f in forms:
            times[f].append(f.run())
    times = {f: np.array(t).T for f, t in times.items()}
    best = {batch: np.min([t[0] for f, t in times.items() if isinstance(f, Ort) and f.batch == batch], axis=0) for batch in (1, 16)}
    lines = []
    for f in forms:
        seconds, reading = times[f]
        ratio, share = float(np.median(seconds / best[f.batch])), float(np.median(reading / seconds))
        most, least = getattr(f, "time", None), getattr(f, "share", None)
        percent = "" if math.isnan(share) or f.batch > 1 else f"{100 * share:.0f} %"
        lines.append([("" if isinstance(f, Ort) else "ours, ") + f.name, f.batch, f"{f.bytes * 1e-6:.2f}", f"{1e6 * np.median(seconds):.0f}",
                      f"{f.bytes / np.median(seconds) * 1e-9:.1f}", percent + (sparse.mark(share >= least) if least else ""),
                      f"{ratio:.2f}" + (sparse.mark(ratio <= most) if most else "")])
        f.close()
    return common.table(["form", "rows of x", "MB", "µs", "GB/s", "of the read bandwidth", "÷ ORT's faster"], lines)


def main(args):
    sparse.args = args
    library = sparse.peer_library()
    if not library:
        print("skipped: there is no OpenBLAS (Debian's libopenblas-dev)")
        return 0
    text = common.conditions(time.strftime("%Y-%m-%d"), common.load()) + f" {args.rounds} rounds."
    for name in args.shapes:
        text += f"\n\n**{name}, from memory (copies of {args.memory} MB)**\n\n"
        text += table(library, tuple(map(int, name.split("x"))), args)
    print(text)
    if args.write:
        common.replace_section(common.PAGE, "weight-only", text)
    return 0


if __name__ == "__main__":
    sys.exit(main(args))
