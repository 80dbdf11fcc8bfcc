#!/usr/bin/env python3
"""Writes tests/fixtures/repair: small networks, calibration data, and what each repair should make of them, by NumPy in
double precision, from the papers.

    network.onnx    convolution, Relu, depthwise convolution, Clip, 1x1 convolution, Relu, mean, Gemm; channels of very unequal
                    ranges. equalize.NAME.npy: its weights and biases after cross-layer equalization.
                    bias.*, batchnorm.*: biases (and factors of weights) after its weights were rounded to 3 bits,
                    with scales and biases that f16 has.
    absorb.onnx     two 1x1 convolutions; absorb.*: biases after high-bias absorption.
    tokens.onnx     a layer normalisation whose outputs differ greatly, and products; smooth.*: after SmoothQuant.
    matrix.*        a layer as a matrix, with inputs that depend on one another; gptq.*: codes, adaround.*: the least error
                    that any choice of rounding up or down has.
"""
import itertools
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "repair"


def save(name, array, kind=np.float32):
    np.save(OUT / f"{name}.npy", np.ascontiguousarray(array, dtype=kind))


def model(name, nodes, inputs, outputs, constants, opset=17):
    graph = helper.make_graph(
        nodes, name, [helper.make_tensor_value_info(k, TensorProto.FLOAT, v) for k, v in inputs.items()],
        [helper.make_tensor_value_info(k, TensorProto.FLOAT, None) for k in outputs],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in constants.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), OUT / f"{name}.onnx")


def describe(name, array):
    save(name, array)
    (OUT / f"{name}.yaml").write_text(f"kind: npy\npath: {name}.npy\n")


def conv(x, w, b, pad=0, groups=1):
    """x [N, C, H, W], w [O, C / groups, k, k]."""
    n, c, h, wide = x.shape
    k = w.shape[2]
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    per_in, per_out = c // groups, w.shape[0] // groups
    out = np.zeros((n, w.shape[0], h + 2 * pad - k + 1, wide + 2 * pad - k + 1))
    for o in range(w.shape[0]):
        g = o // per_out
        for i in range(per_in):
            for dy in range(k):
                for dx in range(k):
                    out[:, o] += w[o, i, dy, dx] * x[:, g * per_in + i, dy:dy + out.shape[2], dx:dx + out.shape[3]]
    return out + b[None, :, None, None]


# --- the convolutional network -------------------------------------------------------------------------------------------

LAYERS = ["first", "deep", "narrow", "last"]


def make_network(rng):
    p = {"first.w": rng.normal(0, 0.4, (8, 3, 3, 3)), "first.b": rng.normal(0.3, 0.3, 8),
         "deep.w": rng.normal(0, 0.5, (8, 1, 3, 3)), "deep.b": rng.normal(1.0, 0.5, 8),
         "narrow.w": rng.normal(0, 0.3, (12, 8, 1, 1)), "narrow.b": rng.normal(0.2, 0.3, 12),
         "last.w": rng.normal(0, 0.5, (5, 12)), "last.b": rng.normal(0, 0.3, 5)}
    apart = np.exp2(rng.uniform(-4, 4, 8))  # the same function, badly balanced
    p["first.w"] *= apart[:, None, None, None]
    p["first.b"] *= apart
    p["deep.w"] /= apart[:, None, None, None]
    apart = np.exp2(rng.uniform(-3, 3, 12))
    p["narrow.w"] *= apart[:, None, None, None]
    p["narrow.b"] *= apart
    p["last.w"] /= apart
    p["deep.w"] *= np.exp2(rng.uniform(-3, 2, 8))[:, None, None, None]  # some are clipped
    return {k: v.astype(np.float32).astype(np.float64) for k, v in p.items()}


def layer(name, p, x):
    if name == "first":
        return conv(x, p["first.w"], p["first.b"], 1)
    if name == "deep":
        return conv(np.maximum(x, 0), p["deep.w"], p["deep.b"], 1, 8)
    if name == "narrow":
        return conv(np.clip(x, 0, 6), p["narrow.w"], p["narrow.b"])
    return np.maximum(x, 0).mean((2, 3)) @ p["last.w"].T + p["last.b"]


