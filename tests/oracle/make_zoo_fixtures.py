#!/usr/bin/env python3
"""Writes tests/fixtures/zoo: what PyTorch's modules of the zoo's architectures give, with the weights that `espalier new`
draws. Run with Debian's python3-torch and onnx:

    tests/oracle/make_zoo_fixtures.py build/release/espalier

Each network is written here from its paper and PyTorch's own layers, takes the parameters of the ONNX file by their names
(each exactly once), and NAME.npy holds its scores for a batch of 2. So that no parameter is 0 or 1 everywhere, vectors get
a pattern added first (`spread`); test_zoo.c adds the same. sizes.txt has the numbers of parameters at the default sizes.
"""
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "zoo"
BATCH = 2


def pattern(count):
    """Numbers from -1 to 1 that C computes exactly as well: multiples of 2^-31."""
    i = np.arange(count, dtype=np.uint64)
    return ((i * 2654435761 + 12345) % 2**32).astype(np.float64) / 2**31 - 1


def spread(name, array):
    """What is added to vectors, by their names' ends; all others stay."""
    scale = {".bias": 0.05, ".mean": 0.1, ".variance": 0.3}.get(name[name.rfind("."):], 0)
    if name.endswith("norm.weight") or ".norm1." in name or ".norm2." in name:
        scale = scale or 0.2
    return (array + np.float32(scale) * pattern(array.size).reshape(array.shape).astype(np.float32)).astype(np.float32)


# --- convolutional networks -----------------------------------------------------------------------------------------


class Unit(nn.Module):
    """Convolution that keeps the size at stride 1, batch norm, activation."""

    def __init__(self, inputs, outputs, kernel, stride=1, groups=1, act=nn.ReLU):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm, self.act = nn.BatchNorm2d(outputs), act() if act else nn.Identity()

    def forward(self, x):
        return self.act(self.norm(self.conv(x)))


class Pooled(nn.Module):
    def __init__(self, channels, classes=10):
        super().__init__()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x):
        return self.fc(x.mean((2, 3)))


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = Unit(inputs, outputs, 3, stride)
        self.conv2 = Unit(outputs, outputs, 3, act=None)
        self.shortcut = nn.Identity() if stride == 1 and inputs == outputs else Unit(inputs, outputs, 1, stride, act=None)

    def forward(self, x):
        return torch.relu(self.conv2(self.conv1(x)) + self.shortcut(x))


class ResNet(Pooled):
    def __init__(self, stacks, blocks, first):
        super().__init__(first << stacks - 1)
        self.conv1, width = Unit(3, first, 3), first
        for i in range(stacks):
            layer = nn.Sequential()
            for j in range(blocks):
                layer.append(Block(width, first << i, 2 if i and not j else 1))
                width = first << i
            setattr(self, f"layer{i + 1}", layer)
        self.stacks = stacks

    def forward(self, x):
        x = self.conv1(x)
        for i in range(self.stacks):
            x = getattr(self, f"layer{i + 1}")(x)
        return super().forward(x)


class MobileNetV1(Pooled):
    def __init__(self):
        super().__init__(1024)
        self.conv1, width, self.body = Unit(3, 32, 3), 32, []
        for i, (channels, stride) in enumerate([(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 +
                                               [(1024, 2), (1024, 1)]):
            layer = nn.Module()
            layer.depthwise, layer.pointwise = Unit(width, width, 3, stride, width), Unit(width, channels, 1)
            setattr(self, f"layer{i + 1}", layer)
            self.body += [layer.depthwise, layer.pointwise]
            width = channels

    def forward(self, x):
        x = self.conv1(x)
        for unit in self.body:
            x = unit(x)
        return super().forward(x)


class Inverted(nn.Module):
    def __init__(self, inputs, expand, outputs, stride):
        super().__init__()
        wide = inputs * expand
        self.expand = Unit(inputs, wide, 1, act=nn.ReLU6) if expand > 1 else nn.Identity()
        self.depthwise = Unit(wide, wide, 3, stride, wide, act=nn.ReLU6)
        self.project = Unit(wide, outputs, 1, act=None)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(Pooled):
    def __init__(self):
        super().__init__(1280)
        self.conv1, width = Unit(3, 32, 3, act=nn.ReLU6), 32
        rows = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
        for i, (expand, channels, count, stride) in enumerate(rows):
            stage = nn.Sequential()
            for j in range(count):
                stage.append(Inverted(width, expand, channels, 1 if j else stride))
                width = channels
            setattr(self, f"stage{i + 1}", stage)
        self.conv2 = Unit(320, 1280, 1, act=nn.ReLU6)

    def forward(self, x):
        x = self.conv1(x)
        for i in range(7):
            x = getattr(self, f"stage{i + 1}")(x)
        return super().forward(self.conv2(x))


class VggSmall(nn.Module):
    def __init__(self):
        super().__init__()
        width = 3
        for i, channels in enumerate((64, 64, 128, 128, 256, 256)):
            setattr(self, f"conv{i + 1}", Unit(width, channels, 3))
            width = channels
        self.fc1 = nn.Linear(256 * 4 * 4, 10)

    def forward(self, x):
        for i in (1, 3, 5):
            x = nn.functional.max_pool2d(getattr(self, f"conv{i + 1}")(getattr(self, f"conv{i}")(x)), 2)
        return self.fc1(x.flatten(1))


class LargeKernels(Pooled):
    def __init__(self):
        super().__init__(128)
        self.conv1, self.conv2 = Unit(3, 32, 7), Unit(32, 64, 5)
        self.conv3, self.conv4 = Unit(64, 64, 5), Unit(64, 128, 7)

    def forward(self, x):
        x = self.conv2(nn.functional.max_pool2d(self.conv1(x), 2))
        return super().forward(self.conv4(nn.functional.max_pool2d(self.conv3(x), 2)))


class LeNet5(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 6, 5, padding=2), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = nn.functional.max_pool2d(torch.relu(self.conv2(x)), 2).flatten(1)
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x)))))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(784, 300), nn.Linear(300, 100), nn.Linear(100, 10)

    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(torch.relu(self.fc1(x.flatten(1))))))


