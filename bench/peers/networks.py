"""The benchmark's own networks: common architectures with random weights, which cost what trained ones cost, as f32 and in the
forms that ONNX Runtime runs in integers:

    qdq   QuantizeLinear and DequantizeLinear (u8 activations, s8 weights with a scale for each channel; ONNX Runtime's own
          quantizer), for all but the LSTM, whose recurrence QDQ cannot say
    dyn   u8 activations whose scale is found in every run, for matrix products and LSTM
    q4    weights of 4 bits with a scale for 32 of them, for fully connected layers

They are written once, below the build folder; the seed is the network's name. Run by itself, writes all and prints them.
"""
import logging
import os
import zlib
from dataclasses import dataclass
from typing import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static

import common
import quantizer

FOLDER = common.WORK / "networks"
OPSET, CALIBRATION = 13, 4
CONVOLUTIONAL = None  # every kind of node that the quantizer knows
PRODUCTS = ["MatMul"]  # what is quantized in transformers; softmax and normalisation stay in f32


class Builder:
    """Adds node after node to a graph. Values are names; weights are drawn as their layers are asked for."""

    def __init__(self, name):
        self.name, self.rng = name, np.random.default_rng(zlib.crc32(name.encode()))
        self.nodes, self.constants, self.inputs, self.outputs = [], [], [], []

    def input(self, *shape):
        self.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
        return "x"

    def finish(self, value, *shape):
        self.outputs.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, shape))

    def constant(self, array):
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def scalar(self, value):
        return self.constant(np.float32(value))

    def normal(self, *shape, spread):
        return (spread * self.rng.standard_normal(shape)).astype(np.float32)

    def node(self, op, *inputs, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def model(self):
        domains = {n.domain for n in self.nodes} - {""}
        opsets = [helper.make_opsetid("", OPSET)] + [helper.make_opsetid(d, 1) for d in domains]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.constants)
        return helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="espalier bench")

    # --- layers ---

    def conv(self, x, channels, out, kernel, stride=1, groups=1, act="relu", gain=1.0):
        """Convolution that keeps the size at stride 1, with a bias; weights as He's rule has them, times gain."""
        fan_in = channels // groups * kernel * kernel
        w = self.normal(out, channels // groups, kernel, kernel, spread=gain * np.sqrt(2 / fan_in))
        y = self.node("Conv", x, self.constant(w), self.constant(self.normal(out, spread=0.05)), group=groups,
                      kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4, dilations=[1, 1])
        if act == "relu6":
            return self.node("Clip", y, self.scalar(0), self.scalar(6))
        return self.node("Relu", y) if act else y

    def classifier(self, x, channels, classes):
        pooled = self.node("Flatten", self.node("GlobalAveragePool", x), axis=1)
        return self.node("Gemm", pooled, self.constant(self.normal(classes, channels, spread=channels ** -0.5)),
                         self.constant(self.normal(classes, spread=0.02)), transB=1)

    def linear(self, x, width, out):
        y = self.node("MatMul", x, self.constant(self.normal(width, out, spread=width ** -0.5)))
        return self.node("Add", y, self.constant(self.normal(out, spread=0.02)))

    def layer_norm(self, x, width):
        """As exporters write it below operator set 17."""
        centred = self.node("Sub", x, self.node("ReduceMean", x, axes=[-1]))
        variance = self.node("ReduceMean", self.node("Pow", centred, self.scalar(2)), axes=[-1])
        y = self.node("Div", centred, self.node("Sqrt", self.node("Add", variance, self.scalar(1e-5))))
        y = self.node("Mul", y, self.constant(1 + self.normal(width, spread=0.05)))
        return self.node("Add", y, self.constant(self.normal(width, spread=0.05)))

    def gelu(self, x):
        erf = self.node("Erf", self.node("Div", x, self.scalar(np.sqrt(2))))
        return self.node("Mul", self.node("Mul", x, self.node("Add", erf, self.scalar(1))), self.scalar(0.5))


# --- architectures ----------------------------------------------------------------------------------------------


def resnet(blocks, bottleneck):
    def build(b, _):
        x, width = b.conv(b.input(1, 3, 224, 224), 3, 64, 7, stride=2), 64
        x = b.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
        for stage, count in enumerate(blocks):
            inner = 64 << stage
            out = 4 * inner if bottleneck else inner
            for i in range(count):
                stride = 2 if stage and not i else 1
                if bottleneck:
                    y = b.conv(b.conv(x, width, inner, 1), inner, inner, 3, stride)
                else:
                    y = b.conv(x, width, inner, 3, stride)
                y = b.conv(y, inner, out, 1 if bottleneck else 3, act=None, gain=0.5)
                same = stride == 1 and width == out
                shortcut = x if same else b.conv(x, width, out, 1, stride, act=None, gain=0.7)
                x, width = b.node("Relu", b.node("Add", y, shortcut)), out
        b.finish(b.classifier(x, width, 1000), 1, 1000)
    return build


def mobilenet_v2(b, _):
    x, width = b.conv(b.input(1, 3, 224, 224), 3, 32, 3, stride=2, act="relu6"), 32
    for expand, out, count, first in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                                      (6, 160, 3, 2), (6, 320, 1, 1)):
        for i in range(count):
            stride, inner = (1 if i else first), width * expand
            y = b.conv(x, width, inner, 1, act="relu6") if expand > 1 else x
            y = b.conv(y, inner, inner, 3, stride, groups=inner, act="relu6")
            y = b.conv(y, inner, out, 1, act=None, gain=0.7)
            x = b.node("Add", x, y) if stride == 1 and width == out else y
            width = out
    b.finish(b.classifier(b.conv(x, width, 1280, 1, act="relu6"), 1280, 1000), 1, 1000)


