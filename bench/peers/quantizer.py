"""ONNX Runtime's own post-training quantization: QDQ models to compare with, and to read back."""
import logging

import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import common

onnxruntime.set_default_logger_severity(3)

VARIANTS = {
    "u8s8-channel": (QuantType.QUInt8, True),
    "u8s8-tensor": (QuantType.QUInt8, False),
    "s8s8-channel": (QuantType.QInt8, True),
    "s8s8-tensor": (QuantType.QInt8, False),
}


class Reader(CalibrationDataReader):
    """The first `count` samples, as ONNX Runtime asks for them."""

    def __init__(self, samples, names, shapes, count):
        self.feeds = (dict(zip(names, samples.feed(i, shapes))) for i in range(min(count, len(samples))))

    def get_next(self):
        return next(self.feeds, None)


def modern(source, target):
    """The network at a batch of 1 and at least opset 13, which per-channel QDQ needs, after ONNX Runtime's own basic
    optimisations (batch norms folded, shape arithmetic gone), as its manual advises before quantization."""
    model = onnx.load(source)
    if model.opset_import[0].version < 13:
        model = onnx.version_converter.convert_version(model, 13)
    initializers = {i.name for i in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in initializers]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    for value in inputs:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_value < 1:
                dim.dim_value = 1
    options = common.ort_options(1, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC)
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def quantize(model, variant, count=128):
    """The file of common.Model `model` in one of VARIANTS, made once (MinMax over the calibration samples)."""
    target = common.WORK / "ort" / f"{model.name}.{variant}.onnx"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    prepared, partial = target.with_suffix(".float"), target.with_suffix(".part")
    modern(model.path, prepared)
    session = common.OnnxRuntime(prepared)
    activations, per_channel = VARIANTS[variant]
    reader = Reader(common.Samples(model.calib), session.names, session.shapes, count)
    quantize_static(str(prepared), str(partial), reader, quant_format=QuantFormat.QDQ, per_channel=per_channel,
                    activation_type=activations, weight_type=QuantType.QInt8)
    partial.rename(target)
    prepared.unlink()
    return target


def best(model):
    """(file, variant) of what ONNX Runtime's manual advises on x86: u8 activations, s8 weights, one scale a channel; one
    a tensor where its quantizer cannot do that."""
    for variant in ("u8s8-channel", "u8s8-tensor"):
        try:
            return quantize(model, variant), variant
        except ValueError:
            continue
    raise RuntimeError(f"{model.name}: ONNX Runtime's quantizer fails")
