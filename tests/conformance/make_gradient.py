#!/usr/bin/env python3
"""Makes the vectors in tests/conformance/gradient: models with a Gradient node, whose outputs are those of PyTorch's autograd in
f64, rounded to f32. They cover each operator that has a derivative, broadcasting both ways, values that are read twice, an x
that y does not depend on, zs, and a gradient of a gradient.

    python make_gradient.py [FOLDER]      needs onnx and numpy; PyTorch is that of $TORCH_PYTHON, /usr/bin/python3
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

# name: ({input: shape}, [(operator, inputs, output)], [(xs, zs, y)]). The outputs of Gradient k are g<k>_<x>; a later node or
# Gradient may read them. Inputs of the name p... are positive.
CASES = {
    "add_broadcast": ({"a": (2, 3, 4), "b": (3, 1)}, [("Add", "ab", "y")], [("ab", "", "y")]),
    "sub_broadcast": ({"a": (4,), "b": (2, 1, 4)}, [("Sub", "ab", "y")], [("ab", "", "y")]),
    "mul_square": ({"a": (2, 3)}, [("Mul", "aa", "y")], [("a", "", "y")]),
    "mul_broadcast": ({"a": (2, 3), "b": (3,)}, [("Mul", "ab", "c"), ("Mul", "cb", "y")], [("ab", "", "y")]),
    "div_broadcast": ({"a": (2, 1), "p": (2, 3)}, [("Div", "ap", "y")], [("ap", "", "y")]),
    "neg_sum": ({"a": (2, 3), "b": (1, 3), "c": ()}, [("Neg", "a", "n"), ("Sum", "nbca", "s"), ("Mul", "sb", "y")], [("abc", "", "y")]),
    "exp_log_sqrt": ({"p": (5,)}, [("Log", "p", "l"), ("Sqrt", "p", "s"), ("Mul", "ls", "m"), ("Exp", "m", "y")], [("p", "", "y")]),
    "tanh_sigmoid": ({"a": (3, 2)}, [("Tanh", "a", "t"), ("Sigmoid", "a", "s"), ("Div", "ts", "y")], [("a", "", "y")]),
    "relu": ({"a": (3, 5)}, [("Relu", "a", "r"), ("Mul", "ra", "y")], [("a", "", "y")]),
    "identity_unused": ({"a": (2,), "u": (3, 2)}, [("Identity", "a", "i"), ("Mul", "ii", "y")], [("au", "", "y")]),
    "matmul": ({"a": (3, 4), "b": (4, 2), "c": (2,)}, [("MatMul", "ab", "m"), ("Add", "mc", "h"), ("Tanh", "h", "y")], [("abc", "", "y")]),
    "matmul_batch": ({"a": (2, 3, 4), "b": (4, 2)}, [("MatMul", "ab", "m"), ("Mul", "mm", "y")], [("ab", "", "y")]),
    "matmul_heads": ({"a": (2, 1, 3, 4), "b": (5, 4, 2)}, [("MatMul", "ab", "m"), ("Sigmoid", "m", "y")], [("ab", "", "y")]),
    "zs": ({"a": (3,), "b": (3,)}, [("Mul", "ab", "c"), ("Mul", "ca", "y")], [("a", "b", "y")]),
    "inner": ({"a": (3,)}, [("Exp", "a", "e"), ("Mul", "ea", "y")], [("e", "a", "y")]),
    "twice": ({"a": (4,)}, [("Tanh", "a", "t"), ("Mul", "ta", "y")], [("a", "", "y"), ("a", "", "g0_a")]),
}


# What is refused: test_gradient.c has the sentences. {input: shape}, nodes, (inputs of Gradient, its attributes).
BAD = {
    "softmax": ({"a": (2, 3)}, [("Softmax", "a", "y")], ("a", dict(xs="a", y="y"))),
    "open": ({"a": ("N",), "b": ("M",)}, [("Mul", "ab", "y")], ("ab", dict(xs="ab", y="y"))),
    "vector": ({"a": (2, 3), "b": (3,)}, [("MatMul", "ab", "y")], ("ab", dict(xs="ab", y="y"))),
    "renamed": ({"a": (3,), "b": (3,)}, [("Mul", "ab", "y")], ("ba", dict(xs="ab", y="y"))),
    "no_y": ({"a": (3,)}, [("Neg", "a", "y")], ("a", dict(xs="a", y="z"))),
    "no_xs": ({"a": (3,)}, [("Neg", "a", "y")], ("a", dict(y="y"))),
    "too_few": ({"a": (3,), "b": (3,)}, [("Neg", "a", "y")], ("ab", dict(xs="a", y="y"))),
    "itself": ({"a": (3,)}, [("Neg", "a", "y")], ("a", dict(xs="a", y="g0"))),
}


def inputs_of(name):
    rng = np.random.default_rng(sum(map(ord, name)))
    draw = {x: rng.standard_normal(shape) for x, shape in CASES[name][0].items()}
    return {x: (np.abs(v) + 0.5 if x == "p" else v).astype(np.float32) for x, v in draw.items()}


def values_by_torch(out):
    """{name: array} of every Gradient's outputs, by PyTorch."""
    import torch
    ops = dict(Add=torch.add, Sub=torch.sub, Mul=torch.mul, Div=torch.div, Neg=torch.neg, Sum=lambda *x: sum(x), MatMul=torch.matmul,
               Exp=torch.exp, Log=torch.log, Sqrt=torch.sqrt, Tanh=torch.tanh, Sigmoid=torch.sigmoid, Relu=torch.relu, Identity=torch.clone)
    arrays = {}
    for name, (_, nodes, gradients) in CASES.items():
        values = {x: torch.tensor(v.astype(np.float64), requires_grad=True) for x, v in inputs_of(name).items()}
        for op, args, y in nodes:
            values[y] = ops[op](*[values[x] for x in args])
        for k, (xs, zs, y) in enumerate(gradients):
            found = torch.autograd.grad(values[y].sum(), [values[x] for x in xs], create_graph=True, allow_unused=True)
            for x, g in zip(xs, found):
                values[f"g{k}_{x}"] = torch.zeros_like(values[x]) if g is None else g
                arrays[f"{name}/g{k}_{x}"] = values[f"g{k}_{x}"].detach().numpy().astype(np.float32)
    np.savez(out, **arrays)