def values(p, x):
    """Output of each layer before its activation."""
    out = {}
    for name in LAYERS:
        x = out[name] = layer(name, p, x)
    return out


def write_network(p):
    nodes = [helper.make_node("Conv", ["x", "first.w", "first.b"], ["a"], "first", pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["a"], ["b"]),
             helper.make_node("Conv", ["b", "deep.w", "deep.b"], ["c"], "deep", pads=[1, 1, 1, 1], group=8),
             helper.make_node("Clip", ["c", "zero", "six"], ["d"]),
             helper.make_node("Conv", ["d", "narrow.w", "narrow.b"], ["e"], "narrow"),
             helper.make_node("Relu", ["e"], ["f"]),
             helper.make_node("GlobalAveragePool", ["f"], ["g"]),
             helper.make_node("Flatten", ["g"], ["h"]),
             helper.make_node("Gemm", ["h", "last.w", "last.b"], ["y"], "last", transB=1)]
    model("network", nodes, {"x": [1, 3, 8, 8]}, ["y"], {**p, "zero": 0.0, "six": 6.0})


def equalized(p, x):
    p = {k: v.copy() for k, v in p.items()}
    most = values(p, x)["deep"].max((0, 2, 3))
    for _ in range(500):
        for a, b in zip(LAYERS, LAYERS[1:]):
            made = np.abs(p[a + ".w"]).reshape(len(p[a + ".b"]), -1).max(1)
            w = p[b + ".w"]
            read = np.abs(w).reshape(len(w), -1).max(1) if b == "deep" else np.abs(w).reshape(len(w), len(made), -1).max((0, 2))
            s = np.sqrt(made / read)
            if a == "deep":  # a Clip at 6 follows
                s = np.where(most < 6, np.maximum(s, 1.25 * most / 6), 1)
                most = most / s
            wide = (slice(None),) + (None,) * (p[a + ".w"].ndim - 1)
            p[a + ".w"] /= s[wide]
            p[a + ".b"] /= s
            if b == "deep":
                p[b + ".w"] *= s[:, None, None, None]
            else:
                p[b + ".w"] *= s.reshape((1, -1) + (1,) * (w.ndim - 2))
    return p


def half(x):
    return x.astype(np.float16).astype(np.float64)


def rounded(w, bits=3):
    """Codes, and a scale for each output."""
    hi = 2 ** (bits - 1) - 1
    s = half(np.abs(w).reshape(len(w), -1).max(1) / hi)
    return np.clip(np.round(w / over(s, w)), -hi - 1, hi), s


def over(s, w):
    return s.reshape((-1,) + (1,) * (w.ndim - 1))


def corrected(p, x, variance):
    """Layer after layer: moments of its outputs' channels become those of the f32 network."""
    codes = {k: rounded(v) for k, v in p.items() if k.endswith(".w")}
    q = {k: codes[k][0] * over(codes[k][1], v) if k in codes else half(v) for k, v in p.items()}
    want, now, factors = values(p, x), x, {}
    for name in LAYERS:
        c, s = codes[name + ".w"]
        axes = (0,) if name == "last" else (0, 2, 3)
        have = layer(name, q, now)
        f = np.ones(len(q[name + ".b"]))
        if variance:
            f = want[name].std(axes) / have.std(axes)
            f = half(np.where((f > 0.25) & (f < 4), f, 1) * s) / s
        q[name + ".b"] = half((q[name + ".b"] - have.mean(axes)) * f + want[name].mean(axes))
        q[name + ".w"] = c * over(half(f * s), c)
        factors[name] = f
        now = layer(name, q, now)
    return q, factors


