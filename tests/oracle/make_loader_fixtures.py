#!/usr/bin/env python3
"""Writes tests/fixtures/loader: pictures, and the batches that training sees of them in two epochs.

Needs NumPy only. The generator (PCG32, O'Neill 2014, seeded through SplitMix64's finalizer) and the transforms are
written here anew: pad with zeros, crop, flip, normalise in double precision, cut out. tests/unit/test_loader.c reads the
results: pixels.npy (N x 3 x 6 x 8 bytes), order.npy (epoch x N), batches.npy (epoch x N x 3 x 6 x 8, in that order).
"""
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "loader"
MASK = (1 << 64) - 1
SEED, EPOCHS, COUNT = 2026, 2, 13
PAD, CUTOUT = 2, 3
SCALE = 1.0 / 255.0
MEAN, STD = np.array([0.5, 0.25, 0.125]), np.array([0.25, 0.3, 2.0])


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


class Pcg32:
    def __init__(self, seed, a, b):
        key = mix(mix(mix(seed) ^ a) ^ b)
        self.increment = (mix(key) << 1 | 1) & MASK
        self.state = 0
        self.next()
        self.state = (self.state + key) & MASK
        self.next()

    def next(self):
        old = self.state
        self.state = (old * 6364136223846793005 + self.increment) & MASK
        word, turn = ((old >> 18 ^ old) >> 27) & 0xFFFFFFFF, old >> 59
        return (word >> turn | word << (32 - turn)) & 0xFFFFFFFF

    def below(self, n):
        """Uniform without bias: words below 2^32 mod n are drawn again."""
        while True:
            x = self.next()
            if x >= (1 << 32) % n:
                return x % n


def shuffled(epoch):
    generator, order = Pcg32(SEED, epoch, MASK), list(range(COUNT))
    for i in range(COUNT - 1, 0, -1):
        j = generator.below(i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def augmented(image, epoch, index):
    generator = Pcg32(SEED, epoch, index)
    _, height, width = image.shape
    top, left = generator.below(2 * PAD + 1), generator.below(2 * PAD + 1)
    padded = np.pad(image, ((0, 0), (PAD, PAD), (PAD, PAD)))
    image = padded[:, top : top + height, left : left + width]
    if generator.below(2):
        image = image[:, :, ::-1]
    out = ((image.astype(np.float64) * SCALE - MEAN[:, None, None]) / STD[:, None, None]).astype(np.float32)
    y, x = generator.below(height) - CUTOUT // 2, generator.below(width) - CUTOUT // 2
    out[:, max(y, 0) : max(y + CUTOUT, 0), max(x, 0) : max(x + CUTOUT, 0)] = 0
    return out


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(6).integers(0, 256, (COUNT, 3, 6, 8), dtype=np.uint8)
    orders = [shuffled(epoch) for epoch in range(EPOCHS)]
    batches = [[augmented(pixels[i], epoch, i) for i in order] for epoch, order in enumerate(orders)]
    np.save(OUT / "pixels.npy", pixels)
    np.save(OUT / "order.npy", np.array(orders, dtype=np.int64))
    np.save(OUT / "batches.npy", np.array(batches, dtype=np.float32))


if __name__ == "__main__":
    main()