def write_bad(folder, name):
    from onnx import TensorProto, helper
    shapes, nodes, (inputs, attributes) = BAD[name]
    attributes = {k: list(v) if k == "xs" else v for k, v in attributes.items()}
    made = [helper.make_node(op, list(args), [y]) for op, args, y in nodes]
    made.append(helper.make_node("Gradient", list(inputs), ["g0"], name="gradient", domain="ai.onnx.preview.training", **attributes))
    graph = helper.make_graph(made, name, [helper.make_tensor_value_info(x, TensorProto.FLOAT, s) for x, s in shapes.items()],
                              [helper.make_tensor_value_info("g0", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13),
                                                                  helper.make_opsetid("ai.onnx.preview.training", 1)])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.onnx").write_bytes(model.SerializeToString())


def write(root, name, expected):
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    shapes, nodes, gradients = CASES[name]
    made = [helper.make_node(op, list(args), [y]) for op, args, y in nodes]
    outputs = []
    for k, (xs, zs, y) in enumerate(gradients):
        names = [f"g{k}_{x}" for x in xs]
        attributes = dict(xs=list(xs), y=y, **(dict(zs=list(zs)) if zs else {}))
        made.append(helper.make_node("Gradient", list(xs + zs), names, domain="ai.onnx.preview.training", **attributes))
        outputs += names
    graph = helper.make_graph(made, name, [helper.make_tensor_value_info(x, TensorProto.FLOAT, s) for x, s in shapes.items()],
                              [helper.make_tensor_value_info(y, TensorProto.FLOAT, None) for y in outputs])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 12 if name.startswith("add") else 13),
                                                                  helper.make_opsetid("ai.onnx.preview.training", 1)])
    data = root / name / "test_data_set_0"
    shutil.rmtree(root / name, ignore_errors=True)
    data.mkdir(parents=True)
    onnx.save(model, root / name / "model.onnx")
    for i, (x, v) in enumerate(inputs_of(name).items()):
        (data / f"input_{i}.pb").write_bytes(numpy_helper.from_array(v, x).SerializeToString())
    for i, y in enumerate(outputs):
        (data / f"output_{i}.pb").write_bytes(numpy_helper.from_array(expected[f"{name}/{y}"], y).SerializeToString())


def main():
    for name in BAD if len(sys.argv) == 1 else ():
        write_bad(pathlib.Path(__file__).parent / "gradient_bad", name)
    if sys.argv[1:2] == ["--torch"]:
        return values_by_torch(sys.argv[2])
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "gradient")
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "torch.npz")
        subprocess.run([os.environ.get("TORCH_PYTHON", "/usr/bin/python3"), __file__, "--torch", out], check=True)
        with np.load(out) as expected:
            for name in CASES:
                write(root, name, expected)


if __name__ == "__main__":
    main()
