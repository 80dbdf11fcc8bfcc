"""Cases of make_vectors.py for what ONNX's own vectors do not have: operators and attributes of the operator sets 18 to 21.
The oracle is ONNX's reference evaluator, beside ONNX Runtime where it knows the case ("both"). Draws are seeded by name, so
that a case stays as it is when others come or go."""
import zlib

import numpy as np


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
