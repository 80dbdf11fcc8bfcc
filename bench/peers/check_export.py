#!/usr/bin/env python3
"""Checks what Espalier writes for others, and what others write for it, with onnx and ONNX Runtime as the judges.

    bench/peers/setup.sh && bench/peers/.venv/bin/python bench/peers/check_export.py [MODEL...] [--count N] [--write]

Out: every network with every layer in s8, in both flavours: onnx.checker's full check; ONNX Runtime loads and runs it; its
answers are the .espl file's; every layer that can become an integer kernel there does (its optimised graph is counted).
In: every network as ONNX Runtime's own quantizer writes it (QDQ, u8 or s8 activations, a scale for each channel or tensor):
Espalier runs its layers on integer kernels, and differs from the plain meaning of the file at most three times as much as
ONNX Runtime's own kernels do. With --formats: every network with every layer in each of FORMATS, both flavours, loads and answers as the .espl file does.
Prints a line a check; exit 1 if one fails.
"""
import argparse
import collections
import sys

import numpy as np
import onnx
import onnxruntime as ort

import common
import quantizer

IMAGES_APART = 3
TIMES_APART = 3  # how much further from a file's meaning than ONNX Runtime's kernels
FUSED = {"Conv": ("QLinearConv",), "Gemm": ("QGemm",), "Add": ("QLinearAdd",),
         "MatMul": ("QLinearMatMul", "MatMulIntegerToFloat")}
FLOAT_RESULT = ("Gemm", "MatMul")  # have integer kernels that store f32
failures, fusions = [], []


def report(good, name, what, text=""):
    print(f"{'ok  ' if good else 'FAIL'}  {name:34} {what:22} {text}", flush=True)
    if not good:
        failures.append(f"{name} {what}")


# --- what ONNX Runtime could fuse --------------------------------------------------------------------------


class Graph:
    """Who writes and who reads each value."""

    def __init__(self, path):
        graph = onnx.load(path).graph
        self.nodes = graph.node
        self.writer = {o: n for n in graph.node for o in n.output}
        self.readers = collections.defaultdict(list)
        for node in graph.node:
            for value in node.input:
                self.readers[value].append(node)
        self.types = {i.name: i.data_type for i in graph.initializer}
        self.outputs = {o.name for o in graph.output}

    def kinds(self):
        return collections.Counter(n.op_type for n in self.nodes)

    def rounded(self, value):
        """The value is a DequantizeLinear's."""
        return value in self.writer and self.writer[value].op_type == "DequantizeLinear"

    def shared_s8(self, codes):
        """s8 codes that several DequantizeLinear will read: on x86 ONNX Runtime leaves these s8, and a kernel that has u8
        on its other side is not fused."""
        node = self.writer.get(codes)
        if node is None or node.op_type != "QuantizeLinear":
            return False
        readers = [r for d in self.readers[codes] for r in self.readers[d.output[0]]]
        return len(readers) > 1 and self.types.get(node.input[2]) == onnx.TensorProto.INT8

    def becomes_float_gemm(self, node):
        """MatMul and the addition of a bias: ONNX Runtime makes a Gemm of them first, whose f32 bias QGemm does not take."""
        after = self.readers[node.output[0]]
        return node.op_type == "MatMul" and len(after) == 1 and after[0].op_type == "Add" and \
            any(v in self.types for v in after[0].input)

    def rounding(self, value):
        """The only QuantizeLinear that reads the value, behind a bound that u8 codes imply, or None."""
        after = self.readers[value]
        if value in self.outputs or len(after) != 1:
            return None
        if after[0].op_type in ("Relu", "Clip"):
            found = self.rounding(after[0].output[0])
            return found if found and self.types.get(found.input[2]) == onnx.TensorProto.UINT8 else None
        return after[0] if after[0].op_type == "QuantizeLinear" else None


def expected(path):
    """How many nodes of each kind of FUSED must become integer kernels."""
    graph = Graph(path)
    counts, exempt = collections.Counter(), collections.Counter()
    for node in graph.nodes:
        if node.op_type not in FUSED or not all(graph.rounded(v) for v in node.input if v):
            continue
        stored = graph.rounding(node.output[0])
        if not stored and node.op_type not in FLOAT_RESULT:
            continue
        codes = [graph.writer[v].input[0] for v in node.input if v]
        codes += [stored.output[0]] if stored else []
        if any(graph.shared_s8(c) for c in codes) or graph.becomes_float_gemm(node):
            exempt[node.op_type] += 1
        else:
            counts[node.op_type] += 1
    return counts, exempt


