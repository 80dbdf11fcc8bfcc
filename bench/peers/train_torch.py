"""Times training steps of PyTorch for train.py: train_torch.py NETWORK BATCH SEQUENCE THREADS STEPS LAYOUT. Prints the
milliseconds of each step, then the most memory in KiB. Runs under any Python that has PyTorch."""
import pathlib
import resource
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests" / "oracle"))
import torch
from torch import nn

import make_zoo_fixtures as zoo


def main():
    name, layout = sys.argv[1], sys.argv[6]
    batch, sequence, threads, steps = map(int, sys.argv[2:6])
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    if name == "lstm-lm":
        model = zoo.LanguageModel(nn.LSTM, "lstm", 650)
        x = torch.randint(0, 10000, (sequence, batch))
    else:
        model, x = zoo.NETWORKS[name][0](), torch.randn(batch, *zoo.NETWORKS[name][1])
    if layout == "last":
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    model.train()
    optimizer, loss = torch.optim.SGD(model.parameters(), 1e-3, 0.9), nn.CrossEntropyLoss()
    for _ in range(steps):
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        y = model(x)
        y = y.reshape(-1, y.shape[-1]) if sequence else y.flatten(1)
        loss(y, torch.arange(len(y)) % y.shape[-1]).backward()
        optimizer.step()
        print(f"{(time.perf_counter() - begin) * 1e3:.3f}", flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


main()
