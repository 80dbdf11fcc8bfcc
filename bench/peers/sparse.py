#!/usr/bin/env python3
"""Times a matrix times a vector in sparse and dense forms, interleaved in one process, on one thread.

    apt-get install libopenblas-dev       # skipped without it
    bench/peers/.venv/bin/python bench/peers/sparse.py [ROWSxCOLUMNS...] [--rounds N] [--write]

Our kernels, dense and bank-balanced, OpenBLAS's sgemv, compressed rows with AVX-512 gathers (sparse.c), and ONNX Runtime on
one MatMul: in f32, with MatMulInteger behind a dynamic rounding of the vector, and with MatMulNBits of 4 bits. Each form has
copies of its weights, ONNX Runtime sessions, that take turns. For "from memory" the copies together are --memory MB, more
than the third-level cache has; for "in the cache" there is one. All but ONNX Runtime's lie in the same memory, written anew
for each round, since large pages are not always to be had and matter more than any kernel does. Beside each run of ours the same bytes are read with plain
loads, as one stream and as eight; the faster is the bandwidth. A round's figure is its shortest run, the table's the
median of the rounds, and a ratio the median of the rounds' ratios. Results are compared with sums in double first.
"""
import argparse
import ctypes
import math
import os
import subprocess
import sys
import time

import paths


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=["4096x4096", "6000x1500"], metavar="ROWSxCOLUMNS")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", type=int, default=420, help="MB of copies of a form, for the runs from memory")
    parser.add_argument("--write", action="store_true", help="puts the tables into docs/benchmarks.md (or ESPL_PAGE)")
    return parser.parse_args()


if __name__ == "__main__":  # the libraries look at these once
    args = arguments()
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic

import common
import networks

ROUND_BYTES, ERROR = 32e6, {"s8": 1e-6, "f32": 1e-5, "dynamic": 0.05}
SGEMV, DENSE_S8, ORT_INT8 = "OpenBLAS sgemv", "ours, dense s8", "ORT, dynamic int8"
KINDS = ("sgemv", "dense f32", "dense s8", "csr", "bank", "wonly")
DTYPES = {"f32": 0, "s8": 2, "f16": 8, "bf16": 12}  # espl_dtype

# What is to be reached: (ratio to the fastest dense s8, ratio to sgemv); from memory also 90 % of the bandwidth.
SHARE = 0.9
TARGETS = {"memory": {"bank s8 3:16": (3.3, 0), "bank s8 2:16": (5, 0), "bank f32 3:32": (0, 8), "bank f16 3:32": (0, 14)},
           "cache": {"bank s8 3:16": (3, 0)}}


# --- forms of sparse.c ----------------------------------------------------------------------------------------------


class Form(ctypes.Structure):
    """struct form of sparse.c."""
    _fields_ = [(n, ctypes.c_int) for n in ("kind", "rows", "columns", "slots", "size", "values", "planes", "batch")]


