"""Cases of make_vectors.py for what ONNX's own vectors do not have: operators and attributes of the operator sets 18 to 21.
The oracle is ONNX's reference evaluator, beside ONNX Runtime where it knows the case ("both"). Draws are seeded by name, so
that a case stays as it is when others come or go."""
import zlib

import ml_dtypes
import numpy as np
from onnx import numpy_helper


def draw(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


def f32(name, *shape):
    return draw(name).standard_normal(shape).astype(np.float32)


def i64(*values):
    return np.array(values, np.int64)


def floats(*values):
    return np.array(values, np.float32)


CASES = []


def case(name, opset, op, inputs, attributes=None, outputs=1, oracle="both"):
    CASES.append((name, opset, op, inputs, attributes or {}, outputs, oracle))


def resize(name, opset, shape, scales=None, sizes=None, roi=None, oracle="both", **attributes):
    x = f32(name, *shape)
    some = [(floats(*roi),) if roi else None, (floats(*scales),) if scales else None, (i64(*sizes),) if sizes else None]
    case("resize_" + name, opset, "Resize", [x, *some], attributes, oracle=oracle)


IMAGE = (1, 2, 5, 6)
resize("18_antialias_linear", 18, IMAGE, [1, 1, 0.6, 0.4], mode="linear", antialias=1)
resize("18_antialias_cubic", 18, IMAGE, [1, 1, 0.6, 0.4], mode="cubic", antialias=1)
resize("18_antialias_larger", 18, IMAGE, [1, 1, 1.6, 2], mode="cubic", antialias=1)
resize("18_antialias_half", 18, (1, 1, 4, 4), sizes=[1, 1, 2, 2], mode="linear", antialias=1)
resize("18_cubic_axes", 18, IMAGE, sizes=[9, 4], mode="cubic", axes=[3, 2])
resize("18_exclude_outside", 18, IMAGE, [1, 1, 0.8, 1.7], mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)
resize("18_not_larger", 18, IMAGE, sizes=[9, 4], mode="linear", axes=[2, 3], keep_aspect_ratio_policy="not_larger")
resize("18_not_smaller", 18, IMAGE, sizes=[9, 4], mode="nearest", axes=[2, 3], keep_aspect_ratio_policy="not_smaller")
resize("19_not_larger_cubic", 19, (1, 1, 4, 7), sizes=[3, 3], mode="cubic", axes=[2, 3], keep_aspect_ratio_policy="not_larger")
resize("18_crop", 18, IMAGE, sizes=[1, 2, 4, 4], roi=[0, 0, 0.2, 0.3, 1, 1, 0.7, 1.4], mode="linear",
       coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=7.5)
resize("18_crop_axes", 18, IMAGE, sizes=[5, 3], roi=[0.1, 0.9, 0.8, 0.2], mode="linear", axes=[2, 3],
       coordinate_transformation_mode="tf_crop_and_resize")
resize("18_crop_cubic", 18, IMAGE, sizes=[1, 2, 3, 5], roi=[0, 0, 0.2, 0.3, 1, 1, 0.7, 0.9], mode="cubic",
       coordinate_transformation_mode="tf_crop_and_resize")
resize("18_crop_nearest", 18, IMAGE, sizes=[1, 2, 3, 5], roi=[0, 0, -0.2, 0.3, 1, 1, 0.7, 0.9], mode="nearest",
       coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=-2.0)
for kind in ("linear", "nearest", "cubic"):
    resize("19_symmetric_" + kind, 19, IMAGE, [1, 1, 0.7, 2.3], mode=kind, coordinate_transformation_mode="half_pixel_symmetric")
    resize("19_pytorch_" + kind, 19, IMAGE, [1, 1, 0.7, 2.3], mode=kind, coordinate_transformation_mode="pytorch_half_pixel")
    resize("19_align_" + kind, 19, IMAGE, [1, 1, 0.7, 2.3], mode=kind, coordinate_transformation_mode="align_corners")
    resize("19_asymmetric_" + kind, 19, IMAGE, [1, 1, 0.7, 2.3], mode=kind, coordinate_transformation_mode="asymmetric")
for pick in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
    resize("19_nearest_" + pick, 19, IMAGE, [1, 1, 0.5, 2.5], mode="nearest", nearest_mode=pick)
resize("13_five", 13, (1, 1, 3, 4, 3), sizes=[1, 1, 5, 3, 6], mode="linear")


def grid(name, *shape):
    return draw(name).uniform(-1.4, 1.4, shape).astype(np.float32)


def sample(name, x, g, opset=20, **attributes):
    case("gridsample_" + name, opset, "GridSample", [f32(name, *x), grid(name + " grid", *g)], attributes,
         oracle="ort" if opset < 20 else "both")


for kind in ("linear", "nearest", "cubic"):
    for outside in ("zeros", "border", "reflection"):
        for corners in (0, 1):
            sample(f"20_{kind}_{outside}_{corners}", (1, 2, 4, 5), (1, 3, 4, 2), mode=kind, padding_mode=outside, align_corners=corners)
sample("20_volume", (2, 1, 3, 4, 3), (2, 2, 2, 3, 3), mode="linear")
sample("20_volume_nearest", (1, 2, 3, 4, 3), (1, 2, 2, 3, 3), mode="nearest", padding_mode="border")
sample("16_bilinear", (1, 2, 4, 5), (1, 3, 4, 2), opset=16, mode="bilinear")
for size in ((2, 3, 4, 5), (2, 3, 2, 4, 3)):
    for corners in (0, 1):
        n = len(size) - 2
        case(f"affinegrid_20_{n}d_{corners}", 20, "AffineGrid", [f32(f"theta {n}", 2, n, n + 1), (i64(*size),)], dict(align_corners=corners))

REGIONS = floats([0, 0, 9, 9], [2.5, 1.2, 11.5, 6], [4, 5, 4.5, 5.2], [-3, -2, 20, 14]).reshape(4, 4)
for mode in ("avg", "max"):
    for how in ("half_pixel", "output_half_pixel"):
        case(f"roialign_16_{mode}_{how}", 16, "RoiAlign", [f32("roi", 2, 3, 8, 7), REGIONS, i64(0, 1, 0, 1)],
             dict(mode=mode, coordinate_transformation_mode=how, output_height=3, output_width=2, spatial_scale=0.5, sampling_ratio=2))
case("roialign_10_adaptive", 10, "RoiAlign", [f32("roi", 2, 3, 8, 7), REGIONS, i64(0, 1, 0, 1)],
     dict(output_height=2, output_width=2, spatial_scale=0.75), oracle="ort")

for name, equation, *shapes in (
        ("matmul", "ij,jk->ik", (3, 4), (4, 5)), ("heads", "bqhd,bkhd->bhqk", (2, 3, 2, 4), (2, 5, 2, 4)),
        ("values", "bhqk,bkhd->bqhd", (2, 2, 3, 5), (2, 5, 2, 4)), ("project", "btd,dhk->bthk", (2, 3, 6), (6, 2, 3)),
        ("join", "bthk,hkd->btd", (2, 3, 2, 3), (2, 3, 6)), ("outer", "i,j->ij", (3,), (4,)), ("dot", "i,i", (5,), (5,)),
        ("implicit", "ba,ac", (2, 3), (3, 4)), ("dots", "...ij,...jk->...ik", (2, 3, 4), (2, 4, 5)),
        ("dots_broadcast", "...ij,jk->...ik", (2, 3, 2, 4), (4, 5)), ("row_sums", "ij->i", (3, 4)), ("diagonal", "ii->i", (4, 4)),
        ("trace", "ii", (4, 4)), ("swap", "...ab->...ba", (2, 3, 4)), ("three", "ab,bc,cd->ad", (2, 3), (3, 4), (4, 2)),
        ("elementwise", "ij,ij->ij", (3, 4), (3, 4)), ("left_sum", "ijk,jl->il", (2, 3, 4), (3, 5)),
        ("batch_dot", "bi,bi->b", (3, 4), (3, 4)), ("spaces", " b n , n d -> d b ", (2, 3), (3, 4)), ("constant_left", "dk,btd->btk", (4, 5), (2, 3, 4)),
        ("positions", "bhid,jd->bhij", (2, 2, 3, 4), (5, 4)), ("two_sums", "abcd,cdbe->aeb", (2, 3, 4, 2), (4, 2, 3, 2))):
    case(f"einsum_12_{name}", 12, "Einsum", [f32(f"{name} {i}", *s) for i, s in enumerate(shapes)], dict(equation=equation))
    if len(shapes) == 2:
        case(f"einsum_12_{name}_weights", 12, "Einsum",
             [(f32(f"{name} {i}", *s),) if i == (name != "constant_left") else f32(f"{name} {i}", *s) for i, s in enumerate(shapes)],
             dict(equation=equation))
case("einsum_12_s32", 12, "Einsum", [draw("a").integers(-9, 9, (2, 3)).astype(np.int32), draw("b").integers(-9, 9, (3, 2)).astype(np.int32)],
     dict(equation="ij,jk->ki"))

POOL = (1, 2, 7, 6)
case("maxpool_12_indices", 12, "MaxPool", [f32("pool", *POOL)], dict(kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]), 2, "ort")
case("maxpool_12_indices_columns", 12, "MaxPool", [f32("pool", *POOL)], dict(kernel_shape=[2, 2], dilations=[2, 1], storage_order=1), 2)
case("maxpool_12_indices_3d", 12, "MaxPool", [f32("pool3", 2, 1, 4, 3, 5)], dict(kernel_shape=[2, 2, 2], strides=[2, 1, 2]), 2, "ort")
case("maxpool_12_indices_1d", 12, "MaxPool", [f32("pool1", 1, 2, 9)], dict(kernel_shape=[3], strides=[2], ceil_mode=1), 2, "ort")
case("maxpool_12_indices_s8", 12, "MaxPool", [draw("p8").integers(-99, 99, (1, 2, 5, 5)).astype(np.int8)], dict(kernel_shape=[2, 2]), 2, "ort")
case("maxunpool_11", 11, "MaxUnpool", [f32("un", 1, 1, 2, 2), i64(5, 7, 13, 15).reshape(1, 1, 2, 2)], dict(kernel_shape=[2, 2], strides=[2, 2]))
case("maxunpool_11_shape", 11, "MaxUnpool", [f32("un", 1, 1, 2, 2), i64(5, 7, 13, 15).reshape(1, 1, 2, 2), (i64(1, 1, 5, 5),)],
     dict(kernel_shape=[2, 2], strides=[2, 2]), oracle="reference")
