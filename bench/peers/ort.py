#!/usr/bin/env python3
"""Times ONNX Runtime beside Espalier on the same networks, interleaved in one process.

    bench/peers/setup.sh && bench/peers/.venv/bin/python bench/peers/ort.py [MODEL...] [--threads 1 2] [--write]

Five programs take turns, a round of at least --seconds each, and --rounds times over; a round's figure is the median of
its runs, the table's figure the median of the rounds, and a ratio the median of the rounds' ratios, so that a change of
the machine's pace in between touches both sides alike. Inputs and outputs are bound once on both sides.

    ORT f32      ONNX Runtime on the network as it came
    ORT int8     ONNX Runtime on what its own quantizer makes of it (QDQ, u8 activations, s8 weights per channel, MinMax)
    ORT, ours    ONNX Runtime on the ONNX file that espalier compress wrote (flavour ort-x86)
    f32          Espalier on the network as it came
    s8           Espalier on the .espl file that espalier compress wrote
"""
import argparse
import json
import sys
import time

import numpy as np

import common
import quantizer

PROGRAMS = ["ORT f32", "ORT int8", "ORT, ours", "f32", "s8"]


def sessions(model, threads, keep):
    """The five programs, ready to run on the same sample."""
    folder, _ = common.compressed(model, keep=keep)
    f32 = common.Espalier(common.to_espl(model.path, common.WORK / "f32" / f"{model.name}.espl"), threads)
    shapes = f32.shapes
    quantized, variant = quantizer.best(model)
    made = {"ORT f32": common.OnnxRuntime(model.path, threads, shapes),
            "ORT int8": common.OnnxRuntime(quantized, threads, shapes),
            "ORT, ours": common.OnnxRuntime(folder / "model.onnx", threads, shapes),
            "f32": f32,
            "s8": common.Espalier(folder / "model.espl", threads)}
    sample = common.Samples(model.data).feed(0, shapes)
    for session in made.values():
        session.bind(sample)
    return made, variant


def measure(made, rounds, seconds):
    """Milliseconds, a row a round. The order turns from round to round."""
    watch, times = common.Stopwatch(seconds), []
    for session in made.values():
        watch.round(session)
    for r in range(rounds):
        order = PROGRAMS[r % len(PROGRAMS):] + PROGRAMS[:r % len(PROGRAMS)]
        row = {name: watch.round(made[name]) for name in order}
        times.append([row[name] for name in PROGRAMS])
    return np.array(times)


def ratio(times, a, b):
    return float(np.median(times[:, PROGRAMS.index(a)] / times[:, PROGRAMS.index(b)]))


def ms(value):
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


def tables(results, threads):
    head = ["network", "ORT f32, ms", "f32, ms", "ORT ÷ ours", "ORT int8, ms", "ORT, our ONNX, ms", "s8, ms",
            "ORT int8 ÷ s8", "f32 ÷ s8"]
    rows = []
    for r in results:
        t = np.array(r["rounds"])
        m = dict(zip(PROGRAMS, np.median(t, axis=0)))
        note = "" if r["variant"] == "u8s8-channel" else " ¹"
        rows.append([r["model"], ms(m["ORT f32"]), ms(m["f32"]), f"{ratio(t, 'ORT f32', 'f32'):.2f}",
                     ms(m["ORT int8"]) + note, ms(m["ORT, ours"]), ms(m["s8"]),
                     f"**{ratio(t, 'ORT int8', 's8'):.2f}**", f"{ratio(t, 'f32', 's8'):.2f}"])
    text = f"{threads} thread{'s' if threads > 1 else ''}, batch 1:\n\n" + common.table(head, rows)
    if any(r["variant"] != "u8s8-channel" for r in results):
        text += "\n\n¹ ONNX Runtime's quantizer fails on this network with a scale for each channel; one for each tensor."
    return text


def run(args, threads):
    results = []
    for model in common.pick(args.models):
        try:
            made, variant = sessions(model, threads, args.keep)
        except RuntimeError as error:
            print(f"{model.name}: left out: {error}", file=sys.stderr)
            continue
        times = measure(made, args.rounds, args.seconds)
        for session in made.values():
            session.close()
        results.append({"model": model.name, "variant": variant, "rounds": times.tolist()})
        print(f"{model.name:34} {threads}t  " + "  ".join(
            f"{n} {ms(v)}" for n, v in zip(PROGRAMS, np.median(times, axis=0))) +
            f"  ORT int8 / s8 {ratio(times, 'ORT int8', 's8'):.2f}", file=sys.stderr, flush=True)
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="least length of a round")
    parser.add_argument("--keep", action="store_true", help="compressed files of an older program are good enough")
    parser.add_argument("--write", action="store_true", help="puts the tables into docs/benchmarks.md")
    args = parser.parse_args()
    if not common.pick(args.models):
        print("skipped: no assets")
        return 0
    for model in common.pick(args.models):  # nothing else runs while the clock does
        common.compressed(model, keep=args.keep)
        quantizer.best(model)
    before, begin = common.load(), time.strftime("%Y-%m-%d")
    results = {threads: run(args, threads) for threads in args.threads}
    text = common.conditions(begin, before) + f" {args.rounds} rounds of {args.seconds:g} s.\n\n"
    text += "\n\n".join(tables(rows, threads) for threads, rows in results.items())
    common.WORK.mkdir(parents=True, exist_ok=True)
    (common.WORK / "ort.json").write_text(json.dumps({"machine": common.machine(), "date": begin, "load": before,
                                                      "programs": PROGRAMS, "threads": results}, indent=1))
    print(text)
    if args.write:
        common.replace_section(common.ROOT / "docs" / "benchmarks.md", "ort", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
