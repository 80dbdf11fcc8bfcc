#!/usr/bin/env python3
"""Writes tests/fixtures/npy: one array of every type, version and oddity, saved by NumPy itself.

tests/unit/test_npy.c knows the values: element i of the 2x3 arrays is VALUES[i] cast to the type.
"""
import pathlib
import struct

import numpy as np
from numpy.lib import format as npy

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "npy"
SIGNED = [-3, 0, 1, 7, 100, -128]
UNSIGNED = [3, 0, 1, 7, 100, 250]
REAL = [-1.5, 0.0, 0.25, 3.0, 65504.0, -0.000030517578125]


def save(name, array, version=None):
    with open(OUT / f"{name}.npy", "wb") as file:
        npy.write_array(file, array, version=version, allow_pickle=True)


def raw(name, header, data, version=1):
    """A header as another program may write it."""
    text = header.encode()
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    (OUT / f"{name}.npy").write_bytes(b"\x93NUMPY" + bytes([version, 0]) + length + text + data)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for code in ("f4", "f8", "f2"):
        save(code, np.array(REAL, dtype="<" + code).reshape(2, 3))
    for code in ("i1", "i2", "i4", "i8"):
        save(code, np.array(SIGNED, dtype=code).reshape(2, 3))
    for code in ("u1", "u2", "u4", "u8"):
        save(code, np.array(UNSIGNED, dtype=code).reshape(2, 3))
    save("b1", np.array([True, False, True, True, False, False]).reshape(2, 3))
    save("wide_i8", np.array([2**62, -(2**63)], dtype="<i8"))

    floats = np.array(REAL, dtype="<f4").reshape(2, 3)
    save("version2", floats, (2, 0))
    save("version3", floats, (3, 0))
    save("scalar", np.array(2.5, dtype="<f4"))
    save("empty", np.zeros((0, 4), dtype="<f4"))
    save("vector", np.arange(5, dtype="<i4"))
    save("rank8", np.arange(4, dtype="<u2").reshape(1, 2, 1, 1, 2, 1, 1, 1))
    four = np.arange(4, dtype="<u1").tobytes()
    raw("order", "{\"shape\":(2L,2L),'fortran_order' : False,\n'descr':'|u1'}", four)

    save("bad_fortran", np.asfortranarray(floats))
    save("bad_big_endian", floats.astype(">f4"))
    save("bad_complex", floats.astype("<c8"))
    save("bad_record", np.zeros(2, dtype=[("a", "<f4"), ("b", "<i4")]))
    save("bad_object", np.array([None, "x"], dtype=object))
    save("bad_rank9", np.zeros((1,) * 9, dtype="<f4"))
    raw("bad_overflow", "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 16), }", four)
    raw("bad_huge_dim", "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }", four)
    raw("bad_negative", "{'descr': '|u1', 'fortran_order': False, 'shape': (-4,), }", four)
    raw("bad_claim", "{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000,), }", four)
    raw("bad_long", "{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", four)
    raw("bad_missing", "{'descr': '|u1', 'shape': (4,), }", four)
    raw("bad_key", "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), 'x': 1}", four)
    raw("bad_tuple", "{'descr': '|u1', 'fortran_order': False, 'shape': (4), }", four)
    raw("bad_tail", "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), } x", four)
    raw("bad_version", "{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }", four, 4)
    (OUT / "bad_magic.npy").write_bytes(b"\x93NUMPX\x01\x00" + b"v\x00" + b" " * 118)
    (OUT / "bad_header_length.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 0xFFFFFFFF) + b"{}")


if __name__ == "__main__":
    main()
