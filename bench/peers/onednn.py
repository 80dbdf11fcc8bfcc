#!/usr/bin/env python3
"""Times single convolutions beside oneDNN's, interleaved in one process, on one thread.

    apt-get install libdnnl-dev       # oneDNN 2.x; skipped without it
    bench/peers/.venv/bin/python bench/peers/onednn.py [PATTERN...] [--cpu amx|vnni|avx512|avx2] [--write]

The convolutions are all that differ in ResNet-18, ResNet-50, MobileNetV2 and the 3x3 layers of networks.py, each with its
bias and a ReLU, in integers (u8 x s8 to u8, a scale for each channel) and in f32; PATTERN keeps those whose names have it in
them. oneDNN chooses the layout of its source, weights and result, and nothing is converted while the clock runs
(onednn.c). Ours is one layer of a small network: a cheap 1x1 convolution writes what the layer reads, in the layout that the
planner gives it, and the profile of the session says how long the layer took. Both take turns; a round's figure is the
shortest run of each, the table's the median of the rounds. Results are compared first. --cpu limits both sides.
"""
import argparse
import ctypes
import math
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass

import limit
import paths


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--cpu", choices=limit.LEVELS, help="the highest instruction set of both")
    parser.add_argument("--format", choices=("s8", "f32"), help="only this one")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.05, help="least length of a round")
    parser.add_argument("--write", action="store_true", help="puts the table into docs/benchmarks.md (or ESPL_PAGE)")
    return parser.parse_args()


if __name__ == "__main__":  # both libraries look at these once
    args = arguments()
    os.environ["OMP_NUM_THREADS"] = "1"
    if args.cpu:
        limit.apply(args.cpu, mask=False)  # oneDNN can be asked

import numpy as np
import onnx

import common
import networks

TARGET = 0.95  # of oneDNN's rate
F32_ERROR, S8_ERROR = 1e-4, 0.02


# --- the convolutions ---------------------------------------------------------------------------------------------


class Conv(ctypes.Structure):
    """struct conv of onednn.c."""
    _fields_ = [(n, ctypes.c_int) for n in ("channels", "out_channels", "size", "out_size", "kernel", "stride", "pad",
                                            "groups", "integers")]

    @property
    def name(self):
        kind = f"dw {self.kernel}x{self.kernel}" if self.groups > 1 else f"{self.kernel}x{self.kernel}"
        step = f" s{self.stride}" if self.stride > 1 else ""
        channels = f"{self.channels}->{self.out_channels}" if self.groups == 1 else str(self.channels)
        return f"{kind}{step} {channels} @{self.out_size}"

    @property
    def macs(self):
        return self.out_channels * self.out_size ** 2 * self.channels // self.groups * self.kernel ** 2