def optimised(path):
    """The kinds of nodes in the graph that ONNX Runtime makes of a file."""
    target = common.WORK / "optimised.onnx"
    options = common.ort_options(1, ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Graph(target).kinds()


# --- out ------------------------------------------------------------------------------------------------------

RECIPE = 'layers: [{match: "*", pattern: dense, format: s8}]\n'


def export(model, flavour):
    folder = common.WORK / "export" / f"{model.name}.{flavour}"
    recipe = common.WORK / "all-s8.yaml"
    folder.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(RECIPE)
    common.espalier("compress", model.path, "--chip", common.chip(), "--data", common.data_file(model.data), "--calib",
                    common.data_file(model.calib), "--flavour", flavour, "--recipe", recipe, "--max-drop", 100,
                    "-o", folder)
    return folder


def check_out(model, flavour, count):
    folder = export(model, flavour)
    path = folder / "model.onnx"
    try:
        onnx.checker.check_model(onnx.load(path), full_check=True)
        report(True, model.name, f"{flavour}: checker")
    except Exception as error:  # the checker raises types of its own
        report(False, model.name, f"{flavour}: checker", str(error).splitlines()[0])
    kinds = optimised(path)
    wanted, exempt = expected(path)
    counts = {}
    for kind, kernels in FUSED.items():
        if wanted[kind] + exempt[kind] == 0:
            continue
        fused = sum(kinds[k] for k in kernels)
        counts[kind] = f"{fused} of {wanted[kind] + exempt[kind]}"
        text = f"{fused} of {wanted[kind] + exempt[kind]} {' or '.join(kernels)}"
        if exempt[kind]:
            text += f"; {exempt[kind]} may stay in f32 (docs/results.md)"
        report(fused >= wanted[kind], model.name, f"{flavour}: {kind}", text)
    left = kinds["DequantizeLinear"]
    fusions.append([model.name, flavour] + [counts.get(kind, "–") for kind in FUSED] + [left])
    samples = common.Samples(model.data, count)
    espl = common.Espalier(folder / "model.espl")
    ours = common.outputs_of(espl, samples)
    theirs = common.outputs_of(common.OnnxRuntime(path, shapes=espl.shapes), samples)
    error = common.relative_error(ours, theirs)
    text = f"relative difference {100 * error:.2f} %; {left} DequantizeLinear left"
    if model.labels:
        apart = abs(common.top1(ours, samples.labels) - common.top1(theirs, samples.labels)) * len(samples)
        report(apart <= IMAGES_APART + 0.5, model.name, f"{flavour}: answers",
               f"{apart:.0f} of {len(samples)} images apart; {text}")
    else:
        report(error <= 0.05, model.name, f"{flavour}: answers", text)


# --- out, in other formats ------------------------------------------------------------------------------------

# name: the keys of every layer's row
FORMATS = {
    "w4a8": "format: s4", "w2a8": "format: s2", "w5a8": "format: s5", "a4": "format: s4, activations: u4",
    "s4 alone": "format: s4, compute: weights", "s4 groups": "format: s4, group: 32, compute: weights",
    "s8 alone": "format: s8, compute: weights", "s8 dynamic": "format: s8, compute: dynamic",
    "e4m3": "format: e4m3, activations: f32", "e4m3 both": "format: e4m3, activations: e4m3",
    "e5m2 both": "format: e5m2, activations: e5m2", "s16 both": "format: s16, activations: s16",
    "log4": "format: log4, activations: f32", "log5": "format: log5, activations: f32",
    "log6": "format: log6, activations: f32", "ternary": "format: ternary", "binary": "format: binary",
    "f16 both": "format: f16, activations: f16", "bf16": "format: bf16, activations: f32",
}

def check_format(model, name, flavour, count):
    """Every layer in one format: onnx.checker takes the file, ONNX Runtime loads it, and its answers are the .espl file's."""
    folder = common.WORK / "export" / f"{model.name}.{name.replace(' ', '-')}.{flavour}"
    recipe = folder.with_suffix(".yaml")
    folder.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(f"layers: [{{match: '*', {FORMATS[name]}}}]\n")
    what = f"{name}, {flavour}"
    try:
        common.espalier("compress", model.path, "--chip", common.chip(), "--calib", common.data_file(model.calib), "--recipe",
                        recipe, "--flavour", flavour, "-o", folder)
        path = folder / "model.onnx"
        onnx.checker.check_model(onnx.load(path), full_check=True)
        samples = common.Samples(model.data, count)
        espl = common.Espalier(folder / "model.espl")
        ours = common.outputs_of(espl, samples)
        theirs = common.outputs_of(common.OnnxRuntime(path, shapes=espl.shapes), samples)
    except Exception as error:  # of the checker, of ONNX Runtime, or of the program
        report(False, model.name, what, str(error).splitlines()[0][:200])
        return
    opset = next(o.version for o in onnx.load(path).opset_import if not o.domain)
    text = (f"operator set {opset}, {path.stat().st_size:,} bytes, relative difference "
            f"{100 * common.relative_error(ours, theirs):.2f} %")
    good = common.relative_error(ours, theirs) <= 0.05
    if model.labels:
        apart = abs(common.top1(ours, samples.labels) - common.top1(theirs, samples.labels)) * len(samples)
        good, text = apart <= IMAGES_APART + 0.5, f"{apart:.0f} of {len(samples)} images apart; {text}"
    report(good, model.name, what, text)


# --- in ---------------------------------------------------------------------------------------------------------


def check_in(model, variant, count):
    try:
        path = quantizer.quantize(model, variant)
    except ValueError as error:
        print(f"skip  {model.name:34} {variant:22} ONNX Runtime's quantizer: {error}")
        return
    espl = common.Espalier(common.to_espl(path, common.WORK / "imported" / f"{model.name}.{variant}.espl"))
    samples = common.Samples(model.data, count)
    fused = common.OnnxRuntime(path, shapes=espl.shapes)
    ours, theirs = common.outputs_of(espl, samples), common.outputs_of(fused, samples)
    plain = ort.InferenceSession(str(path), common.ort_options(1, ort.GraphOptimizationLevel.ORT_DISABLE_ALL),
                                 providers=["CPUExecutionProvider"])
    meaning = np.stack([plain.run(None, dict(zip(fused.names, samples.feed(i, espl.shapes))))[0].reshape(-1)
                        for i in range(len(samples))])
    error, allowed = common.relative_error(ours, meaning), TIMES_APART * common.relative_error(theirs, meaning) + 0.01
    layers = common.espalier("bench", path, "--layers", "--no-peak", "--runs", 1, "--seconds", 0)["layers"]
    formats = collections.Counter(l["format"] for l in layers if l["op"] in ("Conv", "Gemm"))
    convs = sum(1 for n in onnx.load(path).graph.node if n.op_type in ("Conv", "Gemm"))
    report(error <= allowed, model.name, f"{variant}: answers",
           f"{100 * error:.2f} % from the file's plain meaning, {100 * allowed:.2f} allowed")
    report(formats["s8"] >= convs, model.name, f"{variant}: kernels", f"{formats['s8']} of {convs} Conv and Gemm in s8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--count", type=int, default=100, help="samples to compare answers on (default 100)")
    parser.add_argument("--formats", action="store_true", help="the other formats instead")
    parser.add_argument("--write", action="store_true", help="puts what was fused into docs/results.md")
    args = parser.parse_args()
    models = common.pick(args.models)
    if not models:
        print("skipped: no assets")
        return 0
    if args.formats:
        for model in models:
            for name in FORMATS:
                for flavour in ("portable", "ort-x86"):
                    check_format(model, name, flavour, args.count)
        print(f"{len(failures)} failed")
        return 1 if failures else 0
    for model in models:
        for flavour in ("portable", "ort-x86"):
            check_out(model, flavour, args.count)
        for variant in quantizer.VARIANTS:
            check_in(model, variant, args.count)
    if args.write:
        text = common.table(["network", "flavour"] + [f"{kind} → {' or '.join(kernels)}" for kind, kernels in FUSED.items()] +
                            ["DequantizeLinear left"], fusions, ["---", "---"] + ["---:"] * (len(FUSED) + 1))
        common.replace_section(common.ROOT / "docs" / "results.md", "export", text)
    print(f"{len(failures)} failed" + "".join(f"\n  {f}" for f in failures))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
