"""Writes what tests/unit/test_observers.c compares the observers with, into tests/fixtures/observers.

    bench/peers/.venv/bin/python tests/oracle/make_observer_fixtures.py

Elements are in NAME.npy. cases.txt has a line for each comparison:

    DATA minmax|average M   MIN MAX                 numpy.min and max, or Jacob's average over samples of 500 elements
    DATA percentile P       MIN MAX                 numpy.quantile of the elements
    DATA mse LO HI SYMM     ERROR                   least mean squared error of any of 128 (x 128) ranges, over the elements
    DATA kl LO HI SYMM      MIN MAX                 the clip of docs/methods.md, written down once more here, in plain loops

Codes go from LO to HI; SYMM is 1 for grids with their zero point at code 0.
"""
import math
import os

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "fixtures", "observers")
SAMPLE = 500
GRIDS = [(-127, 127, 1), (0, 255, 0), (-8, 7, 1), (0, 15, 0), (0, 3, 0)]


def data():
    rng = np.random.default_rng(5)
    normal = rng.normal(0, 1, 6000)
    relu = np.maximum(rng.laplace(-0.2, 1, 6000), 0)
    tails = rng.standard_t(2.5, 6000) * 0.01
    skewed = np.concatenate([rng.normal(-3, 0.3, 3000), rng.exponential(9, 3000)])
    rng.shuffle(skewed)
    picture = rng.integers(0, 256, 6000) / 255
    return {k: v.astype(np.float32) for k, v in dict(normal=normal, relu=relu, tails=tails, skewed=skewed,
                                                     picture=picture).items()}


def grid(lo, hi, low, high, symmetric):
    """Step, and the codes at the ends relative to the zero point."""
    if symmetric:
        return max(-low, high) / hi, lo, hi
    step = (high - low) / (hi - lo)
    zero = float(np.rint(-low / step))
    return step, -zero, hi - lo - zero


def error(x, lo, hi, low, high, symmetric):
    step, first, last = grid(lo, hi, low, high, symmetric)
    return float(np.mean((x - step * np.clip(np.rint(x / step), first, last)) ** 2))


def least_error(x, lo, hi, symmetric):
    low, high = min(float(x.min()), 0), max(float(x.max()), 0)
    if symmetric:
        end = max(-low, high)
        return min(error(x, lo, hi, -end * i / 128, end * i / 128, 1) for i in range(1, 129))
    lows = [low * i / 128 for i in range(1, 129)] if low < 0 else [0.0]
    highs = [high * i / 128 for i in range(1, 129)] if high > 0 else [0.0]
    return min(error(x, lo, hi, a, b, 0) for a in lows for b in highs)


def histogram(x):
    """Bins of the least power of two with which 2048 hold 0 and all of x."""
    low, high = min(float(x.min()), 0), max(float(x.max()), 0)
    width = 2.0 ** -126
    while math.floor(high / width) - math.floor(low / width) + 1 > 2048:
        width *= 2
    first, last = math.floor(low / width), math.floor(high / width)
    counts = [0] * (last - first + 1)
    for v in x:
        if v != 0:
            counts[math.floor(float(v) / width) - first] += 1
    return width, first, counts


def divergence(width, first, counts, clip, grid_of):
    step = grid_of[0]
    inside = {k: c for k, c in enumerate(counts, first) if -clip <= k < clip}
    keys = sorted(inside)
    p = dict(inside)
    p[keys[0]] += sum(c for k, c in enumerate(counts, first) if k < keys[0])
    p[keys[-1]] += sum(c for k, c in enumerate(counts, first) if k > keys[-1])
    cells = {}
    for k in keys:
        cells.setdefault(float(np.rint(width * (k + 0.5) / step)), []).append(k)
    q = {}
    for members in cells.values():
        filled = [k for k in members if p[k] > 0]
        for k in filled:
            q[k] = sum(inside[m] for m in members) / len(filled)
    total_p, total_q = sum(p.values()), sum(q.values())
    if total_q == 0 or any(q[k] == 0 for k in q):
        return math.inf
    return sum(p[k] / total_p * math.log((p[k] / total_p) / (q[k] / total_q)) for k in q)


def kl_clip(x, lo, hi, symmetric):
    width, first, counts = histogram(x)
    low, high = min(float(x.min()), 0), max(float(x.max()), 0)
    most = max(-first, first + len(counts))
    least = hi if symmetric else hi - lo
    best, keep = math.inf, most
    for clip in range(most, least - 1, -((most - least) // 128 + 1)):
        ends = max(low, -width * clip), min(high, width * clip)
        d = divergence(width, first, counts, clip, grid(lo, hi, *ends, symmetric))
        if d < best:
            best, keep = d, clip
    return max(low, -width * keep), min(high, width * keep)


def average(x, momentum):
    low = high = None
    for sample in x.reshape(-1, SAMPLE):
        a, b = min(float(sample.min()), 0), max(float(sample.max()), 0)
        low, high = (a, b) if low is None else (momentum * low + (1 - momentum) * a,
                                                momentum * high + (1 - momentum) * b)
    return low, high


def main():
    os.makedirs(OUT, exist_ok=True)
    lines = []
    for name, x in data().items():
        np.save(os.path.join(OUT, name + ".npy"), x)
        wide = x.astype(np.float64)
        lines.append(f"{name} minmax {min(wide.min(), 0):.9g} {max(wide.max(), 0):.9g}")
        for momentum in (0.9, 0.5):
            low, high = average(wide, momentum)
            lines.append(f"{name} average {momentum} {low:.9g} {high:.9g}")
        for share in (100, 99.99, 99.9, 97, 60):
            low, high = (np.quantile(wide, s) for s in (1 - share / 100, share / 100))
            lines.append(f"{name} percentile {share} {min(low, 0):.9g} {max(high, 0):.9g}")
        for lo, hi, symmetric in GRIDS:
            lines.append(f"{name} mse {lo} {hi} {symmetric} {least_error(wide, lo, hi, symmetric):.9g}")
            low, high = kl_clip(x, lo, hi, symmetric)
            lines.append(f"{name} kl {lo} {hi} {symmetric} {low:.9g} {high:.9g}")
    with open(os.path.join(OUT, "cases.txt"), "w") as f:
        f.write("\n".join(lines) + "\n")


main()
