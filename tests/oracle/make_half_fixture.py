"""Prints what tests/unit/test_tensor.c compares the 16-bit floats with: numpy's float16 and PyTorch's bfloat16.

    python3 tests/oracle/make_half_fixture.py

NaN is left out: its payload is nobody's promise.
"""
import zlib

import numpy as np
import torch

codes = np.arange(65536, dtype=np.uint16)
samples = (np.arange(1 << 20, dtype=np.uint64) * 4099 % (1 << 32)).astype(np.uint32)
numbers = samples.view(np.float32)
nan = np.isnan(numbers)


def crc(array):
    return f"0x{zlib.crc32(np.ascontiguousarray(array).tobytes()):08x}"


def bfloat(array):
    return torch.from_numpy(array.copy()).to(torch.bfloat16)


with np.errstate(over="ignore"):
    halves = codes.view(np.float16).astype(np.float32)
    halves[np.isnan(halves)] = 0
    rounded = numbers.astype(np.float16).view(np.uint16).copy()
rounded[nan] = 0
wide = torch.from_numpy(codes.view(np.int16).copy()).view(torch.bfloat16).to(torch.float32).numpy()
wide[np.isnan(wide)] = 0
narrow = bfloat(numbers).view(torch.int16).numpy().view(np.uint16).copy()
narrow[nan] = 0
print("f16 to f32 ", crc(halves))
print("f32 to f16 ", crc(rounded))
print("bf16 to f32", crc(wide))
print("f32 to bf16", crc(narrow))
