#!/usr/bin/env python3
"""Writes tests/fixtures/train: what PyTorch makes of four small networks in double precision.

block.npy, lstm.npy, transformer.npy: the loss, the logits, and the gradient of each parameter, one after the other.
resnet8_losses.npy, lstm_losses.npy: the loss of each of 200 SGD steps. The networks are those of tests/unit/test_train_torch.c;
parameters and data are not stored, both sides draw them from one generator (draw). Parameters are shaped as in ONNX.
Needs torch (Debian's python3-torch) and NumPy.
"""
import pathlib

import numpy as np
import torch
from torch.nn import functional as F

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "train"
STEPS, MOMENTUM, DECAY = 200, 0.875, 1 / 1024


def raw(seed, count):
    """The upper 24 bits of a linear congruential generator of 32 bits (Numerical Recipes' constants)."""
    out, state = [], seed
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(state >> 8)
    return np.array(out, dtype=np.int64)


def draw(seed, scale, *shape):
    """In [-scale, scale), exact in f32 for a scale that is a power of two."""
    values = (raw(seed, int(np.prod(shape))) / 2.0**23 - 1) * scale
    return torch.tensor(values.reshape(shape), dtype=torch.float64)


def draw_ints(seed, below, *shape):
    return torch.tensor(raw(seed, int(np.prod(shape))).reshape(shape) % below)


class Net:
    def __init__(self):
        self.params = []

    def param(self, scale, *shape, around=0.0):
        if len(self.params) == self.next:
            p = (around + draw(1000 + self.next, scale, *shape)).float().double()
            self.params.append(p.requires_grad_())
        self.next += 1
        return self.params[self.next - 1]

    def __call__(self, *data):
        self.next = 0
        return self.forward(*data)

    def conv(self, x, outputs, kernel, stride=1):
        w = self.param(0.25, outputs, x.shape[1], kernel, kernel)
        return F.conv2d(x, w, stride=stride, padding=kernel // 2)

    def norm(self, x):
        scale = self.param(0.25, x.shape[1], around=1.0)
        return F.batch_norm(x, None, None, scale, self.param(0.25, x.shape[1]), training=True, eps=2.0**-16)

    def dense(self, x, outputs):
        return x @ self.param(0.25, x.shape[-1], outputs) + self.param(0.25, outputs)

    def layer_norm(self, x):
        n = x.shape[-1]
        return F.layer_norm(x, (n,), self.param(0.25, n, around=1.0), self.param(0.25, n), eps=2.0**-16)

    def residual(self, x, outputs, stride, norm_shortcut):
        y = F.relu(self.norm(self.conv(x, outputs, 3, stride)))
        y = self.norm(self.conv(y, outputs, 3))
        if stride > 1:
            x = self.conv(x, outputs, 1, stride)
            if norm_shortcut:
                x = self.norm(x)
        return F.relu(y + x)

    def lstm(self, x, hidden):
        """ONNX's gates are input, output, forget, cell; PyTorch's input, forget, cell, output."""
        order = torch.arange(4 * hidden).reshape(4, hidden)[[0, 2, 3, 1]].flatten()
        w = self.param(0.25, 1, 4 * hidden, x.shape[2])[0][order]
        r = self.param(0.25, 1, 4 * hidden, hidden)[0][order]
        b = self.param(0.25, 1, 8 * hidden)[0].reshape(2, -1)[:, order]
        zeros = torch.zeros(1, x.shape[1], hidden, dtype=torch.float64)
        return torch._VF.lstm(x, (zeros, zeros), [w, r, b[0], b[1]], True, 1, 0.0, True, False, False)[0]


class Block(Net):
    def forward(self, x):
        y = self.residual(x, 16, 2, True)
        return self.dense(y.mean((2, 3)), 10)


class ResNet8(Net):
    def forward(self, x):
        y = F.relu(self.norm(self.conv(x, 16, 3)))
        y = self.residual(y, 16, 1, False)
        y = self.residual(y, 32, 2, False)
        y = self.residual(y, 64, 2, False)
        return self.dense(y.mean((2, 3)), 10)


class Lstm(Net):
    def forward(self, tokens):
        x = self.param(0.5, 20, 8)[tokens]
        y = self.lstm(self.lstm(x, 16), 16)
        return self.dense(y.reshape(-1, 16), 20)


class Transformer(Net):
    heads = 2

    def split(self, x):
        return x.reshape(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x):
        n = self.layer_norm(x)
        q, k, v = (self.split(self.dense(n, 16)) for _ in range(3))
        mask = torch.full((x.shape[1], x.shape[1]), -1024.0, dtype=torch.float64).triu(1)
        weights = F.softmax(q @ k.transpose(2, 3) * 0.375 + mask, -1)
        x = x + self.dense((weights @ v).transpose(1, 2).reshape(x.shape), 16)
        x = x + self.dense(F.gelu(self.dense(self.layer_norm(x), 32)), 16)
        return self.dense(x.mean(1), 10)


def gradients(name, net, data, labels):
    logits = net(data)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    parts = [loss.detach(), logits.detach()] + [p.grad for p in net.params]
    np.save(OUT / f"{name}.npy", torch.cat([p.flatten() if p.dim() else p[None] for p in parts]).numpy())
    print(name, float(loss), sum(p.numel() for p in net.params))


def losses(name, net, rate, batches):
    """batches: a list of pairs, taken in turn."""
    out, optimizer = [], None
    for step in range(STEPS):
        data, labels = batches[step % len(batches)]
        loss = F.cross_entropy(net(data), labels)
        if not optimizer:
            optimizer = torch.optim.SGD(net.params, rate, momentum=MOMENTUM, weight_decay=DECAY)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        out.append(float(loss.detach()))
    np.save(OUT / f"{name}_losses.npy", np.array(out))
    print(name, out[:3], out[-1])


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    gradients("block", Block(), draw(1, 2, 4, 8, 9, 9), draw_ints(2, 10, 4))
    gradients("lstm", Lstm(), draw_ints(1, 20, 35, 4), draw_ints(2, 20, 35 * 4))
    gradients("transformer", Transformer(), draw(1, 2, 3, 7, 16), draw_ints(2, 10, 3))
    losses("resnet8", ResNet8(), 0.03125, [(draw(10 + i, 2, 4, 3, 32, 32), draw_ints(20 + i, 10, 4)) for i in range(4)])
    tokens = [draw_ints(10 + i, 20, 35, 4) for i in range(4)]
    losses("lstm", Lstm(), 0.5, [(t, (t * 3 + 1).flatten() % 20) for t in tokens])


if __name__ == "__main__":
    main()