def peer_library():
    """None without OpenBLAS."""
    archive = paths.BUILD / "libespalier-rt.a"
    if not archive.exists():
        sys.exit("there is no libespalier-rt.a: cmake --build build --target espalier-rt")
    try:
        path = paths.shared_library("sparse.c", f"-I{paths.ROOT}/src", f"-I{paths.ROOT}/include",
                                    archive, "-lopenblas", "-lm", "-lpthread")
    except subprocess.CalledProcessError:
        return None
    library = ctypes.CDLL(str(path))
    library.peer_open.restype = ctypes.c_void_p
    library.peer_open.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t]
    library.peer_memory.restype, library.peer_memory.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.peer_load.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.peer_run.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
    for name in ("peer_run", "peer_error", "peer_bytes"):
        getattr(library, name).restype = ctypes.c_double
    for name in ("peer_error", "peer_bytes", "peer_close"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    return library


class Ours:
    """A form of sparse.c; run() gives (seconds of a product, seconds of reading its weights)."""

    memory = None  # where the form whose turn it is has its copies: the same pages for all

    def __init__(self, library, name, kind, values, shape, memory, slots=1, size=1, planes=1, batch=1):
        self.library, self.name = library, name
        room = args.memory * 1000000 + 256 * 1000000
        Ours.memory = Ours.memory or library.peer_memory(room)
        form = Form(KINDS.index(kind), *shape, slots, size, DTYPES[values], planes, batch)
        self.peer = library.peer_open(ctypes.byref(form), memory, room)
        if not self.peer:
            sys.exit(f"{name}: the matrix is too large")
        library.peer_load(self.peer, self.memory)
        self.bytes = library.peer_bytes(self.peer)
        self.runs = max(3, min(40, int(ROUND_BYTES / self.bytes)))
        error = library.peer_error(self.peer)
        if not error < ERROR["dynamic" if kind == "wonly" and planes == 1 else "s8" if values == "s8" else "f32"]:
            sys.exit(f"{name} is wrong: {error:.2g}")

    def run(self):
        self.library.peer_load(self.peer, self.memory)
        self.library.peer_run(self.peer, 1, 0)
        product, one, eight = (self.library.peer_run(self.peer, self.runs, streams) for streams in (0, 1, 8))
        return product, min(one, eight)

    def close(self):
        self.library.peer_close(self.peer)


def our_forms(library, shape, memory):
    for name, kind, values, keep in (
            (SGEMV, "sgemv", "f32", ()), ("ours, dense f32", "dense f32", "f32", ()), (DENSE_S8, "dense s8", "s8", ()),
            ("CSR with gathers, 9.4 % of f32", "csr", "f32", (3, 32)), ("bank s8 4:16", "bank", "s8", (4, 16)),
            ("bank s8 3:16", "bank", "s8", (3, 16)), ("bank s8 2:16", "bank", "s8", (2, 16)),
            ("bank f32 3:32", "bank", "f32", (3, 32)), ("bank f16 3:32", "bank", "f16", (3, 32))):
        yield Ours(library, name, kind, values, shape, memory, *keep)


# --- ONNX Runtime -----------------------------------------------------------------------------------------------------


def matmul(form, rows, columns):
    """The file of x W' with random W, and the bytes that W has in it."""
    target = paths.WORK / "sparse" / f"{rows}x{columns}.{form}.onnx"
    size = rows * columns * {"f32": 4, "int8": 1, "q4": 0.5 + 4 / 32}[form]
    if target.exists():
        return target, size
    target.parent.mkdir(parents=True, exist_ok=True)
    b = networks.Builder(f"sparse-{rows}x{columns}")
    x, w = b.input(1, columns), b.normal(rows, columns, spread=columns ** -0.5)
    if form == "q4":
        padded = np.pad(w, ((0, 0), (0, -columns % 32)))
        b.finish(networks.four_bits(b, x, padded, columns=columns), 1, rows)
    else:
        b.finish(b.node("MatMul", x, b.constant(w.T)), 1, rows)
    partial = target.with_suffix(".part")
    if form == "int8":
        quantize_dynamic(str(matmul("f32", rows, columns)[0]), str(partial), per_channel=True, weight_type=QuantType.QInt8)
    else:
        onnx.save(b.model(), partial)
    partial.rename(target)
    return target, size


class Ort:
    """Sessions of one file that take turns."""

    def __init__(self, name, form, shape, memory):
        path, self.bytes = matmul(form, *shape)
        self.name, self.turn = name, 0
        self.sessions = [common.OnnxRuntime(path) for _ in range(max(1, math.ceil(memory / self.bytes)))]
        self.runs = max(3, min(40, int(ROUND_BYTES / self.bytes)))
        x = np.random.default_rng(1).uniform(-1, 1, (1, shape[1])).astype(np.float32)
        for session in self.sessions:
            session.bind([x])
        self.sessions[0].run()
        w = networks.Builder(f"sparse-{shape[0]}x{shape[1]}").normal(*shape, spread=shape[1] ** -0.5)
        error = common.relative_error(self.sessions[0].outputs[0], x.astype(np.float64) @ w.T)
        if not error < (ERROR["f32"] if form == "f32" else 4 * ERROR["dynamic"]):
            sys.exit(f"{name} is wrong: {error:.2g}")

    def run(self):
        times = []
        for _ in range(self.runs):
            session = self.sessions[self.turn]
            self.turn = (self.turn + 1) % len(self.sessions)
            begin = time.perf_counter()
            session.run()
            times.append(time.perf_counter() - begin)
        return min(times), math.nan

    def close(self):
        self.sessions = []


def ort_forms(shape, memory):
    for name, form in (("ORT f32", "f32"), (ORT_INT8, "int8"), ("ORT, 4 bits", "q4")):
        yield Ort(name, form, shape, memory)


# --- the table --------------------------------------------------------------------------------------------------------


def measure(forms, rounds):
    """{name: (seconds, seconds of reading) of each round}."""
    found = {f.name: [] for f in forms}
    for _ in range(rounds):
        for f in forms:
            found[f.name].append(f.run())
    return {name: np.array(times).T for name, times in found.items()}


def mark(reached):
    return " ✓" if reached else " ✗"


def row(form, times, dense, targets, place):
    name = form.name
    seconds, reading = times[name]
    share = float(np.median(reading / seconds))
    rate = form.bytes / np.median(seconds) * 1e-9
    least_s8, least_f32 = targets.get(name, (0, 0))
    against = {key: float(np.median(times[other][0] / seconds)) for key, other in (("s8", dense), ("f32", SGEMV))}
    cells = [f"{against[key]:.2f}" + (mark(against[key] >= least) if least else "")
             for key, least in (("s8", least_s8), ("f32", least_f32))]
    percent = "" if math.isnan(share) else f"{100 * share:.0f} %"
    if percent and place == "memory" and name in targets:
        percent += mark(share >= SHARE)
    return [name, f"{form.bytes * 1e-6:.2f}", f"{1e6 * np.median(seconds):.0f}", f"{rate:.1f}", percent, *cells]


def table(library, shape, place, args):
    memory = args.memory * 1000000 if place == "memory" else 0
    forms = [*our_forms(library, shape, memory), *ort_forms(shape, memory)]
    times = measure(forms, args.rounds)
    dense = min((DENSE_S8, ORT_INT8), key=lambda name: np.median(times[name][0]))
    rows = [row(f, times, dense, TARGETS[place], place) for f in forms]
    for f in forms:
        f.close()
    return common.table(["form", "MB", "µs", "GB/s", "of the read bandwidth", f"× {dense}", "× sgemv"], rows)


def main(args):
    library = peer_library()
    if not library:
        print("skipped: there is no OpenBLAS (Debian's libopenblas-dev)")
        return 0
    before = common.load()
    text = common.conditions(time.strftime("%Y-%m-%d"), before) + f" {args.rounds} rounds."
    for name in args.shapes:
        rows, columns = map(int, name.split("x"))
        for place, title in (("memory", f"from memory (copies of {args.memory} MB)"), ("cache", "in the cache")):
            text += f"\n\n**{name}, {title}**\n\n" + table(library, (rows, columns), place, args)
            print(text.rsplit("\n\n**", 1)[1], file=sys.stderr, flush=True)
    print(text)
    if args.write:
        common.replace_section(common.PAGE, "sparse", text)
    return 0


if __name__ == "__main__":
    sys.exit(main(args))