def vgg_layer(size, channels):
    def build(b, _):
        b.finish(b.conv(b.input(1, channels, size, size), channels, channels, 3), 1, channels, size, size)
    return build


def transformer(layers, length, width, heads, inner):
    """Encoder layers with the normalisation behind each half (Vaswani et al. 2017), GELU between the dense ones."""
    def build(b, _):
        def head(t, *order):
            split = b.node("Reshape", t, b.constant(np.array([1, length, heads, width // heads])))
            return b.node("Transpose", split, perm=order)

        x = b.input(1, length, width)
        for _ in range(layers):
            q, k, v = (b.linear(x, width, width) for _ in range(3))
            scores = b.node("MatMul", head(q, 0, 2, 1, 3), head(k, 0, 2, 3, 1))
            share = b.node("Softmax", b.node("Div", scores, b.scalar(np.sqrt(width // heads))), axis=-1)
            y = b.node("Transpose", b.node("MatMul", share, head(v, 0, 2, 1, 3)), perm=[0, 2, 1, 3])
            y = b.linear(b.node("Reshape", y, b.constant(np.array([1, length, width]))), width, width)
            x = b.layer_norm(b.node("Add", x, y), width)
            y = b.linear(b.gelu(b.linear(x, width, inner)), inner, width)
            x = b.layer_norm(b.node("Add", x, y), width)
        b.finish(x, 1, length, width)
    return build


def lstm(layers, width, steps):
    def build(b, _):
        x = b.input(steps, 1, width)
        for _ in range(layers):
            w, r = (b.constant(b.normal(1, 4 * width, width, spread=width ** -0.5)) for _ in range(2))
            y = b.node("LSTM", x, w, r, b.constant(b.normal(1, 8 * width, spread=0.02)), hidden_size=width)
            x = b.node("Squeeze", y, b.constant(np.array([1])))
        b.finish(x, steps, 1, width)
    return build


def fully_connected(width, batch):
    def build(b, form):
        x, bias = b.input(batch, width), b.normal(width, spread=0.02)
        w = b.normal(width, width, spread=width ** -0.5)  # a row an output
        if form == "q4":
            y = b.node("Add", four_bits(b, x, w), b.constant(bias))
        elif form == "matmul":
            y = b.node("Add", b.node("MatMul", x, b.constant(w.T)), b.constant(bias))
        else:
            y = b.node("Gemm", x, b.constant(w), b.constant(bias), transB=1)
        b.finish(y, batch, width)
    return build


def four_bits(b, x, w, block=32, columns=None, level=4):
    """MatMulNBits: codes 1 to 15 around 8, two in a byte, the lower four bits first; activations may be rounded to s8. w is
    padded to whole blocks; `columns` are there. `level` 1: activations stay f32."""
    out, width = w.shape
    blocks = w.reshape(out, width // block, block)
    scale = np.maximum(np.abs(blocks).max(2), 1e-12) / 7
    codes = (np.rint(blocks / scale[..., None]) + 8).astype(np.uint8)
    packed = codes[..., 0::2] | codes[..., 1::2] << 4
    return b.node("MatMulNBits", x, b.constant(packed), b.constant(scale.reshape(-1).astype(np.float32)), K=columns or width,
                  N=out, bits=4, block_size=block, accuracy_level=level, domain="com.microsoft")


# --- the list -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """s8 and f32 are the shares of ONNX Runtime's time that ours may take (of its better integer form; of f32); 1 where
    memory is the limit. kinds is what the quantizer rounds. plain is the form whose f32 nodes the dyn form is made of."""
    name: str
    build: Callable
    forms: tuple
    s8: float
    f32: float = 0.95
    kinds: list | None = CONVOLUTIONAL
    plain: str = "f32"

    def path(self, form):
        return FOLDER / f"{self.name}.{form}.onnx"

    def sample(self, index=0):
        """An input; the last ones calibrate."""
        shape = [d.dim_value for d in onnx.load(self.path("f32"), load_external_data=False)
                 .graph.input[0].type.tensor_type.shape.dim]
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), index])
        return rng.uniform(-1, 1, shape).astype(np.float32)


NETWORKS = [
    Network("resnet18", resnet((2, 2, 2, 2), False), ("qdq",), 0.67),
    Network("resnet50", resnet((3, 4, 6, 3), True), ("qdq",), 0.74),
    Network("mobilenetv2", mobilenet_v2, ("qdq",), 0.62, 0.72),
    Network("3x3-56x56x128", vgg_layer(56, 128), ("qdq",), 0.78),
    Network("3x3-28x28x256", vgg_layer(28, 256), ("qdq",), 0.78),
    Network("3x3-14x14x512", vgg_layer(14, 512), ("qdq",), 0.78),
    Network("transformer-128x768", transformer(1, 128, 768, 12, 3072), ("qdq", "dyn"), 0.70, kinds=PRODUCTS),
    Network("transformer-128x128", transformer(2, 128, 128, 2, 512), ("qdq", "dyn"), 0.65, kinds=PRODUCTS),
    Network("lstm-2x1500", lstm(2, 1500, 35), ("dyn",), 0.90, 1.0),
    Network("lstm-2x650", lstm(2, 650, 35), ("dyn",), 0.80, 1.0),
    Network("fc-4096-batch1", fully_connected(4096, 1), ("qdq", "dyn", "q4"), 1.0, 1.0, plain="matmul"),
    Network("fc-4096-batch16", fully_connected(4096, 16), ("qdq", "dyn", "q4"), 1.0, plain="matmul"),
]


# --- writing ------------------------------------------------------------------------------------------------------


def save(network, form, target):
    builder = Builder(network.name)
    network.build(builder, form)
    onnx.save(builder.model(), target)


class Reader(quantizer.CalibrationDataReader):
    def __init__(self, network):
        self.feeds = ({"x": network.sample(1 + i)} for i in range(CALIBRATION))

    def get_next(self):
        return next(self.feeds, None)


def write(network, form, target):
    logging.disable(logging.WARNING)
    if form == "qdq":
        quantize_static(str(made(network, "f32")), str(target), Reader(network), quant_format=QuantFormat.QDQ,
                        per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        op_types_to_quantize=network.kinds)
    elif form == "dyn":
        quantize_dynamic(str(made(network, network.plain)), str(target), per_channel=True, weight_type=QuantType.QInt8)
    else:
        save(network, form, target)


def made(network, form="f32"):
    """The file of a form, written when it is not there or this script is younger."""
    target = network.path(form)
    if not target.exists() or target.stat().st_mtime < common.pathlib.Path(__file__).stat().st_mtime:
        FOLDER.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".part")
        write(network, form, partial)
        partial.rename(target)
    return target


ALL_S8 = 'layers: [{match: "*", pattern: dense, format: s8}]\n'


def compressed(network, name, recipe):
    """The folder that compress makes of the f32 network with the text of a recipe, with ranges of other samples than those
    that are timed. Made again when the program is newer."""
    folder = FOLDER / f"{network.name}.{name}"
    if os.environ.get("ESPL_CPU"):
        folder = folder.with_name(f"{folder.name}.{os.environ['ESPL_CPU']}")
    source = made(network, "f32")
    newest = max(source.stat().st_mtime, (common.BUILD / "espalier").stat().st_mtime)
    if not (folder / "model.espl").exists() or (folder / "model.espl").stat().st_mtime < newest:
        samples = np.stack([network.sample(1 + i) for i in range(CALIBRATION)])
        np.save(FOLDER / f"{network.name}.npy", samples)
        text, data = FOLDER / f"{name}.yaml", FOLDER / f"{network.name}.yaml"
        text.write_text(recipe)
        data.write_text(f"kind: npy\npath: {network.name}.npy\n")
        common.espalier("compress", source, "--chip", common.chip(), "--data", data, "--calib", data, "--recipe", text,
                        "--max-drop", 100, "-o", folder)
    return folder


def ours(network):
    """(file, how it was made) of the network with every layer in s8, as .espl: what the QDQ file says, or else compress."""
    if "qdq" in network.forms:
        return common.to_espl(made(network, "qdq"), FOLDER / f"{network.name}.qdq.espl"), "qdq"
    return compressed(network, "compressed", ALL_S8) / "model.espl", "compress"


if __name__ == "__main__":
    for each in NETWORKS:
        for one in ("f32",) + each.forms:
            path = made(each, one)
            print(f"{path.stat().st_size:12,}  {path}", flush=True)
