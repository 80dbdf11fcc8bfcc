#!/usr/bin/env python3
"""Times ONNX Runtime beside Espalier on the same networks, interleaved in one process.

    bench/peers/setup.sh && bench/peers/.venv/bin/python bench/peers/ort.py [NAME...] [--threads 1 2] [--write]

NAME is a network of networks.py or a model of ESPL_ASSETS; without one, all. The programs of a network take turns, a round
of at least --seconds each, and --rounds times over; a round's figure is the median of its runs, the table's figure the
median of the rounds, and a ratio the median of the rounds' ratios, so that a change of the machine's pace in between touches
both sides alike. Inputs and outputs are bound once on both sides. Before the clock starts, every program's outputs are
compared with ONNX Runtime's on the f32 network; exit 1 if one is wrong. --cpu limits both sides to an instruction set.

    ORT f32      ONNX Runtime on the network as it came
    ORT qdq      ONNX Runtime on what its own quantizer makes of it (QDQ, u8 activations, s8 weights per channel, MinMax)
    ORT dyn      the same with activations that are rounded by the range of each run
    ORT q4       ONNX Runtime on weights of 4 bits
    ORT, ours    ONNX Runtime on the ONNX file that espalier compress wrote (flavour ort-x86)
    f32          Espalier on the network as it came
    s8           Espalier on a model's .espl that espalier compress wrote, on a network's QDQ file (compress without one)
    s8, 1t       the same on one thread, beside more
"""
import argparse
import json
import sys
import time

import limit


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--cpu", choices=limit.LEVELS, help="the highest instruction set of both sides")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="least length of a round")
    parser.add_argument("--keep", action="store_true", help="compressed files of an older program are good enough")
    parser.add_argument("--write", action="store_true", help="puts the tables into docs/benchmarks.md (or ESPL_PAGE)")
    return parser.parse_args()


if __name__ == "__main__":  # ONNX Runtime looks at the processor when it is loaded
    args = arguments()
    if args.cpu:
        limit.apply(args.cpu)

import numpy as np

import common
import networks
import quantizer

F32_ERROR, TIMES_APART, S8_ERROR = 1e-3, 3, 0.03
INTEGER = ("ORT qdq", "ORT dyn")
ALONE = "s8, 1t"


# --- the programs -------------------------------------------------------------------------------------------------


def model_files(model, keep):
    """What the programs run for a model of ESPL_ASSETS."""
    folder, _ = common.compressed(model, keep=keep)
    quantized, variant = quantizer.best(model)
    note = "" if variant == "u8s8-channel" else "one scale for each tensor: ONNX Runtime's quantizer fails with one a channel"
    return {"ORT f32": model.path, "ORT qdq": quantized, "ORT, ours": folder / "model.onnx",
            "f32": common.to_espl(model.path, common.WORK / "f32" / f"{model.name}.espl"),
            "s8": folder / "model.espl"}, note


def network_files(network, _):
    f32 = networks.made(network)
    files = {"ORT f32": f32, **{f"ORT {form}": networks.made(network, form) for form in network.forms}}
    files["f32"] = common.to_espl(f32, networks.FOLDER / f"{network.name}.f32.espl")
    files["s8"], how = networks.ours(network)
    return files, "" if how == "qdq" else "s8 is Espalier's own quantization"


def files(case, keep=False):
    return (model_files if isinstance(case, common.Model) else network_files)(case, keep)


def sessions(case, threads, keep):
    """The programs, ready to run on the same sample."""
    paths, note = files(case, keep)
    f32 = common.Espalier(paths["f32"], threads)
    made = {name: common.OnnxRuntime(path, threads, f32.shapes) if name.startswith("ORT") else
            f32 if name == "f32" else common.Espalier(path, threads) for name, path in paths.items()}
    if threads > 1:
        made[ALONE] = common.Espalier(paths["s8"], 1)
    if isinstance(case, common.Model):
        sample = common.Samples(case.data).feed(0, f32.shapes)
    else:
        sample = [case.sample()]
    for session in made.values():
        session.bind(sample)
        session.run()
    return made, note


def check(made):
    """Relative error of each program against ORT f32, and those that are wrong. s8 may differ TIMES_APART as much as ONNX
    Runtime's own integers do."""
    truth = made["ORT f32"].outputs[0].copy()
    errors = {name: common.relative_error(s.outputs[0], truth) for name, s in made.items() if name != "ORT f32"}
    allowed = {"f32": F32_ERROR, "s8": TIMES_APART * max(errors.get(n, 0) for n in INTEGER) + S8_ERROR}
    return errors, [n for n, limit in allowed.items() if not errors[n] <= limit]


# --- time -----------------------------------------------------------------------------------------------------------


def measure(made, rounds, seconds):
    """Milliseconds, a row a round. The order turns from round to round."""
    watch, names, times = common.Stopwatch(seconds), list(made), []
    for session in made.values():
        watch.round(session)
    for r in range(rounds):
        order = names[r % len(names):] + names[:r % len(names)]
        row = {name: watch.round(made[name]) for name in order}
        times.append([row[name] for name in names])
    return np.array(times)