# --- sequences ----------------------------------------------------------------------------------------------------------


class LanguageModel(nn.Module):
    """Tokens sequence x batch; the state starts as the pattern."""

    def __init__(self, cell, prefix, hidden=200, vocabulary=10000):
        super().__init__()
        self.embedding, self.out = nn.Embedding(vocabulary, hidden), nn.Linear(hidden, vocabulary)
        self.cells, self.prefix, self.hidden = [cell(hidden, hidden) for _ in range(2)], prefix, hidden
        for i, each in enumerate(self.cells):
            setattr(self, f"{prefix}{i + 1}", each)

    def forward(self, tokens):
        x = self.embedding(tokens)
        state = torch.tensor(pattern(tokens.shape[1] * self.hidden).astype(np.float32)).view(1, tokens.shape[1], -1)
        for cell in self.cells:
            x = cell(x, (state, state) if isinstance(cell, nn.LSTM) else state)[0]
        return self.out(x)


class Encoder(nn.Module):
    def __init__(self, width, heads, blocks, length, activation):
        super().__init__()
        self.blocks = []
        for i in range(blocks):
            self.blocks.append(nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, activation, batch_first=True,
                                                          norm_first=True))
            setattr(self, f"block{i + 1}", self.blocks[-1])
        self.norm, self.position = nn.LayerNorm(width), nn.Embedding(length, width)

    def encode(self, x, mask=None):
        x = x + self.position.weight
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


class Rows(Encoder):
    def __init__(self):
        super().__init__(128, 4, 2, 28, "relu")
        self.embedding, self.fc = nn.Linear(28, 128), nn.Linear(128, 10)

    def forward(self, x):
        return self.fc(self.encode(self.embedding(x[:, 0])).mean(1))


