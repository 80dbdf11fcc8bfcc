#!/usr/bin/env python3
"""Compresses every network of ESPL_ASSETS/models and says what came of it: accuracy against the targets, the same file in
ONNX Runtime, sizes against theirs.

    bench/peers/setup.sh && bench/peers/.venv/bin/python bench/peers/results.py [MODEL...] [--write]

Exit 1 if a target is missed. Calibration sees at most 512 samples of the training part (MobileNetV2: the 100 sample
images with i mod 5 = 0, measured on the other 400). --write puts the tables into docs/results.md.
"""
import argparse
import math
import sys
import time

import onnx

import common

MB = 1 << 20
IMAGES_APART = 3


def channels(path):
    """Output channels of all layers of an exported file that have weights or are batch norms that could not be folded."""
    graph = onnx.load(path).graph
    shapes = {i.name: tuple(i.dims) for i in graph.initializer}
    shapes.update({n.output[0]: shapes[n.input[0]] for n in graph.node
                   if n.op_type == "DequantizeLinear" and n.input[0] in shapes})
    count = 0
    for node in graph.node:
        shape = shapes.get(node.input[1]) if len(node.input) > 1 else None
        if shape is None:
            continue
        if node.op_type in ("Conv", "BatchNormalization"):
            count += shape[0]
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            count += shape[0 if transposed else 1]
        elif node.op_type == "MatMul":
            count += shape[-1]
        elif node.op_type == "LSTM":
            count += 2 * shape[0] * shape[1]
    return count


def size_limit(model, exported, params):
    """What the file may take: 0.27 of a large f32 file; a quarter of a small one's weights, 8 bytes a channel, 4 KB."""
    size = model.path.stat().st_size
    if size > MB:
        return 0.27 * size, f"0.27 × {size:,}"
    count = channels(exported)
    return params + 8 * count + 4096, f"{params:,} + 8 × {count} + 4096"


def target(model, before):
    if model.least is not None:
        return model.least
    return before - model.drop / 100 if model.drop is not None else None


def images(model, samples):
    """f32, .espl and exported ONNX on a labelled data set."""
    folder, report = common.compressed(model)
    data = common.data_file(model.data)
    before = common.espalier("eval", model.path, "--data", data)["top1"]
    after = common.espalier("eval", folder / "model.espl", "--data", data)["top1"]
    espl = common.outputs_of(common.Espalier(folder / "model.espl"), samples)
    runtime = common.OnnxRuntime(folder / "model.onnx")
    exported = common.outputs_of(runtime, samples)
    in_ort = common.top1(exported, samples.labels)
    apart = round(abs(after - in_ort) * len(samples))
    wanted = target(model, before)
    good = (wanted is None or after >= wanted - 1e-9) and apart <= IMAGES_APART
    return {"model": model.name, "samples": len(samples), "calibration": report["calibration_samples"],
            "before": before, "after": after, "target": wanted, "ort": in_ort, "apart": apart,
            "argmax": int((espl.argmax(1) != exported.argmax(1)).sum()), "good": good}


def outputs(model, samples):
    """The same without labels: against the f32 network's outputs."""
    folder, report = common.compressed(model)
    espl = common.Espalier(folder / "model.espl")
    truth = common.outputs_of(common.OnnxRuntime(model.path, shapes=espl.shapes), samples)
    after = common.outputs_of(espl, samples)
    exported = common.outputs_of(common.OnnxRuntime(folder / "model.onnx", shapes=espl.shapes), samples)
    return {"model": model.name, "samples": len(samples), "calibration": report["calibration_samples"],
            "agreement": float((truth.argmax(1) == after.argmax(1)).mean()) if model.classes else math.nan,
            "error": common.relative_error(after, truth), "ort": common.relative_error(exported, truth),
            "between": common.relative_error(after, exported)}


def sizes(model):
    folder, report = common.compressed(model)
    limit, how = size_limit(model, folder / "model.onnx", report["params"])
    size = (folder / "model.espl").stat().st_size
    return {"model": model.name, "f32": model.path.stat().st_size, "espl": size,
            "onnx": (folder / "model.onnx").stat().st_size, "limit": limit, "how": how, "good": size <= limit,
            "kept": sum(1 for l in report["layers"] if l["params"] and l["format_after"] == "f32")}


def percent(x):
    return "–" if x is None or math.isnan(x) else f"{100 * x:.2f}"


def mark(good):
    return "yes" if good else "**no**"


def page(labelled, unlabelled, files):
    text = ["## Accuracy\n", "Top-1 in per cent. Espalier's own figures are `espalier eval` on the two files; the "
            "exported ONNX file is run by ONNX Runtime on the same samples. *Apart*: by how many images the two top-1 "
            "figures differ (3 are allowed); *other answers*: samples whose first class differs, right or wrong.\n",
            common.table(["network", "samples", "calibrated on", "f32", "s8", "target", "ONNX in ONNX Runtime", "apart",
                          "other answers", "reached"],
                         [[r["model"], r["samples"], r["calibration"], percent(r["before"]), percent(r["after"]),
                           percent(r["target"]), percent(r["ort"]), r["apart"], r["argmax"], mark(r["good"])]
                          for r in labelled])]
    if unlabelled:
        text += ["\n## Networks without labelled data\n", "Against the f32 network in ONNX Runtime on the same inputs (see "
                 "`bench/peers/synthetic.py`: pictures, one real machine sound, synthesised speech). Errors are relative, "
                 "|a − b| / |b| over all outputs, in per cent.\n",
                 common.table(["network", "samples", "calibrated on", "same first class", "error of s8",
                               "error of the ONNX file in ONNX Runtime", "between the two"],
                              [[r["model"], r["samples"], r["calibration"], percent(r["agreement"]), percent(r["error"]),
                                percent(r["ort"]), percent(r["between"])] for r in unlabelled])]
    text += ["\n## Sizes\n", "Bytes. The limit is 0.27 of the f32 ONNX file above 1 MB; below, a quarter of the weights (one "
             "byte for each parameter), 8 bytes for each channel and 4 KB.\n",
             common.table(["network", "f32 ONNX", "s8 .espl", "ratio", "s8 ONNX", "limit", "layers left in f32", "kept"],
                          [[r["model"], f"{r['f32']:,}", f"{r['espl']:,}", f"{r['espl'] / r['f32']:.3f}",
                            f"{r['onnx']:,}", f"{int(r['limit']):,}", r["kept"], mark(r["good"])] for r in files])]
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--write", action="store_true", help="puts the tables into docs/results.md")
    args = parser.parse_args()
    models = common.pick(args.models)
    if not models:
        print("skipped: no assets")
        return 0
    labelled, unlabelled, files = [], [], []
    for model in models:
        begin = time.time()
        samples = common.Samples(model.data)
        row = images(model, samples) if model.labels else outputs(model, samples)
        (labelled if model.labels else unlabelled).append(row)
        files.append(sizes(model))
        print(f"{model.name}: {time.time() - begin:.0f} s", file=sys.stderr, flush=True)
    text = page(labelled, unlabelled, files)
    print(text)
    if args.write:
        common.replace_section(common.ROOT / "docs" / "results.md", "results", text)
    return 0 if all(r["good"] for r in labelled + files) else 1


if __name__ == "__main__":
    sys.exit(main())
