#!/usr/bin/env python3
"""A small classifier, samples, and what quantizing its layers does, computed with numpy in double precision:
tests/fixtures/blame/{model.onnx, samples.npy, labels.npy, data.yaml, sensitivity.csv, blame.csv}.

    bench/peers/.venv/bin/python tests/oracle/make_blame_fixtures.py

Only weights are rounded: symmetric, one scale max|w| / (2^(bits-1) - 1) for each output channel, in single precision as
the definition says; half to even. At 4 bits and fewer the scales and the layer's bias are f16. sensitivity.csv has the Kullback-Leibler divergence (nats, mean over samples), that at a temperature of 4,
and the relative L2 error of the logits with one layer in one format, blame.csv with all in s4: of each layer the
signal-to-noise ratio of its output inside the quantized network, and what is lost with it alone quantized or spared.
"""
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "blame"
WIDTHS, NAMES, SAMPLES = [20, 24, 24, 6], ["first", "second", "classes"], 40


def quantized(w, bits):
    """w is K x N; a column is an output channel."""
    most = 2 ** (bits - 1) - 1
    scale = np.abs(w).max(axis=0).astype(np.float32) / np.float32(most)
    scale[scale == 0] = 1
    if bits <= 4:
        scale = scale.astype(np.float16).astype(np.float32)
    return (np.rint(w / scale) * scale.astype(np.float64)).astype(np.float64)


def quantized_in(weights, biases, bits, layers):
    """The network with these layers quantized."""
    new = [quantized(w, bits) if k in layers else w for k, w in enumerate(weights)]
    return new, [b.astype(np.float16).astype(np.float32) if bits <= 4 and k in layers else b for k, b in enumerate(biases)]


def layers_of(weights, biases, x):
    """Outputs of the three layers, before their Relu."""
    outputs = []
    for i, (w, b) in enumerate(zip(weights, biases)):
        x = x @ w.astype(np.float64) + b
        outputs.append(x)
        x = np.maximum(x, 0)
    return outputs


def log_softmax(z, temperature=1):
    z = z / temperature
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def divergence(reference, z, temperature):
    p, q = log_softmax(reference, temperature), log_softmax(z, temperature)
    return (np.exp(p) * (p - q)).sum(axis=1).mean()


def damage(reference, z, labels):
    kl, soft = divergence(reference, z, 1), divergence(reference, z, 4)
    error = np.linalg.norm(z - reference) / np.linalg.norm(reference)
    drop = 100 * ((reference.argmax(1) == labels).mean() - (z.argmax(1) == labels).mean())
    return kl, soft, error, drop


def write_model(weights, biases):
    nodes, initializers, value = [], [], "x"
    for i, name in enumerate(NAMES):
        initializers += [numpy_helper.from_array(weights[i], f"w{i}"), numpy_helper.from_array(biases[i], f"b{i}")]
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [f"y{i}"], name=name))
        value = f"y{i}"
        if i < 2:
            nodes.append(helper.make_node("Relu", [value], [f"r{i}"], name=f"relu{i}"))
            value = f"r{i}"
    graph = helper.make_graph(nodes, "blame", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, WIDTHS[0]])],
                              [helper.make_tensor_value_info(value, TensorProto.FLOAT, [1, WIDTHS[-1]])], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, FOLDER / "model.onnx")


def main():
    rng = np.random.default_rng(5)
    FOLDER.mkdir(parents=True, exist_ok=True)
    weights = [(rng.standard_normal((k, n)) / np.sqrt(k / 2)).astype(np.float32) for k, n in zip(WIDTHS, WIDTHS[1:])]
    weights[1][3, :] *= 6  # one input with large weights makes the second layer's grids coarse
    biases = [(rng.standard_normal(n) / 4).astype(np.float32) for n in WIDTHS[1:]]
    x = rng.standard_normal((SAMPLES, WIDTHS[0])).astype(np.float32)
    reference = layers_of(weights, biases, x)
    labels = reference[-1].argmax(1).astype(np.int64)
    labels[::10] = (labels[::10] + 1) % WIDTHS[-1]
    write_model(weights, biases)
    np.save(FOLDER / "samples.npy", x)
    np.save(FOLDER / "labels.npy", labels)
    (FOLDER / "data.yaml").write_text("kind: npy\npath: samples.npy\nlabels: labels.npy\n")
    with open(FOLDER / "sensitivity.csv", "w") as out:
        print("layer,bits,kl,soft,error", file=out)
        for i, name in enumerate(NAMES):
            for bits in range(2, 9):
                changed = quantized_in(weights, biases, bits, [i])
                kl, soft, error, _ = damage(reference[-1], layers_of(*changed, x)[-1], labels)
                print(f"{name},{bits},{kl:.10e},{soft:.10e},{error:.10e}", file=out)
    noisy = layers_of(*quantized_in(weights, biases, 4, range(len(NAMES))), x)
    with open(FOLDER / "blame.csv", "w") as out:
        print("layer,sqnr_db,alone_kl,alone_soft,alone_error,alone_drop,spared_kl,spared_soft,spared_error,spared_drop", file=out)
        for i, name in enumerate(NAMES):
            sqnr = 10 * np.log10((reference[i] ** 2).sum() / ((noisy[i] - reference[i]) ** 2).sum())
            alone = layers_of(*quantized_in(weights, biases, 4, [i]), x)[-1]
            spared = layers_of(*quantized_in(weights, biases, 4, [k for k in range(len(NAMES)) if k != i]), x)[-1]
            row = [sqnr, *damage(reference[-1], alone, labels), *damage(reference[-1], spared, labels)]
            print(",".join([name] + [f"{v:.10e}" for v in row]), file=out)


if __name__ == "__main__":
    main()