case("lppool_18_dilated", 18, "LpPool", [f32("lp", *POOL)], dict(kernel_shape=[2, 2], dilations=[2, 2], p=3))
case("lppool_18_ceil", 18, "LpPool", [f32("lp", *POOL)], dict(kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1, p=1), oracle="ort")
case("lppool_11_pads", 11, "LpPool", [f32("lp", *POOL)], dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1]), oracle="ort")
case("globallppool_2", 7, "GlobalLpPool", [f32("lp", *POOL)], dict(p=3), oracle="ort")
for name, x, image, block, attributes in (
        ("plain", (1, 5, 5), (5, 5), (1, 5), {}), ("strided", (1, 9, 4), (5, 5), (3, 3), dict(strides=[2, 2])),
        ("dilated", (2, 8, 5), (6, 6), (2, 2), dict(dilations=[1, 5], strides=[1, 1])), ("padded", (1, 5, 15), (5, 5), (1, 5), dict(pads=[0, 1, 0, 1])),
        ("volume", (1, 10, 12), (3, 4, 5), (1, 1, 5), {}), ("line", (2, 6, 4), (6,), (3,), {})):
    case(f"col2im_18_{name}", 18, "Col2Im", [f32(name, *x), (i64(*image),), (i64(*block),)], attributes)
