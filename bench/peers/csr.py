#!/usr/bin/env python3
"""Times f32 convolutions whose weights are mostly 0, without a pattern, beside dense ones and beside XNNPACK's sparse ones,
interleaved in one process, on one thread.

    apt-get install libdnnl-dev libxnnpack-dev libpthreadpool-dev   # oneDNN 2.x and XNNPACK; skipped without them
    bench/peers/.venv/bin/python bench/peers/csr.py [PATTERN...] [--cpu amx|vnni|avx512|avx2] [--write]

Ours are layers of two sessions, with all weights and with the pruned ones, timed by their profiles as onednn.py does. oneDNN
(onednn.c) and XNNPACK (xnnpack.c) have their operands in the layouts that they like best: blocks of channels and planes of
channels. Sides take turns; a round's figure is the shortest run of each, the table's the median of the rounds. Results are
compared first. PATTERN keeps the layers whose names have it in them. --cpu limits ours and oneDNN; XNNPACK's sparse
kernels are SSE everywhere.
"""
import argparse
import ctypes
import os
import re
import subprocess
import sys
import time

import limit
import paths


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--cpu", choices=limit.LEVELS, help="the highest instruction set of ours and oneDNN")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.03, help="least length of a round")
    parser.add_argument("--write", action="store_true", help="puts the table into docs/benchmarks.md (or ESPL_PAGE)")
    return parser.parse_args()


if __name__ == "__main__":  # the libraries look at these once
    args = arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    if args.cpu:
        limit.apply(args.cpu, mask=False)  # oneDNN can be asked

import dataclasses

import numpy as np

import common
import onednn

LAYERS = [(128, 56, 1), (256, 28, 1), (512, 14, 1), (64, 56, 3), (128, 28, 3)]  # channels, size, kernel
OVER_DENSE = {80: 1.5, 90: 2.5, 95: 4.0}  # what 1x1 layers shall gain
OVER_XNNPACK = {90: 3.0}
ERROR = 1e-4


def library():
    """xnnpack.c as a shared library; None where there is no XNNPACK."""
    if subprocess.run([os.environ.get("CC", "cc"), "-E", "-x", "c", "-"], input="#include <xnnpack.h>\n", text=True,
                      capture_output=True).returncode:
        return None
    found = ctypes.CDLL(str(paths.shared_library("xnnpack.c", "-lXNNPACK", "-lm")))
    found.peer_open.restype, found.peer_run.restype = ctypes.c_void_p, ctypes.c_double
    return found


class Xnnpack:
    def __init__(self, lib, p):
        self.lib, self.arrays = lib, [np.ascontiguousarray(a) for a in (p.source, p.weights, p.bias)]
        self.peer = ctypes.c_void_p(lib.peer_open(*(a.ctypes.data_as(ctypes.c_void_p) for a in self.arrays),
                                                  p.conv.channels, p.conv.out_channels, p.conv.size))
        if not self.peer:
            raise RuntimeError("XNNPACK has no kernel for it")
        self.out = np.zeros((p.conv.out_channels, p.conv.out_size ** 2), np.float32)

    def means(self):
        """The mean of every channel of the result."""
        self.best(0)
        self.lib.peer_result(self.peer, self.out.ctypes.data_as(ctypes.c_void_p))
        return self.out.astype(np.float64).mean(1)

    def best(self, seconds):
        once = self.lib.peer_run(self.peer, 1)
        return min(once, self.lib.peer_run(self.peer, max(1, int(seconds / max(once, 1e-7)))))

    def close(self):
        self.lib.peer_close(self.peer)


def pruned(p, zeros):
    """The problem with that share of its weights 0."""
    weights = np.where(np.random.default_rng(zeros).random(p.weights.shape) < zeros / 100, np.float32(0), p.weights)
    return dataclasses.replace(p, weights=weights)


def measure(lib, dnnl, p, zeros, rounds, seconds):
    """The name of our sparse layer's kernel, and seconds of our dense layer, oneDNN, XNNPACK (1x1 only) and our sparse layer."""
    sparse = pruned(p, zeros)
    ours, its = onednn.Ours(sparse), onednn.OneDnn(dnnl, sparse)
    sides = [onednn.Ours(p), its] + ([Xnnpack(lib, sparse)] if p.conv.kernel == 1 else []) + [ours]
    means = ours.means()
    for side in sides[1:-1]:
        error = common.relative_error(means, side.means())
        if not error <= ERROR:
            raise RuntimeError(f"{p.conv.name}: results differ by {error:.2g}")
    times = np.array([[s.best(seconds) for s in sides] for _ in range(rounds)])
    for side in sides:
        side.close()
    return ours.kernel, times


def mark(ratio, least):
    return f"**{ratio:.2f}**" + ("" if least is None else f" {'✓' if ratio >= least else '✗'} {least:g}")


def rows(args, lib, dnnl):
    for channels, size, kernel in LAYERS:
        conv = onednn.Conv(channels, channels, size, size, kernel, 1, kernel // 2, 1, 0)
        if args.patterns and not any(re.search(a, conv.name) for a in args.patterns):
            continue
        for zeros, least in OVER_DENSE.items():
            name, times = measure(lib, dnnl, onednn.problem(conv), zeros, args.rounds, args.seconds)
            plane, ours = kernel == 1, times[:, -1]
            row = [conv.name, f"{zeros} %", *(f"{1e6 * t:.0f}" for t in np.median(times, axis=0))]
            if not plane:
                row.insert(4, "")
            row += [mark(np.median(times[:, :2].min(1) / ours), least if plane else None),
                    mark(np.median(times[:, 2] / ours), OVER_XNNPACK.get(zeros)) if plane else "", f"`{name}`"]
            print("  ".join(row), file=sys.stderr, flush=True)
            yield row


def main(args):
    lib, dnnl = library(), onednn.peer_library()
    if not lib or not dnnl:
        print("skipped: there is no oneDNN 2.x or no XNNPACK (Debian's libdnnl-dev, libxnnpack-dev, libpthreadpool-dev)")
        return 0
    before = common.load()
    found = list(rows(args, lib, dnnl))
    text = common.conditions(time.strftime("%Y-%m-%d"), before) + f" {args.rounds} rounds of {args.seconds:g} s."
    if args.cpu:
        text += f" Ours and oneDNN limited to {limit.LEVELS[args.cpu][3]}."
    text += "\n\n" + common.table(
        ["convolution", "zeros", "ours, dense, µs", "oneDNN, µs", "XNNPACK, sparse, µs", "ours, sparse, µs", "over dense",
         "over XNNPACK", "our kernel"], found, ["---"] + ["---:"] * 7 + ["---"])
    print(text)
    if args.write:
        common.replace_section(common.PAGE, f"csr{'-' + args.cpu if args.cpu else ''}", text)
    return 0


if __name__ == "__main__":
    sys.exit(main(args))
