"""Trains ResNet-8 on CIFAR-10 in PyTorch by the recipe that `espalier train resnet8` has: the yardstick of docs/results.md.

    espalier data examples/data/cifar10-jpeg-train.yaml -o DIR/train     (as the network gets them, without augmentation)
    espalier data examples/data/cifar10-jpeg-test.yaml -o DIR/test
    train_resnet8.py DIR EPOCHS [SEED [THREADS]]

SGD with momentum 0.9, weight decay 1e-4 on weights of two and more dimensions, batches of 128, a rate of 0.1 that rises for
an epoch and falls with half a cosine; images padded by 4 and cropped, and flipped. Runs under any Python with PyTorch."""
import math
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "oracle"))
import numpy as np
import torch
from torch import nn

import make_zoo_fixtures as zoo

BATCH, RATE, MOMENTUM, DECAY = 128, 0.1, 0.9, 1e-4
BLACK = [-m / s for m, s in zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]  # what padding is before normalisation


def augment(x, generator):
    padded = torch.tensor(BLACK).reshape(1, 3, 1, 1).repeat(len(x), 1, 40, 40)
    padded[:, :, 4:36, 4:36] = x
    out = torch.empty_like(x)
    top, left = torch.randint(0, 9, (2, len(x)), generator=generator).tolist()
    for i, flip in enumerate(torch.randint(0, 2, (len(x),), generator=generator).tolist()):
        crop = padded[i, :, top[i]:top[i] + 32, left[i]:left[i] + 32]
        out[i] = crop.flip(2) if flip else crop
    return out


def rate(step, steps, warmup):
    if step < warmup:
        return RATE * (step + 1) / warmup
    return RATE * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def evaluate(model, x, y):
    model.eval()
    with torch.no_grad():
        right = sum((model(x[i:i + 500]).flatten(1).argmax(1) == y[i:i + 500]).sum().item() for i in range(0, len(x), 500))
    model.train()
    return right / len(x)


def load(folder):
    return (torch.from_numpy(np.load(folder / "images.npy")), torch.from_numpy(np.load(folder / "labels.npy")))


def main():
    folder, epochs = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    seed, threads = (int(x) for x in (sys.argv[3:] + ["1", "2"][len(sys.argv[3:]):])[:2])
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    (x, y), (test_x, test_y) = load(folder / "train"), load(folder / "test")
    model = zoo.NETWORKS["resnet8"][0]()
    for m in model.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight)
    groups = [{"params": [p for p in model.parameters() if (p.dim() >= 2) == decays], "weight_decay": DECAY * decays}
              for decays in (True, False)]
    optimizer, loss = torch.optim.SGD(groups, RATE, MOMENTUM), nn.CrossEntropyLoss()
    per_epoch = len(x) // BATCH
    step, seconds = 0, 0.0
    for epoch in range(epochs):
        order = torch.randperm(len(x), generator=generator)
        begin = time.perf_counter()
        for i in range(per_epoch):
            at = order[i * BATCH:(i + 1) * BATCH]
            for g in optimizer.param_groups:
                g["lr"] = rate(step, epochs * per_epoch, per_epoch)
            optimizer.zero_grad(set_to_none=True)
            loss(model(augment(x[at], generator)).flatten(1), y[at]).backward()
            optimizer.step()
            step += 1
        seconds = time.perf_counter() - begin
        print(f"epoch {epoch + 1}: top-1 {evaluate(model, test_x, test_y):.4f}, {per_epoch * BATCH / seconds:.0f} samples/s",
              flush=True)


main()
