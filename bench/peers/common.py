"""What the comparisons share: the models and their data, Espalier's program and library, ONNX Runtime sessions."""
import ctypes
import json
import os
import pathlib
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort

from paths import ASSETS, BUILD, ROOT, WORK
# Where --write puts tables. ESPL_PAGE names another machine's page, which need not have all of them.
PAGE = ROOT / os.environ.get("ESPL_PAGE", "docs/benchmarks.md")

ENV = dict(os.environ, ESPL_ASSETS=str(ASSETS))


@dataclass(frozen=True)
class Model:
    """A network of ESPL_ASSETS/models with the data it is calibrated and measured on.

    data and calib are YAML files below ROOT, or names of synthetic.py. labels says whether the labels mean anything to
    the network; without them it is compared with its own f32 outputs. least: the top-1 accuracy that 8 bits must keep, or
    drop: the points that may go. s8 and f32 are the shares of ONNX Runtime's time that ours may take.
    """
    name: str
    data: str
    calib: str
    labels: bool = True
    least: float | None = None
    drop: float | None = None
    classes: bool = True  # the first output ranks classes
    budget: float = 1.0   # --max-drop
    s8: float = 1.0
    f32: float = 0.95

    @property
    def path(self):
        return ASSETS / "models" / self.name / "model.onnx"


CIFAR = ("examples/data/cifar10-test.yaml", "examples/data/cifar10-train.yaml")
MODELS = [
    Model("resnet20-cifar10", *CIFAR, least=0.910, s8=0.62),
    Model("resnet20-cifar10-bn", *CIFAR, least=0.910, s8=0.62),
    Model("resnet20-cifar10-onnc", *CIFAR, s8=0.62),
    Model("resnet32-cifar10", *CIFAR, least=0.923),
    Model("mlperf-tiny-resnet8_cifar10", "examples/data/cifar10-raw-test.yaml", "bench/data/cifar10-raw-train.yaml",
          least=0.876),
    Model("vit-cifar10", "examples/data/cifar10-vit-test.yaml", "bench/data/cifar10-vit-train.yaml", least=0.612),
    Model("mnist-cnn", "examples/data/mnist-raw-test.yaml", "bench/data/mnist-raw-train.yaml", drop=0.1),
    Model("mnist-mlp", "examples/data/mnist-test.yaml", "examples/data/mnist-train.yaml"),
    Model("mobilenet-v2-imagenet", "examples/data/imagenet-test.yaml", "examples/data/imagenet-calibrate.yaml",
          drop=1.0, s8=0.62, f32=0.72),
    Model("mlperf-tiny-vww_mobilenet025_96", "bench/data/vww-pictures-test.yaml",
          "bench/data/vww-pictures-calibrate.yaml", labels=False, budget=5),
    Model("mlperf-tiny-kws_dscnn", "kws:test", "kws:calibrate", labels=False, budget=5),
    Model("mlperf-tiny-ad_autoencoder", "ad:test", "ad:calibrate", labels=False, classes=False, budget=5),
    Model("dtln-lstm", "dtln:test", "dtln:calibrate", labels=False, classes=False, budget=5),
    Model("openwakeword-embedding", "wakeword:test", "wakeword:calibrate", labels=False, classes=False, budget=5),
    Model("ultraface-rfb320", "faces:test", "faces:calibrate", labels=False, classes=False, budget=5),
]


def pick(names):
    """The models of these names (all without names) that are there."""
    known = {m.name: m for m in MODELS}
    for name in names or []:
        if name not in known:
            sys.exit(f"there is no model {name}; there are: {', '.join(known)}")
    return [known[n] for n in (names or known) if known[n].path.exists()]


# --- Espalier's program -----------------------------------------------------------------------------------


