"""What numbers become in each format, and weights in each format with scales, by numpy and ml_dtypes.

    python tests/oracle/make_format_fixtures.py tests/fixtures/formats

numbers.npy: floats; rounded.npy: a row for each format of ESPL_FORMAT_LIST, in its order (names.txt), NaN where the
format has no say (s32). weights.npy: a matrix of 8 x 37; what it becomes: see the end.
"""
import sys
from pathlib import Path

import ml_dtypes
import numpy as np

OUT = Path(sys.argv[1])
NAMES = (
    "f32 u8 s8 s32 s2 s3 s4 s5 s6 s7 f16 bf16 tf32 e4m3 e5m2 s16 u2 u3 u4 u5 u6 u7 "
    "log3 log4 log5 log6 log7 log8 ulog3 ulog4 ulog5 ulog6 ulog7 ternary binary binary01"
).split()


def log2(x, bits, signed):
    lowest = -(2 ** (bits - 1) - 2) if signed else -(2**bits - 2)
    a = np.abs(x.astype(np.float64))
    with np.errstate(divide="ignore"):
        q = np.minimum(np.rint(np.log2(a)), 0)
    r = np.where((a > 0) & (q >= lowest), 2.0**q, 0) * np.sign(x)
    return r if signed else np.maximum(r, 0)


def integer(x, bits, signed):
    if not signed:
        lo, hi = 0, 2**bits - 1
    else:
        hi = 2 ** (bits - 1) - 1
        lo = -hi if bits in (8, 16) else -hi - 1
    return np.clip(np.rint(x.astype(np.float64)), lo, hi)


def tf32(x):
    x = x.astype(np.float64)
    step = np.ldexp(1.0, np.maximum(np.frexp(x)[1], -125) - 11)  # subnormals share the step of the least normal
    return np.rint(x / step) * step


def through(x, dtype, most):
    return np.clip(x, -most, most).astype(dtype).astype(np.float32)


def rounded(x, name):
    if name == "f32":
        return x
    if name == "f16":
        return through(x, np.float16, 65504)
    if name == "bf16":
        return x.astype(ml_dtypes.bfloat16).astype(np.float32)
    if name == "tf32":
        return tf32(x)
    if name == "e4m3":
        return through(x, ml_dtypes.float8_e4m3fn, 448)
    if name == "e5m2":
        return through(x, ml_dtypes.float8_e5m2, 57344)
    if name.startswith("log"):
        return log2(x, int(name[3:]), True)
    if name.startswith("ulog"):
        return log2(x, int(name[4:]), False)
    if name == "ternary":
        return np.where(x >= 0.5, 1, np.where(x <= -0.5, -1, 0))
    if name == "binary":
        return np.where(x >= 0, 1, -1)
    if name == "binary01":
        return np.where(x >= 0.5, 1, 0)
    if name == "s32":
        return np.full_like(x, np.nan)
    return integer(x, int(name[1:]), name[0] == "s")


def numbers():
    rng = np.random.default_rng(7)
    some = rng.choice([-1, 1], 400) * 2.0 ** rng.uniform(-24, 18, 400)
    near = rng.uniform(-9, 9, 150)
    halves = np.arange(-20, 20) / 2
    fp8 = np.arange(0x7E).astype(np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float64)
    middles = (fp8[1:] + fp8[:-1]) / 2
    special = [0.0, 1e30, -1e30, 65519.99, 448, 464, 57344, 61440, 2**-9, 2**-10, 2**-16, 2**-17, 1e-42]
    return np.concatenate([some, near, halves, middles, -middles[::7], special]).astype(np.float32)


def half(x):
    return x.astype(np.float16).astype(np.float64)


def weights_in(w, name):
    """codes and one scale a row, as the head of src/compress/quant/weights.c defines them; scales of few bits are f16."""
    w = w.astype(np.float64)
    a = np.abs(w)
    if name == "ternary":
        keep = a > 0.7 * a.mean(1, keepdims=True)
        scale = (a * keep).sum(1) / keep.sum(1)
        return np.sign(w) * keep, half(scale), 0 * scale
    if name == "binary":
        return np.where(w >= 0, 1, -1), half(a.mean(1)), 0 * a.mean(1)
    if name == "binary01":
        above = w > w.mean(1, keepdims=True)
        low = (w * ~above).sum(1) / (~above).sum(1)
        high = (w * above).sum(1) / above.sum(1)
        nearer = w - low[:, None] >= half(high - low)[:, None] / 2
        return nearer.astype(int), half(high - low), low
    bits = int(name[1:])
    scale = a.max(1) / (2 ** (bits - 1) - 1)
    if bits <= 4:
        scale = half(scale)
    return integer(w / scale[:, None], bits, True), scale, 0 * scale


OUT.mkdir(parents=True, exist_ok=True)
x = numbers()
np.save(OUT / "numbers.npy", x)
with np.errstate(over="ignore", invalid="ignore"):
    np.save(OUT / "rounded.npy", np.stack([np.asarray(rounded(x, n), np.float32) for n in NAMES]))
(OUT / "names.txt").write_text("\n".join(NAMES) + "\n")
w = (np.random.default_rng(11).standard_normal((8, 37)) * 2.0 ** np.arange(-4, 4)[:, None]).astype(np.float32)
np.save(OUT / "weights.npy", w)
for name in ("s8", "s4", "s2", "s16", "ternary", "binary", "binary01"):
    codes, scale, offset = weights_in(w, name)
    np.save(OUT / f"weights_{name}.npy", np.concatenate([codes, scale[:, None], offset[:, None]], 1).astype(np.float32))
# s4 in groups of 16 along the inputs, scales rounded to f16
groups = []
for row in w:
    for at in range(0, 37, 16):
        part = row[at : at + 16].astype(np.float64)
        scale = np.float64(np.float16(np.float32(np.abs(part).max() / 7)))
        groups.append((integer(part / scale, 4, True), scale))
np.save(OUT / "weights_s4_groups.npy", np.array([s for _, s in groups], np.float32))
np.save(OUT / "codes_s4_groups.npy", np.concatenate([c for c, _ in groups]).reshape(8, 37).astype(np.float32))
