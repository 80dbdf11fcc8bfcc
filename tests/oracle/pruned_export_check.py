#!/usr/bin/env python3
"""What ONNX Runtime and a second reader say of pruned and 16-bit models that Espalier writes.

    tests/oracle/pruned_export_check.py BUILD/espalier

Needs onnx, onnxruntime and numpy. Small networks with random weights go through `compress --recipe`, for each pattern and
format:

  export   onnx.checker; ONNX Runtime computes from model.onnx what `espalier run` computes from model.espl
  zeros    the zeros that the recipe asks for are in the initializers of model.onnx, which are dense
  storage  model.espl, read by espl_reader.py, holds the same codes, in the layout of the pattern
  import   model.onnx read again keeps the formats of 16 bits
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import espl_reader

RNG = np.random.default_rng(7)
BANKS = {"2:4": (2, 4), "bank 2:16": (2, 16), "bank 3:32": (3, 32), "bank 1:5": (1, 5)}
PATTERNS = [*BANKS, "unstructured 80%", "block 4x4 75%", "row 50%", "column 50%", "kernel 70%"]
FORMATS = ["f32", "f16", "bf16", "s8", "s4", "s3"]
failures = 0


def report(good, what, text):
    global failures
    failures += not good
    print(f"{'ok  ' if good else 'FAIL'} {what:44} {text}", flush=True)


def weight(name, *shape):
    return numpy_helper.from_array((RNG.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32), name)


def network(nodes, stored, x_shape, y_rank):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, x_shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * y_rank)
    graph = helper.make_graph(nodes, "g", [x], [y], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def conv_net():
    n = helper.make_node
    nodes = [n("Conv", ["x", "w1", "b1"], ["a"], name="first", pads=[1, 1, 1, 1]), n("Relu", ["a"], ["b"]),
             n("Conv", ["b", "w2"], ["c"], name="second"), n("GlobalAveragePool", ["c"], ["d"]),
             n("Flatten", ["d"], ["e"]), n("Gemm", ["e", "w3", "b3"], ["y"], name="last", transB=1)]
    stored = [weight("w1", 24, 35, 3, 3), weight("b1", 24), weight("w2", 40, 24, 1, 1), weight("w3", 33, 40),
              weight("b3", 33)]
    return network(nodes, stored, [1, 35, 9, 9], 2)


def rows_net():
    n = helper.make_node
    nodes = [n("LSTM", ["x", "w", "r"], ["h"], name="lstm", hidden_size=32, direction="bidirectional"),
             n("Transpose", ["h"], ["t"], perm=[0, 2, 1, 3]), n("Reshape", ["t", "shape"], ["s"]),
             n("MatMul", ["s", "m"], ["y"], name="project")]
    shape = numpy_helper.from_array(np.array([5, 1, 64], np.int64), "shape")
    return network(nodes, [weight("w", 2, 128, 45), weight("r", 2, 128, 32), weight("m", 64, 50), shape], [5, 1, 45], 3)


# Rows and inputs of each weight.
AXES = {"first": (0, 1), "second": (0, 1), "last": (0, 1), "lstm": (1, 2), "project": (1, 0)}


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def compress(program, source, recipe, out):
    (out.parent / "recipe.yaml").write_text(f"layers:\n- {{match: '*', {recipe}}}\n")
    done = subprocess.run([program, "compress", str(source), "--chip", "cortex-a76", "--recipe",
                           str(out.parent / "recipe.yaml"), "-q", "-o", str(out)], capture_output=True, text=True)
    return done.stderr.strip() if done.returncode else ""


def run_ours(program, folder, x):
    np.save(folder / "x.npy", x)
    subprocess.run([program, "run", str(folder / "model.espl"), "-i", str(folder / "x.npy"), "-q", "-o",
                    str(folder / "out")], check=True, capture_output=True)
    return np.load(folder / "out" / "y.npy")


def weights_of(model):
    """Name of the layer, index of the input: codes as they are in the file."""
    made = {o: n for n in model.graph.node for o in n.output}
    stored = {t.name: t for t in model.graph.initializer}
    out = {}
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            tensor = stored.get(name) or (name in made and stored.get(made[name].input[0]))
            if node.name in AXES and i > 0 and tensor and len(tensor.dims) > 1:
                bits = tensor.data_type == TensorProto.BFLOAT16
                out[node.name, i] = (np.frombuffer(tensor.raw_data, np.uint16).reshape(tensor.dims) if bits
                                     else numpy_helper.to_array(tensor))
                if tensor.data_type == TensorProto.INT4:
                    out[node.name, i] = out[node.name, i].astype(np.int8)
    return out


def most_in_a_bank(codes, axes, m):
    """Non-zeros of the fullest bank."""
    rows = np.moveaxis(codes != 0, axes, (0, -1)).reshape(-1, codes.shape[axes[1]])
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % m)))
    return int(rows.reshape(-1, m).sum(1).max())


def check_zeros(pattern, weights):
    if pattern in BANKS:
        n, m = BANKS[pattern]
        # A tap of fewer inputs than a bank holds stays dense.
        return all(most_in_a_bank(w, AXES[k[0]], m) <= n for k, w in weights.items() if w.shape[AXES[k[0]][1]] >= m)
    # A kernel of one tap is a weight; those layers stay as they are.
    chosen = [w for w in weights.values() if pattern.split()[0] != "kernel" or w.ndim == 4 and w.shape[2] > 1]
    return all((w == 0).mean() > 0.3 for w in chosen)


def check_storage(path, weights):
    held = [c for c in espl_reader.constants(path) if len(c["shape"]) > 1]
    same = all(any(c["array"].shape == w.shape and np.array_equal(c["array"], w.view(c["array"].dtype))
                   for c in held if c["array"].dtype.itemsize == w.dtype.itemsize) for w in weights.values())
    return same, sorted({c["pattern"] for c in held})


def check(program, work, name, source, pattern, form, integer):
    what = f"{name}, {pattern}, {form}{', integer' if integer else ''}"
    folder = work / "out"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    keep = "" if integer or form.startswith(("f", "b")) else ", activations: f32"
    error = compress(program, source, f"pattern: {pattern!r}, format: {form}{keep}", folder)
    if error:
        return report(False, what, error)
    model = onnx.load(str(folder / "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = RNG.standard_normal(shape).astype(np.float32)
    theirs, ours = session(folder / "model.onnx").run(None, {"x": x})[0], run_ours(program, folder, x)
    error = float(np.abs(theirs - ours).max() / np.abs(theirs).max())
    weights = weights_of(model)
    zeros = check_zeros(pattern, weights)
    same, patterns = check_storage(folder / "model.espl", weights)
    casts = sum(n.op_type == "Cast" for n in model.graph.node)
    kept = True
    if form in ("f16", "bf16"):
        again = subprocess.run([program, "inspect", "--json", str(folder / "model.onnx")], check=True,
                               capture_output=True, text=True)
        kept = casts == len(weights) and sum(l.get("format") == form for l in json.loads(again.stdout)["layers"]) == len(
            {k[0] for k in weights})
    good = error < (0.06 if integer else 1e-5) and zeros and same and kept and len(weights) == 3
    report(good, what, f"difference {error:.2g}, stored as {', '.join(patterns)}"
           f"{'' if zeros else '; ZEROS ARE MISSING'}{'' if same else '; OTHER CODES'}{'' if kept else '; FORMAT LOST'}")


def main():
    program = str(pathlib.Path(sys.argv[1]).resolve())
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for name, make in (("conv", conv_net), ("rows", rows_net)):
            source = work / f"{name}.onnx"
            onnx.save(make(), str(source))
            for pattern in PATTERNS:
                for form in FORMATS:
                    check(program, work, name, source, pattern, form, False)
                check(program, work, name, source, pattern, "s8", True)
    print(f"{failures} failed")
    return failures > 0


if __name__ == "__main__":
    sys.exit(main())