def espalier(*args, check=True):
    """Runs the program with --json and returns what it prints."""
    done = subprocess.run([BUILD / "espalier", *map(str, args), "--json", "--quiet"], capture_output=True, text=True,
                          env=ENV, cwd=ROOT)
    if check and done.returncode not in (0, 1):
        raise RuntimeError(f"espalier {' '.join(map(str, args))}: exit {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout) if done.stdout.strip() else {"exit": done.returncode, "error": done.stderr.strip()}


def data_file(spec):
    """The YAML file of a data set; synthetic ones are made."""
    if ":" not in spec:
        return ROOT / spec
    import synthetic
    return synthetic.make(spec, WORK / "data")


class Samples:
    """The arrays a network is given, as Espalier's loader reads them: samples(i) is a list with one array an input."""

    def __init__(self, spec, count=None):
        path = data_file(spec)
        folder = WORK / "data" / (path.stem if path.parent != WORK / "data" else f"{path.stem}-read")
        if not (folder / "images.npy").exists() or (folder / "images.npy").stat().st_mtime < path.stat().st_mtime:
            folder.parent.mkdir(parents=True, exist_ok=True)
            espalier("data", path, "-o", folder)
        names = ["images.npy"] + sorted(f.name for f in folder.glob("images_*.npy"))
        self.arrays = [np.load(folder / n, mmap_mode="r") for n in names]
        labels = folder / "labels.npy"
        self.labels = np.load(labels) if labels.exists() else None
        self.count = min(count or len(self.arrays[0]), len(self.arrays[0]))

    def __len__(self):
        return self.count

    def feed(self, index, shapes):
        return [np.ascontiguousarray(a[index]).reshape(s) for a, s in zip(self.arrays, shapes)]


# --- Espalier's library -----------------------------------------------------------------------------------


class Shape(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_int), ("dim", ctypes.c_int64 * 8)]


class Tensor(ctypes.Structure):
    _fields_ = [("dtype", ctypes.c_int), ("shape", Shape), ("data", ctypes.c_void_p)]


class Diag(ctypes.Structure):
    _fields_ = [("status", ctypes.c_int), ("message", ctypes.c_char * 1024)]


class Config(ctypes.Structure):
    _fields_ = [("alloc", ctypes.c_void_p), ("free", ctypes.c_void_p), ("log", ctypes.c_void_p),
                ("user", ctypes.c_void_p), ("threads", ctypes.c_int), ("max_alloc", ctypes.c_uint64),
                ("max_memory", ctypes.c_uint64)]


class Arithmetic(ctypes.Structure):
    _fields_ = [("accumulator_bits", ctypes.c_int), ("saturate", ctypes.c_bool), ("fixed", ctypes.c_bool)]


class SessionOptions(ctypes.Structure):
    _fields_ = [("input_shapes", ctypes.c_void_p), ("profile", ctypes.c_bool), ("observer", ctypes.c_void_p),
                ("observer_user", ctypes.c_void_p), ("observed", ctypes.c_void_p), ("unordered", ctypes.c_bool),
                ("arithmetic", Arithmetic), ("without_late", ctypes.c_bool)]


class Layer(ctypes.Structure):
    """espl_layer of espalier/session.h."""
    _fields_ = [("name", ctypes.c_char_p), ("op", ctypes.c_char_p), ("kernel", ctypes.c_char_p),
                ("isa", ctypes.c_char_p), ("format", ctypes.c_char_p), ("node", ctypes.c_int), ("macs", ctypes.c_int64),
                ("weight_bytes", ctypes.c_uint64), ("activation_bytes", ctypes.c_uint64), ("seconds", ctypes.c_double),
                ("best_seconds", ctypes.c_double), ("runs", ctypes.c_int64), ("sparse", ctypes.c_bool),
                ("slower", ctypes.c_char_p), ("gain", ctypes.c_double)]


DTYPES = [np.float32, np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64, np.bool_]
_library = None


def library():
    """libespalier-rt.a as a shared library, so that both run in one process."""
    global _library
    if _library:
        return _library
    archive, shared = BUILD / "libespalier-rt.a", WORK / "libespalier-rt.so"
    if not shared.exists() or shared.stat().st_mtime < archive.stat().st_mtime:
        WORK.mkdir(parents=True, exist_ok=True)
        subprocess.run([os.environ.get("CC", "cc"), "-shared", "-o", shared, "-Wl,--whole-archive", archive,
                        "-Wl,--no-whole-archive", "-lm", "-lpthread"], check=True)
    lib = ctypes.CDLL(str(shared))
    for name in ("espl_session_input_info", "espl_session_output_info"):
        getattr(lib, name).restype = ctypes.POINTER(Tensor)
    lib.espl_session_layer.restype = Layer
    lib.espl_session_input_name.restype = lib.espl_session_output_name.restype = ctypes.c_char_p
    _library = lib
    return lib


