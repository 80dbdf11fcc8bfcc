#!/usr/bin/env python3
"""Writes tests/fixtures/gradients: what PyTorch makes of single operators in double precision.

NAME.npy: the inputs, the outputs and the gradients of the inputs, one after the other, of the case of that name in
tests/unit/grad_torch.list, whose attributes say the same in ONNX's words. The loss is the test's: the sum of the outputs,
element i of output k times sin(0.7 + 1.3 k + 0.37 i), each output twice, as the test has each node twice.
RoiAlign is written out here, as torchvision is no part of PyTorch. Needs torch (Debian's python3-torch) and NumPy.
"""
import itertools
import pathlib

import numpy as np
import torch
from torch.nn import functional as F

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "gradients"


def write(name, inputs, make):
    """inputs: tensors, of which those of reals that the outputs depend on have gradients; make: the outputs, as ONNX shapes
    them."""
    inputs = [x.double().float().double().requires_grad_() if x.is_floating_point() else x for x in inputs]
    y = make(*inputs)
    y = y if isinstance(y, tuple) else (y,)
    loss = 0
    for twice in range(2):
        for k, one in enumerate(y):
            i = torch.arange(one.numel(), dtype=torch.float64)
            loss = loss + (one.reshape(-1) * torch.sin(0.7 + 1.3 * (twice * len(y) + k) + 0.37 * i)).sum()
    loss.backward()
    parts = inputs + list(y) + [x.grad for x in inputs if x.grad is not None]
    np.save(OUT / f"{name}.npy", np.concatenate([p.detach().double().numpy().reshape(-1) for p in parts]))


def grid_samples():
    for mode, padding, corners in itertools.product(("linear", "nearest", "cubic"), ("zeros", "border", "reflection"), (0, 1)):
        # Outside the image PyTorch's cubic mode clips taps where ONNX clips the place.
        reach = 0.95 if (mode, padding) == ("cubic", "border") else 1.6
        torch_mode = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
        grid = (torch.rand(1, 3, 2, 2) * 2 - 1) * reach
        write(f"grid_sample_{mode}_{padding}_{corners}", [torch.randn(1, 2, 4, 5), grid],
              lambda x, g: F.grid_sample(x, g, torch_mode, padding, bool(corners)))
    grid = (torch.rand(1, 2, 1, 3, 3) * 2 - 1) * 1.3
    write("grid_sample_volume", [torch.randn(1, 1, 3, 4, 2), grid], lambda x, g: F.grid_sample(x, g, "bilinear", "border", False))
    write("affine_grid", [torch.randn(2, 2, 3)], lambda t: F.affine_grid(t, (2, 1, 3, 4), False))


def transforms():
    pairs = torch.view_as_real
    write("dft", [torch.randn(2, 6, 2)], lambda x: pairs(torch.fft.fft(torch.view_as_complex(x), dim=1)))
    write("dft_inverse", [torch.randn(2, 5, 3, 2)], lambda x: pairs(torch.fft.ifft(torch.view_as_complex(x), n=7, dim=1)))
    write("dft_onesided", [torch.randn(2, 7, 1)], lambda x: pairs(torch.fft.rfft(x[..., 0], n=6, dim=1)))
    write("dft_real", [torch.randn(2, 4, 2)], lambda x: torch.fft.irfft(torch.view_as_complex(x), n=7, dim=1)[..., None])
    write("stft", [torch.randn(2, 16), torch.rand(8) + 0.5],
          lambda x, w: pairs(torch.stft(x, 8, 3, 8, w, False, onesided=True, return_complex=True)).transpose(1, 2))
    write("stft_complex", [torch.randn(1, 14, 2), torch.rand(6) + 0.5],
          lambda x, w: pairs(torch.stft(torch.view_as_complex(x), 6, 4, 6, w, False, onesided=False,
                                        return_complex=True)).transpose(1, 2))


def einsums():
    for i, (equation, *shapes) in enumerate((("bij,jk->bik", (2, 3, 4), (4, 5)), ("ii->i", (3, 3)), ("ij,jk,ki->ij", (2, 3), (3, 4), (4, 2)),
                                             ("...ij,...jk->...ik", (2, 1, 3, 4), (5, 4, 2)), ("bii,bi->b", (2, 3, 3), (2, 3)))):
        write(f"einsum_{i}", [torch.randn(s) for s in shapes], lambda *x: torch.einsum(equation, *x))


