"""What each repair gives: prints the table of docs/methods.md.

    bench/peers/.venv/bin/python bench/peers/repairs.py [NETWORK...]

The score after it, on samples that calibration did not see; nothing is undone. The rest is the default of `espalier
compress` for a chip that is modelled.
"""
import pathlib
import sys
import tempfile

import common

ROUNDING = ["", "bias", "batchnorm", "gptq order", "adaround", "gptq order, batchnorm"]
CASES = [("resnet20-cifar10", "s4", "format: s4, fit: mse", ROUNDING),
         ("resnet20-cifar10", "s3", "format: s3", ROUNDING),
         ("resnet20-cifar10", "s2", "format: s2", ["", "batchnorm", "gptq order", "adaround", "adaround, batchnorm"]),
         ("resnet20-cifar10", "f32, 80 % of the weights 0", "pattern: unstructured 80%, format: f32", ["", "bias", "batchnorm"]),
         ("vit-cifar10", "s8", "format: s8", ["", "bias", "smooth"]),
         ("vit-cifar10", "s4", "format: s4, fit: mse", ["", "bias", "gptq order", "adaround"]),
         ("mobilenet-v2-imagenet", "s8, one scale for each tensor", "format: s8, scale: tensor",
          ["", "equalize", "bias", "equalize, bias"])]


def score(model, row, repairs, folder):
    recipe = pathlib.Path(folder) / "recipe.yaml"
    recipe.write_text(f"layers:\n- {{match: '*', {row}}}\n")
    done = common.espalier("compress", model.path, "--recipe", recipe, "--chip", "cortex-a76", "--max-drop", 100,
                           "--data", common.data_file(model.data), "--calib", common.data_file(model.calib),
                           "--repair", repairs, "-o", pathlib.Path(folder) / "out")
    return 100 * done["before"]["score"], 100 * done["after"]["score"]


def main():
    print("| network | weights | f32 | repairs: score |")
    print("| --- | --- | ---: | --- |")
    for model in common.pick(sys.argv[1:] or dict.fromkeys(c[0] for c in CASES)):
        for name, weights, row, lists in CASES:
            if name != model.name:
                continue
            cells = []
            for repairs in lists:
                with tempfile.TemporaryDirectory() as folder:
                    before, after = score(model, row, repairs, folder)
                cells.append(f"{repairs.replace(', ', ' + ') or 'none'}: {after:.2f}")
            print(f"| {name} | {weights} | {before:.2f} | " + "; ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
