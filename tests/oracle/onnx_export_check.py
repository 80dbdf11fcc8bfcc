#!/usr/bin/env python3
"""What ONNX and ONNX Runtime say of the files that Espalier writes.

    tests/oracle/onnx_export_check.py BUILD/tests/oracle/onnx_rewrite [--models DIR] [--only NAME]

Needs onnx, onnxruntime and numpy. For each model of DIR (default $ESPL_ASSETS/models or ../shared/models):

  round trip    read and written again: onnx.checker (full), outputs equal to the original's
  opset N       every operator carried to operator set 13, 18 and 21: the same
  passes        folded and simplified: outputs equal within float rounding
  quantize      portable and ort-x86, ranges from the model's test data: onnx.checker, the outputs of ONNX Runtime with
                its optimisations on and off agree, the answer is still the float model's, and the integer kernels that
                ONNX Runtime puts in are counted

and for old forms of single operators, built here, the carried form gives the same numbers.
"""
import argparse
import collections
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
# Integer kernels in ONNX Runtime's extended optimisation of the quantized model: one for every layer that can have one.
EXPECTED = {"resnet20-cifar10": ("QLinearConv", 19), "mlperf-tiny-resnet8_cifar10": ("QLinearConv", 9),
            "mlperf-tiny-kws_dscnn": ("QLinearConv", 9), "mlperf-tiny-vww_mobilenet025_96": ("QLinearConv", 27),
            "mobilenet-v2-imagenet": ("QLinearConv", 53), "mlperf-tiny-ad_autoencoder": ("QGemm", 10)}
failures = []


def report(good, name, what, text):
    print(f"{'ok  ' if good else 'FAIL'} {name:34} {what:22} {text}", flush=True)
    if not good:
        failures.append((name, what))


