#!/usr/bin/env python3
"""Makes the vectors in tests/conformance/vectors: one node each, in the operator sets that ONNX's own vectors no longer
(or not yet) cover. The expected outputs are ONNX Runtime's, or those of ONNX's reference or NumPy where a case says so.

    make_vectors.py [FOLDER [PREFIX...]]      needs onnx, onnxruntime, numpy; only the cases whose names begin so
"""
import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import newer_cases
import string_cases

rng = np.random.default_rng(1)


def f32(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


# (name, operator set, operator, inputs, attributes[, outputs[, "reference"]]). An input is an array (a graph input), a
# one-element tuple (an initializer) or None (absent).
X = f32(2, 3, 6, 5)
CASES = [
    ("slice_9", 9, "Slice", [X], dict(starts=[1, -4], ends=[3, 100], axes=[1, 2])),
    ("slice_9_no_axes", 9, "Slice", [X], dict(starts=[0, 1], ends=[1, -1])),
    ("slice_13_negative_step", 13, "Slice", [X, (i64(4, -1),), (i64(-100, 0),), (i64(2, 3),), (i64(-2, -1),)], {}),
    ("squeeze_11", 11, "Squeeze", [f32(1, 3, 1, 2)], dict(axes=[0, -2])),
    ("unsqueeze_11", 11, "Unsqueeze", [f32(3, 2)], dict(axes=[0, -1])),
    ("pad_9_constant", 9, "Pad", [X], dict(pads=[0, 1, 2, 0, 0, 0, 1, 3], value=1.5)),
    ("pad_9_reflect", 9, "Pad", [X], dict(pads=[0, 0, 2, 1, 0, 0, 1, 3], mode="reflect")),
    ("pad_13_edge", 13, "Pad", [X, (i64(0, 1, 2, 1, 0, 1, 1, 3),)], dict(mode="edge")),
    ("pad_13_crop", 13, "Pad", [X, (i64(0, 0, -1, 2, 0, 0, 1, -2),)], {}),
    ("pad_18_axes", 18, "Pad", [X, (i64(1, 2, 3, 4),), (np.float32(0.5),), (i64(-1, 1),)], {}),
    ("pad_19_wrap", 19, "Pad", [X, (i64(0, 0, 2, 1, 0, 0, 1, 3),)], dict(mode="wrap")),
    ("clip_9", 9, "Clip", [X], dict(min=-0.5, max=0.75)),
    ("clip_11_max_only", 11, "Clip", [X, None, (np.float32(0.25),)], {}),
    ("clip_13_s64", 13, "Clip", [i64(-5, 0, 9), (np.int64(-1),), (np.int64(4),)], {}),
    ("softmax_11_flat", 11, "Softmax", [X], dict(axis=2)),
    ("softmax_9_default", 9, "Softmax", [X], {}),
    ("softmax_13_axis_1", 13, "Softmax", [X], dict(axis=1)),
    ("logsoftmax_11_flat", 11, "LogSoftmax", [X], dict(axis=1)),
    ("split_11", 11, "Split", [X], dict(axis=2, split=[1, 5]), 2),
    ("split_11_equal", 11, "Split", [X], dict(axis=2), 3),
    ("split_18_uneven", 18, "Split", [X], dict(axis=3, num_outputs=2), 2),
    ("reducemean_11", 11, "ReduceMean", [X], dict(axes=[-1, 1], keepdims=0)),
    ("reducemean_18", 18, "ReduceMean", [X, (i64(0, 2),)], {}),
    ("reducesum_11", 11, "ReduceSum", [X], dict(axes=[0])),
    ("reducesum_13_s64", 13, "ReduceSum", [rng.integers(-9, 9, (3, 4)), (i64(1),)], {}),
    ("reducemax_18_s32", 18, "ReduceMax", [rng.integers(-9, 9, (3, 4)).astype(np.int32), (i64(0),)], dict(keepdims=0)),
    ("reduceprod_18_noop", 18, "ReduceProd", [X], dict(noop_with_empty_axes=1)),
    ("batchnorm_9", 9, "BatchNormalization", [X, (f32(3),), (f32(3),), (f32(3),), (np.abs(f32(3)),)], dict(epsilon=1e-3)),
    ("batchnorm_15", 15, "BatchNormalization", [X, (f32(3),), (f32(3),), (f32(3),), (np.abs(f32(3)),)], {}),
    ("upsample_9_nearest", 9, "Upsample", [X, (np.array([1, 1, 2, 3], np.float32),)], dict(mode="nearest")),
    ("upsample_9_linear", 9, "Upsample", [X, (np.array([1, 1, 2, 2], np.float32),)], dict(mode="linear")),
    ("resize_10", 10, "Resize", [X, (np.array([1, 1, 1.5, 2], np.float32),)], dict(mode="nearest")),
    ("resize_13_linear", 13, "Resize", [X, None, (np.array([1, 1, 2, 0.6], np.float32),)], dict(mode="linear")),
    ("resize_13_align", 13, "Resize", [X, None, None, (i64(2, 3, 9, 4),)],
     dict(mode="linear", coordinate_transformation_mode="align_corners")),
    ("resize_18_axes", 18, "Resize", [X, None, None, (i64(11, 8),)], dict(mode="linear", axes=[2, 3])),
    ("resize_19_nearest", 19, "Resize", [X, None, None, (i64(2, 3, 4, 9),)],
     dict(mode="nearest", nearest_mode="ceil", coordinate_transformation_mode="pytorch_half_pixel")),
    ("averagepool_19_dilated", 19, "AveragePool", [X], dict(kernel_shape=[2, 2], dilations=[2, 2])),
    ("averagepool_19_ceil_pad", 19, "AveragePool", [X],
     dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1), 1, "reference"),
    ("averagepool_11_ceil", 11, "AveragePool", [X], dict(kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)),
    ("averagepool_9_same", 9, "AveragePool", [X], dict(kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER")),
    ("maxpool_12_ceil", 12, "MaxPool", [X], dict(kernel_shape=[2, 3], strides=[2, 2], pads=[1, 1, 0, 0], ceil_mode=1)),
    ("maxpool_12_s8", 12, "MaxPool", [rng.integers(-99, 99, (1, 2, 5, 5)).astype(np.int8)], dict(kernel_shape=[2, 2])),
    ("conv_1d", 11, "Conv", [f32(2, 4, 9), (f32(6, 2, 3),), (f32(6),)], dict(group=2, pads=[2, 1], strides=[2])),
    ("conv_3d", 11, "Conv", [f32(1, 2, 4, 5, 6), (f32(3, 2, 2, 3, 2),)], dict(dilations=[1, 1, 2])),
    ("conv_depthwise_same", 11, "Conv", [X, (f32(3, 1, 3, 3),), (f32(3),)],
     dict(group=3, auto_pad="SAME_LOWER", strides=[2, 2])),
    ("convtranspose_group", 11, "ConvTranspose", [f32(1, 4, 3, 4), (f32(4, 2, 3, 3),), (f32(4),)],
     dict(group=2, strides=[2, 3], pads=[1, 0, 0, 2], output_padding=[1, 2])),
    ("convtranspose_same", 11, "ConvTranspose", [f32(1, 2, 3, 4), (f32(2, 2, 3, 3),)],
     dict(strides=[2, 2], auto_pad="SAME_LOWER")),
    ("gemm_9_alpha", 9, "Gemm", [f32(3, 4), (f32(5, 4),), (f32(3, 1),)], dict(transB=1, alpha=0.5, beta=2.0)),
    ("gemm_11_transposed", 11, "Gemm", [f32(4, 3), (f32(4, 5),)], dict(transA=1)),
    ("matmul_broadcast", 13, "MatMul", [f32(2, 1, 3, 4), f32(5, 4, 2)], {}),
    ("matmul_vector_left", 13, "MatMul", [f32(4), f32(5, 4, 2)], {}),
    ("matmul_vector_right", 13, "MatMul", [f32(5, 2, 4), f32(4)], {}),
    ("matmul_s32", 13, "MatMul", [rng.integers(-9, 9, (2, 3)).astype(np.int32), rng.integers(-9, 9, (3, 2)).astype(np.int32)], {}),
    ("dropout_9", 9, "Dropout", [X], dict(ratio=0.3)),
    ("topk_9", 9, "TopK", [X], dict(axis=2, k=3), 2),
    ("topk_11_smallest", 11, "TopK", [X, (i64(4),)], dict(axis=-1, largest=0), 2),
    ("layernorm_17_axis_2", 17, "LayerNormalization", [X, (f32(6, 5),), (f32(6, 5),)], dict(axis=2)),
    ("groupnorm_21", 21, "GroupNormalization", [f32(2, 4, 3, 2), (f32(4),), (f32(4),)], dict(num_groups=2), 1, "reference"),
    ("gelu_20", 20, "Gelu", [X], {}),
    ("gelu_20_tanh", 20, "Gelu", [X], dict(approximate="tanh")),
    ("mish_18", 18, "Mish", [X], {}),
    ("hardswish_14", 14, "HardSwish", [X], {}),
    ("lpnormalization_p1", 11, "LpNormalization", [X], dict(axis=1, p=1)),
    ("lrn_13", 13, "LRN", [f32(1, 7, 2, 3)], dict(size=5, alpha=0.1, beta=0.6, bias=2.0)),
    ("quantize_10", 10, "QuantizeLinear", [X * 40, (np.float32(0.25),), (np.uint8(120),)], {}),
    ("quantize_13_axis", 13, "QuantizeLinear", [X * 40, (np.array([0.1, 0.5, 2], np.float32),), (np.array([3, 0, -9], np.int8),)], dict(axis=1)),
    ("quantize_21_u16", 21, "QuantizeLinear", [X * 40, (np.float32(0.01),), (np.uint16(30000),)], {}),
    ("dequantize_13_s32", 13, "DequantizeLinear", [rng.integers(-9999, 9999, (2, 3)).astype(np.int32), (np.array([0.5, 2, 3], np.float32),)], dict(axis=1)),
    ("dequantize_21_s16", 21, "DequantizeLinear", [rng.integers(-9999, 9999, (2, 3)).astype(np.int16), (np.float32(0.5),), (np.int16(77),)], {}),
    ("reshape_allowzero", 14, "Reshape", [np.zeros((0, 3), np.float32), (i64(3, 0),)], dict(allowzero=1)),
    ("gather_negative", 13, "Gather", [X, (np.array([[-1, 0], [2, -3]]),)], dict(axis=1)),
    ("tile_13", 13, "Tile", [f32(2, 3), (i64(2, 3),)], {}),
    ("expand_13", 13, "Expand", [f32(3, 1), (i64(2, 1, 4),)], {}),
    ("range_f32", 11, "Range", [(np.float32(1),), (np.float32(-2),), (np.float32(-0.7),)], {}),
    ("cast_f32_s8", 13, "Cast", [np.array([-1.9, 1.9, 100.5, -0.0], np.float32)], dict(to=TensorProto.INT8)),
    ("cast_f32_bool", 13, "Cast", [np.array([0, -0.0, 0.1, np.nan], np.float32)], dict(to=TensorProto.BOOL)),
    ("cast_s64_f16", 13, "Cast", [i64(1, 2049, -2051, 100000)], dict(to=TensorProto.FLOAT16)),
    ("div_s64", 13, "Div", [i64(-7, 7, 7, -7), i64(2, -2, 2, -2)], {}),
    ("mod_s64", 13, "Mod", [i64(-7, 7, 7, -7), i64(2, -2, 3, -3)], {}),
    ("pow_f32_s64", 15, "Pow", [f32(4), (i64(3, 2, 0, -1),)], {}),
    ("prelu_9", 9, "PRelu", [X, (f32(3, 1, 1),)], {}),
    ("max_8_broadcast", 8, "Max", [f32(3, 1), f32(1, 4), f32(4)], {}),
    ("where_s64", 9, "Where", [np.array([[True], [False]]), i64(1, 2, 3), i64(9)], {}),
    ("cumsum_f32", 14, "CumSum", [f32(3, 4), (np.int64(1),)], dict(reverse=1, exclusive=1)),
    ("lstm_peephole_bidirectional", 14, "LSTM",
     [f32(4, 2, 3), (f32(2, 20, 3),), (f32(2, 20, 5),), (f32(2, 40),), (np.array([4, 2], np.int32),), f32(2, 2, 5), f32(2, 2, 5), (f32(2, 15),)],
     dict(hidden_size=5, direction="bidirectional"), 3),
    ("lstm_8_reverse_clip", 8, "LSTM", [f32(4, 2, 3), (f32(1, 20, 3),), (f32(1, 20, 5),), (f32(1, 40),)],
     dict(hidden_size=5, direction="reverse", clip=0.4), 3),
    ("lstm_activations", 14, "LSTM", [f32(4, 1, 3), (f32(1, 8, 3),), (f32(1, 8, 2),)],
     dict(hidden_size=2, activations=["HardSigmoid", "Relu", "Tanh"], activation_alpha=[0.3], activation_beta=[0.4]), 3),
    ("gru_linear_before_reset", 14, "GRU", [f32(4, 2, 3), (f32(1, 15, 3),), (f32(1, 15, 5),), (f32(1, 30),)],
     dict(hidden_size=5, linear_before_reset=1), 2),
    ("gru_bidirectional", 14, "GRU", [f32(4, 2, 3), (f32(2, 15, 3),), (f32(2, 15, 5),), (f32(2, 30),), None, f32(2, 2, 5)],
     dict(hidden_size=5, direction="bidirectional"), 2),
    ("rnn_relu", 14, "RNN", [f32(4, 2, 3), (f32(1, 5, 3),), (f32(1, 5, 5),), (f32(1, 10),)],
     dict(hidden_size=5, activations=["Relu"]), 2),
]


# A generator of their own each: cases can be added to one group without new numbers in the others.
old = np.random.default_rng(2)
more = np.random.default_rng(3)


def of(generator, *shape):
    return generator.standard_normal(shape).astype(np.float32)


def batchnorm(x, scale, bias, mean, var):
    def wide(v):
        return v[:, None, None]
    return (x - wide(mean)) / np.sqrt(wide(var) + np.float32(1e-3)) * wide(scale) + wide(bias)


# Operator sets 1 to 6, which ONNX Runtime does not run: the oracle is ONNX's Changelog.md written with NumPy, a function of
# the inputs.
OLD = [
    ("old_add_6_axis", 6, "Add", [X, (of(old, 3, 6),)], dict(broadcast=1, axis=1), lambda x, b: x + b[:, :, None]),
    ("old_sub_6_negative_axis", 6, "Sub", [X, of(old, 6)], dict(broadcast=1, axis=-2), lambda x, b: x - b[:, None]),
    ("old_mul_1_suffix", 1, "Mul", [X, (of(old, 6, 5),)], dict(broadcast=1, consumed_inputs=[0, 0]), lambda x, b: x * b),
    ("old_div_6_same", 6, "Div", [X, of(old, 2, 3, 6, 5)], {}, lambda x, b: x / b),
    ("old_pow_1_axis", 1, "Pow", [np.abs(X), (of(old, 2),)], dict(broadcast=1, axis=0), lambda x, b: x ** b[:, None, None, None]),
    ("old_less_1_axis", 1, "Less", [X, of(old, 3)], dict(broadcast=1, axis=1), lambda x, b: x < b[:, None, None]),
    ("old_and_1_axis", 1, "And", [X > 0, of(old, 3) > 0], dict(broadcast=1, axis=1), lambda x, b: x & b[:, None, None]),
    ("old_prelu_6_channels", 6, "PRelu", [X, (of(old, 3),)], {}, lambda x, s: np.where(x < 0, s[:, None, None] * x, x)),
    ("old_prelu_1_shared", 1, "PRelu", [X, (of(old, 1),)], {}, lambda x, s: np.where(x < 0, s * x, x)),
    ("old_tile_1", 1, "Tile", [of(old, 2, 3), (np.float32(2),), (np.float32(1),)], {}, lambda x, n, axis: np.tile(x, (1, 2))),
    ("old_cast_1", 1, "Cast", [of(old, 5) * 9], dict(to="INT32"), lambda x: x.astype(np.int32)),
    ("old_split_1_sizes", 1, "Split", [X, (np.array([1, 2], np.float32),)], dict(axis=1), lambda x, n: (x[:, :1], x[:, 1:])),
    ("old_pad_1", 1, "Pad", [X], dict(paddings=[0, 0, 1, 2, 0, 0, 3, 0], value=0.5),
     lambda x: np.pad(x, ((0, 0), (0, 0), (1, 3), (2, 0)), constant_values=0.5)),
    ("old_upsample_1", 1, "Upsample", [X], dict(height_scale=2.0, width_scale=3.0, mode="nearest"),
     lambda x: x.repeat(2, 2).repeat(3, 3)),
    ("old_reshape_1", 1, "Reshape", [X], dict(shape=[0, -1, 5]), lambda x: x.reshape(2, -1, 5)),
    ("old_concat_1", 1, "Concat", [X, of(old, 2, 1, 6, 5)], {}, lambda *x: np.concatenate(x, 1)),
    ("old_batchnorm_6", 6, "BatchNormalization", [X, (of(old, 3),), (of(old, 3),), (of(old, 3),), (np.abs(of(old, 3)),)],
     dict(epsilon=1e-3, is_test=1), batchnorm),
    ("old_dropout_6", 6, "Dropout", [X], dict(is_test=1, ratio=0.9), lambda x: x),
    ("old_gemm_6", 6, "Gemm", [of(old, 3, 4), (of(old, 5, 4),), (of(old, 5),)], dict(transB=1, broadcast=1),
     lambda a, b, c: a @ b.T + c),
    ("old_clip_1", 1, "Clip", [X], dict(min=-0.25, max=0.5, consumed_inputs=[0]), lambda x: np.clip(x, -0.25, 0.5)),
]

# The longer tail; numbers above 2^63 tell u64 from s64.
BIG = np.array([2**63 + 5, 7, 2**64 - 1, 2**63 - 1], np.uint64)
GRAMS = dict(ngram_counts=[0, 3], pool_int64s=[2, 3, 5, 5, 4, 5, 6], ngram_indexes=[0, 4, 2, 3, 1], min_gram_length=1,
             max_gram_length=2, max_skip_count=2)
TEXT = more.integers(2, 8, (3, 9))
TAIL = [
    ("max_u64", 13, "Max", [BIG, BIG[::-1].copy()], {}),
    ("min_u64", 13, "Min", [BIG, BIG[::-1].copy()], {}),
    ("div_u64", 14, "Div", [BIG, np.array([3, 2, 2**63, 5], np.uint64)], {}),
    ("mod_u64", 13, "Mod", [BIG, np.array([3, 2, 2**63, 5], np.uint64)], {}),
    ("greater_u64", 13, "Greater", [BIG, BIG[::-1].copy()], {}, 1, "reference"),
    ("lessorequal_u64", 16, "LessOrEqual", [BIG, BIG[::-1].copy()], {}, 1, "reference"),
    ("bitshift_right_u64", 11, "BitShift", [BIG, np.array([1, 2, 63, 3], np.uint64)], dict(direction="RIGHT")),
    ("hardmax_11_flat", 11, "Hardmax", [X], dict(axis=2)),
    ("shrink_9", 9, "Shrink", [X], dict(lambd=0.4, bias=0.3)),
    ("eyelike_k", 9, "EyeLike", [np.zeros((3, 5), np.int32)], dict(k=-1, dtype=TensorProto.DOUBLE)),
    ("det_f64", 11, "Det", [more.standard_normal((2, 3, 5, 5))], {}, 1, "reference"),
    ("scatterelements_18_max", 18, "ScatterElements", [of(more, 3, 4), more.integers(-3, 3, (5, 4)), of(more, 5, 4)], dict(reduction="max")),
    ("scatterelements_18_min_s64", 18, "ScatterElements",
     [more.integers(-9, 9, (3, 4)), more.integers(-4, 4, (3, 2)), more.integers(-9, 9, (3, 2))], dict(reduction="min", axis=1)),
    ("scatterelements_16_mul", 16, "ScatterElements", [of(more, 3, 4), more.integers(0, 3, (4, 2)).astype(np.int32), of(more, 4, 2)],
     dict(reduction="mul")),
    ("scatternd_18_max", 18, "ScatterND", [of(more, 3, 4, 2), more.integers(0, 3, (6, 2)), of(more, 6, 2)], dict(reduction="max")),
    ("scatternd_11_last", 11, "ScatterND", [of(more, 4), np.array([[1], [3], [1]]), of(more, 3)], {}),
    ("reversesequence_f32", 10, "ReverseSequence", [of(more, 4, 3, 2), i64(1, 4, 3)], {}),
    ("tfidf_idf", 9, "TfIdfVectorizer", [TEXT], dict(mode="IDF", **GRAMS)),
    ("tfidf_tf_s32", 9, "TfIdfVectorizer", [TEXT[0].astype(np.int32)], dict(mode="TF", **GRAMS)),
    ("nll_ignored", 13, "NegativeLogLikelihoodLoss", [of(more, 3, 5, 2), more.integers(0, 5, (3, 2)), np.abs(of(more, 5))],
     dict(ignore_index=2, reduction="mean")),
    ("sce_ignored", 13, "SoftmaxCrossEntropyLoss", [of(more, 3, 5, 2), more.integers(0, 5, (3, 2)), np.abs(of(more, 5))],
     dict(ignore_index=2, reduction="none"), 2),
    ("batchnorm_15_training", 15, "BatchNormalization", [X, (of(more, 3),), (of(more, 3),), of(more, 3), np.abs(of(more, 3))],
     dict(training_mode=1, momentum=0.7), 3),
]

again = np.random.default_rng(4)
ACTIVATIONS = [("Relu",), ("LeakyRelu", 0.2), ("ThresholdedRelu", 0.1), ("HardSigmoid", 0.3, 0.4), ("Elu", 0.7), ("Affine", 0.6, 0.1),
               ("ScaledTanh", 0.8, 0.9), ("Softsign",), ("Softplus",), ("Sigmoid",), ("Tanh",)]


def activations(first, count):
    """So many in turn, with the lists of their parameters."""
    chosen = [ACTIVATIONS[(first + i) % len(ACTIVATIONS)] for i in range(count)]
    lists = dict(activations=[c[0] for c in chosen])
    alpha, beta = [c[1] for c in chosen if len(c) > 1], [c[2] for c in chosen if len(c) > 2]
    if alpha:
        lists["activation_alpha"] = alpha
    if beta:
        lists["activation_beta"] = beta
    return lists


def recurrent():
    """Every option of the recurrent layers: directions, lengths, states, peepholes, clipping, activations."""
    cases, turn = [], 0
    for op, gates, kinds in (("LSTM", 4, 3), ("GRU", 3, 2), ("RNN", 1, 1)):
        for direction in ("forward", "reverse", "bidirectional"):
            ways, h, size, seq, batch = 1 + (direction == "bidirectional"), 3, 4, 5, 3
            outputs = 3 if op == "LSTM" else 2
            layer = [of(again, seq, batch, size), (of(again, ways, gates * h, size),), (of(again, ways, gates * h, h),),
                     (of(again, ways, 2 * gates * h),)]
            lengths, state = np.array([5, 2, 1], np.int32), [of(again, ways, batch, h) for _ in range(outputs - 1)]
            peepholes = [(of(again, ways, 3 * h),)] if op == "LSTM" else []
            attributes = dict(hidden_size=h, direction=direction)
            if op == "GRU":
                attributes["linear_before_reset"] = turn % 2
            name = f"{op.lower()}_{direction}_"
            cases.append((name + "lengths", 14, op, layer + [lengths] + state + peepholes, attributes, outputs))
            cases.append((name + "whole", 14, op, layer + [(np.full(batch, seq, np.int32),)] + state, attributes, outputs))
            cases.append((name + "clip", 14, op, layer, dict(attributes, clip=0.4), outputs))
            for _ in range(2):
                cases.append((f"{name}activations_{turn}", 14, op, layer + [None] + state,
                              dict(attributes, **activations(turn * 2, kinds * ways)), outputs))
                turn += 1
    return cases


def build(opset, op, inputs, attributes, outputs):
    """The model and the arrays its graph inputs take."""
    names, graph_inputs, initializers, feeds = [], [], [], []
    for i, value in enumerate(inputs):
        names.append("" if value is None else f"x{i}")
        if value is None:
            continue
        fixed = isinstance(value, tuple)
        array = np.asarray(value[0] if fixed else value)
        if fixed:
            initializers.append(numpy_helper.from_array(array, names[-1]))
        else:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            graph_inputs.append(helper.make_tensor_value_info(names[-1], kind, array.shape))
            feeds.append((names[-1], array))
    outs = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, outs, **attributes)
    graph = helper.make_graph([node], "vector", graph_inputs, [helper.make_empty_tensor_value_info(o) for o in outs], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model, feeds


def run(model, feeds, oracle):
    if oracle == "reference":
        return ReferenceEvaluator(model).run(None, dict(feeds))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, dict(feeds))


def write(folder, model, feeds, results):
    data = folder / "test_data_set_0"
    data.mkdir(parents=True)
    for i, array in enumerate(results):
        value = model.graph.output[i]
        value.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
        (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(array, value.name).SerializeToString())
    for i, (name, array) in enumerate(feeds):
        (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(array, name).SerializeToString())
    onnx.save(model, folder / "model.onnx")


def agree(a, b):
    """Whether two oracles say the same, as far as the conformance program looks."""
    return all(x.shape == y.shape and x.dtype == y.dtype and np.allclose(x.astype(np.float64), y.astype(np.float64), 1e-3, 1e-5, True)
               for x, y in zip(map(np.asarray, a), map(np.asarray, b)))


def results_of(name, model, feeds, oracle):
    """Of the oracle asked for. "both": the reference's, and what ONNX Runtime says differently is told."""
    if oracle != "both":
        return run(model, feeds, oracle)
    results = run(model, feeds, "reference")
    try:
        other = run(model, feeds, "ort")
    except Exception as error:
        print(f"{name}: only the reference knows it: {str(error).splitlines()[0][:120]}", file=sys.stderr)
        return results
    if not agree(results, other):
        print(f"{name}: ONNX Runtime differs from the reference", file=sys.stderr)
    return results


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "vectors")
    prefixes = tuple(sys.argv[2:]) or ("",)
    for name, opset, op, inputs, attributes, meaning in OLD:
        if not name.startswith(prefixes):
            continue
        results = meaning(*[np.asarray(x[0] if isinstance(x, tuple) else x) for x in inputs])
        results = list(results) if isinstance(results, tuple) else [results]
        model, feeds = build(opset, op, inputs, attributes, len(results))
        write(root / name, model, feeds, results)
    for name, opset, op, inputs, attributes, *rest in CASES + TAIL + recurrent() + newer_cases.CASES + string_cases.CASES:
        if not name.startswith(prefixes):
            continue
        outputs, oracle = rest[0] if rest else 1, rest[1] if len(rest) > 1 else "ort"
        model, feeds = build(opset, op, inputs, attributes, outputs)
        try:
            results = results_of(name, model, feeds, oracle)
        except Exception as error:  # an oracle that does not know a case says so, and the others go on
            print(f"{name}: {error}", file=sys.stderr)
            continue
        shutil.rmtree(root / name, ignore_errors=True)
        write(root / name, model, feeds, [np.asarray(r) for r in results])


if __name__ == "__main__":
    main()
