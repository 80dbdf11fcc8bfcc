"""A second reader of .espl files, written from docs/format.md alone: constants as numpy arrays.

    python3 tests/oracle/espl_reader.py FILE        lists them
"""
import struct
import sys
import zlib

import numpy as np

DTYPES = ["<f4", "u1", "i1", "<u2", "<i2", "<i4", "<i8", "?", "<f2", "<f8", "<u4", "<u8", "bf16", "u1", "u1", "u1", "i1"]
FORMAT_BITS = [32, 8, 8, 32, 2, 3, 4, 5, 6, 7, 16, 16, 19, 8, 8, 16, 2, 3, 4, 5, 6, 7,
               3, 4, 5, 6, 7, 8, 3, 4, 5, 6, 7, 2, 1, 1]
TF32, BINARY = 12, 34
UNSIGNED = {*range(16, 22), *range(28, 33), BINARY, 35}
PATTERNS = ["dense", "unstructured", "nm", "bank", "block", "row", "column", "kernel"]
INPUT, CONSTANT, QUANTIZED, NAMED, DERIVED, KNOWN_RANK, TABLE, SPARSE = (1 << i for i in range(8))
SHORT = TABLE | SPARSE
HALVES, OFFSETS, GROUPS, ZEROS = (16 << i for i in range(4))


def storage(dtype):
    """bf16 has no numpy type: its bits."""
    return np.dtype("<u2" if DTYPES[dtype] == "bf16" else DTYPES[dtype])


class Reader:
    def __init__(self, data):
        magic, self.version, _, crc, length = struct.unpack("<4sHHIQ", data[:20])
        assert magic == b"ESPL" and self.version in (1, 2, 3) and length == len(data) - 20
        assert zlib.crc32(data[20:]) == crc
        self.data, self.at, self.previous = data, 20, b""

    def bytes(self, n):
        assert self.at + n <= len(self.data)
        self.at += n
        return self.data[self.at - n:self.at]

    def byte(self):
        return self.bytes(1)[0]

    def uint(self):
        value = shift = 0
        while True:
            b = self.byte()
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value

    def int(self):
        v = self.uint()
        return v >> 1 ^ -(v & 1)

    def f32(self):
        return struct.unpack("<f", self.bytes(4))[0]

    def string(self):
        shared, rest = self.uint(), self.uint()
        self.previous = self.previous[:shared] + self.bytes(rest)
        return self.previous.decode()

    def shape(self):
        return [self.uint() - 1 for _ in range(self.byte())]


def read_value(r):
    v = {"flags": r.byte(), "pattern": "dense", "format": 0}
    if v["flags"] & NAMED:
        v["name"] = r.string()
    if v["flags"] & (INPUT | CONSTANT):
        r.byte()
    if v["flags"] & INPUT and v["flags"] & KNOWN_RANK:
        r.shape()
    if v["flags"] & CONSTANT:
        v["dtype"], v["shape"] = r.byte(), r.shape()
    if v["flags"] & QUANTIZED:
        v["format"], axis, count = r.byte(), r.byte(), r.uint()
        if axis & GROUPS:
            v["group_axis"], v["group"] = r.byte(), r.uint()
        kind = "<f2" if axis & HALVES else "<f4"
        if not v["flags"] & DERIVED:
            v["scale"] = np.frombuffer(r.bytes(np.dtype(kind).itemsize * count), kind).astype("<f4")
        if axis & OFFSETS:
            v["offset"] = np.frombuffer(r.bytes(4 * count), "<f4")
        if axis & ZEROS:
            v["zero"] = [r.int() for _ in range(count)]
    if v["flags"] & SHORT == SPARSE:
        v["pattern"], v["axes"] = PATTERNS[r.byte()], (r.byte(), r.byte())
        if v["pattern"] in ("nm", "bank"):
            v["n"], v["m"] = r.uint(), r.uint()
        else:
            if v["pattern"] == "block":
                v["rows"], v["inputs"] = r.uint(), r.uint()
            v["share"], v["values"] = r.f32(), r.uint()
            if v["pattern"] == "unstructured":
                v["gap"] = r.byte()
    return v


