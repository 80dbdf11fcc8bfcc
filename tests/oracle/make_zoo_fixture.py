#!/usr/bin/env python3
"""Makes tests/cli/zoo: inputs and the outputs that ONNX Runtime gives for examples/digits.onnx, as ONNX's model zoo lays
them out. Needs NumPy, ONNX and ONNX Runtime."""
import pathlib

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

ROOT = pathlib.Path(__file__).resolve().parents[2]
model = str(ROOT / "examples" / "digits.onnx")
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
random = np.random.default_rng(1)
for number, batch in enumerate([1, 2]):  # the second set binds the open batch dimension
    image = random.random((batch, 1, 28, 28), dtype=np.float32)
    scores = session.run(["scores"], {"image": image})[0]
    folder = ROOT / "tests" / "cli" / "zoo" / f"test_data_set_{number}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (("input_0", image), ("output_0", scores)):
        (folder / f"{name}.pb").write_bytes(numpy_helper.from_array(array).SerializeToString())
