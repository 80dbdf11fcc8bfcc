"""Which observer keeps most of the accuracy: prints the table of docs/methods.md.

    bench/peers/.venv/bin/python bench/peers/observers.py [MODEL...]

Weights are s8 by channel, activations as the heading says, nothing is undone; the rest is the default of `espalier compress`.
"""
import pathlib
import sys
import tempfile

import common

OBSERVERS = ["minmax", "average 0.9", "percentile 99.9", "percentile 99.99", "mse", "kl"]
WAYS = [("u8", "ort-x86", "{match: '*', format: s8}"), ("s8", "portable", "{match: '*', format: s8}"),
        ("u4", "ort-x86", "{match: '*', format: s8, activations: u4}")]
MODELS = ["resnet20-cifar10", "resnet32-cifar10", "mlperf-tiny-resnet8_cifar10", "vit-cifar10", "mnist-cnn",
          "mobilenet-v2-imagenet", "mlperf-tiny-kws_dscnn", "ultraface-rfb320"]


def score(model, flavour, row, observer, folder):
    recipe = pathlib.Path(folder) / "recipe.yaml"
    recipe.write_text(f"layers:\n- {row}\n")
    done = common.espalier("compress", model.path, "--recipe", recipe, "--chip", "cortex-a76", "--flavour", flavour,
                           "--data", common.data_file(model.data), "--calib", common.data_file(model.calib),
                           "--observer", observer, "--max-drop", 100, "-o", pathlib.Path(folder) / "out")
    return done["before"]["score"], done["after"]["score"]


def main():
    print("| network | activations | f32 | " + " | ".join(OBSERVERS) + " |")
    print("| --- | --- | ---: |" + " ---: |" * len(OBSERVERS))
    for model in common.pick(sys.argv[1:] or MODELS):
        for name, flavour, row in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                scores = [score(model, flavour, row, o, folder) for o in OBSERVERS]
            best = max(s[1] for s in scores)
            cells = [f"**{100 * s[1]:.2f}**" if s[1] == best else f"{100 * s[1]:.2f}" for s in scores]
            print(f"| {model.name} | {name} | {100 * scores[0][0]:.2f} | " + " | ".join(cells) + " |", flush=True)


main()
