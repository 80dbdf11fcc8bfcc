#!/usr/bin/env python3
"""Times training beside PyTorch's: samples/s, memory, and the share of the machine's f32 peak.

    apt-get install python3-torch
    python3 bench/peers/train.py [NETWORK...] [--rounds N] [--steps N] [--torch PYTHON]

The same networks, batches and optimiser (SGD with momentum), two threads, f32. Programs take turns, ours, then PyTorch's with
its own layout and with channels-last; figures are the medians of each one's steps over all rounds, the first step of a round left
out, and beside the ratio of medians stands that of the fastest steps: on a shared host tiles run at a third of their rate for
seconds at a time. Threads that wait for each other suffer most from other work: the machine should be quiet. Prints a table for
docs/benchmarks.md; --peak takes twice what `checkkern --peak` says of f32 on one thread.
"""
import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys

import paths

# network: batch, sequence, options of `espalier new`, multiply-adds of a sample's forward pass in millions, least ratio
NETWORKS = {
    "resnet8": (128, 0, [], 12.5, 1.5),
    "resnet20": (128, 0, [], 40.8, 1.5),
    "resnet18": (128, 0, [], 555.4, 1.5),
    "lstm-lm": (20, 35, ["--hidden", "650"], 35 * (2 * 8 * 650 * 650 + 650 * 10000) / 1e6, 1.2),
    "vit": (128, 0, [], 178.8, 1.2),
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=" ".join(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", type=float, help="GFLOP/s of f32 of all threads; else by the clock that the processor states")
    parser.add_argument("--torch", default="/usr/bin/python3", help="a Python that has PyTorch")
    return parser.parse_args()


def build():
    """train.c, linked as the installed library would be."""
    text = (paths.BUILD / "espalier.pc").read_text()
    packages = re.search(r"^Requires\.private: (.*)$", text, re.M)[1].replace(",", " ").split()
    links = re.search(r"^Libs\.private: (.*)$", text, re.M)[1].split()
    links = subprocess.run(["pkg-config", "--libs", *packages], check=True, capture_output=True, text=True).stdout.split() + links
    target = paths.WORK / "train"
    paths.WORK.mkdir(parents=True, exist_ok=True)
    subprocess.run([os.environ.get("CC", "cc"), "-O2", "-D_POSIX_C_SOURCE=200809L", "-I", paths.ROOT / "src", "-I",
                    paths.ROOT / "include", pathlib.Path(__file__).with_name("train.c"), "-o", target,
                    paths.BUILD / "libespalier.a", *links], check=True)
    return target


def run(command):
    """Milliseconds of the steps, and MiB."""
    lines = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout.split()
    return list(map(float, lines[:-1])), int(lines[-1]) / 1024


def measure(name, args, program):
    batch, sequence, options, *_ = NETWORKS[name]
    model = paths.WORK / f"train-{name}.onnx"
    subprocess.run([paths.BUILD / "espalier", "new", name, *options, "-o", model, "-q"], check=True)
    size = [batch, sequence, args.threads, args.steps]
    peer = [args.torch, pathlib.Path(__file__).with_name("train_torch.py"), name, *size]
    sides = {"ours": [program, model, *size], "torch": [*peer, "rows"]}
    if not sequence and name != "vit":
        sides["last"] = [*peer, "last"]
    steps, memory = {side: [] for side in sides}, dict.fromkeys(sides, 0.0)
    for _ in range(args.rounds):
        for side, command in sides.items():
            times, mib = run(command)
            steps[side] += times[1:]
            memory[side] = max(memory[side], mib)
    return [{side: f(times) for side, times in steps.items()} for f in (statistics.median, min)] + [memory]


def peak(args):
    """Two FMA units of the widest registers, as far as the processor says what it runs at."""
    if args.peak:
        return args.peak
    text = pathlib.Path("/proc/cpuinfo").read_text()
    mhz = float(re.search(r"cpu MHz\s*: ([\d.]+)", text)[1])
    lanes = 16 if "avx512f" in text else 8
    return args.threads * mhz * 1e-3 * lanes * 2 * 2


def main():
    args = arguments()
    program, top = build(), peak(args)
    print(f"f32 peak taken: {top:.0f} GFLOP/s; load {os.getloadavg()[0]:.1f}\n")
    print("| network | batch | ours, samples/s | PyTorch, samples/s | channels-last, samples/s | ours ÷ best | fastest steps | ≥ | "
          "of f32 peak | ours, MiB | PyTorch, MiB |")
    print("|" + " --- |" * 11)
    for name in args.networks or NETWORKS:
        batch, _, _, macs, least = NETWORKS[name]
        median, fastest, memory = measure(name, args, program)
        rate = {side: batch * 1e3 / ms for side, ms in median.items()}
        ratio, at_best = (min(v for side, v in ms.items() if side != "ours") / ms["ours"] for ms in (median, fastest))
        share = rate["ours"] * macs * 6e-3 / top  # backward is twice forward
        last = f"{rate['last']:.0f}" if "last" in rate else "-"
        print(f"| {name} | {batch} | {rate['ours']:.0f} | {rate['torch']:.0f} | {last} | {ratio:.2f} | {at_best:.2f} | {least} | "
              f"{share:.0%} | {memory['ours']:.0f} | {min(v for s, v in memory.items() if s != 'ours'):.0f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
