"""Limits this process to an instruction set: Espalier by ESPL_CPU, oneDNN by ONEDNN_MAX_CPU_ISA, and ONNX Runtime, which has no
such variable, by a processor that answers CPUID without the newer bits (cpumask.c), or by a copy of it that asks otherwise.
apply() comes before the libraries are loaded. `avx512` and `vnni` are what Skylake's and Cascade Lake's servers had; `amx` is all there is."""
import ctypes
import importlib.machinery
import importlib.util
import os
import pathlib
import subprocess
import sys

import paths

# name: (Espalier's name, oneDNN's, cpumask.c's level or None, what a table says)
LEVELS = {"amx": ("amx", "AVX512_CORE_AMX", None, "AMX"),
          "vnni": ("avx512vnni", "AVX512_CORE_VNNI", 3, "AVX-512 with VNNI"),
          "avx512": ("avx512", "AVX512_CORE", 2, "AVX-512 without VNNI"),
          "avx2": ("avx2", "AVX2", 1, "AVX2")}
# Bits of CPUID's leaf 7 that must be gone: (level, subleaf, register, bit): AMX-TILE, AVX512-VNNI, AVX512F.
GONE = ((3, 0, 3, 24), (2, 0, 2, 11), (1, 0, 1, 16))


# The module of ONNX Runtime that is its library.
STATE = "onnxruntime.capi.onnxruntime_pybind11_state"


def without_cpuid(library):
    """A copy of a library below the build folder in which every CPUID is CLTS, which cpumask.c answers."""
    copy = paths.WORK / "without_cpuid" / library.name
    if copy.exists() and copy.stat().st_mtime > library.stat().st_mtime:
        return copy
    sections = subprocess.run(["objdump", "-h", "-j", ".text", library], capture_output=True, text=True, check=True).stdout
    text = next(line.split() for line in sections.splitlines() if " .text " in line)
    offset = int(text[5], 16) - int(text[3], 16)
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "-j", ".text", library], capture_output=True, text=True, check=True)
    places = [int(line.split(":")[0], 16) + offset for line in code.stdout.splitlines() if line.endswith("\tcpuid")]
    data = bytearray(library.read_bytes())
    for at in places:
        assert data[at:at + 2] == b"\x0f\xa2"
        data[at:at + 2] = b"\x0f\x06"
    assert places
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(data)
    return copy


class Finder:
    """Gives the copy where the module is asked for."""
    def find_spec(self, name, path, target=None):
        if name != STATE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        return importlib.util.spec_from_file_location(name, without_cpuid(pathlib.Path(spec.origin)))


def apply(name, mask=True):
    """`mask` answers CPUID too."""
    espalier, onednn, level, _ = LEVELS[name]
    os.environ["ESPL_CPU"], os.environ["ONEDNN_MAX_CPU_ISA"] = espalier, onednn
    if level is None or not mask:
        return
    if "onnxruntime" in sys.modules:
        raise RuntimeError("too late: ONNX Runtime is loaded")
    library = ctypes.CDLL(str(paths.shared_library("cpumask.c")))
    library.cpumask_seen.restype = ctypes.c_uint32
    replaced = library.cpumask_limit(level) != 0
    if replaced:  # no cpuid_fault in /proc/cpuinfo
        sys.meta_path.insert(0, Finder())
    for at, sub, register, bit in GONE:
        if at >= level and library.cpumask_seen(sub, register, replaced) >> bit & 1:
            sys.exit("the processor still shows what it should not")
