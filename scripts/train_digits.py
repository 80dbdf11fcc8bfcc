#!/usr/bin/env python3
"""Trains examples/digits.onnx, the small network that the quick start and the tests use.

    cmake --build build && scripts/train_digits.py

Needs PyTorch and ONNX's Python package (Debian: python3-torch python3-onnx). The data come from the program's own
generator, through `espalier data`. Takes about four minutes on one core.
"""
import argparse
import pathlib
import subprocess
import tempfile
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

ROOT = pathlib.Path(__file__).resolve().parent.parent


def conv(inputs, outputs, kernel=3, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False), nn.BatchNorm2d(outputs)
    )


class Digits(nn.Module):
    """One of each that small networks are made of: plain, residual, depthwise separable, pooled, fully connected."""

    def __init__(self):
        super().__init__()
        self.stem = conv(1, 16)
        self.widen = conv(16, 32)
        self.residual1 = conv(32, 32)
        self.residual2 = conv(32, 32)
        self.depthwise = conv(32, 32, stride=2, groups=32)
        self.pointwise = conv(32, 64, kernel=1)
        self.last = conv(64, 64)
        self.classify = nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 2)
        x = F.relu(self.widen(x))
        x = F.relu(x + self.residual2(F.relu(self.residual1(x))))
        x = F.relu(self.depthwise(x))
        x = F.relu(self.pointwise(x))
        x = F.relu(self.last(x))
        return self.classify(F.adaptive_avg_pool2d(x, 1).flatten(1))


def read_set(program, data, folder):
    subprocess.run([program, "data", data, "-o", str(folder)], check=True)
    images = torch.from_numpy(np.load(folder / "images.npy"))
    labels = torch.from_numpy(np.load(folder / "labels.npy"))
    return images, labels


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        hits = sum(
            int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500))
        )
    return 100.0 * hits / len(labels)


def train(model, images, labels, epochs, batch=100):
    steps = epochs * (len(labels) // batch)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.15, steps, pct_start=0.2)
    for epoch in range(epochs):
        model.train()
        start, total = time.time(), 0.0
        order = torch.randperm(len(labels))
        for rows in order[: len(order) // batch * batch].split(batch):
            loss = F.cross_entropy(model(images[rows]), labels[rows])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * batch
        print(f"epoch {epoch + 1}: loss {total / len(labels):.4f}, {time.time() - start:.1f} s", flush=True)


def fold(model):
    """Batch norm folded into the convolutions, so that rounding sees the weights the exported file holds."""
    model.eval()
    for name, block in model.named_children():
        if isinstance(block, nn.Sequential):
            setattr(model, name, nn.utils.fusion.fuse_conv_bn_eval(block[0], block[1]))
    return model


def round_weights(model, bits):
    """Nearest code of a symmetric grid per output channel: scale max|w| / (2^(bits-1) - 1), codes from -2^(bits-1)."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                w = layer.weight
                scale = w.abs().flatten(1).max(1).values.clamp_min(1e-12) / high
                scale = scale.reshape([-1] + [1] * (w.dim() - 1))
                w.copy_((w / scale).round().clamp(low, high) * scale)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=str(ROOT / "build" / "espalier"))
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("-o", "--output", default=str(ROOT / "examples" / "digits.onnx"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        images, labels = read_set(args.program, str(ROOT / "examples" / "data" / "digits-train.yaml"), folder / "train")
        test_images, test_labels = read_set(args.program, "digits", folder / "test")

    model = Digits()
    print(f"{sum(p.numel() for p in model.parameters())} parameters, {len(labels)} samples")
    train(model, images, labels, args.epochs)
    fold(model)
    print(f"f32: {accuracy(model, test_images, test_labels):.2f} % of {len(test_labels)} test samples")
    torch.onnx.export(
        model,
        test_images[:1],
        args.output,
        opset_version=13,
        input_names=["image"],
        output_names=["scores"],
        dynamic_axes={"image": {0: "N"}, "scores": {0: "N"}},
    )
    print(f"wrote {args.output}, {pathlib.Path(args.output).stat().st_size} bytes")
    for bits in (8, 4, 3, 2):
        rounded = fold(Digits())
        rounded.load_state_dict(model.state_dict())
        round_weights(rounded, bits)
        print(f"weights rounded to {bits} bits: {accuracy(rounded, test_images, test_labels):.2f} %")


if __name__ == "__main__":
    main()
