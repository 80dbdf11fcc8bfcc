#!/usr/bin/env python3
"""Writes tests/fixtures/lowbit: networks of one layer with weights or activations in few bits, as ONNX and ONNX Runtime have
them, with the outputs of ONNX Runtime, or of ONNX's reference where a case says so (ONNX Runtime 1.30 makes integer kernels of
8-bit floats that it does not have).

NAME.onnx is the network, NAME.in.pb its input, NAME.out.pb the result.
"""
import pathlib

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "lowbit"
TYPES = {T.INT4: ml_dtypes.int4, T.UINT4: ml_dtypes.uint4, T.FLOAT8E4M3FN: ml_dtypes.float8_e4m3fn,
         T.FLOAT8E5M2: ml_dtypes.float8_e5m2, T.INT8: np.int8, T.UINT8: np.uint8, T.INT16: np.int16, T.UINT16: np.uint16,
         T.FLOAT: np.float32}
rng = np.random.default_rng(5)


def constant(name, array, kind=T.FLOAT):
    return numpy_helper.from_array(np.asarray(array).astype(TYPES[kind]), name)


def typed(name, array, kind):
    """The same in int32_data, two elements in each."""
    return helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist())


def codes(kind, shape):
    lo, hi = {T.INT4: (-8, 8), T.UINT4: (0, 16), T.INT8: (-128, 128), T.INT16: (-32768, 32768)}.get(kind, (0, 0))
    return rng.integers(lo, hi, shape) if hi else rng.normal(0, 2, shape)


def scales(*shape):
    return rng.uniform(0.005, 0.05, shape).astype(np.float32)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs, outputs, **attributes)


def weights(op, kind, w_shape, s_shape, zeros=False, x=(3, 37), y=(3, 11), store=constant, layer=None, **attributes):
    """x -> op by DequantizeLinear(constant) -> y."""
    w = codes(kind, w_shape)
    inputs, inits = ["w", "s"], [store("w", w, kind), constant("s", scales(*s_shape))]
    if zeros:
        inputs.append("z")
        inits.append(constant("z", codes(kind, s_shape), kind))
    return [node("DequantizeLinear", inputs, ["wd"], **attributes), node(op, ["x", "wd"], ["y"], **(layer or {}))], inits, x, y


def activations(kind, zero, scale, domain=""):
    """x -> QuantizeLinear -> DequantizeLinear -> Relu -> y."""
    inits = [constant("s", scale), constant("z", zero, kind)]
    return [node("QuantizeLinear", ["x", "s", "z"], ["q"], domain=domain),
            node("DequantizeLinear", ["q", "s", "z"], ["d"], domain=domain), node("Relu", ["d"], ["y"])], inits, (3, 37), (3, 37)


def nbits(k, n, block, bits=4, zeros=False, bias=False, negative=False):
    """com.microsoft.MatMulNBits."""
    blocks = -(-k // block)
    s = scales(n * blocks)
    if negative:
        s[::3] *= -1
        s[1::7] = 0
    inits = [constant("w", rng.integers(0, 256, (n, blocks, block * bits // 8)), T.UINT8), constant("s", s)]
    inputs = ["x", "w", "s"]
    if zeros:
        inits.append(constant("z", rng.integers(0, 256, n * -(-blocks * bits // 8)), T.UINT8))
    if zeros or bias:
        inputs.append("z" if zeros else "")
    if bias:
        inputs += ["", "b"]
        inits.append(constant("b", rng.normal(0, 1, n)))
    return [node("MatMulNBits", inputs, ["y"], domain="com.microsoft", K=k, N=n, bits=bits, block_size=block)], inits, \
        (3, k), (3, n)


# name: (operator set, nodes..., whether ONNX's reference says the outputs)
E4M3, E5M2 = T.FLOAT8E4M3FN, T.FLOAT8E5M2
CASES = {
    "int4_channel": (21, weights("MatMul", T.INT4, (37, 11), (11,), axis=1)),
    "int4_zeros": (21, weights("MatMul", T.INT4, (37, 11), (11,), zeros=True, axis=1)),
    "int4_typed": (21, weights("MatMul", T.INT4, (37, 11), (), store=typed)),
    "int4_blocks": (21, weights("MatMul", T.INT4, (37, 11), (3, 11), axis=0, block_size=16)),
    "uint4_blocks": (21, weights("MatMul", T.UINT4, (37, 11), (3, 11), zeros=True, axis=0, block_size=16)),
    "int4_gemm": (21, weights("Gemm", T.INT4, (11, 37), (11, 5), axis=1, block_size=8, layer={"transB": 1})),
    "int8_conv": (21, weights("Conv", T.INT8, (6, 10, 3, 3), (6, 3, 3, 3), axis=1, block_size=4, x=(1, 10, 7, 7),
                              y=(1, 6, 5, 5))),
    "int16_weights": (21, weights("MatMul", T.INT16, (37, 11), (11,), axis=1)),
    "e4m3_channel": (19, weights("MatMul", E4M3, (37, 11), (11,), axis=1)),
    "e5m2_tensor": (19, weights("MatMul", E5M2, (37, 11), ())),
    "e4m3_blocks": (21, weights("MatMul", E4M3, (37, 11), (5, 11), axis=0, block_size=8)),
    "int16_activations": (21, activations(T.INT16, 100, 0.0003)),
    "uint16_activations": (21, activations(T.UINT16, 30000, 0.0003)),
    "uint4_activations": (21, activations(T.UINT4, 6, 0.2), "reference"),
    "int4_activations": (21, activations(T.INT4, -2, 0.2), "reference"),
    "e4m3_activations": (19, activations(E4M3, 0, 0.004), "reference"),
    "e5m2_activations": (19, activations(E5M2, 0, 0.00003), "reference"),
    "ms_int16_activations": (13, activations(T.INT16, -7, 0.0003, "com.microsoft")),
    "nbits": (13, nbits(37, 11, 16)),
    "nbits_zeros": (13, nbits(64, 11, 16, zeros=True)),
    "nbits_negative": (13, nbits(100, 5, 32, negative=True, bias=True)),
    "nbits_8": (13, nbits(80, 9, 32, bits=8, zeros=True)),
}
del rng


def make(name, opset, parts, oracle="runtime"):
    nodes, inits, x_shape, y_shape = parts
    x = np.random.default_rng(len(name)).normal(0, 1, x_shape).astype(np.float32)
    graph = helper.make_graph(nodes, name, [helper.make_tensor_value_info("x", T.FLOAT, x_shape)],
                              [helper.make_tensor_value_info("y", T.FLOAT, y_shape)], inits)
    domains = {"": opset} | ({"com.microsoft": 1} if any(n.domain for n in nodes) else {})
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(*d) for d in domains.items()], ir_version=10)
    onnx.checker.check_model(model)
    if oracle == "reference":
        y = ReferenceEvaluator(model).run(None, {"x": x})[0]
    else:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        y = onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, {"x": x})[0]
    onnx.save(model, OUT / f"{name}.onnx")
    (OUT / f"{name}.in.pb").write_bytes(numpy_helper.from_array(x).SerializeToString())
    (OUT / f"{name}.out.pb").write_bytes(numpy_helper.from_array(y).SerializeToString())


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        make(name, *case)


if __name__ == "__main__":
    main()