for name, shape, axes in (("crop", (3, 2, 4), None), ("pad", (7, 5, 9), None), ("both", (2, 9), [-1, 0])):
    case(f"centercroppad_18_{name}", 18, "CenterCropPad", [f32(name, 5, 4, 6), (i64(*shape),)], dict(axes=axes) if axes else {}, oracle="reference")
for op in ("And", "Or", "Xor"):
    case(f"bitwise{op.lower()}_18", 18, "Bitwise" + op,
         [draw(op).integers(-999, 999, (3, 1, 4)).astype(np.int32), draw(op + "b").integers(-999, 999, (2, 4)).astype(np.int32)])
case("bitwisenot_18", 18, "BitwiseNot", [draw("not").integers(0, 65535, (3, 4)).astype(np.uint16)])

for n in (8, 10, 15, 7):
    case(f"dft_17_{n}", 17, "DFT", [f32("dft", 2, n, 3, 1)], dict(axis=1))
case("dft_17_inverse", 17, "DFT", [f32("dft", 2, 6, 2)], dict(axis=1, inverse=1))
case("dft_17_longer", 17, "DFT", [f32("dft", 2, 6, 2), (np.int64(9),)], dict(axis=1))
case("dft_17_shorter_onesided", 17, "DFT", [f32("dft", 2, 12, 1), (np.int64(9),)], dict(axis=1, onesided=1))
case("dft_20_axis", 20, "DFT", [f32("dft", 4, 2, 3, 2), None, (np.int64(0),)], {})
case("dft_20_default", 20, "DFT", [f32("dft", 4, 2, 6, 1)], dict(onesided=1))
case("dft_20_back_real", 20, "DFT", [f32("dft", 3, 5, 2), (np.int64(8),)], dict(onesided=1, inverse=1), oracle="reference")
case("stft_17_window", 17, "STFT", [f32("stft", 2, 50, 1), (np.int64(6),), (np.hanning(15).astype(np.float32),)], {})
case("stft_17_both_sides", 17, "STFT", [f32("stft", 1, 40, 1), (np.int64(8),), None, (np.int64(16),)], dict(onesided=0))
case("stft_17_complex", 17, "STFT", [f32("stft", 1, 40, 2), (np.int64(5),), (np.hamming(10).astype(np.float32),)], dict(onesided=0))
for op in ("Hann", "Hamming", "Blackman"):
    for periodic in (0, 1):
        case(f"{op.lower()}window_17_{periodic}", 17, op + "Window", [(np.int64(11),)], dict(periodic=periodic))
