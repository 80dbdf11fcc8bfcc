#!/usr/bin/env python3
"""Writes tests/fixtures/half: trained networks whose tensors are floats of 16 bits, with ONNX Runtime's outputs.

    make_half_models.py [FOLDER]      needs onnx, onnxruntime, numpy, and the models of $ESPL_ASSETS

mnist_f16, kws_f16   every tensor is f16, inputs and outputs too
mnist_edges          f32 inputs and outputs, f16 between two Casts
mnist_qdq            f16, weights and activations through QuantizeLinear and DequantizeLinear with scales of f16
mnist_bf16           every tensor is bf16

Of the last two the expected outputs are those of the same weights, scales and inputs in f32, rounded: what the definition
gives but for the rounding between operators. ONNX Runtime has no kernels of bf16 here, and where values are quantized its
arithmetic of f16 moves codes by one.
"""
import os
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "fixtures" / "half"
ASSETS = pathlib.Path(os.environ.get("ESPL_ASSETS", ROOT.parent.parent / "shared"))


def bf16_bits(array):
    """To the nearest, ties to even, as bits."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def bf16_value(array):
    return (bf16_bits(array).astype(np.uint32) << 16).view(np.float32).reshape(np.shape(array))


def tensor(array, name, kind):
    if kind == TensorProto.BFLOAT16:
        return helper.make_tensor(name, kind, np.shape(array), bf16_bits(array).tobytes(), raw=True)
    return numpy_helper.from_array(np.asarray(array, np.float16), name)


def convert(model, kind):
    """Every f32 tensor becomes one of `kind`: initializers, Constants, what the graph declares."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    graph = new.graph
    for t in graph.initializer:
        if t.data_type == TensorProto.FLOAT:
            t.CopyFrom(tensor(numpy_helper.to_array(t), t.name, kind))
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("t") and a.t.data_type == TensorProto.FLOAT:
                a.t.CopyFrom(tensor(numpy_helper.to_array(a.t), a.t.name, kind))
            if node.op_type == "Cast" and a.name == "to" and a.i == TensorProto.FLOAT:
                a.i = kind
    for value in list(graph.input) + list(graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = kind
    del graph.value_info[:]
    return new


def edges(model):
    """Inputs and outputs are f32 again, behind Casts."""
    graph = model.graph
    constants = {t.name for t in graph.initializer}
    for value in graph.input:
        if value.name in constants:  # IR versions before 4 list them too
            continue
        inner = value.name + "_half"
        for node in graph.node:
            node.input[:] = [inner if i == value.name else i for i in node.input]
        graph.node.insert(0, helper.make_node("Cast", [value.name], [inner], to=TensorProto.FLOAT16))
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    for value in graph.output:
        inner = value.name + "_half"
        for node in graph.node:
            node.output[:] = [inner if o == value.name else o for o in node.output]
        graph.node.append(helper.make_node("Cast", [inner], [value.name], to=TensorProto.FLOAT))
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    return model


def qdq(model):
    """Weights of layers as s8 codes, and the input of each layer through a pair, all scales f16."""
    graph = model.graph
    weights = {t.name: t for t in graph.initializer}
    nodes, extra = [], []
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm") and node.input[1] in weights:
            w = numpy_helper.to_array(weights[node.input[1]]).astype(np.float32)
            scale = np.float16(np.abs(w).max() / 127)
            codes = np.clip(np.rint(w / np.float32(scale)), -127, 127).astype(np.int8)
            p = node.output[0]
            extra += [numpy_helper.from_array(codes, p + "_wq"), numpy_helper.from_array(scale, p + "_ws"),
                      numpy_helper.from_array(np.int8(0), p + "_wz"), numpy_helper.from_array(np.float16(0.05), p + "_xs"),
                      numpy_helper.from_array(np.uint8(100), p + "_xz")]
            nodes += [helper.make_node("DequantizeLinear", [p + "_wq", p + "_ws", p + "_wz"], [p + "_w"]),
                      helper.make_node("QuantizeLinear", [node.input[0], p + "_xs", p + "_xz"], [p + "_xq"]),
                      helper.make_node("DequantizeLinear", [p + "_xq", p + "_xs", p + "_xz"], [p + "_x"])]
            node.input[0], node.input[1] = p + "_x", p + "_w"
        nodes.append(node)
    new = [onnx.NodeProto() for _ in nodes]
    for to, node in zip(new, nodes):
        to.CopyFrom(node)
    del graph.node[:]
    graph.node.extend(new)
    graph.initializer.extend(extra)
    used = {i for n in graph.node for i in n.input}
    kept = [t for t in graph.initializer if t.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    inputs = [v for v in graph.input if v.name in used]
    del graph.input[:]
    graph.input.extend(inputs)
    model.opset_import[0].version = 19
    return model


def run(model, feeds):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def widened(model):
    """The same numbers in f32."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    for t in new.graph.initializer:
        if t.data_type == TensorProto.FLOAT16:
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float32), t.name))
    for value in list(new.graph.input) + list(new.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    return new


def write(name, model, feeds, results, kind):
    data = OUT / name / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    onnx.save(model, OUT / name / "model.onnx")
    for prefix, arrays, values in (("input", feeds, model.graph.input), ("output", results, model.graph.output)):
        for i, (array, value) in enumerate(zip(arrays, values)):
            half = value.type.tensor_type.elem_type != TensorProto.FLOAT
            proto = tensor(array, value.name, kind) if half else numpy_helper.from_array(np.asarray(array, np.float32), value.name)
            (data / f"{prefix}_{i}.pb").write_bytes(proto.SerializeToString())


def load(name):
    model = onnx.load(ASSETS / "models" / name / "model.onnx")
    value = model.graph.input[0]
    shape = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
    return model, value.name, shape


def main():
    rng = np.random.default_rng(5)
    for name, asset in (("mnist_f16", "mnist-cnn"), ("kws_f16", "mlperf-tiny-kws_dscnn")):
        model, x, shape = load(asset)
        feed = rng.standard_normal(shape).astype(np.float16)
        half = convert(model, TensorProto.FLOAT16)
        write(name, half, [feed], run(half, {x: feed}), TensorProto.FLOAT16)
        if name == "mnist_f16":
            half = qdq(half)
            write("mnist_qdq", half, [feed], run(widened(half), {x: feed.astype(np.float32)}), TensorProto.FLOAT16)
    model, x, shape = load("mnist-cnn")
    feed = rng.standard_normal(shape).astype(np.float32)
    half = edges(convert(model, TensorProto.FLOAT16))
    write("mnist_edges", half, [feed], run(half, {x: feed}), TensorProto.FLOAT16)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    for t in rounded.graph.initializer:
        if t.data_type == TensorProto.FLOAT:
            t.CopyFrom(numpy_helper.from_array(bf16_value(numpy_helper.to_array(t)), t.name))
    results = run(rounded, {x: bf16_value(feed)})
    write("mnist_bf16", convert(model, TensorProto.BFLOAT16), [feed], results, TensorProto.BFLOAT16)


if __name__ == "__main__":
    main()
