#!/usr/bin/env python3
"""Times whole pruned networks beside their dense selves and ONNX Runtime, interleaved in one process.

    bench/peers/setup.sh && bench/peers/.venv/bin/python bench/peers/pruned.py [NAME...] [--threads 1] [--cpu vnni] [--write]

The networks are those of networks.py, with random weights: pruned by a recipe of recipes/ they cost what trained ones would.
Figures are medians as in ort.py. Each pruned program's output is compared with that of ONNX Runtime on the ONNX file that
compress wrote beside it, zeros in place; exit 1 if one is wrong.
"""
import argparse
import sys
import time
from dataclasses import dataclass

import limit


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a network of networks.py")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu", choices=limit.LEVELS, help="the highest instruction set of both sides")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.2, help="least length of a round")
    parser.add_argument("--write", action="store_true", help="puts the table into docs/benchmarks.md (or ESPL_PAGE)")
    return parser.parse_args()


if __name__ == "__main__":  # ONNX Runtime looks at the processor when it is loaded
    args = arguments()
    if args.cpu:
        limit.apply(args.cpu)

import numpy as np

import common
import networks
import ort as bench

F32_ERROR, S8_ERROR = 1e-3, 0.1


@dataclass(frozen=True)
class Case:
    """How many times faster than each the pruned network shall be; int8: ONNX Runtime's better integers."""
    network: str
    recipe: str
    targets: dict
    tiles: bool = True  # the target against our own dense network holds where tiles (AMX) multiply it too


CASES = [
    Case("lstm-2x1500", "bank-2-16-s8", {"int8": 4, "ORT f32": 20}),
    Case("lstm-2x1500", "bank-3-32-f32", {"ORT f32": 8}),
    Case("resnet50", "bank-4-16-s8", {"dense": 1.5, "int8": 2.2}, tiles=False),
    Case("resnet18", "bank-4-16-s8", {"dense": 1.5, "int8": 2.2}, tiles=False),
    Case("resnet50", "bank-2-16-s8", {}),
    Case("resnet18", "bank-2-16-s8", {}),
    Case("resnet50", "unstructured-90-s8", {}),
    Case("resnet18", "unstructured-90-s8", {}),
    Case("resnet50", "unstructured-90", {}),
    Case("resnet18", "unstructured-90", {}),
]


def programs(network, cases, threads):
    """All programs of a network and, of each recipe, what ONNX Runtime runs to compare with."""
    f32 = networks.made(network)
    made = {"ORT f32": common.OnnxRuntime(f32, threads)}
    for form in ("qdq", "dyn"):
        if form in network.forms:
            made[f"ORT {form}"] = common.OnnxRuntime(networks.made(network, form), threads)
    made["f32"] = common.Espalier(common.to_espl(f32, networks.FOLDER / f"{network.name}.f32.espl"), threads)
    made["s8"] = common.Espalier(networks.ours(network)[0], threads)
    truth = {}
    for case in cases:
        recipe = (common.ROOT / "recipes" / f"{case.recipe}.yaml").read_text()
        folder = networks.compressed(network, case.recipe, recipe)
        made[case.recipe] = common.Espalier(folder / "model.espl", threads)
        truth[case.recipe] = common.OnnxRuntime(folder / "model.onnx", threads)
    for session in (*made.values(), *truth.values()):
        session.bind([network.sample()])
        session.run()
    return made, truth


class Row:
    def __init__(self, case, names, rounds, error, kernels):
        self.case, self.names, self.rounds, self.error, self.kernels = case, names, rounds, error, kernels
        self.ms = dict(zip(names, np.median(rounds, axis=0)))
        self.f32 = not case.recipe.endswith("s8")
        self.wrong = not error <= (F32_ERROR if self.f32 else S8_ERROR)

    def faster(self, than):
        """How many times faster than another program the pruned one is."""
        name = {"dense": "f32" if self.f32 else "s8",
                "int8": min((n for n in bench.INTEGER if n in self.ms), key=self.ms.get)}.get(than, than)
        column = self.names.index
        return float(np.median(self.rounds[:, column(name)] / self.rounds[:, column(self.case.recipe)]))

    def cell(self, than, cpu):
        ratio, target = self.faster(than), self.case.targets.get(than)
        if target is None or (than == "dense" and not self.case.tiles and cpu in (None, "amx")):
            return f"{ratio:.2f}"
        return f"**{ratio:.2f}** (≥ {target:g} {'✓' if ratio >= target else '✗'})"


def table(rows, cpu):
    head = ["network", "recipe", "ms", "× our dense", "× ORT int8", "× ORT f32", "layers on sparse kernels", "error"]
    return common.table(head, [[r.case.network, r.case.recipe, bench.ms(r.ms[r.case.recipe]), r.cell("dense", cpu),
                                r.cell("int8", cpu), r.cell("ORT f32", cpu), r.kernels,
                                f"{r.error:.0e}" + (" **wrong**" if r.wrong else "")] for r in rows], ["---"] * 2 + ["---:"] * 6)


def sparse_layers(network, recipe, threads):
    """"51 of 54": those with weights whose kernel is a sparse one."""
    folder = networks.compressed(network, recipe, (common.ROOT / "recipes" / f"{recipe}.yaml").read_text())
    layers = [l for l in common.espalier("bench", folder / "model.espl", "--layers", "--no-peak", "--runs", 1, "--seconds", 0,
                                         "--threads", threads)["layers"] if l["macs"]]
    return f"{sum(l['sparse'] for l in layers)} of {len(layers)}"


def run(args, network, cases):
    made, truth = programs(network, cases, args.threads)
    rounds = bench.measure(made, args.rounds, args.seconds)
    rows = []
    for case in cases:
        error = common.relative_error(made[case.recipe].outputs[0], truth[case.recipe].outputs[0])
        rows.append(Row(case, list(made), rounds, error, sparse_layers(network, case.recipe, args.threads)))
        print(table(rows[-1:], args.cpu).splitlines()[-1], file=sys.stderr, flush=True)
    for session in (*made.values(), *truth.values()):
        session.close()
    return rows


def main(args):
    chosen = [n for n in networks.NETWORKS if any(c.network == n.name for c in CASES) and n.name in (args.names or [n.name])]
    for network in chosen:  # nothing else runs while the clock does
        programs(network, [c for c in CASES if c.network == network.name], args.threads)
    before, begin, rows = common.load(), time.strftime("%Y-%m-%d"), []
    for network in chosen:
        rows += run(args, network, [c for c in CASES if c.network == network.name])
    text = common.conditions(begin, before) + f" {args.threads} thread, {args.rounds} rounds of {args.seconds:g} s."
    if args.cpu:
        text += f" Both sides limited to {limit.LEVELS[args.cpu][3]}."
    text += "\n\n" + table(rows, args.cpu)
    print(text)
    if args.write:
        suffix = f"-{args.cpu}" if args.cpu else ""
        common.replace_section(common.PAGE, "pruned" + suffix, text)
    return 1 if any(r.wrong for r in rows) else 0


if __name__ == "__main__":
    sys.exit(main(args))