case("hannwindow_17_f64", 17, "HannWindow", [(np.int32(6),)], dict(output_datatype=11))
case("melweightmatrix_17", 17, "MelWeightMatrix", [(np.int64(12),), (np.int64(64),), (np.int64(16000),), (np.float32(50),), (np.float32(7500),)])
case("melweightmatrix_17_narrow", 17, "MelWeightMatrix", [(np.int64(20),), (np.int64(16),), (np.int64(8192),), (np.float32(0),), (np.float32(4096),)])

# --- operators whose definition changed in 18 to 21 --------------------------------------------------

E4M3, E5M2, U4, S4 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.uint4, ml_dtypes.int4
NUMBERS = floats(0, -0.0, 1, -1, 0.3, -2.7, 13.1, 17, 240, 447, 449, 464, 480, 1e-3, 2e-3, -3e4, 5e4, 6e4, 1e9, -1e9, np.inf, -np.inf, np.nan)

REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
for op in REDUCTIONS:
    x = np.abs(f32("Reduce" + op, 3, 4, 5)) + 0.1
    case(f"reduce{op.lower()}_18_axes", 18, "Reduce" + op, [x, (i64(-1, 0),)], dict(keepdims=0))
    case(f"reduce{op.lower()}_18_all", 18, "Reduce" + op, [x], {})
    case(f"reduce{op.lower()}_18_none", 18, "Reduce" + op, [x, (i64(),)], dict(noop_with_empty_axes=1))
