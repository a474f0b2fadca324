#!/usr/bin/env python3
"""The exact Hessian trace of bench/curvature.c against the usual estimate in PyTorch: 100 Hutchinson probes, each a
Hessian product by double backward, same networks, weights and inputs, one thread, processor time.

usage: curvature.py [OURS]
OURS: output of build/plain/bench/curvature from the same session; then each row ends in the ratio of the times,
PyTorch / lipsweep, and the estimate's distance from the exact trace. Several batch sizes are tried, and the fastest
counts; probes of a few batches stand for all, since their times add up. At the end: our Hessian product over our
gradient of the same batch.
"""
import sys
import time

import torch
from torch import nn

from jacobian import K, network, uniform

PROBES, TRIED = 100, 2
ROWS = [("convnet", w, 64) for w in (4, 16, 64)] + [("mlp", w, 512) for w in (16, 128, 512)]


def probe_seconds(net, x, y, batch):
    """Processor time of one probe over all samples, and its estimate of the trace."""
    params = [p.requires_grad_(True) for p in net.parameters()]
    total, start = 0.0, time.process_time()
    for i in range(0, len(x), batch):
        loss = nn.functional.cross_entropy(net(x[i:i + batch]), y[i:i + batch], reduction="sum") / len(x)
        grads = torch.autograd.grad(loss, params, create_graph=True)
        probe = [torch.randint(2, p.shape).float() * 2 - 1 for p in params]
        products = torch.autograd.grad(grads, params, probe)
        total += sum((h * v).sum().item() for h, v in zip(products, probe))
    return time.process_time() - start, total


def ours(path):
    """Seconds by (op, model, width), exact traces by (model, width)."""
    seconds, traces = {}, {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            fields = line.split()
            if fields[:2] == ["#", "trace"]:
                traces[fields[2], int(fields[3][2:])] = float(fields[4])
            elif fields[:1] and fields[0] in ("gradient", "hessian_product", "hessian_trace"):
                shape = dict(p.split("=") for p in fields[3].split(","))
                seconds[fields[0], fields[1], int(shape["w"])] = float(fields[5]) * 1e-6
    return seconds, traces


def main():
    torch.set_num_threads(1)
    seconds, traces = ours(sys.argv[1]) if len(sys.argv) > 1 else ({}, {})
    print(f"# PyTorch {torch.__version__}, float32, 1 thread, {PROBES} probes by double backward")
    print("# model    w  batch  seconds  PyTorch/lipsweep  estimate/exact")
    for model, w, n in ROWS:
        net, (c, h, _) = network(model, w)
        x = torch.from_numpy(uniform(1, n * c * h * h)).reshape(n, c, h, h)
        y = torch.arange(n) % K
        best, estimates = (float("inf"), 0), []
        for batch in (16, 64) if model == "convnet" else (128, 512):
            probe_seconds(net, x, y, batch)
            times = [probe_seconds(net, x, y, batch) for _ in range(TRIED)]
            estimates += [e for _, e in times]
            best = min(best, (PROBES * sorted(t for t, _ in times)[0], batch))
        line = f"{model:7} {w:4} {best[1]:5} {best[0]:9.3f}"
        if ("hessian_trace", model, w) in seconds:
            line += f"  {best[0] / seconds['hessian_trace', model, w]:15.1f}x"
            line += f"  {sum(estimates) / len(estimates) / traces[model, w]:.3f} ({len(estimates)} probes)"
        print(line, flush=True)
    for model, w, _ in ROWS:
        if ("gradient", model, w) in seconds:
            ratio = seconds["hessian_product", model, w] / seconds["gradient", model, w]
            print(f"# Hessian product / gradient, {model} w={w}: {ratio:.2f}")


main()
