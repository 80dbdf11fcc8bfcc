#!/usr/bin/env python3
"""Writes tests/fixtures/transformer: layers as PyTorch's exporter writes them, with PyTorch's outputs.

post_norm.onnx has attention with a mask, layer normalisation behind it, and Gelu by erf; pre_norm.onnx has layer
normalisation before, no mask, and Gelu by tanh written out. x.npy and mask.npy are the inputs, NAME.npy the outputs.
"""
import math
import pathlib

import numpy as np
import torch
from torch import nn

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "transformer"
WIDTH, HEADS, HIDDEN = 24, 3, 40


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        for norm in (self.norm1, self.norm2):
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)

    def heads(self, x):
        return x.view(x.shape[0], x.shape[1], HEADS, -1).permute(0, 2, 1, 3)

    def attention(self, x, mask=None):
        q, k, v = self.heads(self.q(x)), self.heads(self.k(x)), self.heads(self.v(x))
        scores = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
        if mask is not None:
            scores = scores + (1.0 - mask[:, None, None, :]) * -10000.0
        mixed = torch.matmul(torch.softmax(scores, -1), v)
        return self.o(mixed.permute(0, 2, 1, 3).contiguous().view(x.shape))


class PostNorm(Layer):
    def forward(self, x, mask):
        x = self.norm1(x + self.attention(x, mask))
        return self.norm2(x + self.down(nn.functional.gelu(self.up(x))))


class PreNorm(Layer):
    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        h = self.up(self.norm2(x))
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * torch.pow(h, 3))))
        return x + self.down(h)


def write(name, module, **inputs):
    module.eval()
    arguments = tuple(inputs.values())
    torch.onnx.export(module, arguments, str(OUT / f"{name}.onnx"), opset_version=13, input_names=list(inputs),
                      output_names=["y"])
    np.save(OUT / f"{name}.npy", module(*arguments).detach().numpy())


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    x, mask = torch.randn(2, 13, WIDTH), torch.ones(2, 13)
    mask[1, 9:] = 0
    np.save(OUT / "x.npy", x.numpy())
    np.save(OUT / "mask.npy", mask.numpy())
    write("post_norm", PostNorm(), x=x, mask=mask)
    write("pre_norm", PreNorm(), x=x)


if __name__ == "__main__":
    main()