def of_network(network):
    """The convolutions of a network's f32 file."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(networks.made(network))).graph
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
              for v in [*graph.value_info, *graph.input, *graph.output]}
    for node in graph.node:
        if node.op_type == "Conv":
            at = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            source, result = shapes[node.input[0]], shapes[node.output[0]]
            yield (source[1], result[1], source[2], result[2], at["kernel_shape"][0], at["strides"][0], at["pads"][0],
                   at["group"])


def convolutions(patterns):
    """(shape, names of the networks that have it), each shape once."""
    found = {}
    for network in networks.NETWORKS:
        if network.name.startswith(("resnet", "mobilenet", "3x3")):
            for shape in of_network(network):
                users = found.setdefault(shape, [])
                if network.name not in users:
                    users.append(network.name)
    return [(shape, users) for shape, users in found.items()
            if not patterns or any(re.search(p, Conv(*shape).name) or p in users for p in patterns)]


# --- one convolution, and the network around ours -------------------------------------------------------------------


@dataclass
class Problem:
    """Arrays of one convolution. Ours reads what a 1x1 convolution `front` makes of x; oneDNN is given it (source)."""
    conv: Conv
    x: np.ndarray
    front: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    source: np.ndarray
    scales: np.ndarray  # from sums to codes, one for each channel
    unit: float         # of a code of the result


FRONT = 4  # channels of x


def problem(conv):
    rng = np.random.default_rng(conv.macs)
    fan_in = conv.channels // conv.groups * conv.kernel ** 2
    shape = (conv.out_channels, conv.channels // conv.groups, conv.kernel, conv.kernel)
    if not conv.integers:
        x = rng.uniform(0, 1, (1, FRONT, conv.size, conv.size)).astype(np.float32)
        front = rng.uniform(-0.5, 1, (conv.channels, FRONT)).astype(np.float32)
        source = np.maximum(np.einsum("of,nfhw->nohw", front, x), 0).astype(np.float32)
        weights = (rng.standard_normal(shape) * math.sqrt(2 / fan_in)).astype(np.float32)
        bias = rng.standard_normal(conv.out_channels).astype(np.float32)
        return Problem(conv, x, front, weights, bias, source, np.ones(conv.out_channels, np.float32), 1)
    # x = codes; front = whole numbers, so that the source has whole values without a rounding: 0 to 3 x FRONT x 16.
    x = rng.integers(0, 17, (1, FRONT, conv.size, conv.size)).astype(np.float32)
    front = rng.integers(-1, 4, (conv.channels, FRONT)).astype(np.float32)
    source = np.maximum(np.einsum("of,nfhw->nohw", front, x), 0).astype(np.uint8)
    weights = np.clip(np.rint(42 * rng.standard_normal(shape)), -127, 127).astype(np.int8)
    bias = rng.integers(-10000, 10000, conv.out_channels).astype(np.int32)
    spread = 42 * math.sqrt(fan_in * float((source.astype(np.float64) ** 2).mean()))
    unit = np.float32(3 * spread / 255)  # three deviations fill the codes
    return Problem(conv, x, front, weights, bias, source, np.full(conv.out_channels, 1 / unit, np.float32), float(unit))


def network(p, target):
    """Writes the network: front, the convolution ("target"), a mean that reads the result."""
    b = networks.Builder(p.conv.name)
    x = b.input(*p.x.shape)

    def rounded(value, unit):
        if not p.conv.integers:
            return value
        grid = b.scalar(unit), b.constant(np.uint8(0))
        return b.node("DequantizeLinear", b.node("QuantizeLinear", value, *grid), *grid)

    def constant(array, units):
        """An array of codes by its scales, one a channel; f32 as it is."""
        if not p.conv.integers:
            return b.constant(array)
        return b.node("DequantizeLinear", b.constant(array), b.constant(np.full(len(array), units, np.float32)),
                      b.constant(np.zeros(len(array), array.dtype)), axis=0)

    front = p.front.reshape(*p.front.shape, 1, 1)
    if p.conv.integers:
        front = front.astype(np.int8)
    y = b.node("Conv", rounded(x, 1), constant(front, 1), kernel_shape=[1, 1])
    y = rounded(b.node("Relu", y), 1)
    attributes = {"kernel_shape": [p.conv.kernel] * 2, "strides": [p.conv.stride] * 2, "group": p.conv.groups}
    y = b.node("Conv", y, constant(p.weights, 1), constant(p.bias, 1), pads=[p.conv.pad] * 4, **attributes)
    b.nodes[-1].name = "target"
    y = rounded(b.node("Relu", y), p.unit)
    b.finish(b.node("GlobalAveragePool", y), 1, p.conv.out_channels, 1, 1)
    onnx.save(b.model(), target)


# --- the two sides --------------------------------------------------------------------------------------------------


def peer_library():
    """onednn.c as a shared library; None where there is no oneDNN 2.x."""
    probe = "#include <oneapi/dnnl/dnnl.h>\n#if DNNL_VERSION_MAJOR != 2\n#error\n#endif\n"
    if subprocess.run([os.environ.get("CC", "cc"), "-E", "-x", "c", "-"], input=probe, text=True,
                      capture_output=True).returncode:
        return None
    library = ctypes.CDLL(str(paths.shared_library("onednn.c", "-ldnnl", "-lm")))
    library.peer_open.restype, library.peer_run.restype = ctypes.c_void_p, ctypes.c_double
    library.peer_kernel.restype = ctypes.c_char_p
    return library


class OneDnn:
    def __init__(self, library, p):
        self.library = library
        self.arrays = [np.ascontiguousarray(a) for a in (p.source, p.weights, p.bias)]
        plain = (ctypes.c_void_p * 4)(*(a.ctypes.data for a in self.arrays))
        self.peer = ctypes.c_void_p(library.peer_open(ctypes.byref(p.conv), plain, p.scales.ctypes.data_as(
            ctypes.c_void_p)))
        if not self.peer:
            raise RuntimeError("oneDNN has no kernel for it")
        self.kernel = library.peer_kernel(self.peer).decode()
        self.unit, self.shape = p.unit, (p.conv.out_channels, p.conv.out_size ** 2)
        self.result = np.zeros(self.shape, np.uint8 if p.conv.integers else np.float32)

    def means(self):
        """The mean of every channel of the result."""
        self.best(0)
        self.library.peer_result(self.peer, self.result.ctypes.data_as(ctypes.c_void_p))
        return self.unit * self.result.astype(np.float64).mean(1)

    def best(self, seconds):
        once = self.library.peer_run(self.peer, 1)
        return min(once, self.library.peer_run(self.peer, max(1, int(seconds / max(once, 1e-7)))))

    def close(self):
        self.library.peer_close(self.peer)


class Ours:
    def __init__(self, p):
        folder = common.WORK / "convolutions"
        folder.mkdir(parents=True, exist_ok=True)
        source, target = folder / "one.onnx", folder / "one.espl"
        network(p, source)
        common.espalier("export", source, "-o", target)
        self.session = common.Espalier(target, profile=True)
        self.session.bind([p.x])

    def means(self):
        self.session.run()
        self.session.layers()
        return self.session.outputs[0].reshape(-1)

    def best(self, seconds):
        end, runs = time.perf_counter() + seconds, 0
        while runs < 2 or time.perf_counter() < end:
            self.session.run()
            runs += 1
        layer = next(l for l in self.session.layers() if l.name == b"target")
        self.kernel = f"{layer.kernel.decode()}:{layer.isa.decode()}"
        return layer.best_seconds

    def close(self):
        self.session.close()


def compare(library, conv, rounds, seconds):
    """(our kernel, its, our rate, its rate, ratio of ours to its); rates in GOP/s."""
    p = problem(conv)
    ours, theirs = Ours(p), OneDnn(library, p)
    error = common.relative_error(ours.means(), theirs.means())
    if not error <= (S8_ERROR if conv.integers else F32_ERROR):
        raise RuntimeError(f"results differ by {error:.2g}")
    times = np.array([[ours.best(seconds), theirs.best(seconds)] for _ in range(rounds)])
    ours.close(), theirs.close()
    rates = 2e-9 * conv.macs / times
    mine, its = np.median(rates, axis=0)
    return ours.kernel, theirs.kernel, mine, its, float(np.median(rates[:, 0] / rates[:, 1]))


# --- table ----------------------------------------------------------------------------------------------------------


def rows(args, library):
    """The table's rows as they are measured, each with its ratio."""
    peaks = common.peaks()
    level = limit.LEVELS[args.cpu][0] if args.cpu else list(peaks)[-1]
    for form in [args.format] if args.format else ["s8", "f32"]:
        for shape, users in convolutions(args.patterns):
            conv = Conv(*shape, form == "s8")
            try:
                kernel, its_kernel, mine, its, ratio = compare(library, conv, args.rounds, args.seconds)
            except RuntimeError as error:
                print(f"{form} {conv.name}: left out: {error}", file=sys.stderr)
                continue
            share = f" ({100 * mine / peaks[level][form]:.0f} %)" if conv.groups == 1 else ""
            row = [conv.name, ", ".join(users), form, f"{mine:.1f}{share}", f"{its:.1f}", f"**{ratio:.2f}**",
                   "✓" if ratio >= TARGET else "✗", f"`{kernel}`", f"`{its_kernel}`"]
            print("  ".join(map(str, row)), file=sys.stderr, flush=True)
            yield ratio, row


