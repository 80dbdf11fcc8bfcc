#!/usr/bin/env python3
"""Writes tests/fixtures/perplexity: tiny language models, and what NumPy makes of a text with them in double precision.

lm.onnx takes tokens of any sequence x batch and has the state of its LSTM as h and c, next to h.next and c.next;
lm_fixed.onnx is the same with 7 x 1 tokens of 32 bits and logits of rank 2. The text is tests/fixtures/text/small.txt.
expected.npy: mean cross-entropy, fractions of top 1 and top 5 over all tokens but the first with the state carried
from the first token to the last; then the cross-entropy if the state were zeros again after every 35 tokens.
Needs NumPy and onnx.
"""
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "perplexity"
VOCABULARY, EMBEDDING, HIDDEN = 21, 6, 10


def weights(random):
    def draw(*shape):
        return random.uniform(-1.5, 1.5, shape).astype(np.float32)

    return {"embedding": draw(VOCABULARY, EMBEDDING), "w": draw(1, 4 * HIDDEN, EMBEDDING), "r": draw(1, 4 * HIDDEN, HIDDEN),
            "b": draw(1, 8 * HIDDEN), "out": draw(HIDDEN, VOCABULARY), "bias": draw(VOCABULARY)}


def write(name, tensors, sequence, batch, token, flat):
    nodes = [
        helper.make_node("Gather", ["embedding", "tokens"], ["x"]),
        helper.make_node("LSTM", ["x", "w", "r", "b", "", "h", "c"], ["y4", "h.next", "c.next"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["y4", "axes"], ["y"]),
        helper.make_node("MatMul", ["y", "out"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["scores" if flat else "logits"]),
    ]
    constants = {**tensors, "axes": np.array([1])}
    shape = [sequence, batch, VOCABULARY]
    if flat:
        nodes.append(helper.make_node("Reshape", ["scores", "shape"], ["logits"]))
        constants["shape"] = np.array([-1, VOCABULARY])
        shape = [sequence * batch, VOCABULARY]
    state = [1, batch, HIDDEN]
    graph = helper.make_graph(
        nodes, name,
        [helper.make_tensor_value_info("tokens", token, [sequence, batch])]
        + [helper.make_tensor_value_info(n, TensorProto.FLOAT, state) for n in ("h", "c")],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)]
        + [helper.make_tensor_value_info(n, TensorProto.FLOAT, state) for n in ("h.next", "c.next")],
        [numpy_helper.from_array(value, key) for key, value in constants.items()])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    onnx.save(model, str(OUT / f"{name}.onnx"))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def logits(tensors, stream, restart):
    """One row for each token; gates in ONNX's order: input, output, forget, cell."""
    t = {key: value.astype(np.float64) for key, value in tensors.items()}
    h, c, rows = np.zeros(HIDDEN), np.zeros(HIDDEN), []
    for place, token in enumerate(stream):
        if restart and place % restart == 0:
            h, c = np.zeros(HIDDEN), np.zeros(HIDDEN)
        gates = t["w"][0] @ t["embedding"][token] + t["r"][0] @ h + t["b"][0].reshape(2, -1).sum(0)
        i, o, f, g = gates.reshape(4, HIDDEN)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        rows.append(h @ t["out"] + t["bias"])
    return np.array(rows)


def measure(rows, targets):
    highest = rows.max(1, keepdims=True)
    of_target = rows[np.arange(len(targets)), targets]
    loss = np.log(np.exp(rows - highest).sum(1)) + highest[:, 0] - of_target
    above = (rows > of_target[:, None]).sum(1)
    return loss.mean(), (above < 1).mean(), (above < 5).mean()


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    tensors = weights(np.random.default_rng(1997))
    write("lm", tensors, "sequence", "batch", TensorProto.INT64, False)
    write("lm_fixed", tensors, 7, 1, TensorProto.INT32, True)
    stream = np.load(OUT.parent / "text" / "words.npy")
    carried = measure(logits(tensors, stream[:-1], 0), stream[1:])
    restarted = measure(logits(tensors, stream[:-1], 35), stream[1:])
    np.save(OUT / "expected.npy", np.array([*carried, restarted[0]]))
    print(carried, restarted)


if __name__ == "__main__":
    main()