def skip_attribute(r):
    r.uint()
    kind = r.byte()
    if kind == 0:
        r.int()
    elif kind == 1:
        r.f32()
    elif kind in (2, 6):
        r.string()
    elif kind == 3:
        for _ in range(r.uint()):
            r.int()
    elif kind == 4:
        r.bytes(4 * r.uint())
    else:
        dtype = r.byte()
        r.bytes(int(np.prod(r.shape())) * storage(dtype).itemsize)


def skip_nodes(r):
    for _ in range(r.uint()):
        flags = r.byte()
        r.uint()
        if flags & 1:
            r.string()
        if flags & 2:
            r.uint()
        for _ in range(2):
            for _ in range(r.uint()):
                r.uint()
        for _ in range(r.uint()):
            skip_attribute(r)


def fields(data, count, bits, signed=False):
    """`count` numbers of `bits` bits, least significant bit first."""
    if bits == 0:
        return np.zeros(count, np.int64)
    flat = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")[:count * bits].reshape(count, bits)
    numbers = flat.astype(np.int64) @ (1 << np.arange(bits, dtype=np.int64))
    return np.where(flat[:, -1] == 1, numbers - (1 << bits), numbers) if signed else numbers


def values_of(data, count, v):
    dtype, bits = storage(v["dtype"]), value_bits(v)
    if v["format"] == TF32 and v["flags"] & QUANTIZED:
        return (fields(data, count, bits) << 13).astype(np.uint32).view(np.float32)
    if bits < 8:
        codes = fields(data, count, bits, signed=v["format"] not in UNSIGNED).astype(np.int8)
        return 1 - 2 * codes if v["format"] == BINARY else codes
    return np.frombuffer(data, dtype, count)


def value_bits(v):
    return min(FORMAT_BITS[v["format"]] if v["flags"] & QUANTIZED else 64, 8 * storage(v["dtype"]).itemsize)


def whole(bits):
    return (bits + 7) // 8


