#!/usr/bin/env python3
"""Exact Jacobian operator norms of bench/jacobian.c in PyTorch: same networks, weights and inputs.

usage: jacobian.py [OURS [MODEL]]
OURS: output of build/plain/bench/jacobian from the same session; then each row ends in the ratio of samples
per second, lipsweep / PyTorch, and in the relative difference of the two mean norms. Every way that this
PyTorch has is tried at several batch sizes, and the fastest counts:
  loop     torch.autograd.grad of each logit with respect to the input only (no weight gradients)
  batched  the same with is_grads_batched: one vmapped backward pass with K cotangents
  jacrev   vmap(jacrev(f)) of functorch or torch.func
The norms come from the K x K Gram matrices, which is faster here than an SVD of the Jacobians.
"""
import os
import sys
import time

import numpy as np
import torch
from torch import nn

from models import Vit, resnet18

K, MEAN_OVER, SECONDS = 10, 16, 0.5
ROWS = [("convnet", w) for w in (1, 2, 4, 8, 16, 32, 64)] + [("mlp", w) for w in (4, 16, 64, 256)]
ROWS += [("resnet18", w) for w in (1, 2, 4, 8, 16)] + [("vit", w) for w in (4, 16, 64)]


def uniform(seed, n):
    """splitmix64 of seed * 2^40 + i, as in bench/jacobian.c; in [-1, 1)."""
    with np.errstate(over="ignore"):
        z = (np.arange(n, dtype=np.uint64) + np.uint64(seed << 40)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return ((z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0).astype(np.float32)


def network(model, w):
    if model == "mlp":
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, w), nn.ReLU(), nn.Linear(w, K))
        shape = (1, 28, 28)
    elif model == "resnet18":
        net, shape = resnet18(w, K), (3, 32, 32)
    elif model == "vit":
        net, shape = Vit(w, K), (3, 32, 32)
    else:
        layers, c = [], 3
        for i in range(4):
            layers += [nn.Conv2d(c, w << i, 3, padding=1), nn.ReLU()]
            layers += [nn.AvgPool2d(2)] if i in (1, 2) else []
            c = w << i
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * w, K))
        shape = (3, 32, 32)
    gains = {id(m.weight) for m in net.modules() if isinstance(m, nn.LayerNorm)}
    for i, p in enumerate(net.parameters()):
        fan_in = p.shape[1:].numel() if p.dim() > 1 else p.numel()
        scale = (6.0 / fan_in) ** 0.5 if p.dim() > 1 else 0.1
        values = uniform(100 + i, p.numel()) * np.float32(scale) + np.float32(id(p) in gains)
        p.data = torch.from_numpy(values).reshape(p.shape)
        p.requires_grad_(False)
    return net.eval(), shape


def loop(net, x):
    x = x.clone().requires_grad_(True)
    z = net(x)
    rows = [torch.autograd.grad(z[:, k].sum(), x, retain_graph=k < K - 1)[0].flatten(1) for k in range(K)]
    return torch.stack(rows, 1)


def batched(net, x):
    x = x.clone().requires_grad_(True)
    z = net(x)
    seeds = torch.eye(K)[:, None, :].expand(K, len(x), K)
    return torch.autograd.grad(z, x, seeds, is_grads_batched=True)[0].flatten(2).transpose(0, 1)


def ways():
    yield "loop", loop
    yield "batched", batched
    try:
        from torch.func import jacrev, vmap
    except ImportError:
        try:
            from functorch import jacrev, vmap
        except ImportError:
            return
    yield "jacrev", lambda net, x: vmap(jacrev(lambda v: net(v[None])[0]))(x).flatten(2)


def norms(jacobian):
    gram = torch.bmm(jacobian, jacobian.transpose(1, 2)).double()
    return torch.linalg.eigvalsh(gram)[:, -1].clamp(min=0).sqrt()


def clock(threads):
    """One thread: processor time, as in bench/jacobian.c, so that other programs count little. Several: the
    clock on the wall, on both sides, which wants an idle machine."""
    return time.process_time if threads == 1 else time.perf_counter


def rate(way, net, x, now):
    """Samples per second: median of repeats after a warm-up."""
    norms(way(net, x))
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 3:
        start = now()
        norms(way(net, x))
        times.append(now() - start)
    return len(x) / sorted(times)[len(times) // 2]


def ours(path):
    """Samples per second by (model, width, threads), mean norms of the first samples by (model, width)."""
    rates, means = {}, {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            fields = line.split()
            if fields[:2] == ["#", "mean"]:
                means[fields[2], int(fields[3][2:])] = float(fields[4])
            elif fields[:1] == ["jacobian"]:
                shape = dict(p.split("=") for p in fields[3].split(","))
                if shape["threads"] == "1":
                    rates[fields[1], int(shape["w"]), 1] = int(shape["n"]) / (float(fields[5]) * 1e-6)
            elif fields[:2] == ["#", "wall"]:
                shape = dict(p.split("=") for p in fields[3:])
                rates[fields[2], int(shape["w"]), int(shape["threads"])] = float(shape["samples/s"])
    return rates, means


def inputs(n, shape):
    return torch.from_numpy(uniform(1, n * int(np.prod(shape)))).reshape(n, *shape)


def main():
    rates, means = ours(sys.argv[1]) if len(sys.argv) > 1 else ({}, {})
    cores = len(os.sched_getaffinity(0))
    print(f"# PyTorch {torch.__version__}, float32, exact operator norm, K = {K}")
    print("# model    w threads  way      batch  samples/s  lipsweep/PyTorch  difference of the mean norm")
    for threads in sorted({1, cores}):
        torch.set_num_threads(threads)
        for model, w in ROWS:
            if len(sys.argv) > 2 and sys.argv[2] != model:
                continue
            net, shape = network(model, w)
            best = (0, "", 0)
            for name, way in ways():
                for batch in (16, 128) if model != "mlp" else (128, 1024):
                    if model != "mlp" and w * batch > 2048:
                        continue  # slower, and gigabytes of cotangents
                    best = max(best, (rate(way, net, inputs(batch, shape), clock(threads)), name, batch))
            line = f"{model:7} {w:4} {threads:7}  {best[1]:8} {best[2]:5} {best[0]:10.1f}"
            if (model, w, threads) in rates:
                mean = norms(loop(net, inputs(MEAN_OVER, shape))).mean().item()
                off = abs(means.get((model, w), float("nan")) / mean - 1)
                line += f"  {rates[model, w, threads] / best[0]:15.2f}x  {off:.1e}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