class Result:
    """The rounds of one network."""

    def __init__(self, case, note, programs, rounds, errors, wrong, parity):
        self.name, self.kind = case.name, "model" if isinstance(case, common.Model) else "network"
        self.note, self.programs, self.rounds = note, programs, rounds
        self.errors, self.wrong = errors, wrong
        self.targets = {"f32": 1.0, "s8": 1.0} if parity else {"f32": case.f32, "s8": case.s8}
        self.ms = dict(zip(programs, np.median(rounds, axis=0)))

    def ratio(self, a, b):
        column = self.programs.index
        return float(np.median(self.rounds[:, column(a)] / self.rounds[:, column(b)]))

    @property
    def integer(self):
        """ONNX Runtime's better integer program."""
        return min((n for n in INTEGER if n in self.ms), key=self.ms.get)

    def share(self, program):
        """Ours as a share of ONNX Runtime's time."""
        return self.ratio(program, self.integer if program == "s8" else "ORT f32")

    def verdict(self, program):
        share = self.share(program)
        return f"**{share:.2f}**", f"≤ {self.targets[program]:.2f} {'✓' if share <= self.targets[program] else '✗'}"

    def data(self):
        return {"name": self.name, "note": self.note, "programs": self.programs, "rounds": self.rounds.tolist(),
                "errors": self.errors, "wrong": self.wrong, "targets": self.targets}

    def line(self, threads):
        return (f"{self.name:32} {threads}t  " + "  ".join(f"{n} {ms(t)}" for n, t in self.ms.items()) +
                f"  s8 {' '.join(self.verdict('s8'))}  f32 {' '.join(self.verdict('f32'))}  errors " +
                " ".join(f"{n} {e:.2g}" for n, e in self.errors.items()) +
                "".join(f"  WRONG {n}" for n in self.wrong))


def run(args, threads):
    results = []
    for case in cases(args.names):
        try:
            made, note = sessions(case, threads, args.keep)
        except RuntimeError as error:
            print(f"{case.name}: left out: {error}", file=sys.stderr)
            continue
        errors, wrong = check(made)
        times = measure(made, args.rounds, args.seconds)
        for session in made.values():
            session.close()
        results.append(Result(case, note, list(made), times, errors, wrong, args.cpu in ("avx512", "avx2")))
        print(results[-1].line(threads), file=sys.stderr, flush=True)
    return results


# --- tables -------------------------------------------------------------------------------------------------------


def ms(value):
    return "–" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def table(results):
    """One table: a column only where a network has something in it."""
    notes = []
    extra = [n for n in ("ORT, ours", "ORT q4") if any(n in r.ms for r in results)]
    titles = {"ORT, ours": "ORT, our ONNX, ms", "ORT q4": "ORT 4 bits, ms"}
    head = ["network", "ORT f32, ms", "f32, ms", "ours ÷ ORT", "target", "ORT int8, ms", *(titles[n] for n in extra),
            "s8, ms", "ours ÷ ORT", "target", "f32 ÷ s8",
            *(["1 thread ÷ this"] if any(ALONE in r.ms for r in results) else []), "error of f32", "of ORT int8", "of s8"]
    rows = []
    for r in results:
        mark = ""
        if r.note:
            notes += [r.note] if r.note not in notes else []
            mark = f" <sup>{notes.index(r.note) + 1}</sup>"
        form = f" ({r.integer.split()[1]})" if r.kind == "network" else ""
        wrong = {n: " **wrong**" for n in r.wrong}
        rows.append([r.name + mark, ms(r.ms["ORT f32"]), ms(r.ms["f32"]), *r.verdict("f32"), ms(r.ms[r.integer]) + form,
                     *(ms(r.ms.get(n)) for n in extra), ms(r.ms["s8"]), *r.verdict("s8"), f"{r.ratio('f32', 's8'):.2f}",
                     *([f"{r.ratio(ALONE, 's8'):.2f}"] if ALONE in r.ms else []),
                     f"{r.errors['f32']:.0e}" + wrong.get("f32", ""), f"{r.errors[r.integer]:.3f}",
                     f"{r.errors['s8']:.3f}" + wrong.get("s8", "")])
    return common.table(head, rows) + "".join(f"\n\n<sup>{i + 1}</sup> {n}." for i, n in enumerate(notes))


def page(results, kind):
    parts = []
    for threads, found in results.items():
        chosen = [r for r in found if r.kind == kind]
        if chosen:
            parts.append(f"{threads} thread{'s' if threads > 1 else ''}:\n\n" + table(chosen))
    return "\n\n".join(parts)


def cases(names):
    """The networks and models of these names; all of them without names."""
    known = {c.name: c for c in networks.NETWORKS + common.MODELS}
    for name in names:
        if name not in known:
            sys.exit(f"there is no network {name}; there are: {', '.join(known)}")
    return [c for c in map(known.get, names or known) if not isinstance(c, common.Model) or c.path.exists()]


def main(args):
    for case in cases(args.names):  # nothing else runs while the clock does
        files(case, args.keep)
    before, begin = common.load(), time.strftime("%Y-%m-%d")
    results = {threads: run(args, threads) for threads in args.threads}
    text = common.conditions(begin, before) + f" {args.rounds} rounds of {args.seconds:g} s."
    if args.cpu:
        text += f" Both sides limited to {limit.LEVELS[args.cpu][3]}."
    suffix = f"-{args.cpu}" if args.cpu else ""
    (common.WORK / f"ort{suffix}.json").write_text(json.dumps({
        "machine": common.machine(), "date": begin, "load": before,
        "threads": {t: [r.data() for r in found] for t, found in results.items()}}, indent=1))
    for kind, section in (("network", "ort-networks"), ("model", "ort-models")):
        tables = page(results, kind)
        if not tables:
            continue
        print(f"{text}\n\n{tables}\n")
        if args.write:
            common.replace_section(common.PAGE, section + suffix, f"{text}\n\n{tables}")
    return 1 if any(r.wrong for found in results.values() for r in found) else 0


if __name__ == "__main__":
    sys.exit(main(args))
