#!/usr/bin/env python3
"""Writes tests/fixtures/prune: weights, and which of them each pattern keeps, by numpy.

cases.txt has a line for each case: the pattern, the pattern that its zeros are then recognised as ("-": not asked), and
for every tensor of the case FILE ROW_AXIS INNER_AXIS, with the mask in FILE.CASE.npy next to it. All weights are multiples
of 1/64, so that sums are exact and many magnitudes are equal: among equals the first in the order rows, taps, inputs stay.
"""
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "prune"
# name: shape, axis of the rows, axis of the inputs
TENSORS = {
    "conv": ((24, 40, 3, 3), 0, 1),
    "narrow": ((16, 19, 1, 1), 0, 1),
    "gemm": ((48, 96), 0, 1),
    "matmul": ((70, 33), 1, 0),
    "lstm": ((2, 32, 45), 1, 2),
    "transposed": ((32, 12, 2, 2), 1, 0),
}
# pattern, recognised as, tensors
CASES = [
    ("2:4", "2:4", ["conv"]), ("2:4", "2:4", ["matmul"]), ("1:4", "1:4", ["lstm"]), ("2:4", "2:4", ["narrow"]),
    ("4:8", "-", ["gemm"]), ("2:8", "bank 2:8", ["gemm"]), ("1:3", "-", ["lstm"]),
    ("bank 2:16", "bank 2:16", ["conv"]), ("bank 3:16", "bank 3:16", ["lstm"]), ("bank 2:16", "bank 2:16", ["matmul"]),
    ("bank 4:16", "bank 4:16", ["transposed"]), ("bank 2:16", "bank 2:16", ["narrow"]), ("bank 8:32", "bank 8:32", ["gemm"]),
    ("bank 5:64", "bank 5:64", ["gemm"]), ("bank 12:40", "-", ["conv"]), ("bank 2:70", "-", ["matmul"]),
    ("unstructured 90%", "unstructured 90%", ["conv"]), ("unstructured 75%", "unstructured 75.02%", ["matmul"]),
    ("unstructured 50%", "unstructured 50%", ["lstm"]), ("unstructured 12.5%", "dense", ["gemm"]),
    ("unstructured 0%", "dense", ["gemm"]), ("unstructured 100%", "-", ["gemm"]),
    ("unstructured 80% global", "-", ["conv", "gemm", "lstm", "matmul"]), ("unstructured 60% global", "-", ["narrow"]),
    ("block 4x4 75%", "block 4x4 75%", ["gemm"]), ("block 8x8 50%", "block 8x8 50%", ["gemm"]),
    ("block 4x4 60%", "-", ["matmul"]), ("block 1x16 70%", "-", ["conv"]), ("block 16x1 50%", "block 16x1 50%", ["gemm"]),
    ("block 1x8 62.5%", "block 1x8 62.5%", ["conv"]), ("block 5x7 40%", "-", ["lstm"]),
    ("row 50%", "row 50%", ["conv"]), ("row 25%", "dense", ["gemm"]), ("row 33.34%", "row 33.33%", ["matmul"]),
    ("column 50%", "column 50%", ["conv"]), ("column 40%", "column 40%", ["matmul"]),
    ("column 70%", "column 70%", ["lstm"]), ("kernel 60%", "kernel 60%", ["conv"]),
    ("kernel 50%", "kernel 50%", ["transposed"]), ("dense", "dense", ["conv"]),
]


def banks(w, n, m):
    """w [rows, taps, inputs]: the n largest of every m; argsort of the negative is stable, so the first stay."""
    keep = np.zeros(w.shape, bool)
    for first in range(0, w.shape[2], m):
        part = np.abs(w[:, :, first:first + m])
        order = np.argsort(-part, axis=2, kind="stable")[:, :, :n]
        np.put_along_axis(keep[:, :, first:first + m], order, True, axis=2)
    return keep


def unit_extent(words, shape):
    kind = words[0]
    if kind == "block":
        rows, inputs = words[1].split("x")
        return int(rows), 1, int(inputs)
    return {"unstructured": (1, 1, 1), "row": (1, shape[1], shape[2]), "column": (shape[0], 1, 1),
            "kernel": (1, shape[1], 1)}[kind]


def unit_parts(shape, extent):
    """The slices of every unit, rows first."""
    for r in range(0, shape[0], extent[0]):
        for t in range(0, shape[1], extent[1]):
            for i in range(0, shape[2], extent[2]):
                yield slice(r, r + extent[0]), slice(t, t + extent[1]), slice(i, i + extent[2])


def units(tensors, words):
    """The units of least mean magnitude of all tensors go; of equal ones the last."""
    share = float(words[2 if words[0] == "block" else 1].rstrip("%")) / 100
    places, means = [], []
    for k, w in enumerate(tensors):
        for part in unit_parts(w.shape, unit_extent(words, w.shape)):
            places.append((k, part))
            means.append(np.float32(np.abs(w[part].astype(np.float64)).mean()))
    keep = [np.zeros(w.shape, bool) for w in tensors]
    go = int(np.floor(share * len(places) + 0.5))
    for at in np.argsort(-np.array(means), kind="stable")[:len(places) - go]:
        k, part = places[at]
        keep[k][part] = True
    return keep


def masks(pattern, tensors):
    words = pattern.split()
    if pattern == "dense":
        return [np.ones(w.shape, bool) for w in tensors]
    if ":" in words[-1]:
        n, m = map(int, words[-1].split(":"))
        return [banks(w, n, m) for w in tensors]
    return units(tensors, words)


def as_matrix(w, row, inner):
    taps = [a for a in range(w.ndim) if a not in (row, inner)]
    order = [row] + taps + [inner]
    return w.transpose(order).reshape(w.shape[row], -1, w.shape[inner]), order


def as_tensor(matrix, shape, order):
    back = matrix.reshape([shape[a] for a in order])
    return back.transpose(np.argsort(order))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1811)
    weights = {}
    for name, (shape, _, _) in TENSORS.items():
        w = rng.normal(0, 2, shape)
        weights[name] = (np.sign(w) * np.ceil(np.abs(w) * 64) / 64).astype(np.float32)  # none is 0
        np.save(OUT / f"{name}.npy", weights[name])
    with open(OUT / "cases.txt", "w", encoding="utf-8") as out:
        for number, (pattern, recognised, names) in enumerate(CASES):
            matrices = [as_matrix(weights[n], *TENSORS[n][1:]) for n in names]
            line = [pattern, recognised]
            for name, keep, (_, order) in zip(names, masks(pattern, [m for m, _ in matrices]), matrices):
                mask = as_tensor(keep, TENSORS[name][0], order)
                np.save(OUT / f"{name}.{number}.npy", np.packbits(mask.ravel(), bitorder="little"))
                line.append(f"{name} {TENSORS[name][1]} {TENSORS[name][2]}")
            out.write("|".join(line) + "\n")


main()