def convolutional(rng):
    p, x = make_network(rng), rng.normal(0, 1, (16, 3, 8, 8)).astype(np.float32).astype(np.float64)
    write_network(p)
    describe("images", x)
    assert (values(p, x)["deep"].max((0, 2, 3)) > 6).any() and (values(p, x)["deep"].max((0, 2, 3)) < 6).any()
    for k, v in equalized(p, x).items():
        save(f"equalize.{k}", v)
    for name in ("bias", "batchnorm"):
        q, factors = corrected(p, x, name == "batchnorm")
        for n in LAYERS:
            save(f"{name}.{n}.b", q[n + ".b"])
            if name == "batchnorm":
                save(f"{name}.{n}.factor", factors[n])


def absorption(rng):
    a, b = rng.normal(0, 0.2, (6, 3, 1, 1)), rng.normal(0, 0.5, (4, 6, 1, 1))
    first, second = np.array([4.0, 0.1, 3.0, -1.0, 5.0, 0.0]), rng.normal(0, 1, 4)
    a, b = a.astype(np.float32), b.astype(np.float32)
    second = second.astype(np.float32).astype(np.float64)
    x = rng.normal(0, 1, (16, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(x.shape, (16, 3, 8, 8))
    nodes = [helper.make_node("Conv", ["x", "a", "first"], ["u"], "a"), helper.make_node("Relu", ["u"], ["v"]),
             helper.make_node("Conv", ["v", "b", "second"], ["y"], "b")]
    model("absorb", nodes, {"x": [1, 3, 8, 8]}, ["y"], {"a": a, "b": b, "first": first, "second": second})
    describe("pixels", x)
    a, b = a.astype(np.float64), b.astype(np.float64)
    s = np.sqrt(np.abs(a).max((1, 2, 3)) / np.abs(b).max((0, 2, 3)))  # equalization comes first
    a, first, b = a / s[:, None, None, None], first / s, b * s[None, :, None, None]
    u = conv(x.astype(np.float64), a, first)
    c = np.maximum(np.minimum(u.mean((0, 2, 3)) - 3 * u.std((0, 2, 3)), u.min((0, 2, 3))), 0)
    assert (c > 0).sum() == 3
    save("absorb.first", first - c)
    save("absorb.second", second + b[:, :, 0, 0] @ c)


# --- the transformer's layer ----------------------------------------------------------------------------------------------

def smoothing(rng, n=16):
    gamma, beta = rng.uniform(0.5, 1.5, n), rng.normal(0, 0.2, n)
    gamma[[3, 11]] *= 60  # the outliers
    w = {k: rng.normal(0, 0.3, (n, n)).astype(np.float32).astype(np.float64) for k in ("query", "key", "up")}
    b = {k: rng.normal(0, 0.2, n).astype(np.float32).astype(np.float64) for k in ("query", "up")}
    gamma, beta = gamma.astype(np.float32).astype(np.float64), beta.astype(np.float32).astype(np.float64)
    for k in ("query", "key"):
        w[k][[3, 11]] /= 30
    tokens = rng.normal(0, 1, (16, 5, n)).astype(np.float32)
    nodes = [helper.make_node("LayerNormalization", ["t", "gamma", "beta"], ["x"], "norm", axis=-1),
             helper.make_node("MatMul", ["x", "key.w"], ["k"], "key"),
             helper.make_node("MatMul", ["x", "query.w"], ["u"], "query"),
             helper.make_node("Add", ["u", "query.b"], ["v"], "query_bias"), helper.make_node("Relu", ["v"], ["r"]),
             helper.make_node("MatMul", ["r", "up.w"], ["z"], "up"), helper.make_node("Add", ["z", "up.b"], ["y"], "up_bias")]
    constants = {"gamma": gamma, "beta": beta, **{k + ".w": v for k, v in w.items()}, **{k + ".b": v for k, v in b.items()}}
    model("tokens", nodes, {"t": [1, 5, n]}, ["y", "k"], constants)
    describe("words", tokens)
    t = tokens.astype(np.float64)
    x = (t - t.mean(-1, keepdims=True)) / np.sqrt(t.var(-1, keepdims=True) + 1e-5) * gamma + beta
    r = np.maximum(x @ w["query"] + b["query"], 0)
    alpha = 0.6
    most = np.abs(np.concatenate([w["query"], w["key"]], 1)).max(1)
    s1 = np.abs(x).max((0, 1)) ** alpha / most ** (1 - alpha)
    s2 = np.abs(r).max((0, 1)) ** alpha / np.abs(w["up"]).max(1) ** (1 - alpha)
    for k, v in {"gamma": gamma / s1, "beta": beta / s1, "key.w": w["key"] * s1[:, None],
                 "query.w": w["query"] * s1[:, None] / s2, "query.b": b["query"] / s2, "up.w": w["up"] * s2[:, None]}.items():
        save(f"smooth.{k}", v)


# --- rounding -------------------------------------------------------------------------------------------------------------

def gptq(w, s, x, lo, hi, dampening, order, pruned=None):
    w, k = w.copy(), w.shape[1]
    h = x.T @ x
    h += np.eye(k) * dampening * np.diag(h).mean()
    at = np.argsort(-np.diag(h), kind="stable") if order else np.arange(k)
    u = np.linalg.cholesky(np.linalg.inv(h[at][:, at])).T
    codes = np.zeros(w.shape)
    for i, c in enumerate(at):
        q = np.clip(np.round(w[:, c] / s), lo, hi)
        if pruned is not None:
            q[pruned[:, c]] = 0
        codes[:, c] = q
        w[:, at[i:]] -= np.outer((w[:, c] - q * s) / u[i, i], u[i, i:])
    return codes


def best(w, s, x, b, want, lo, hi, relu):
    """The least mean square over all roundings up and down, row by row, and that of nearest."""
    f = (lambda y: np.maximum(y, 0)) if relu else (lambda y: y)
    bits = np.array(list(itertools.product([0, 1], repeat=w.shape[1])))
    least, nearest = [], []
    for r in range(len(w)):
        q = np.clip(np.floor(w[r] / s[r]) + bits, lo, hi) * s[r]
        least.append(((f(q @ x.T + b[r]) - f(want[:, r])) ** 2).mean(1).min())
        plain = np.clip(np.round(w[r] / s[r]), lo, hi) * s[r]
        nearest.append(((f(plain @ x.T + b[r]) - f(want[:, r])) ** 2).mean())
    return np.array([least, nearest])


def matrices(rng, outputs=8, k=12, samples=300):
    mix = rng.normal(0, 1, (k, k)) + 1.5
    x = np.maximum(rng.normal(0, 1, (samples, k)) @ mix, 0).astype(np.float32).astype(np.float64)
    w = rng.normal(0, 0.5, (outputs, k))
    w[rng.uniform(size=w.shape) < 0.2] = 0
    w = w.astype(np.float32).astype(np.float64)
    s = (np.abs(w).max(1) / 7).astype(np.float32).astype(np.float64)
    b = rng.normal(0, 1, outputs).astype(np.float32).astype(np.float64)
    inputs = (x + rng.normal(0, 0.05, x.shape)).astype(np.float32).astype(np.float64)  # rounded ones, as it were
    y = (x @ w.T + b).astype(np.float32).astype(np.float64)
    for name, v in {"w": w, "scale": s, "bias": b, "x": inputs, "y": y}.items():
        save(f"matrix.{name}", v)
    save("gptq.plain", gptq(w, s, inputs, -8, 7, 0.01, False), np.int8)
    save("gptq.order", gptq(w, s, inputs, -8, 7, 0.05, True), np.int8)
    save("gptq.pruned", gptq(w, s, inputs, -8, 7, 0.01, False, w == 0), np.int8)
    save("adaround.linear", best(w, s, inputs, b, y, -8, 7, False))
    save("adaround.relu", best(w, s, inputs, b, y, -8, 7, True))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(1906)
    convolutional(rng)
    absorption(rng)
    smoothing(rng)
    matrices(rng)


if __name__ == "__main__":
    main()
