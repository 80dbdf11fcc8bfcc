#!/usr/bin/env python3
"""Writes tests/fixtures/rounded: matrix products whose input is rounded by its own range in every run, with ONNX
Runtime's outputs.

NAME.onnx is what ONNX Runtime's quantize_dynamic writes for a layer: DynamicQuantizeLinear, MatMulInteger, Cast, and a Mul
with the product of both scales. NAME.in.pb is its input, NAME.out.pb the result.
"""
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "rounded"
# name: shape of x, columns, type of the codes, zero point, scales (one or per column), bias
CASES = {
    "one_row": ((1, 37), 19, np.int8, 0, False, True),
    "rows_per_column": ((3, 5, 24), 33, np.int8, 0, True, True),
    "u8_weights": ((9, 30), 16, np.uint8, 128, False, False),
    "odd_zero": ((4, 30), 16, np.uint8, 120, True, False),
    "positive": ((2, 40), 17, np.int8, 0, True, False),
}


def make(name, shape, columns, kind, zero, per_column, bias, rng):
    x = rng.normal(0.2, 1, shape).astype(np.float32)
    if name == "positive":
        x = np.abs(x) + 1
    w = rng.integers(*((-127, 128) if kind is np.int8 else (1, 256)), (shape[-1], columns)).astype(kind)
    count = columns if per_column else 1
    scale = rng.uniform(0.005, 0.01, count).astype(np.float32)
    constants = {"w": w, "w_zero": np.full(count, zero, kind) if per_column else kind(zero),
                 "w_scale": scale if per_column else scale[0], "bias": rng.normal(0, 1, columns).astype(np.float32)}
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["codes", "scale", "zero"]),
             helper.make_node("Mul", ["scale", "w_scale"], ["scales"]),
             helper.make_node("MatMulInteger", ["codes", "w", "zero", "w_zero"], ["sums"]),
             helper.make_node("Cast", ["sums"], ["numbers"], to=TensorProto.FLOAT),
             helper.make_node("Mul", ["numbers", "scales"], ["product" if bias else "y"])]
    if bias:
        nodes.append(helper.make_node("Add", ["product", "bias"], ["y"]))
    graph = helper.make_graph(nodes, name, [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape[:-1] + (columns,))],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()
                               if bias or k != "bias"])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    onnx.save(model, OUT / f"{name}.onnx")
    (OUT / f"{name}.in.pb").write_bytes(numpy_helper.from_array(x).SerializeToString())
    (OUT / f"{name}.out.pb").write_bytes(numpy_helper.from_array(session.run(None, {"x": x})[0]).SerializeToString())


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(12)
    for name, case in CASES.items():
        make(name, *case, rng)


if __name__ == "__main__":
    main()
