#!/usr/bin/env python3
"""Writes tests/fixtures/qoperator: networks whose operators work on codes, as ONNX Runtime's quantizer writes them, with
ONNX Runtime's outputs.

NAME.onnx is the model, NAME.in.pb its input, NAME.out.pb the result. `network` comes out of quantize_static in the form
QOperator, `convolution` and `lstm` out of quantize_dynamic; the others are single nodes of com.microsoft.
"""
import pathlib
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "qoperator"
rng = np.random.default_rng(7)


def f32(*shape, scale=1.0):
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def model_of(nodes, shape, out_shape, constants, domains=()):
    graph = helper.make_graph(nodes, "fixture", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, out_shape)],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()])
    opsets = [helper.make_opsetid("", 13)] + [helper.make_opsetid(d, 1) for d in domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def write(name, model, x):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    onnx.save(model, OUT / f"{name}.onnx")
    (OUT / f"{name}.in.pb").write_bytes(numpy_helper.from_array(x).SerializeToString())
    (OUT / f"{name}.out.pb").write_bytes(numpy_helper.from_array(session.run(None, {"x": x})[0]).SerializeToString())


class Samples(CalibrationDataReader):
    def __init__(self, shape):
        self.left = [f32(*shape) for _ in range(16)]

    def get_next(self):
        return {"x": self.left.pop()} if self.left else None


def quantized(model, how):
    with tempfile.TemporaryDirectory() as folder:
        source, target = f"{folder}/a.onnx", f"{folder}/b.onnx"
        onnx.save(model, source)
        how(source, target)
        return onnx.load(target)


def network():
    """Every operator that quantize_static turns into one on codes, and some that it lets move codes."""
    node = helper.make_node
    nodes = [node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]), node("Relu", ["c1"], ["r1"]),
             node("MaxPool", ["r1"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
             node("Conv", ["p1", "w2", "b2"], ["c2"], pads=[1, 1, 1, 1], group=8), node("Add", ["c2", "p1"], ["a1"]),
             node("LeakyRelu", ["a1"], ["l1"], alpha=0.1), node("Sigmoid", ["l1"], ["s1"]), node("Mul", ["l1", "s1"], ["m1"]),
             node("Concat", ["m1", "p1"], ["k1"], axis=1), node("Pad", ["k1", "pads"], ["d1"]),
             node("AveragePool", ["d1"], ["v1"], kernel_shape=[2, 2], strides=[2, 2]),
             node("Conv", ["v1", "w3", "b3"], ["c3"]), node("GlobalAveragePool", ["c3"], ["g1"]),
             node("Flatten", ["g1"], ["f1"]), node("Gemm", ["f1", "w4", "b4"], ["h1"], transB=1),
             node("MatMul", ["h1", "w5"], ["q1"]), node("Softmax", ["q1"], ["y"], axis=1)]
    constants = {"w1": f32(8, 3, 3, 3, scale=0.3), "b1": f32(8), "w2": f32(8, 1, 3, 3, scale=0.3), "b2": f32(8),
                 "w3": f32(12, 16, 1, 1, scale=0.3), "b3": f32(12), "w4": f32(10, 12, scale=0.5), "b4": f32(10),
                 "w5": f32(10, 6, scale=0.7), "pads": np.array([0, 0, 1, 0, 0, 0, 1, 0])}
    model = model_of(nodes, (1, 3, 8, 8), (1, 6), constants)
    static = quantized(model, lambda a, b: quantize_static(a, b, Samples((1, 3, 8, 8)), quant_format=QuantFormat.QOperator,
                                                           per_channel=True, weight_type=QuantType.QInt8))
    write("network", static, f32(1, 3, 8, 8))


def dynamic():
    conv = model_of([helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])], (2, 3, 9, 9),
                    (2, 5, 5, 5), {"w": f32(5, 3, 3, 3), "b": f32(5)})
    write("convolution", quantized(conv, lambda a, b: quantize_dynamic(a, b, op_types_to_quantize=["Conv"],
                                                                       weight_type=QuantType.QUInt8)), f32(2, 3, 9, 9))
    lstm = model_of([helper.make_node("LSTM", ["x", "w", "r", "b"], ["y"], hidden_size=7)], (6, 2, 5), (6, 1, 2, 7),
                    {"w": f32(1, 28, 5, scale=0.4), "r": f32(1, 28, 7, scale=0.4), "b": f32(1, 56, scale=0.2)})
    write("lstm", quantized(lstm, lambda a, b: quantize_dynamic(a, b, op_types_to_quantize=["LSTM"], weight_type=QuantType.QInt8)),
          f32(6, 2, 5))


def single():
    ms = "com.microsoft"
    w, zero, scale = rng.integers(-127, 128, (24, 17)).astype(np.int8), np.int8(0), np.float32(0.01)
    constants = {"w": w, "ws": scale, "wz": zero, "b": f32(17)}
    node = helper.make_node("DynamicQuantizeMatMul", ["x", "w", "ws", "wz", "b"], ["y"], domain=ms)
    write("dynamic_matmul", model_of([node], (3, 24), (3, 17), constants, [ms]), f32(3, 24))
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["c", "s", "z"]),
             helper.make_node("MatMulIntegerToFloat", ["c", "w", "s", "ws", "z", "wz", "b"], ["y"], domain=ms)]
    write("integer_to_float", model_of(nodes, (4, 24), (4, 17), constants, [ms]), f32(4, 24))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    network()
    dynamic()
    single()


if __name__ == "__main__":
    main()
