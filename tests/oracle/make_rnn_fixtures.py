#!/usr/bin/env python3
"""Writes tests/fixtures/rnn: recurrent layers whose x, W and R are quantized, with ONNX Runtime's outputs.

NAME.onnx holds one layer in QDQ form: x passes a pair of u8, W and R are s8 with a scale for each row of a gate.
NAME.in.pb is its input, NAME.outI.pb what ONNX Runtime makes of it in f32: the exact result of the rounded numbers.
"""
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "rnn"
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# name: operator, attributes, sequence, samples, features, units
CASES = {
    "lstm": ("LSTM", {}, 12, 1, 10, 20),
    "lstm_two_ways": ("LSTM", {"direction": "bidirectional"}, 7, 3, 6, 9),
    "gru": ("GRU", {}, 12, 2, 10, 18),
    "gru_linear": ("GRU", {"linear_before_reset": 1}, 12, 6, 10, 18),
    "rnn_reverse": ("RNN", {"direction": "reverse"}, 9, 2, 8, 17),
}


def quantized(name, w, constants, nodes):
    """w [directions, rows, k] as codes with a scale a row (the larger of the directions'), dequantized again."""
    scale = (np.abs(w).max((0, 2)) / 127).astype(np.float32)
    codes = np.rint(w / scale[:, None]).astype(np.int8)
    constants += [numpy_helper.from_array(codes, name + "_codes"), numpy_helper.from_array(scale, name + "_scale"),
                  numpy_helper.from_array(np.zeros(len(scale), np.int8), name + "_zero")]
    nodes.append(helper.make_node("DequantizeLinear", [name + "_codes", name + "_scale", name + "_zero"], [name], axis=1))


def make(name, op, attributes, seq, batch, size, hidden, rng):
    ways = 2 if attributes.get("direction") == "bidirectional" else 1
    rows, spread = GATES[op] * hidden, 1 / np.sqrt(hidden)
    constants = [numpy_helper.from_array(np.float32(0.02), "x_scale"), numpy_helper.from_array(np.uint8(120), "x_zero"),
                 numpy_helper.from_array(rng.normal(0, 0.3, (ways, 2 * rows)).astype(np.float32), "b")]
    nodes = [helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["x_codes"]),
             helper.make_node("DequantizeLinear", ["x_codes", "x_scale", "x_zero"], ["x_rounded"])]
    quantized("w", rng.normal(0, spread, (ways, rows, size)), constants, nodes)
    quantized("r", rng.normal(0, spread, (ways, rows, hidden)), constants, nodes)
    outputs = ["y", "y_h", "y_c"][:3 if op == "LSTM" else 2]
    nodes.append(helper.make_node(op, ["x_rounded", "w", "r", "b"], outputs, hidden_size=hidden, **attributes))
    info = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
    graph = helper.make_graph(nodes, name, [helper.make_tensor_value_info("x", TensorProto.FLOAT, [seq, batch, size])],
                              info, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    x = rng.normal(0, 0.8, (seq, batch, size)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    onnx.save(model, OUT / f"{name}.onnx")
    (OUT / f"{name}.in.pb").write_bytes(numpy_helper.from_array(x).SerializeToString())
    for i, y in enumerate(session.run(None, {"x": x})):
        (OUT / f"{name}.out{i}.pb").write_bytes(numpy_helper.from_array(y).SerializeToString())


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    for name, case in CASES.items():
        make(name, *case, rng)


if __name__ == "__main__":
    main()
