#!/usr/bin/env python3
"""Post-training quantization beside other tools: ONNX Runtime's quantize_static, NNCF, and `espalier compress`.

    bench/peers/setup.sh && bench/peers/.venv/bin/python bench/peers/quantizers.py [MODEL...] [--write]

Each gets the same f32 network and the same calibration samples, 512 at most, makes every layer 8 bits, and writes a file. Each
runs with each of its SETTINGS, and the file that does best in the very accuracy that is compared counts. Time and memory are
those of the peers' quickest and smallest run, and of ours that counts. Their files are run by ONNX Runtime, ours by Espalier,
on the same samples. Each quantizer is a process of its own on one processor, and its seconds are that processor's; of theirs
those without starting Python and importing packages are counted, of ours all. Exit 1 if ours is more than 3 samples behind one
of them anywhere, or takes more time or memory.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

COUNT = 512
APART = 3
NAMES = ("resnet20-cifar10", "resnet20-cifar10-onnc", "resnet32-cifar10", "mlperf-tiny-resnet8_cifar10", "vit-cifar10",
         "mnist-cnn", "mnist-mlp", "mobilenet-v2-imagenet")
OURS, PEERS = "Espalier", ("ONNX Runtime", "NNCF")
# What each tool's manual offers for CNNs and transformers on x86.
SETTINGS = {OURS: ("minmax", "mse", "kl"), "ONNX Runtime": ("MinMax", "Entropy", "Percentile"),
            "NNCF": ("PERFORMANCE", "MIXED")}
TRANSFORMERS = ("vit-cifar10",)


# --- one quantizer in a process of its own --------------------------------------------------------------------------


def with_ort(source, target, feeds, method, _):
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    class Reader:
        left = iter(feeds)

        def get_next(self):
            return next(self.left, None)

    def write(per_channel):
        quantize_static(str(source), str(target), Reader(), quant_format=QuantFormat.QDQ, per_channel=per_channel,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        calibrate_method=getattr(CalibrationMethod, method))
    try:
        write(True)
    except ValueError:  # some networks it quantizes with one scale a tensor only
        Reader.left = iter(feeds)
        write(False)


def with_nncf(source, target, feeds, preset, transformer):
    import nncf
    import onnx
    done = nncf.quantize(onnx.load(source), nncf.Dataset(feeds), subset_size=len(feeds), preset=nncf.QuantizationPreset[preset],
                         target_device=nncf.TargetDevice.CPU,
                         model_type=nncf.ModelType.TRANSFORMER if transformer else None)
    onnx.save(done, str(target))


def child(tool, setting, path, target, samples, transformer):
    """Quantizes and prints the processor's seconds, without those that Python takes to start and to import packages."""
    import logging
    import numpy as np
    import quantizer
    logging.disable(logging.WARNING)
    work = {"ONNX Runtime": with_ort, "NNCF": with_nncf}[tool]
    if tool == "NNCF":
        __import__("nncf")
    begin = time.process_time()
    source = pathlib.Path(target).with_suffix(".float")
    quantizer.modern(path, source)
    infos = quantizer.common.OnnxRuntime(source)
    stored = [np.load(s, mmap_mode="r") for s in samples]
    feeds = [{n: np.ascontiguousarray(a[i]).reshape(s) for n, a, s in zip(infos.names, stored, infos.shapes)}
             for i in range(len(stored[0]))]
    work(source, target, feeds, setting, transformer)
    print(json.dumps(time.process_time() - begin))