for op in ("Max", "Min"):
    case(f"reduce{op.lower()}_20_bool", 20, "Reduce" + op, [draw(op).integers(0, 2, (3, 4)).astype(bool), (i64(1),)], dict(keepdims=0))
    case(f"reduce{op.lower()}_20_s8", 20, "Reduce" + op, [draw(op).integers(-99, 99, (3, 4)).astype(np.int8), (i64(0),)])
case("split_18_last", 18, "Split", [f32("split", 2, 7)], dict(axis=-1, num_outputs=3), 3)
case("split_18_sizes", 18, "Split", [f32("split", 2, 7), (i64(3, 0, 4),)], dict(axis=-1), 3)
case("pad_18_reflect_axes", 18, "Pad", [f32("pad", 2, 4, 5), (i64(1, 2, 0, 3),), None, (i64(1, -1),)], dict(mode="reflect"))
case("pad_18_s32", 18, "Pad", [draw("pad").integers(-9, 9, (2, 3)).astype(np.int32), (i64(1, 0, 0, 2),), (np.int32(7),)])
case("pad_19_wrap_axes", 19, "Pad", [f32("pad", 2, 4, 5), (i64(1, 2, 4, 3),), None, (i64(1, -1),)], dict(mode="wrap"))
case("pad_21_u16", 21, "Pad", [draw("pad").integers(0, 999, (2, 3)).astype(np.uint16), (i64(1, 0, 0, 2),)], {}, oracle="reference")
case("groupnorm_18", 18, "GroupNormalization", [f32("gn", 2, 6, 3, 2), (f32("gs", 3),), (f32("gb", 3),)], dict(num_groups=3), oracle="reference")
case("groupnorm_21_volume", 21, "GroupNormalization", [f32("gn", 2, 4, 3, 2, 2), (f32("gs", 4),), (f32("gb", 4),)],
     dict(num_groups=2, epsilon=1e-2), oracle="reference")
case("averagepool_19_padded", 19, "AveragePool", [f32("ap", 1, 2, 7, 8)],
     dict(kernel_shape=[2, 3], dilations=[2, 2], pads=[1, 2, 1, 2], count_include_pad=1))
