"""Small .espl files of every version, written from docs/format.md alone.

    python3 tests/oracle/make_container_fixtures.py

y = MatMul(x, w), x [1, 4], w [4, 3] of s4; and constants that are outputs: `table` (f32 [40]), `half` (f32 [24]), `whole`
(s32 [30]) and, from version 2 on, `sparse` (s8 [2, 8], 2:4, the example of the document). Version 1 and 2 store them as they
are, or with a byte for each index; version 3 in few bits.
"""
import pathlib
import struct
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent.parent / "fixtures" / "container"
F32, S8, S32 = 0, 2, 5
FORMAT_S8, FORMAT_S4, NM = 2, 6, 2
INPUT, CONSTANT, QUANTIZED, NAMED, KNOWN_RANK, TABLE, SPARSE = 1, 2, 4, 8, 32, 64, 128
HALVES = 16

CODES = np.arange(12) % 15 - 7
SCALES = [0.5, 0.25, 1.5 * 2**-14]
NUMBERS = np.array([0.1, -0.0, 0.0, 1e-30, 7e8], "<f4")
WHICH = np.arange(40) * 7 % 5
HALF = np.array([0.0, -0.0, np.inf, -np.inf, 65504, 2**-24, -3 * 2**-24, 2**-14] + [k / 8 for k in range(-8, 8)], "<f4")
WHOLE = np.array([k**3 - 5000 for k in range(30)], "<i4")  # -5000 to 19389: 16 bits


def uint(n):
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def string(text):
    return b"\0" + uint(len(text)) + text.encode()


def shape(*dims):
    return bytes([len(dims)]) + b"".join(uint(d + 1) for d in dims)


def packed(numbers, bits):
    flat = (np.asarray(numbers, np.int64)[:, None] >> np.arange(bits)) & 1
    return np.packbits(flat.astype(np.uint8).ravel(), bitorder="little").tobytes()


def constant(name, dtype, flags, dims, more=b""):
    head = bytes([CONSTANT | flags | (NAMED if name else 0)]) + (string(name) if name else b"")
    return head + bytes([F32 if flags & QUANTIZED else dtype, dtype]) + shape(*dims) + more


def grid(format, axis, scales, halves):
    kind = "<f2" if halves else "<f4"
    return bytes([format, axis + 1 | (HALVES if halves else 0)]) + uint(len(scales)) + np.array(scales, kind).tobytes()


def file(version):
    new = version == 3
    short = TABLE | SPARSE if new else 0
    values = [bytes([INPUT | NAMED | KNOWN_RANK]) + string("x") + bytes([F32]) + shape(1, 4),
              bytes([NAMED]) + string("y"),
              constant(None, S8, QUANTIZED, (4, 3), grid(FORMAT_S4, 1, SCALES, new)),
              constant("table", F32, TABLE, (40,)),
              constant("half", F32, short, (24,)),
              constant("whole", S32, short, (30,))]
    data = [packed(CODES & 15, 4),
            uint(5) + NUMBERS.tobytes() + packed(WHICH, 3 if new else 8),
            HALF.astype("<f2").tobytes() if new else HALF.tobytes(),
            b"\x10" + packed(WHOLE & 0xFFFF, 16) if new else WHOLE.tobytes()]
    if version > 1:
        pattern = bytes([NM, 0, 1, 2, 4])
        values.append(constant("sparse", S8, QUANTIZED | SPARSE, (2, 8), grid(FORMAT_S8, -1, [0.5], False) + pattern))
        data.append(bytes.fromhex("05FF070002030406 4DDE"))
    outputs = [1] + list(range(3, len(values)))
    body = uint(13) + string("fixture") + uint(1) + string("MatMul") + uint(0)
    body += uint(len(values)) + b"".join(values)
    body += uint(1) + bytes([0, 0, 2, 1, 3, 1, 2, 0])  # one node without a name or attributes: values 0 and 2 to value 1
    body += uint(1) + uint(1) + uint(len(outputs)) + b"".join(uint(v + 1) for v in outputs) + b"".join(data)
    return b"ESPL" + struct.pack("<HHIQ", version, 0, zlib.crc32(body), len(body)) + body


FOLDER.mkdir(exist_ok=True)
for version in (1, 2, 3):
    (FOLDER / f"v{version}.espl").write_bytes(file(version))
