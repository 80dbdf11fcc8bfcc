#!/usr/bin/env python3
"""What ONNX and ONNX Runtime say of the networks of the zoo.

    tests/oracle/zoo_check.py build/release/espalier

Needs onnx, onnxruntime and numpy. Each network is written by `espalier new`, checked by onnx.checker with shapes, and run
on the same random inputs (a batch of 2, sequences of 7 where the length is open) by ONNX Runtime and by `espalier run`.
Prints the largest difference over the largest output of each; ends with 1 if one is above 1e-5.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort


def inputs(session, rng, vocabulary=10000):
    feeds = {}
    for each in session.get_inputs():
        tokens = each.type == "tensor(int64)"
        shape = [d if isinstance(d, int) else 7 if tokens and i == 0 else 2 for i, d in enumerate(each.shape)]
        feeds[each.name] = rng.integers(0, vocabulary, shape) if tokens else rng.normal(size=shape).astype(np.float32)
    return feeds


def difference(program, path, folder):
    onnx.checker.check_model(onnx.load(path), full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = inputs(session, np.random.default_rng(3))
    words = []
    for name, array in feeds.items():
        np.save(folder / f"{name}.npy", array)
        words += ["--input", f"{name}={folder / name}.npy"]
    subprocess.run([program, "run", path, "-q", "-o", folder / "out"] + words, check=True, capture_output=True)
    worst = 0
    for info, expected in zip(session.get_outputs(), session.run(None, feeds)):
        ours = np.load(folder / "out" / f"{info.name}.npy")
        worst = max(worst, np.abs(ours - expected).max() / np.abs(expected).max())
    return worst


def main():
    program, bad = sys.argv[1], 0
    for row in json.loads(subprocess.run([program, "new", "--json"], check=True, capture_output=True).stdout):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            path = folder / "model.onnx"
            subprocess.run([program, "new", row["name"], "-q", "-o", path], check=True)
            d = difference(program, path, folder)
        print(f"{row['name']:14} {d:.1e}", flush=True)
        bad |= not d <= 1e-5
    return bad


if __name__ == "__main__":
    sys.exit(main())