class Espalier:
    """A session of an .espl file; run() is one inference on the arrays of bind(). With `profile` it times its layers."""

    def __init__(self, path, threads=1, profile=False):
        self.lib, self.diag = library(), Diag()
        self.context, graph, self.session = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        self._try(self.lib.espl_context_create(ctypes.byref(Config(threads=threads)), ctypes.byref(self.context),
                                               ctypes.byref(self.diag)))
        self._try(self.lib.espl_model_read(self.context, os.fsencode(path), ctypes.byref(graph),
                                           ctypes.byref(self.diag)))
        options = SessionOptions(profile=profile)
        self._try(self.lib.espl_session_create(self.context, graph, ctypes.byref(options), ctypes.byref(self.session),
                                               ctypes.byref(self.diag)))
        self.lib.espl_graph_destroy(ctypes.byref(graph))
        self.inputs, self.shapes = self._arrays("input")
        self.outputs, _ = self._arrays("output")
        self._call = self.lib.espl_session_run
        self._args = (self.session, self._tensors("input", self.inputs), self._tensors("output", self.outputs),
                      ctypes.byref(self.diag))

    def _try(self, status):
        if status:
            raise RuntimeError(self.diag.message.decode(errors="replace"))

    def _info(self, side):
        count = getattr(self.lib, f"espl_session_{side}_count")(self.session)
        return [getattr(self.lib, f"espl_session_{side}_info")(self.session, i).contents for i in range(count)]

    def _arrays(self, side):
        shapes = [tuple(t.shape.dim[:t.shape.rank]) for t in self._info(side)]
        return [np.zeros(s, DTYPES[t.dtype]) for s, t in zip(shapes, self._info(side))], shapes

    def _tensors(self, side, arrays):
        items = (Tensor * len(arrays))()
        for item, info, array in zip(items, self._info(side), arrays):
            item.dtype, item.shape, item.data = info.dtype, info.shape, array.ctypes.data
        return items

    def bind(self, arrays):
        for own, given in zip(self.inputs, arrays):
            own[...] = given

    def run(self):
        if self._call(*self._args):
            self._try(1)

    def layers(self):
        """What each layer took since the last call."""
        found = [self.lib.espl_session_layer(self.session, i)
                 for i in range(self.lib.espl_session_layer_count(self.session))]
        self.lib.espl_session_profile_reset(self.session)
        return found

    def close(self):
        self.lib.espl_session_destroy(ctypes.byref(self.session))
        self.lib.espl_context_destroy(ctypes.byref(self.context))


def chip():
    """The bundled profile of this machine's kind, or of the kind that it is limited to."""
    vnni = "avx512_vnni" in machine()["flags"] and os.environ.get("ESPL_CPU") not in ("avx2", "avx512")
    return "x86-avx512-vnni" if vnni else "x86-avx2"


def compressed(model, flavour="ort-x86", keep=False, budget=None):
    """The folder that compress makes of a model, and its report. Made again when the program is newer, unless `keep`."""
    name = f"{model.name}.{flavour}" + ("" if budget is None else f".{budget:g}")
    if os.environ.get("ESPL_CPU"):
        name += f".{os.environ['ESPL_CPU']}"  # what pays is another thing there
    folder = WORK / "compressed" / name
    report = folder / "report.json"
    if not report.exists() or (not keep and report.stat().st_mtime < (BUILD / "espalier").stat().st_mtime):
        folder.parent.mkdir(parents=True, exist_ok=True)
        espalier("compress", model.path, "--chip", chip(), "--data", data_file(model.data), "--calib",
                 data_file(model.calib), "--flavour", flavour, "--max-drop", model.budget if budget is None else budget,
                 "-o", folder)
    return folder, json.loads(report.read_text())


def to_espl(model, target):
    """The f32 network as an .espl file."""
    if not target.exists() or target.stat().st_mtime < max(model.stat().st_mtime,
                                                           (BUILD / "espalier").stat().st_mtime):
        target.parent.mkdir(parents=True, exist_ok=True)
        espalier("export", model, "-o", target)
    return target


# --- ONNX Runtime -------------------------------------------------------------------------------------------