def places():
    x = torch.randn(1, 2, 4, 6)
    _, at = F.max_pool2d(x, 2, 2, return_indices=True)
    whole = at + torch.arange(2).reshape(1, 2, 1, 1) * 24  # ONNX counts over all planes
    write("max_unpool", [torch.randn(1, 2, 2, 3), whole], lambda v, i: F.max_unpool2d(v, at, 2, 2))
    write("max_unpool_larger", [torch.randn(1, 2, 2, 3), whole], lambda v, i: F.pad(F.max_unpool2d(v, at, 2, 2), (0, 1, 0, 2)))
    write("col2im", [torch.randn(1, 18, 9)], lambda v: F.fold(v, (5, 5), 3, stride=2, padding=1))
    data, updates = torch.randn(3, 4), torch.randn(3, 6)
    at = torch.randint(0, 4, (3, 6))
    data[0, at[0, 0]] = updates[1, 2] = 0
    updates[2, 1], at[2, 1] = updates[2, 0], at[2, 0]
    data[2, at[2, 0]] = updates[2, 0]
    for how, name in (("sum", "add"), ("prod", "mul"), ("amax", "max"), ("amin", "min")):
        write(f"scatter_{name}", [data, at, updates], lambda d, i, u: d.scatter_reduce(1, i, u, how))


def losses():
    x, target, weight = torch.randn(2, 5, 4), torch.tensor([[0, 2, 4, 2], [1, 1, 3, 0]]), torch.tensor([0.5, 1.0, 2.0, 0.25, 1.5])
    write("cross_entropy", [x, target], lambda s, t: F.cross_entropy(s, t, weight.double(), ignore_index=2))
    write("nll", [x, target], lambda s, t: F.nll_loss(s, t, weight.double(), reduction="sum"))
    singular = torch.tensor([[[1.0, 2, 3], [2, 4, 6], [1, 0, 1]], [[0.0, 0, 0], [1, 2, 3], [4, 5, 7]], [[2.0, 1, 0], [1, 3, 1], [0, 1, 4]]])
    # PyTorch 1.13's own determinant has no gradient of singular matrices: the triple product of the rows.
    write("det", [singular], lambda m: (m[:, 0] * torch.cross(m[:, 1], m[:, 2], dim=1)).sum(1))
    write("lp_pool", [torch.randn(1, 2, 6, 7)], lambda v: F.lp_pool2d(v.abs(), 3, (3, 2), 2))


def roi_align(x, rois, index, size, samples, scale, most):
    """By its definition: samples in the middle of parts of a bin, between four elements each."""
    height, width = x.shape[2:]
    out = []
    for roi, image in zip(rois * scale - 0.5, index):
        bin_h, bin_w = (roi[3] - roi[1]) / size[0], (roi[2] - roi[0]) / size[1]
        for h, w in itertools.product(range(size[0]), range(size[1])):
            terms = []
            for i, j in itertools.product(range(samples), repeat=2):
                y = float(roi[1] + (h + (i + 0.5) / samples) * bin_h)
                at = float(roi[0] + (w + (j + 0.5) / samples) * bin_w)
                if y < -1 or y > height or at < -1 or at > width:
                    terms += [x.new_zeros(x.shape[1])] * 4
                    continue
                y, at = min(max(y, 0), height - 1), min(max(at, 0), width - 1)
                y0, x0 = int(y), int(at)
                for dy, dx in itertools.product((0, 1), repeat=2):
                    weight = (y - y0 if dy else 1 - y + y0) * (at - x0 if dx else 1 - at + x0)
                    terms.append(weight * x[image, :, min(y0 + dy, height - 1), min(x0 + dx, width - 1)])
            terms = torch.stack(terms)
            out.append(terms.max(0).values if most else terms.sum(0) / samples**2)
    return torch.stack(out).reshape(len(rois), *size, x.shape[1]).permute(0, 3, 1, 2)


def regions():
    rois = torch.tensor([[0.5, 1.0, 5.25, 6.5], [1.75, 0.25, 8.5, 5.0], [-1.5, 2.0, 2.75, 2.5]]).double()
    for name, most in (("mean", False), ("max", True)):
        write(f"roi_align_{name}", [torch.randn(2, 2, 6, 7), rois], lambda x, r: roi_align(x, r, [1, 0, 1], (2, 3), 2, 0.75, most))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(6)
    for part in (grid_samples, transforms, einsums, places, losses, regions):
        part()


if __name__ == "__main__":
    main()
