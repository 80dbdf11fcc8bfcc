#!/usr/bin/env python3
"""Makes the vectors in tests/conformance/control: networks with If, Loop, Scan, sequences and results whose length depends
on data. The expected outputs are ONNX Runtime's. And the files in control_bad, which no reader may take.

    make_control.py [FOLDER [BAD]]      needs onnx, onnxruntime, numpy
"""
import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

rng = np.random.default_rng(7)
HERE = pathlib.Path(__file__).parent


def f32(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def const(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def info(name, kind=T.FLOAT, shape=None):
    return h.make_tensor_value_info(name, kind, shape)


def node(op, inputs, outputs, name="", **attributes):
    return h.make_node(op, inputs.split(), outputs.split(), name=name or op.lower() + "_" + outputs.split()[0], **attributes)


def graph(name, nodes, inputs, outputs, initializers=()):
    return h.make_graph(nodes, name, inputs, outputs, list(initializers))


def model(nodes, inputs, outputs, initializers=(), opset=16):
    return h.make_model(graph("network", nodes, inputs, outputs, initializers),
                        opset_imports=[h.make_opsetid("", opset)], ir_version=8)


def layer(weight, bias, x, y, name):
    """y = relu(x W + b), with W and b as initializers of that graph."""
    nodes = [node("Gemm", f"{x} {name}_w {name}_b", f"{y}_raw", name=name), node("Relu", f"{y}_raw", y)]
    return nodes, [const(f"{name}_w", weight), const(f"{name}_b", bias)]


def branches():
    """Two branches of layers, both of which read a value from outside."""
    yes, yes_w = layer(f32(6, 4), f32(4), "x", "a", "yes")
    no, no_w = layer(f32(6, 4), f32(4), "x", "c", "no")
    no += [node("Add", "c shift", "d")]
    return (graph("yes", yes, [], [info("a")], yes_w), graph("no", no, [], [info("d")], no_w))


def if_data():
    yes, no = branches()
    nodes = [node("ReduceMean", "x", "mean", keepdims=0), node("Greater", "mean zero", "positive"),
             node("If", "positive", "y", name="if", then_branch=yes, else_branch=no)]
    m = model(nodes, [info("x", shape=["N", 6])], [info("y")], [const("zero", np.float32(0)), const("shift", f32(4))])
    x = f32(3, 6)
    return m, [{"x": np.abs(x)}, {"x": -np.abs(x)}]


def if_shape():
    """The condition is the rank of the input, as exporters write it; the other branch would not fit."""
    yes, no = branches()
    bad = graph("bad", [node("Squeeze", "x axes", "e")], [], [info("e")], [const("axes", np.array([0]))])
    nodes = [node("Shape", "x", "shape"), node("Size", "shape", "rank"), node("Equal", "rank two", "flat"),
             node("If", "flat", "y", name="if", then_branch=yes, else_branch=bad)]
    m = model(nodes, [info("x", shape=["N", 6])], [info("y")], [const("two", np.int64(2)), const("shift", f32(4))])
    return m, [{"x": f32(3, 6)}]


def loop_fixed():
    """Three runs of one layer, whose weights are the body's own; every state is an output too."""
    body_nodes, weights = layer(f32(5, 5) / 2, f32(5), "state", "next", "step")
    body_nodes += [node("Identity", "go", "go_on"), node("Mul", "next scale", "seen")]
    body = graph("body", body_nodes, [info("i", T.INT64, []), info("go", T.BOOL, []), info("state")],
                 [info("go_on", T.BOOL, []), info("next"), info("seen")], weights)
    nodes = [node("Loop", "count go_first x", "y all", name="loop", body=body)]
    m = model(nodes, [info("x", shape=["N", 5])], [info("y"), info("all")],
              [const("count", np.int64(3)), const("go_first", np.array(True)), const("scale", np.float32(0.5))])
    return m, [{"x": f32(2, 5)}]


def loop_until():
    """Doubles until the mean is above one, at most six times."""
    body = graph("body", [node("Mul", "state two", "next"), node("ReduceMean", "next", "mean", keepdims=0),
                          node("Less", "mean one", "go_on")],
                 [info("i", T.INT64, []), info("go", T.BOOL, []), info("state")], [info("go_on", T.BOOL, []), info("next")])
    m = model([node("Loop", "count  x", "y", name="loop", body=body)], [info("x", shape=["N", 3])], [info("y")],
              [const("count", np.int64(6)), const("two", np.float32(2)), const("one", np.float32(1))])
    m.graph.node[0].input[:] = ["count", "", "x"]
    x = np.abs(f32(2, 3))
    return m, [{"x": x / x.mean() * np.float32(k)} for k in (0.2, 0.001, 3)]


def loop_counts():
    """The number of runs is the input's; what every run adds has no bound."""
    body = graph("body", [node("Cast", "i", "i_f", to=T.FLOAT), node("Add", "state i_f", "next"), node("Identity", "go", "go_on")],
                 [info("i", T.INT64, []), info("go", T.BOOL, []), info("state")],
                 [info("go_on", T.BOOL, []), info("next"), info("next")])
    m = model([node("Loop", "n  x", "y all", name="loop", body=body)], [info("n", T.INT64, []), info("x", shape=[3])],
              [info("y"), info("all")])
    m.graph.node[0].input[:] = ["n", "", "x"]
    return m, [{"n": np.int64(n), "x": f32(3)} for n in (4, 1)]


def loop_nested():
    """An If in a Loop in an If, which reads a value from the outermost graph and the run's number."""
    deep_yes = graph("deep_yes", [node("Add", "state x", "p")], [], [info("p")])
    deep_no = graph("deep_no", [node("Mul", "state offset", "q")], [], [info("q")], [const("offset", f32(4))])
    body = graph("body", [node("Mod", "i two", "odd"), node("Cast", "odd", "is_odd", to=T.BOOL),
                          node("If", "is_odd", "next", name="inner", then_branch=deep_yes, else_branch=deep_no),
                          node("Identity", "go", "go_on")],
                 [info("i", T.INT64, []), info("go", T.BOOL, []), info("state")], [info("go_on", T.BOOL, []), info("next")])
    yes = graph("yes", [node("Loop", "four  x", "u", name="loop", body=body)], [], [info("u")],
                [const("four", np.int64(4)), const("two", np.int64(2))])
    yes.node[0].input[:] = ["four", "", "x"]
    no = graph("no", [node("Neg", "x", "w")], [], [info("w")])
    nodes = [node("ReduceSum", "x", "sum", keepdims=0), node("Greater", "sum zero", "positive"),
             node("If", "positive", "y", name="outer", then_branch=yes, else_branch=no)]
    m = model(nodes, [info("x", shape=[2, 4])], [info("y")], [const("zero", np.float32(0))])
    x = f32(2, 4)
    return m, [{"x": np.abs(x)}, {"x": -np.abs(x)}]


def scan_cell():
    """A recurrent cell over axis 1 from the end, its outputs along axis 1; and a running sum forwards."""
    body = graph("body", [node("Gemm", "frame w b", "in"), node("Gemm", "state r zero", "back"), node("Add", "in back", "both"),
                          node("Tanh", "both", "next"), node("Identity", "next", "seen"), node("Add", "sum other", "sum_next"),
                          node("Identity", "sum_next", "sum_seen")],
                 [info("state"), info("sum"), info("frame"), info("other")],
                 [info("next"), info("sum_next"), info("seen"), info("sum_seen")],
                 [const("w", f32(3, 4)), const("b", f32(4)), const("r", f32(4, 4) / 2), const("zero", np.zeros(4, np.float32))])
    nodes = [node("Scan", "h0 s0 x z", "h s hs ss", name="scan", body=body, num_scan_inputs=2, scan_input_axes=[1, 0],
                  scan_input_directions=[1, 0], scan_output_axes=[1, -1], scan_output_directions=[1, 0])]
    m = model(nodes, [info("x", shape=[2, 5, 3]), info("z", shape=[5, 2])], [info("h"), info("s"), info("hs"), info("ss")],
              [const("h0", f32(2, 4)), const("s0", np.zeros(2, np.float32))])
    return m, [{"x": f32(2, 5, 3), "z": f32(5, 2)}]


def sequence_loop():
    """A Loop that grows a sequence, which is joined afterwards; one element is taken out of it."""
    body = graph("body", [node("Mul", "state two", "next"), node("SequenceInsert", "seen next", "more"),
                          node("Identity", "go", "go_on")],
                 [info("i", T.INT64, []), info("go", T.BOOL, []), info("state"),
                  h.make_tensor_sequence_value_info("seen", T.FLOAT, None)],
                 [info("go_on", T.BOOL, []), info("next"), h.make_tensor_sequence_value_info("more", T.FLOAT, None)],
                 [const("two", np.float32(2))])
    nodes = [node("SequenceEmpty", "", "none"), node("Loop", "count  x none", "last all", name="loop", body=body),
             node("SequenceErase", "all one", "rest"), node("ConcatFromSequence", "rest", "y", axis=0, new_axis=1),
             node("SequenceLength", "rest", "n"), node("SequenceAt", "all minus", "z"),
             node("SplitToSequence", "x sizes", "parts", axis=0), node("ConcatFromSequence", "parts", "same", axis=-1)]
    nodes[1].input[:] = ["count", "", "x", "none"]
    m = model(nodes, [info("x", shape=[4])], [info("y"), info("n", T.INT64), info("z"), info("same")],
              [const("count", np.int64(3)), const("one", np.int64(1)), const("minus", np.int64(-1)),
               const("sizes", np.array([1, 3]))])
    return m, [{"x": f32(4)}]


def detect():
    """The end of a detector: boxes from a layer, and the ones that stay."""
    nodes = [node("Gemm", "x w b", "flat"), node("Reshape", "flat box_shape", "boxes"), node("MatMul", "x v", "raw"),
             node("Sigmoid", "raw", "s"), node("Reshape", "s score_shape", "scores"),
             node("NonMaxSuppression", "boxes scores most iou least", "chosen"),
             node("Gather", "chosen two", "rows", axis=1), node("Squeeze", "boxes axes", "all_boxes"),
             node("Gather", "all_boxes rows", "y"), node("Greater", "scores half", "good"), node("NonZero", "good", "where")]
    m = model(nodes, [info("x", shape=[1, 8])], [info("chosen", T.INT64), info("y"), info("where", T.INT64)],
              [const("w", f32(8, 80)), const("b", f32(80) / 2), const("v", f32(8, 60)), const("box_shape", np.array([1, 20, 4])),
               const("score_shape", np.array([1, 3, 20])), const("most", np.array([5])), const("iou", np.array([0.3], np.float32)),
               const("least", np.array([0.4], np.float32)), const("two", np.int64(2)), const("axes", np.array([0])),
               const("half", np.float32(0.5))])
    return m, [{"x": f32(1, 8) / 2}, {"x": f32(1, 8) / 2}]


def unique_axis():
    x = rng.integers(0, 3, (4, 2, 5)).astype(np.float32)
    m = model([node("Unique", "x", "y i v c", axis=2, sorted=1), node("Unique", "x", "fy fi fv fc", sorted=0),
               node("Compress", "x keep", "k", axis=-1)],
              [info("x", shape=[4, 2, 5])],
              [info("y")] + [info(n, T.INT64) for n in ("i", "v", "c")] + [info("fy")] +
              [info(n, T.INT64) for n in ("fi", "fv", "fc")] + [info("k")],
              [const("keep", np.array([True, False, True]))])
    x[:, :, 3] = x[:, :, 1]
    return m, [{"x": x}]


def layers():
    """A convolution in each branch of an If, one that a Loop runs twice, and a Gemm that a Scan runs for every row."""
    def conv(name, x, y, channels):
        weight = const(name + "_w", f32(8, channels, 3, 3) / np.float32(3 * channels**0.5))
        return [node("Conv", f"{x} {name}_w {name}_b", y + "_raw", name=name, pads=[1, 1, 1, 1]), node("Relu", y + "_raw", y)], \
            [weight, const(name + "_b", f32(8) / 4)]

    (yes_nodes, yes_w), (no_nodes, no_w) = conv("yes", "x", "a", 3), conv("no", "x", "b", 3)
    yes, no = graph("yes", yes_nodes, [], [info("a")], yes_w), graph("no", no_nodes, [], [info("b")], no_w)
    step, step_w = conv("step", "state", "next", 8)
    body = graph("body", step + [node("Identity", "go", "go_on")],
                 [info("i", T.INT64, []), info("go", T.BOOL, []), info("state")], [info("go_on", T.BOOL, []), info("next")], step_w)
    cell = graph("cell", [node("Gemm", "row w b", "in", name="cell"), node("Add", "in h", "sum"), node("Tanh", "sum", "h_next"),
                          node("Identity", "h_next", "seen")],
                 [info("h"), info("row")], [info("h_next"), info("seen")],
                 [const("w", f32(64, 6) / 8), const("b", f32(6) / 4)])
    nodes = [node("ReduceMean", "x", "mean", keepdims=0), node("Greater", "mean zero", "positive"),
             node("If", "positive", "c", name="if", then_branch=yes, else_branch=no),
             node("Loop", "two  c", "d", name="loop", body=body), node("Transpose", "d", "t", perm=[2, 0, 1, 3]),
             node("Reshape", "t rows", "r"), node("Scan", "h0 r", "y ys", name="scan", body=cell, num_scan_inputs=1)]
    nodes[3].input[:] = ["two", "", "c"]
    m = model(nodes, [info("x", shape=[1, 3, 8, 8])], [info("ys"), info("y")],
              [const("zero", np.float32(0)), const("two", np.int64(2)), const("rows", np.array([8, 1, 64])),
               const("h0", np.zeros((1, 6), np.float32))])
    x = f32(1, 3, 8, 8)
    return m, [{"x": x - x.mean() + np.float32(k)} for k in (0.1, -0.1)]


CASES = [if_data, if_shape, loop_fixed, loop_until, loop_counts, loop_nested, scan_cell, sequence_loop, detect, unique_axis,
         layers]


def run(m, feeds):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(m.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


def write(folder, m, sets):
    folder.mkdir(parents=True)
    for k, feeds in enumerate(sets):
        data = folder / f"test_data_set_{k}"
        data.mkdir()
        feeds = {name: np.asarray(array) for name, array in feeds.items()}
        for i, array in enumerate(run(m, feeds)):
            (data / f"output_{i}.pb").write_bytes(const(m.graph.output[i].name, array).SerializeToString())
        for i, value in enumerate(m.graph.input):
            (data / f"input_{i}.pb").write_bytes(const(value.name, feeds[value.name]).SerializeToString())
    onnx.save(m, folder / "model.onnx")


def bad_files():
    """Name: a file that contradicts itself."""
    x, y = info("x", shape=[2]), info("y")
    yes = graph("yes", [node("Relu", "x", "a")], [], [info("a")])

    def if_with(no, extra=()):
        nodes = list(extra) + [node("If", "go", "y", name="if", then_branch=yes, else_branch=no)]
        return model(nodes, [x, info("go", T.BOOL, [])], [y])

    deep = graph("deepest", [node("Relu", "x", "b")], [], [info("b")])
    for _ in range(20):
        deep = graph("deep", [node("If", "go", "b", name="deep", then_branch=deep, else_branch=yes)], [], [info("b")])
    loop_body = graph("body", [node("Identity", "go", "go_on")], [info("i", T.INT64, []), info("go", T.BOOL, [])],
                      [info("go_on", T.BOOL, [])])
    yield "deep", if_with(deep)
    yield "name", if_with(graph("no", [node("Relu", "nowhere", "b")], [], [info("b")]))
    yield "cycle", if_with(graph("no", [node("Relu", "after", "b")], [], [info("b")]), [node("Relu", "y", "after")])
    yield "outputs", if_with(graph("no", [], [], []))
    yield "twice", if_with(graph("no", [node("Relu", "x", "b"), node("Neg", "x", "b")], [], [info("b")]))
    yield "inputs", if_with(graph("no", [node("Relu", "x", "b")], [info("t")], [info("b")]))
    yield "missing", model([node("If", "go", "y", name="if", then_branch=yes)], [x, info("go", T.BOOL, [])], [y])
    yield "loop_inputs", model([node("Loop", "n go x", "y", name="loop", body=loop_body)],
                               [x, info("n", T.INT64, []), info("go", T.BOOL, [])], [y])
    yield "subgraph_of_relu", model([node("Relu", "x", "y", name="relu", body=yes)], [x], [y])
    broken = if_with(yes)
    yield "bytes", broken


def main():
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "control"
    bad = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "control_bad"
    for folder in (root, bad):
        shutil.rmtree(folder, ignore_errors=True)
    for case in CASES:
        write(root / case.__name__, *case())
    bad.mkdir(parents=True)
    for name, m in bad_files():
        data = bytearray(m.SerializeToString())
        if name == "bytes":  # the length of a node's name inside the second subgraph
            at = data.rindex(b"relu_a")
            data[at - 1] = 0x7f
        (bad / f"{name}.onnx").write_bytes(bytes(data))


if __name__ == "__main__":
    main()