# A process starts with the size of the one that makes it, so a small one does: it prints processor seconds and KiB of what
# it runs.
LAUNCHER = """
import os, sys
pid = os.fork()
if pid == 0:
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.execv(sys.argv[1], sys.argv[1:])
_, status, use = os.wait4(pid, 0)
sys.stderr.write("\\n%f %d" % (use.ru_utime + use.ru_stime, use.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


class Failed(Exception):
    pass


def spawn(command, env):
    """(standard output, processor seconds, MiB)."""
    done = subprocess.run([sys.executable, "-S", "-E", "-c", LAUNCHER, *map(str, command)], capture_output=True, text=True,
                          env=env, cwd=pathlib.Path(__file__).resolve().parents[2])
    *text, last = done.stderr.strip().splitlines()
    if done.returncode:
        raise Failed((text or [last])[-1])
    seconds, size = last.split()
    return done.stdout, float(seconds), int(size) / 1024


# --- all of them ----------------------------------------------------------------------------------------------------


def calibration(model, folder):
    """The samples that all three calibrate on, evenly spaced, as .npy files, so that nobody decodes pictures; and the YAML
    file that describes them."""
    import numpy as np
    import common
    samples = common.Samples(model.calib)
    count = min(COUNT, len(samples))
    step, paths = max(len(samples) // COUNT, 1), []
    for k, array in enumerate(samples.arrays):
        paths.append(folder / f"samples{k}.npy")
        np.save(paths[-1], array[:count * step:step])
    described = folder / "samples.yaml"
    described.write_text("kind: npy\ninputs:\n" + "".join(f"- {{path: {p.name}}}\n" for p in paths))
    return paths, described, count


def quantize(model, tool, setting, folder, samples, described):
    """{file, seconds, whole, memory} of one run; whole: with all that a process takes to start."""
    import common
    target = folder / f"{tool.split()[0]}.{setting}.onnx".lower()
    env = dict(common.ENV, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    if tool == OURS:
        recipe = folder / f"{setting}.yaml"
        recipe.write_text(f"observer: {setting}\nlayers: [{{match: '*', format: s8}}]\n")
        target = folder / setting / "model.espl"
        _, seconds, size = spawn([common.BUILD / "espalier", "compress", model.path, "--chip", common.chip(), "--recipe",
                                  recipe, "--calib", described, "--calib-count", COUNT, "--threads", 1, "--quiet", "-o",
                                  target.parent], env)
        return {"file": target, "seconds": seconds, "whole": seconds, "memory": size}
    out, whole, size = spawn([sys.executable, __file__, "--child", json.dumps(
        [tool, setting, str(model.path), str(target), list(map(str, samples)), model.name in TRANSFORMERS])], env)
    return {"file": target, "seconds": float(out.strip().splitlines()[-1]), "whole": whole, "memory": size}


def right(path, samples):
    """Which samples a file answers rightly."""
    import common
    session = common.Espalier(path) if path.suffix == ".espl" else common.OnnxRuntime(path)
    found = common.outputs_of(session, samples).argmax(1) == samples.labels[:len(samples)]
    session.close()
    return found


def measure(model, rounds):
    import common
    folder = common.WORK / "quantizers" / model.name
    folder.mkdir(parents=True, exist_ok=True)
    calib, described, count = calibration(model, folder)
    samples = common.Samples(model.data)
    found = {"samples": len(samples), "calibration": count, "f32": right(model.path, samples).mean()}
    for tool, settings in SETTINGS.items():
        best, least = None, {}
        for setting in settings:
            try:
                runs = [quantize(model, tool, setting, folder, calib, described) for _ in range(rounds)]
            except Failed as error:
                print(f"{model.name}: {tool} {setting}: {error}", file=sys.stderr, flush=True)
                continue
            run = {k: min(r[k] for r in runs) for k in ("seconds", "whole", "memory")}
            run |= {"setting": setting, "right": right(runs[0]["file"], samples), "size": runs[0]["file"].stat().st_size}
            print(f"{model.name:28} {tool:12} {setting:12} {run['right'].mean():.4f} {run['seconds']:7.2f} of "
                  f"{run['whole']:7.2f} s {run['memory']:7.1f} MiB {run['size']:,}", file=sys.stderr,
                  flush=True)
            least = {k: min(run[k], least.get(k, run[k])) for k in ("seconds", "memory")}
            if best is None or run["right"].sum() > best["right"].sum():
                best = run
        found[tool] = best if tool == OURS else best and best | least
    return found


def behind(ours, theirs):
    return int(theirs["right"].sum() - ours["right"].sum())


def row(name, r):
    ours = r[OURS]
    cells = [name, r["samples"], r["calibration"], f"{100 * r['f32']:.2f}",
             f"{100 * ours['right'].mean():.2f} ({ours['setting']})"]
    for tool in PEERS:
        t = r[tool]
        if not t:
            cells += ["fails", "–", "–", "–"]
            continue
        more, less = (ours["right"] & ~t["right"]).sum(), (t["right"] & ~ours["right"]).sum()
        cells += [f"{100 * t['right'].mean():.2f} ({t['setting']})", f"+{more} −{less}",
                  f"{ours['seconds'] / t['seconds']:.2f}", f"{ours['memory'] / t['memory']:.2f}"]
    return cells


def costs(name, r):
    cells = [name]
    for key, form in (("seconds", "{:.1f}"), ("memory", "{:.0f}"), ("size", "{:,}")):
        cells += [form.format(r[tool][key]) if r[tool] else "–" for tool in SETTINGS]
    return cells


def page(results):
    import common
    head = ["network", "samples", "calibrated on", "f32", OURS]
    for tool in PEERS:
        head += [tool, "ours better, worse", "time, ours ÷ its", "memory, ours ÷ its"]
    text = [common.table(head, [row(n, r) for n, r in results.items()]), "",
            common.table(["network"] + [f"{what}, {tool}" for what in ("seconds", "MiB", "bytes") for tool in SETTINGS],
                         [costs(n, r) for n, r in results.items()])]
    return "\n".join(text)


def main():
    if sys.argv[1:2] == ["--child"]:
        return child(*json.loads(sys.argv[2]))
    import common
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each quantizer; the shortest time counts")
    parser.add_argument("--write", action="store_true", help="puts the tables into docs/results.md")
    args = parser.parse_args()
    models = common.pick(args.models or NAMES)
    results = {m.name: measure(m, args.rounds) for m in models}
    text = page(results)
    print(text)
    if args.write:
        common.replace_section(common.ROOT / "docs" / "results.md", "quantizers", text)
    good = all(behind(r[OURS], r[t]) <= APART and r[OURS]["seconds"] <= r[t]["seconds"] and
               r[OURS]["memory"] <= r[t]["memory"] for r in results.values() for t in PEERS if r[t])
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
