#!/usr/bin/env python3
"""The training step of bench/train_step.c in PyTorch, one thread: same networks, shapes and optimiser.

usage: train_step.py [OURS [MODEL]]
OURS: output of build/plain/bench/train_step from the same session; then each row ends in the ratio of
samples per second, lipsweep / PyTorch. Every optimiser variant that this PyTorch has is tried, and the
fastest counts. Data are gathered by index from 4000 samples, as in training.
"""
import os
import statistics
import sys
import time

# Before torch: a threaded BLAS reads it once, and torch.set_num_threads does not reach every one.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import torch  # noqa: E402
from torch import nn  # noqa: E402

from models import Vit, resnet18  # noqa: E402

BATCH, SAMPLES, SECONDS = 128, 4000, 0.7
ROWS = [("mlp", w, False) for w in (2, 4, 8, 16, 32, 64, 128, 256, 512)]
ROWS += [(m, w, bn) for m in ("convnet", "resnet18") for bn in (False, True) for w in (1, 2, 4, 8, 16)]
ROWS += [("vit", w, False) for w in (1, 2, 4, 16, 64)]


def mlp(w):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, w), nn.ReLU(), nn.Linear(w, 10)), (1, 28, 28)


def convnet(w, bn):
    layers, c = [], 3
    for i in range(4):
        layers += [nn.Conv2d(c, w << i, 3, padding=1, bias=not bn)]
        layers += [nn.BatchNorm2d(w << i)] if bn else []
        layers += [nn.ReLU()]
        layers += [nn.AvgPool2d(2)] if i in (1, 2) else []
        c = w << i
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * w, 10)), (3, 32, 32)


def build(model, w, bn):
    if model == "mlp":
        return mlp(w)
    if model == "vit":
        return Vit(w, 10), (3, 32, 32)
    return convnet(w, bn) if model == "convnet" else (resnet18(w, 10, bn), (3, 32, 32))


def optimisers(net):
    for options in ({}, {"foreach": True}, {"fused": True}):
        try:
            yield torch.optim.Adam(net.parameters(), lr=1e-3, **options)
        except (TypeError, RuntimeError):
            pass  # this PyTorch does not have the variant


def median_step(net, opt, x, y):
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 5:
        idx = torch.randint(len(x), (BATCH,))
        start = time.thread_time()  # as bench/common.c does
        loss = nn.functional.cross_entropy(net(x[idx]), y[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
        loss.item()
        times.append(time.thread_time() - start)
    return statistics.median(times[len(times) // 4:])


def ours(path):
    """Samples per second by (model, width, batch norm) from rows 'train_step VARIANT f32 w=..'."""
    found = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            fields = line.split()
            if fields and fields[0] == "train_step":
                shape = dict(p.split("=") for p in fields[3].split(",") if "=" in p)
                found[fields[1], int(shape["w"])] = BATCH / (float(fields[5]) * 1e-6)
    return found


def main():
    torch.set_num_threads(1)
    mine = ours(sys.argv[1]) if len(sys.argv) > 1 else {}
    print(f"# PyTorch {torch.__version__}, 1 thread, cpu time, Adam, batch {BATCH}")
    print("# model        w  median_us   samples/s    lipsweep/PyTorch")
    for model, w, bn in ROWS:
        if len(sys.argv) > 2 and sys.argv[2] != model:
            continue
        torch.manual_seed(1)
        net, shape = build(model, w, bn)
        x, y = torch.randn(SAMPLES, *shape), torch.randint(10, (SAMPLES,))
        t = min(median_step(net, opt, x, y) for opt in optimisers(net))
        name = model + ("_bn" if bn else "")
        ratio = mine.get((name, w))
        print(f"{name:12} {w:3} {t * 1e6:10.1f} {BATCH / t:11.0f}"
              + (f"    {ratio * t / BATCH:.2f}x" if ratio else ""), flush=True)


main()