case("averagepool_19_same", 19, "AveragePool", [f32("ap", 1, 2, 7, 8)], dict(kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"))

for name, kind, number in (("e4m3", E4M3, 17), ("e5m2", E5M2, 19)):
    codes = NUMBERS.astype(kind)
    case(f"cast_19_{name}", 19, "Cast", [NUMBERS], dict(to=number), oracle="reference")
    case(f"cast_19_{name}_wraps", 19, "Cast", [NUMBERS], dict(to=number, saturate=0), oracle="reference")
    case(f"cast_19_from_{name}", 19, "Cast", [codes], dict(to=1), oracle="reference")
    case(f"cast_19_{name}_f16", 19, "Cast", [codes], dict(to=10), oracle="reference")
    case(f"castlike_19_{name}", 19, "CastLike", [NUMBERS, np.zeros(1, kind)], {}, oracle="reference")
    case(f"quantize_19_{name}", 19, "QuantizeLinear", [NUMBERS[:-3], (np.float32(0.5),), (np.zeros((), kind),)], {}, oracle="reference")
    case(f"dequantize_19_{name}", 19, "DequantizeLinear", [codes[:-3], (np.float32(0.5),), (np.zeros((), kind),)], {}, oracle="reference")
    case(f"identity_21_{name}", 21, "Identity", [codes], {}, oracle="reference")
    case(f"reshape_21_{name}", 21, "Reshape", [codes[:12], (i64(3, -1),)], {}, oracle="reference")
    case(f"transpose_21_{name}", 21, "Transpose", [codes[:12].reshape(3, 4)], {}, oracle="reference")
for name, kind, number, low, high in (("u4", U4, 21, 0, 16), ("s4", S4, 22, -8, 8)):
    codes = draw(name).integers(low, high, (4, 6)).astype(kind)
    x = (draw(name + "x").standard_normal((4, 6)) * 9).astype(np.float32)
    zero = np.array(3, kind)
    case(f"cast_21_{name}", 21, "Cast", [np.clip(np.rint(x), low, high - 1).astype(np.float32)], dict(to=number), oracle="reference")
    case(f"cast_21_from_{name}", 21, "Cast", [codes], dict(to=1), oracle="reference")
    case(f"quantize_21_{name}", 21, "QuantizeLinear", [x, (np.float32(1.5),), (zero,)], {}, oracle="reference")
    case(f"quantize_21_{name}_axis", 21, "QuantizeLinear", [x, (floats(1, 2, 0.5, 3),), (np.array([0, 1, 2, 3], kind),)], dict(axis=0), oracle="reference")
    case(f"quantize_21_{name}_blocks", 21, "QuantizeLinear", [x, (np.abs(f32("qs", 4, 2)) + 0.5,)], dict(axis=1, block_size=3, output_dtype=number),
         oracle="reference")
    case(f"dequantize_21_{name}_blocks", 21, "DequantizeLinear", [codes, (f32("ds", 2, 6),)], dict(axis=0, block_size=2), oracle="reference")
    case(f"dequantize_21_{name}_axis", 21, "DequantizeLinear", [codes, (f32("da", 6),), (np.array([0, 1, 2, 3, 4, 5], kind),)], dict(axis=1), oracle="reference")
    for op, attributes, inputs in (("Identity", {}, []), ("Reshape", {}, [(i64(3, 8),)]), ("Transpose", {}, []), ("Flatten", dict(axis=1), []),
                                   ("Unsqueeze", {}, [(i64(1),)]), ("Shape", dict(start=1), []), ("Size", {}, [])):
        case(f"{op.lower()}_21_{name}", 21, op, [codes, *inputs], attributes, oracle="reference")
case("squeeze_21_u4", 21, "Squeeze", [draw("sq").integers(0, 16, (1, 3, 1)).astype(U4), (i64(0),)], {}, oracle="reference")
case("quantize_21_s16_axis", 21, "QuantizeLinear", [f32("q", 3, 4) * 99, (floats(0.1, 0.2, 0.3, 0.4),), (np.array([0, 5, -7, 9], np.int16),)], {})
case("dequantize_21_u16", 21, "DequantizeLinear", [draw("dq").integers(0, 65536, (3, 4)).astype(np.uint16), (np.float32(0.01),), (np.uint16(30000),)], {})
case("constantofshape_21_u4", 21, "ConstantOfShape", [(i64(2, 3),)], dict(value=numpy_helper.from_array(np.array([5], U4))), oracle="reference")
case("constantofshape_20_e4m3", 20, "ConstantOfShape", [(i64(2, 3),)], dict(value=numpy_helper.from_array(np.array([1.5], E4M3))), oracle="reference")
case("constantofshape_20_f16", 20, "ConstantOfShape", [(i64(2),)], dict(value=numpy_helper.from_array(np.array([1.5], np.float16))))
for name, kind in (("f16", np.float16), ("e4m3", E4M3), ("e5m2", E5M2)):
    case(f"isnan_20_{name}", 20, "IsNaN", [NUMBERS.astype(kind)], {}, oracle="reference")
    if name != "e4m3":
        case(f"isinf_20_{name}", 20, "IsInf", [NUMBERS.astype(kind)], dict(detect_negative=0), oracle="reference")
case("equal_19_u16", 19, "Equal", [draw("e").integers(0, 4, (3, 4)).astype(np.uint16), draw("f").integers(0, 4, (4,)).astype(np.uint16)], {}, oracle="reference")
case("shape_19_ends", 19, "Shape", [f32("shape", 2, 3, 4, 5)], dict(start=-3, end=-1))
case("reshape_19_allowzero", 19, "Reshape", [np.zeros((0, 4), np.float32), (i64(2, 0),)], dict(allowzero=1))
case("mish_18_wide", 18, "Mish", [f32("mish", 30) * 20], {})
case("gelu_20_wide", 20, "Gelu", [f32("gelu", 30) * 4], {})

# --- convolutions ---------------------------------------------------------------------------------

for name, x, w, attributes in (
        ("1d_dilated", (2, 4, 11), (6, 2, 3), dict(group=2, dilations=[2], pads=[2, 1])),
        ("1d_same", (1, 3, 10), (2, 3, 4), dict(auto_pad="SAME_UPPER", strides=[3])),
        ("2d_groups", (1, 6, 7, 6), (9, 2, 3, 2), dict(group=3, strides=[2, 1], dilations=[1, 2], pads=[1, 0, 2, 1])),
        ("2d_valid", (1, 2, 7, 6), (3, 2, 3, 2), dict(auto_pad="VALID", strides=[2, 2])),
        ("3d_groups", (1, 4, 4, 5, 6), (4, 2, 2, 3, 2), dict(group=2, strides=[1, 2, 1], pads=[1, 0, 1, 0, 1, 0])),
        ("3d_same", (1, 2, 4, 5, 6), (3, 2, 2, 3, 2), dict(auto_pad="SAME_LOWER", strides=[2, 2, 2]))):
    case(f"conv_11_{name}", 11, "Conv", [f32(name + "x", *x), (f32(name + "w", *w),), (f32(name + "b", w[0]),)], attributes, oracle="ort")
for name, x, w, attributes in (
        ("1d", (2, 4, 5), (4, 3, 3), dict(strides=[2], pads=[1, 0], output_padding=[1])),
        ("1d_groups", (1, 4, 6), (4, 2, 3), dict(group=2, dilations=[2])),
        ("2d_dilated", (1, 2, 4, 5), (2, 3, 2, 3), dict(strides=[2, 1], dilations=[2, 2], pads=[1, 1, 0, 2])),
        ("2d_shape", (1, 2, 3, 4), (2, 3, 3, 3), dict(strides=[2, 2], output_shape=[7, 9])),
        ("2d_upper", (1, 2, 3, 4), (2, 2, 3, 3), dict(strides=[2, 2], auto_pad="SAME_UPPER")),
        ("3d", (1, 2, 2, 3, 3), (2, 2, 2, 2, 3), dict(strides=[2, 1, 2], output_padding=[1, 0, 1], pads=[0, 1, 0, 1, 0, 1])),
        ("3d_groups", (1, 4, 2, 3, 3), (4, 1, 2, 2, 2), dict(group=4))):
    m = w[1] * attributes.get("group", 1)
    case(f"convtranspose_11_{name}", 11, "ConvTranspose", [f32(name + "x", *x), (f32(name + "w", *w),), (f32(name + "b", m),)], attributes, oracle="ort")

# --- operators on codes ----------------------------------------------------------------------------


def codes(name, *shape, kind=np.uint8):
    info = np.iinfo(kind)
    return draw(name).integers(info.min, info.max + 1, shape).astype(kind)


case("convinteger_10_groups", 10, "ConvInteger", [codes("ci", 1, 4, 6, 5), codes("cw", 6, 2, 3, 2), np.uint8(120), np.uint8(130)],
     dict(group=2, pads=[1, 0, 1, 1], strides=[2, 1]), oracle="ort")
case("convinteger_10_1d", 10, "ConvInteger", [codes("ci", 1, 3, 8), codes("cw", 2, 3, 3)], dict(dilations=[2]), oracle="ort")
case("qlinearconv_10_channels", 10, "QLinearConv",
     [codes("qx", 1, 3, 6, 6), np.float32(0.02), np.uint8(120), codes("qw", 4, 3, 3, 3, kind=np.int8), floats(0.01, 0.02, 0.005, 0.03), np.zeros(4, np.int8),
      np.float32(0.9), np.uint8(128)], dict(pads=[1, 1, 1, 1], strides=[2, 2]), oracle="ort")
case("qlinearmatmul_10_s8", 10, "QLinearMatMul",
     [codes("ma", 3, 5, kind=np.int8), np.float32(0.02), np.int8(3), codes("mb", 5, 4, kind=np.int8), np.float32(0.01), np.int8(-4), np.float32(0.1), np.int8(9)],
     {}, oracle="ort")