def rewrite(program, source, target, *what):
    done = subprocess.run([program, source, target, *map(str, what)], capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


def session(path, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL, optimized=None):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = level
    options.log_severity_level = 3
    # On x86 ONNX Runtime turns s8 activations into u8 before it fuses, and misses those with several readers; what a
    # `portable` file is for keeps them s8.
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if optimized:
        options.optimized_model_filepath = str(optimized)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run(path, feed, outputs=None, **more):
    return session(path, **more).run(outputs, feed)


def worst(a, b):
    """Largest difference, relative to the largest value."""
    return max((float(np.max(np.abs(x.astype(np.float64) - y)) / max(1e-6, float(np.max(np.abs(x)))))
                for x, y in zip(a, b) if x.size), default=0.0)


def checked(path):
    try:
        onnx.checker.check_model(str(path), full_check=True)
        return ""
    except Exception as error:  # what the checker raises is of several kinds
        return str(error).splitlines()[0]


def test_inputs(folder, model):
    feed = {}
    stored = {t.name for t in model.graph.initializer}
    for i, value in enumerate(v for v in model.graph.input if v.name not in stored):
        tensor = onnx.load_tensor(str(folder / "test_data_set_0" / f"input_{i}.pb"))
        feed[value.name] = numpy_helper.to_array(tensor)
    return feed


def write_ranges(path, model_path, feed):
    """Smallest and largest element of every float value for this input."""
    model = onnx.load(str(model_path))
    inferred = onnx.shape_inference.infer_shapes(model)
    floats = [v.name for v in inferred.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT]
    have = {o.name for o in model.graph.output}
    for name in floats:
        if name not in have:
            model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    names = [o.name for o in model.graph.output]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    values = ort.InferenceSession(model.SerializeToString(), options).run(names, feed)
    with open(path, "w", encoding="utf-8") as out:
        for name, value in list(zip(names, values)) + list(feed.items()):
            if value.dtype == np.float32 and value.size:
                out.write(f"{name} {value.min()} {value.max()}\n")


def check_quantized(program, work, name, folded, feed, reference, outputs):
    ranges = work / "ranges.txt"
    write_ranges(ranges, folded, feed)
    for flavour in ("portable", "ort-x86"):
        target, optimized = work / f"{flavour}.onnx", work / f"{flavour}.optimized.onnx"
        error = rewrite(program, folded, target, "quantize", flavour, ranges) or checked(target)
        if error:
            report(False, name, flavour, error)
            continue
        plain = run(target, feed, outputs, level=ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
        fused = run(target, feed, outputs, level=ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED, optimized=optimized)
        ops = collections.Counter(n.op_type for n in onnx.load(str(optimized)).graph.node)
        integers = {op: n for op, n in sorted(ops.items())
                    if op.startswith("QLinear") or op in ("QGemm", "MatMulIntegerToFloat")}
        loss, fusing = worst(reference, plain), worst(plain, fused)
        op, least = EXPECTED.get(name, ("", 0))
        good = loss < 0.35 and fusing < 0.05 and (not op or ops[op] == least)
        report(good, name, flavour, f"to float {loss:.4f}, fused to plain {fusing:.4f}, {integers}")


def check_model(program, work, name, folder):
    source = folder / "model.onnx"
    model = onnx.load(str(source))
    feed = test_inputs(folder, model)
    outputs = [o.name for o in model.graph.output]
    reference = run(source, feed, outputs)
    steps = [("round trip", ()), ("opset 13", ("opset", 13)), ("opset 18", ("opset", 18)),
             ("opset 21", ("opset", 21)), ("passes", ("passes",))]
    opset = next(i.version for i in model.opset_import if i.domain in ("", "ai.onnx"))
    for what, args in steps:
        if args and args[0] == "opset" and args[1] < opset:
            continue
        target = work / "out.onnx"
        error = rewrite(program, source, target, *args) or checked(target)
        if error:
            report(False, name, what, error)
            continue
        difference = worst(reference, run(target, feed, outputs))
        report(difference <= (1e-4 if what == "passes" else 1e-6), name, what, f"difference {difference:.2g}")
    folded = work / "folded.onnx"
    if not rewrite(program, source, folded, "passes"):
        check_quantized(program, work, name, folded, feed, reference, outputs)


def old_forms():
    """(name, opset, node, input shape, initializers): forms that later operator sets do not have."""
    make = helper.make_node
    floats = lambda name, *values: numpy_helper.from_array(np.array(values, np.float32), name)
    yield "Softmax axis 1 of 4", 11, make("Softmax", ["x"], ["y"], axis=1), (2, 3, 4, 5), []
    yield "Softmax default of 3", 9, make("Softmax", ["x"], ["y"]), (2, 3, 4), []
    yield "Softmax axis 2 of 3", 11, make("Softmax", ["x"], ["y"], axis=2), (2, 3, 4), []
    yield "Softmax axis -2", 12, make("Softmax", ["x"], ["y"], axis=-2), (2, 3, 4), []
    yield "LogSoftmax axis 1 of 3", 11, make("LogSoftmax", ["x"], ["y"], axis=1), (2, 3, 4), []
    yield "Clip", 8, make("Clip", ["x"], ["y"], min=-0.25, max=0.5), (2, 3), []
    yield "Clip min", 10, make("Clip", ["x"], ["y"], min=-0.25), (2, 3), []
    yield "Pad", 9, make("Pad", ["x"], ["y"], pads=[0, 1, 2, 0, 1, 0], value=1.5), (1, 2, 3), []
    yield "Pad reflect", 10, make("Pad", ["x"], ["y"], mode="reflect", pads=[0, 0, 1, 0, 0, 2]), (1, 2, 4), []
    yield "Slice", 9, make("Slice", ["x"], ["y"], starts=[1, -2], ends=[3, 1000], axes=[1, 2]), (2, 4, 5), []
    yield "Slice all axes", 8, make("Slice", ["x"], ["y"], starts=[0, 1], ends=[1, 3]), (2, 4), []
    yield "Squeeze", 11, make("Squeeze", ["x"], ["y"], axes=[0, 2]), (1, 3, 1, 1), []
    yield "Squeeze all", 11, make("Squeeze", ["x"], ["y"]), (1, 3, 1, 2), []
    yield "Unsqueeze", 9, make("Unsqueeze", ["x"], ["y"], axes=[0, 3]), (2, 3), []
    yield "ReduceSum", 11, make("ReduceSum", ["x"], ["y"], axes=[1], keepdims=0), (2, 3, 4), []
    yield "ReduceSum all", 11, make("ReduceSum", ["x"], ["y"]), (2, 3, 4), []
    yield "ReduceMean", 9, make("ReduceMean", ["x"], ["y"], axes=[2, 3]), (2, 3, 4, 5), []
    yield "ReduceMax", 9, make("ReduceMax", ["x"], ["y"], axes=[1]), (2, 3), []
    yield "Split", 11, make("Split", ["x"], ["y", "z"], axis=1, split=[1, 3]), (2, 4), []
    yield "Split equal", 11, make("Split", ["x"], ["y", "z"], axis=1), (2, 4), []
    yield "Dropout", 9, make("Dropout", ["x"], ["y"], ratio=0.3), (2, 4), []
    yield "BatchNormalization", 8, make("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], spatial=1), (2, 2, 3), [
        floats("s", 1, 2), floats("b", 0, 1), floats("m", 0.5, 0), floats("v", 1, 4)]


def check_old_forms(program, work):
    rng = np.random.default_rng(1)
    for name, opset, node, shape, stored in old_forms():
        values = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in node.output]
        graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], values,
                                  stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)
        model = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        source, target = work / "old.onnx", work / "new.onnx"
        onnx.save(model, str(source))
        feed = {"x": rng.standard_normal(shape).astype(np.float32)}
        reference = run(source, feed)
        for to in (13, 18, 21):
            error = rewrite(program, source, target, "opset", to) or checked(target)
            if error:
                report(False, name, f"{opset} to {to}", error)
                continue
            result = run(target, feed, [o.name for o in model.graph.output])
            same = all(a.shape == b.shape for a, b in zip(reference, result))
            difference = worst(reference, result)
            report(same and difference <= 1e-6, name, f"{opset} to {to}", f"difference {difference:.2g}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    assets = os.environ.get("ESPL_ASSETS", str(HERE.parent.parent.parent / "shared"))
    parser.add_argument("--models", default=str(pathlib.Path(assets) / "models"))
    parser.add_argument("--only", help="one model")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        if not options.only:
            check_old_forms(options.program, work)
        models = pathlib.Path(options.models)
        if not models.is_dir():
            print("skipped: no assets")
        for path in sorted(models.glob("*/model.onnx")):
            if options.only in (None, path.parent.name):
                check_model(options.program, work, path.parent.name, path.parent)
    print(f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