def main(args):
    library = peer_library()
    if not library:
        print("skipped: there is no oneDNN 2.x (Debian's libdnnl-dev)")
        return 0
    before = common.load()
    found = list(rows(args, library))
    text = common.conditions(time.strftime("%Y-%m-%d"), before) + f" {args.rounds} rounds of {args.seconds:g} s."
    if args.cpu:
        text += f" Both sides limited to {limit.LEVELS[args.cpu][3]}."
    for form in ("s8", "f32"):
        ratios = [ratio for ratio, row in found if row[2] == form]
        if ratios:
            text += (f" {form}: {sum(r >= TARGET for r in ratios)} of {len(ratios)} at {TARGET} or more, geometric mean "
                     f"{math.exp(np.mean(np.log(ratios))):.2f}.")
    text += "\n\n" + common.table(
        ["convolution", "of", "format", "ours, GOP/s", "oneDNN, GOP/s", "ours ÷ oneDNN", f"≥ {TARGET}", "our kernel",
         "its kernel"], [row for _, row in found], ["---", "---", "---", "---:", "---:", "---:", ":---:", "---", "---"])
    print(text)
    if args.write:
        common.replace_section(common.PAGE, f"onednn{'-' + args.cpu if args.cpu else ''}", text)
    return 0


if __name__ == "__main__":
    sys.exit(main(args))
