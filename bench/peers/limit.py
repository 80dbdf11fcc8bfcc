"""Limits this process to an instruction set: Espalier by ESPL_CPU, oneDNN by ONEDNN_MAX_CPU_ISA, and ONNX Runtime, which has no
such variable, by a processor that answers CPUID without the newer bits (cpumask.c). apply() comes before the libraries are
loaded. `avx512` and `vnni` are what Skylake's and Cascade Lake's servers had; `amx` is all there is."""
import ctypes
import os
import sys

import paths

# name: (Espalier's name, oneDNN's, cpumask.c's level or None, what a table says)
LEVELS = {"amx": ("amx", "AVX512_CORE_AMX", None, "AMX"),
          "vnni": ("avx512vnni", "AVX512_CORE_VNNI", 3, "AVX-512 with VNNI"),
          "avx512": ("avx512", "AVX512_CORE", 2, "AVX-512 without VNNI"),
          "avx2": ("avx2", "AVX2", 1, "AVX2")}
# Bits of CPUID's leaf 7 that must be gone: (level, subleaf, register, bit): AMX-TILE, AVX512-VNNI, AVX512F.
GONE = ((3, 0, 3, 24), (2, 0, 2, 11), (1, 0, 1, 16))


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
    if library.cpumask_limit(level):
        sys.exit("this processor or its kernel cannot answer CPUID otherwise (no cpuid_fault in /proc/cpuinfo)")
    for at, sub, register, bit in GONE:
        if at >= level and library.cpumask_seen(sub, register) >> bit & 1:
            sys.exit("the processor still shows what it should not")
