#!/usr/bin/env python3
"""Writes tests/fixtures/training/fake_*.npy: what PyTorch's learnable fake quantization makes of random numbers.

fake_tensor: 6 x 5 x 8, one scale, unsigned codes with zero point 100; an activation, so n is the elements of a sample.
fake_channel: 4 x 30, a scale per row, signed codes of 4 bits; weights, n is a row's elements.
Each as one vector: x, y, dy, dx, ds. The scales are 0.02 and 0.11 + 0.03 row. Needs torch (Debian's python3-torch) and NumPy.
"""
import pathlib

import numpy as np
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "training"


def write(name, x, dy, run, scale):
    x.requires_grad_()
    scale.requires_grad_()
    y = run(x, scale)
    y.backward(dy)
    parts = [x, y, dy, x.grad, scale.grad]
    np.save(OUT / f"{name}.npy", np.concatenate([p.detach().numpy().astype(np.float64).ravel() for p in parts]))


def main():
    torch.manual_seed(20)
    x = torch.randn(6, 5, 8) * 1.5
    write("fake_tensor", x, torch.randn(x.shape), lambda x, s: torch._fake_quantize_learnable_per_tensor_affine(
        x, s, torch.tensor([100.0]), 0, 255, (x.numel() / 6 * 255) ** -0.5), torch.tensor([0.02]))
    w = torch.randn(4, 30)
    write("fake_channel", w, torch.randn(w.shape), lambda x, s: torch._fake_quantize_learnable_per_channel_affine(
        x, s, torch.zeros(4), 0, -8, 7, (30 * 7) ** -0.5), 0.11 + 0.03 * torch.arange(4))


if __name__ == "__main__":
    main()