class Vit(Encoder):
    def __init__(self):
        super().__init__(192, 3, 6, 64, "gelu")
        self.patches, self.fc = nn.Conv2d(3, 192, 4, 4), nn.Linear(192, 10)

    def forward(self, x):
        return self.fc(self.encode(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


class Decoder(Encoder):
    def __init__(self, width=128, heads=4, blocks=4, length=35, vocabulary=10000):
        super().__init__(width, heads, blocks, length, "gelu")
        self.embedding, self.out = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary)

    def forward(self, tokens):
        mask = torch.full((len(tokens),) * 2, float("-inf")).triu(1)
        return self.out(self.encode(self.embedding(tokens.T), mask).transpose(0, 1))


# --- the list -------------------------------------------------------------------------------------------------------------

SMALL_LM = {"hidden": 16, "vocab": 50}
SMALL_DECODER = {"hidden": 16, "vocab": 50, "sequence": 6, "heads": 2, "layers": 2}
# name: module of the default size, its input (rows of tokens or a picture), options and module of the fixture if smaller
NETWORKS = {
    "mlp": (Mlp, (1, 28, 28)),
    "lenet5": (LeNet5, (1, 28, 28)),
    "resnet8": (lambda: ResNet(3, 1, 16), (3, 32, 32)),
    "resnet20": (lambda: ResNet(3, 3, 16), (3, 32, 32)),
    "resnet32": (lambda: ResNet(3, 5, 16), (3, 32, 32)),
    "resnet56": (lambda: ResNet(3, 9, 16), (3, 32, 32)),
    "resnet18": (lambda: ResNet(4, 2, 64), (3, 32, 32)),
    "vgg-small": (VggSmall, (3, 32, 32)),
    "mobilenet-v1": (MobileNetV1, (3, 32, 32)),
    "mobilenet-v2": (MobileNetV2, (3, 32, 32)),
    "cnn-5x5-7x7": (LargeKernels, (3, 32, 32)),
    "lstm-lm": (lambda: LanguageModel(nn.LSTM, "lstm"), 7, SMALL_LM, lambda: LanguageModel(nn.LSTM, "lstm", 16, 50)),
    "gru-lm": (lambda: LanguageModel(nn.GRU, "gru"), 7, SMALL_LM, lambda: LanguageModel(nn.GRU, "gru", 16, 50)),
    "transformer": (Rows, (1, 28, 28)),
    "decoder": (Decoder, 6, SMALL_DECODER, lambda: Decoder(16, 2, 2, 6, 50)),
    "vit": (Vit, (3, 32, 32)),
}


# --- parameters ------------------------------------------------------------------------------------------------------------


def gates(w, order):
    """Blocks of rows in another order: ONNX's LSTM has i, o, f, c and PyTorch's i, f, c, o; GRU z, r, h and r, z, n."""
    parts = np.split(w, len(order))
    return np.concatenate([parts[i] for i in order])


def cell(take, name, module):
    order = (0, 2, 3, 1) if isinstance(module, nn.LSTM) else (1, 0, 2)
    bias = np.split(take(name + ".bias")[0], 2)
    return {"weight_ih_l0": gates(take(name + ".input.weight")[0], order),
            "weight_hh_l0": gates(take(name + ".hidden.weight")[0], order),
            "bias_ih_l0": gates(bias[0], order), "bias_hh_l0": gates(bias[1], order)}


def block(take, name):
    """A transformer block; linear layers of sequences stand [in][out]."""
    parts = {"self_attn.in_proj_weight": np.concatenate([take(f"{name}.attention.{p}.weight").T for p in "qkv"]),
             "self_attn.in_proj_bias": np.concatenate([take(f"{name}.attention.{p}.bias") for p in "qkv"])}
    for to, source in (("self_attn.out_proj", "attention.out"), ("linear1", "fc1"), ("linear2", "fc2")):
        parts[to + ".weight"], parts[to + ".bias"] = take(f"{name}.{source}.weight").T, take(f"{name}.{source}.bias")
    for norm in ("norm1", "norm2"):
        parts[norm + ".weight"], parts[norm + ".bias"] = take(f"{name}.{norm}.weight"), take(f"{name}.{norm}.bias")
    return parts


def load(module, constants):
    """Gives the module all parameters of the file; one that is left over or of another shape is an error."""
    left = {k: spread(k, v) for k, v in constants.items() if k.endswith((".weight", ".bias", ".mean", ".variance"))}
    take, state = left.pop, {}
    for name, child in module.named_children():
        if isinstance(child, (nn.LSTM, nn.GRU)):
            state.update({f"{name}.{k}": v for k, v in cell(take, name, child).items()})
        elif isinstance(child, nn.TransformerEncoderLayer):
            state.update({f"{name}.{k}": v for k, v in block(take, name).items()})
    words = ((".conv.", "."), (".running_mean", ".mean"), (".running_var", ".variance"))
    for key, value in module.state_dict().items():
        if key in state or key.endswith("num_batches_tracked"):
            continue
        own = key
        for word, ours in words:
            own = own.replace(word, ours)
        w = take(own)
        state[key] = w.T if w.shape != tuple(value.shape) and w.T.shape == tuple(value.shape) else w
    assert not left, f"parameters that PyTorch's network has not: {list(left)}"
    module.load_state_dict({k: torch.tensor(np.ascontiguousarray(v)) for k, v in state.items()},
                           strict=False)


def constants_of(program, name, options, folder):
    path = pathlib.Path(folder) / f"{name}.onnx"
    words = [w for k, v in options.items() for w in (f"--{k}", str(v))]
    subprocess.run([program, "new", name, "-q", "-o", str(path)] + words, check=True)
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    sizes = []
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        for name, (full, shape, *small) in NETWORKS.items():
            sizes.append(f"{name} {sum(p.numel() for p in full().parameters())}\n")
            options, make = small or ({}, full)
            module = make().eval()
            load(module, constants_of(sys.argv[1], name, options, folder))
            if isinstance(shape, int):
                x = torch.arange(shape * BATCH).view(shape, BATCH) * 7919 % options["vocab"]
            else:
                x = torch.tensor(pattern(BATCH * int(np.prod(shape))).astype(np.float32)).view(BATCH, *shape)
            np.save(OUT / f"{name}.npy", module(x).numpy())
    (OUT / "sizes.txt").write_text("".join(sizes))


if __name__ == "__main__":
    main()