def ort_options(threads=1, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = level
    options.log_severity_level = 3
    return options


class OnnxRuntime:
    """A session with its inputs and outputs bound once, as a program that cares for time would use it."""

    def __init__(self, path, threads=1, shapes=None):
        self.session = ort.InferenceSession(str(path), ort_options(threads), providers=["CPUExecutionProvider"])
        infos = self.session.get_inputs()
        self.shapes = shapes or [tuple(d if isinstance(d, int) and d > 0 else 1 for d in i.shape) for i in infos]
        self.inputs = [np.zeros(s, np.float32) for s in self.shapes]
        self.names = [i.name for i in infos]
        self.outputs = self.session.run(None, dict(zip(self.names, self.inputs)))
        self.binding = self.session.io_binding()
        for name, array in zip(self.names, self.inputs):
            self.binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for info, array in zip(self.session.get_outputs(), self.outputs):
            self.binding.bind_output(info.name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    bind = Espalier.bind

    def run(self):
        self.session.run_with_iobinding(self.binding)

    def close(self):
        self.session = self.binding = None


# --- accuracy -------------------------------------------------------------------------------------------------


def outputs_of(session, samples):
    """The first output for every sample, one row each."""
    rows = []
    for i in range(len(samples)):
        session.bind(samples.feed(i, session.shapes))
        session.run()
        rows.append(session.outputs[0].reshape(-1).copy())
    return np.stack(rows)


def top1(outputs, labels):
    return float((outputs.argmax(1) == labels[:len(outputs)]).mean())


def relative_error(outputs, truth):
    """|outputs - truth| / |truth| over all samples, in the Euclidean norm."""
    return float(np.linalg.norm((outputs - truth).ravel()) / max(np.linalg.norm(truth.ravel()), 1e-30))


# --- the machine ------------------------------------------------------------------------------------------------


def machine():
    """Name of the processor, the vector extensions that matter here, cores."""
    text = pathlib.Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    fields = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    flags = set(fields.get("flags", "").split())
    shown = [f for f in ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx_vnni", "avx512_bf16",
                         "avx512vbmi", "amx_int8") if f in flags]
    return {"name": fields.get("model name", "unknown"), "family": fields.get("cpu family", "?"),
            "model": fields.get("model", "?"), "flags": shown, "cores": os.cpu_count()}


def peaks():
    """{instruction set: {"s8": GOP/s, "f32": GOP/s}} that registers reach on one thread, lowest set first."""
    program = BUILD / "tests" / "checkkern" / "checkkern"
    if not program.exists():
        sys.exit("there is no checkkern: cmake --build build --target checkkern")
    lines = subprocess.run([program, "--peak"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {name: {"s8": float(u8), "f32": float(f32)} for name, u8, f32 in map(str.split, lines)}


def load():
    """How many cores are busy with other work, over one second. The load average would remember the benchmark before."""
    def busy():
        ticks = [int(x) for x in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        return sum(ticks) - ticks[3] - ticks[4]  # all but idle and waiting
    before = busy()
    time.sleep(1)
    return (busy() - before) / os.sysconf("SC_CLK_TCK")


def conditions(date, load_before):
    """One line on where and how figures were taken."""
    m = machine()
    line = (f"{m['name']} (family {m['family']}, model {m['model']}; {', '.join(m['flags'])}), {m['cores']} cores; "
            f"ONNX Runtime {ort.__version__}; {date}; {load_before:.2f} cores busy with other work before.")
    if load_before > 0.2:
        line += (" **Preliminary: measured while other work ran on the machine.** Times are too long; ratios are fairer, "
                 "since the programs take turns, but not for the record.")
    return line


class Stopwatch:
    """Milliseconds of single runs, for at least `seconds`."""

    def __init__(self, seconds):
        self.seconds = seconds

    def round(self, session):
        clock, times = time.perf_counter, []
        session.run()
        begin = clock()
        while True:
            start = clock()
            session.run()
            end = clock()
            times.append(end - start)
            if end - begin >= self.seconds and len(times) >= 3:
                return 1e3 * float(np.median(times))


def table(head, rows, align=None):
    """A markdown table."""
    align = align or ["---"] + ["---:"] * (len(head) - 1)
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join(align) + " |"]
    return "\n".join(lines + ["| " + " | ".join(map(str, r)) + " |" for r in rows])


def replace_section(path, name, text):
    """Puts text between the marks <!-- NAME --> and <!-- end of NAME --> of a page."""
    page = path.read_text()
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if "ESPL_PAGE" in os.environ and begin not in page:
        return
    if begin not in page or end not in page:
        raise SystemExit(f"{path}: there are no marks {begin} and {end}")
    before, rest = page.split(begin, 1)
    path.write_text(before + begin + "\n\n" + text.strip() + "\n\n" + end + rest.split(end, 1)[1])
