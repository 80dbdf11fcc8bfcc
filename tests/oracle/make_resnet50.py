#!/usr/bin/env python3
"""Makes tests/cli/resnet50_v1.onnx: ResNet-50 as first published (He et al. 2015, stride in the first 1x1 convolution of a
block), with weights that nodes fill in, so that the file is small. Needs ONNX's Python package.

Its costs are known: 25.5 M parameters, 3.86 G multiplications, 10.1 MiB of 8-bit outputs of convolutions and the last layer.
"""
import pathlib

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

nodes, weights = [], []


def filled(name, shape):
    weights.append(numpy_helper.from_array(np.array(shape, np.int64), name + "_shape"))
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [0.01])
    nodes.append(helper.make_node("ConstantOfShape", [name + "_shape"], [name], name=name + "_fill", value=value))
    return name


def conv(name, x, inputs, outputs, kernel=1, stride=1, relu=True):
    w, b = filled(name + "_w", [outputs, inputs, kernel, kernel]), filled(name + "_b", [outputs])
    nodes.append(helper.make_node("Conv", [x, w, b], [name], name=name, kernel_shape=[kernel] * 2, strides=[stride] * 2,
                                  pads=[kernel // 2] * 4))
    return activate(name) if relu else name


def activate(x):
    nodes.append(helper.make_node("Relu", [x], [x + "_relu"], name=x + "_relu"))
    return x + "_relu"


def block(name, x, inputs, width, stride):
    y = conv(name + "_a", x, inputs, width, stride=stride)
    y = conv(name + "_b", y, width, width, kernel=3)
    y = conv(name + "_c", y, width, 4 * width, relu=False)
    if inputs != 4 * width:
        x = conv(name + "_shortcut", x, inputs, 4 * width, stride=stride, relu=False)
    nodes.append(helper.make_node("Add", [x, y], [name], name=name))
    return activate(name)


x = conv("stem", "image", 3, 64, kernel=7, stride=2)
nodes.append(helper.make_node("MaxPool", [x], ["pooled"], name="pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4))
x, channels = "pooled", 64
for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], 2):
    for index in range(blocks):
        x = block(f"stage{stage}_{index}", x, channels, width, 2 if stage > 2 and index == 0 else 1)
        channels = 4 * width
nodes.append(helper.make_node("GlobalAveragePool", [x], ["average"], name="average"))
nodes.append(helper.make_node("Flatten", ["average"], ["features"], name="flatten"))
w, b = filled("fc_w", [1000, 2048]), filled("fc_b", [1000])
nodes.append(helper.make_node("Gemm", ["features", w, b], ["scores"], name="fc", transB=1))
graph = helper.make_graph(
    nodes, "resnet50_v1", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 224, 224])],
    [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 1000])], weights)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
checker.check_model(model)
path = pathlib.Path(__file__).resolve().parents[1] / "cli" / "resnet50_v1.onnx"
path.write_bytes(model.SerializeToString())
