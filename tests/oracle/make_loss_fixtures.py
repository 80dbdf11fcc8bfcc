#!/usr/bin/env python3
"""Writes tests/fixtures/training: losses with their gradients, and steps of optimisers and schedules, by PyTorch.

Needs PyTorch (Debian's python3-torch will do). tests/unit/test_loss.c and test_optim.c read the results; all are f64.
"""
import pathlib

import numpy as np
import torch

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "training"
ROWS, CLASSES, COUNT, STEPS = 9, 7, 40, 20


def save(name, array):
    np.save(OUT / (name + ".npy"), np.ascontiguousarray(array, dtype=np.float64 if array.dtype.kind == "f" else np.int64))


def graded(name, logits, loss):
    """The loss, then its gradient by the logits."""
    logits.grad = None
    loss.backward()
    save(name, torch.cat([loss.detach().reshape(1), logits.grad.reshape(-1)]).numpy())


def losses(generator):
    logits = torch.randn(ROWS, CLASSES, dtype=torch.float64, generator=generator).mul(3).requires_grad_()
    teacher = torch.randn(ROWS, CLASSES, dtype=torch.float64, generator=generator) * 2
    labels = torch.randint(0, CLASSES, (ROWS,), generator=generator)
    labels[3] = labels[7] = -1
    save("logits", logits.detach().numpy())
    save("teacher", teacher.numpy())
    save("labels", labels.numpy())
    entropy = torch.nn.functional.cross_entropy
    graded("cross_entropy", logits, entropy(logits, labels, ignore_index=-1))
    graded("smoothed", logits, entropy(logits, labels, ignore_index=-1, label_smoothing=0.1))
    graded("mse", logits, torch.nn.functional.mse_loss(logits, teacher))
    t, hard = 4.0, 0.3
    there = labels >= 0
    soft = torch.nn.functional.kl_div(torch.log_softmax(logits[there] / t, 1), torch.softmax(teacher[there] / t, 1),
                                      reduction="batchmean") * t * t
    graded("distillation", logits, hard * entropy(logits, labels, ignore_index=-1) + (1 - hard) * soft)


OPTIMISERS = {
    "sgd": lambda g: torch.optim.SGD(g, lr=0.1),
    "momentum": lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9),
    "nesterov": lambda g: torch.optim.SGD(g, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda g: torch.optim.Adam(g, lr=0.01, betas=(0.8, 0.95), eps=1e-6),
    "adamw": lambda g: torch.optim.AdamW(g, lr=0.01, betas=(0.8, 0.95), eps=1e-6),
}


def optimisers(generator):
    """Half of the elements decay. Gradients are clipped to a norm of 5; an average of decay 0.9 is made."""
    start = torch.randn(COUNT, dtype=torch.float64, generator=generator)
    gradients = torch.randn(STEPS, COUNT, dtype=torch.float64, generator=generator)
    save("start", start.numpy())
    save("gradients", gradients.numpy())
    for name, make in OPTIMISERS.items():
        a, b = start[: COUNT // 2].clone().requires_grad_(), start[COUNT // 2:].clone().requires_grad_()
        optimiser = make([{"params": [a], "weight_decay": 0.05}, {"params": [b], "weight_decay": 0.0}])
        average, rows = start.clone(), []
        for g in gradients:
            a.grad, b.grad = g[: COUNT // 2].clone(), g[COUNT // 2:].clone()
            torch.nn.utils.clip_grad_norm_([a, b], 5.0)
            optimiser.step()
            now = torch.cat([a.detach(), b.detach()])
            average = 0.9 * average + 0.1 * now
            rows.append(torch.cat([now, average]))
        save(name, torch.stack(rows).numpy())


def rates(make, steps, *losses):
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    schedule, out = make(optimiser), []
    for i in range(steps):
        out.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step(*[l[i] for l in losses])
    return np.array(out, dtype=np.float64)


def schedules():
    s = torch.optim.lr_scheduler
    save("cosine", rates(lambda o: s.CosineAnnealingLR(o, 50, 0.01), 50))
    save("step", rates(lambda o: s.MultiStepLR(o, [10, 25, 30], 0.5), 50))
    falls = [3, 2, 2, 2.5, 2, 1, 1, 1, 1, 1.2, 1, 1, 0.9, 0.8, 0.8, 0.8]
    save("plateau_losses", np.array(falls))
    save("plateau", rates(lambda o: s.ReduceLROnPlateau(o, factor=0.3, patience=2), len(falls), falls))


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(7)
    losses(generator)
    optimisers(generator)
    schedules()


if __name__ == "__main__":
    main()
