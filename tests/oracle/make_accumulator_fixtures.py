"""Writes what tests/unit/test_accumulators.c compares with, into tests/fixtures/accumulators: everything by Python's own
integers and fractions, sums by trying every input there is.

    python3 tests/oracle/make_accumulator_fixtures.py

sums.txt:   LO HI START WEIGHTS... | LEAST MOST BITS      over all inputs of codes LO to HI, of all partial sums
fixed.txt:  REAL MULTIPLIER SHIFT A RESULT                REAL in hexadecimal; RESULT: A times what the two integers say
"""
import itertools
import math
import os
import random
from fractions import Fraction

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fixtures", "accumulators")
draw = random.Random(11)


def all_partial_sums(lo, hi, start, weights):
    for x in itertools.product(range(lo, hi + 1), repeat=len(weights)):
        total = start
        yield total
        for w, v in zip(weights, x):
            total += w * v
            yield total


def bits_for(least, most):
    bits = 1
    while not -(1 << (bits - 1)) <= least <= most <= (1 << (bits - 1)) - 1:
        bits += 1
    return bits


def write_sums(f):
    ranges = [(0, 3), (0, 7), (-2, 1), (-1, 1), (-4, 3), (0, 1)]
    for i in range(120):
        lo, hi = ranges[i % len(ranges)]
        k = draw.randint(1, 4 if hi - lo > 4 else 6)
        weights = [draw.randint(-128, 127) if i % 3 else draw.randint(-2, 2) for _ in range(k)]
        start = draw.choice([0, draw.randint(-500, 500), draw.randint(-20000, 20000)])
        sums = list(all_partial_sums(lo, hi, start, weights))
        least, most = min(sums), max(sums)
        f.write(f"{lo} {hi} {start} {' '.join(map(str, weights))} | {least} {most} {bits_for(least, most)}\n")


def nearest_multiplier(real):
    """31 significant bits and a shift, by fractions; halves to even."""
    exact = Fraction(real)
    shift = 31
    while exact * 2 ** shift < 2 ** 30:
        shift += 1
    while exact * 2 ** shift >= 2 ** 31:
        shift -= 1
    multiplier = round(exact * 2 ** shift)
    if multiplier == 2 ** 31:
        multiplier, shift = multiplier // 2, shift - 1
    return multiplier, shift


def write_fixed(f):
    reals = [0.5, 1.0, 0.75, 1 / 3, 1 - 2.0 ** -33, 2.0 ** -32, 2.0 ** -31 * 1.5, 3.7e-5, 1234.5678, 2.0 ** 30, 2.0 ** 30.9]
    reals += [2.0 ** draw.uniform(-31.9, 3) for _ in range(60)]
    numbers = [0, 1, -1, 2 ** 31 - 1, -2 ** 31, 12345, -12345]
    for real in reals:
        multiplier, shift = nearest_multiplier(real)
        for a in numbers + [draw.randint(-2 ** 31, 2 ** 31 - 1) for _ in range(3)] + [draw.randint(-40000, 40000) for _ in range(3)]:
            result = math.floor(Fraction(a * multiplier, 2 ** shift) + Fraction(1, 2))
            result = max(-2 ** 31, min(2 ** 31 - 1, result))
            f.write(f"{real.hex()} {multiplier} {shift} {a} {result}\n")


os.makedirs(OUT, exist_ok=True)
with open(os.path.join(OUT, "sums.txt"), "w") as f:
    write_sums(f)
with open(os.path.join(OUT, "fixed.txt"), "w") as f:
    write_fixed(f)