def read_sparse(r, v):
    bits, (row_axis, inner_axis) = value_bits(v), v["axes"]
    array = np.zeros(v["shape"], storage(v["dtype"]))
    taps = [d for i, d in enumerate(v["shape"]) if i not in (row_axis, inner_axis)]
    rows, inputs, tap_count = v["shape"][row_axis], v["shape"][inner_axis], int(np.prod(taps, dtype=np.int64))
    # A matrix [rows][taps][inputs], written back in the end.
    matrix = np.zeros((rows, tap_count, inputs), array.dtype)
    start = r.at
    read = {"nm": read_banks, "bank": read_banks, "unstructured": read_rows}.get(v["pattern"], read_blocks)
    read(r, v, matrix, bits)
    r.at = max(r.at, start + (array.size + 63) // 64)
    order = [row_axis] + [i for i in range(array.ndim) if i not in (row_axis, inner_axis)] + [inner_axis]
    array.transpose(order)[...] = matrix.reshape([rows] + taps + [inputs])
    return array


def read_banks(r, v, matrix, bits):
    rows, taps, inputs = matrix.shape
    n, m = v["n"], v["m"]
    slots = []
    for row in range(rows):
        banks = [(tap, begin, min(m, inputs - begin)) for tap in range(taps) for begin in range(0, inputs, m)]
        if v["pattern"] == "nm":
            slots += [(row, *bank) for bank in banks for _ in range(min(n, bank[2]))]
        else:
            slots += [(row, *bank) for i in range(n) for bank in banks if i < min(n, bank[2])]
    values = values_of(r.bytes(whole(len(slots) * bits)), len(slots), v)
    width = (m - 1).bit_length()
    positions = fields(r.bytes(whole(len(slots) * width)), len(slots), width)
    last = {}
    for (row, tap, begin, length), value, position in zip(slots, values, positions):
        assert last.get((row, tap, begin), -1) < position < length
        last[row, tap, begin] = position
        matrix[row, tap, begin + position] = value


def read_rows(r, v, matrix, bits):
    rows, columns = matrix.shape[0], matrix.shape[1] * matrix.shape[2]
    values = values_of(r.bytes(whole(v["values"] * bits)), v["values"], v)
    width = columns.bit_length()
    counts = fields(r.bytes(whole(rows * width)), rows, width)
    gaps = fields(r.bytes(whole(v["values"] * v["gap"])), v["values"], v["gap"])
    flat, at = matrix.reshape(rows, columns), 0
    for row, count in enumerate(counts):
        columns_of = np.cumsum(gaps[at:at + count] + 1) - 1
        flat[row, columns_of] = values[at:at + count]
        at += count
    assert at == v["values"]


def read_blocks(r, v, matrix, bits):
    shape = {"block": (v.get("rows"), 1, v.get("inputs")), "row": (1, *matrix.shape[1:]),
             "column": (matrix.shape[0], 1, 1), "kernel": (1, matrix.shape[1], 1)}[v["pattern"]]
    values = values_of(r.bytes(whole(v["values"] * bits)), v["values"], v)
    corners = [(a, b, c) for a in range(0, matrix.shape[0], shape[0]) for b in range(0, matrix.shape[1], shape[1])
               for c in range(0, matrix.shape[2], shape[2])]
    at = 0
    for kept, corner in zip(fields(r.bytes(whole(len(corners))), len(corners), 1), corners):
        if kept:
            block = matrix[tuple(slice(c, c + s) for c, s in zip(corner, shape))]
            block[...] = values[at:at + block.size].reshape(block.shape)
            at += block.size
    assert at == v["values"]


def read_constant(r, v):
    count, dtype = int(np.prod(v["shape"], dtype=np.int64)), storage(v["dtype"])
    form = v["flags"] & SHORT
    if form == SPARSE:
        return read_sparse(r, v)
    if form == TABLE:
        table = np.frombuffer(r.bytes(4 * r.uint()), "<f4")
        width = 8 if r.version < 3 else max(1, (len(table) - 1).bit_length())
        flat = table[fields(r.bytes(whole(count * width)), count, width)]
    elif form == SHORT and dtype == np.dtype("<f4"):
        flat = np.frombuffer(r.bytes(2 * count), "<f2").astype(dtype)
    elif form == SHORT:
        assert r.version >= 3 and dtype == np.dtype("<i4")
        width = r.byte()
        flat = fields(r.bytes(whole(count * width)), count, width, signed=True).astype(dtype)
    elif value_bits(v) % 8:
        flat = values_of(r.bytes(whole(count * value_bits(v))), count, v)
    elif dtype == np.dtype("<i8"):
        flat = np.array([r.int() for _ in range(count)], np.int64)
    else:
        flat = np.frombuffer(r.bytes(count * dtype.itemsize), dtype)
    return flat.reshape(v["shape"])


def constants(path):
    """Of each constant what the file says of it, with its elements as "array"."""
    with open(path, "rb") as f:
        r = Reader(f.read())
    r.uint()
    r.string()
    for _ in range(2):
        for _ in range(r.uint()):
            r.string()
    values = [read_value(r) for _ in range(r.uint())]
    skip_nodes(r)
    for _ in range(2):
        for _ in range(r.uint()):
            r.uint()
    out = [v for v in values if v["flags"] & CONSTANT]
    for v in out:
        start = r.at
        v["array"] = read_constant(r, v)
        v["bytes"] = r.at - start
    assert r.at == len(r.data)
    return out


if __name__ == "__main__":
    for constant in constants(sys.argv[1]):
        print(DTYPES[constant["dtype"]], constant["shape"], constant["pattern"], f"{constant['bytes']} bytes")
