#!/usr/bin/env python3
"""Exact Jacobian operator norms of bench/jacobian.c in PyTorch: same networks, weights and inputs.

usage: jacobian.py [OURS [MODEL]] [--device cuda|cpu [--tiny]]
OURS: output of build/plain/bench/jacobian from the same session; then each row ends in the ratio of samples
per second, lipsweep / PyTorch, and in the relative difference of the two mean norms. Every way that this
PyTorch has is tried at several batch sizes, and the fastest counts:
  loop     torch.autograd.grad of each logit with respect to the input only (no weight gradients)
  batched  the same with is_grads_batched: one vmapped backward pass with K cotangents
  jacrev   vmap(jacrev(f)) of functorch or torch.func
The norms come from the K x K Gram matrices, which is faster here than an SVD of the Jacobians.

--device (device.py): convnet and mlp at w = 1, 4, 8, 16, 32, 64, against OURS of build/plain/bench/cuda_networks:
vmap(jacrev) with PyTorch's defaults, and the fastest of all ways, settings (TF32, BF16 autocast, channels_last,
torch.compile) and batches. Seconds for N images are those of one batch times N / batch: batches are alike.
"""
import os
import time

import numpy as np
import torch
from torch import nn

from device import DEFAULTS, EXACT, Ours, arguments, attempt, describe, seconds, settings, target
from models import Vit, resnet18

N, WIDTHS = 10000, (1, 4, 8, 16, 32, 64)
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
    seeds = torch.eye(K, dtype=z.dtype, device=z.device)[:, None, :].expand(K, len(x), K)
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
    with torch.autocast(jacobian.device.type, enabled=False):
        gram = torch.bmm(jacobian.float(), jacobian.float().transpose(1, 2)).double()
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


def best_of(rows):
    return min((r for r in rows if r), default=None)


def measured(args, images, net, shape, setting, name, way, batch):
    """(seconds for so many images, what) of one way, setting and batch; None where there is no such thing."""
    what = f"{name}, {setting.name}, batch {batch}"
    with setting.on(args.device):
        placed, x = setting.place(net, inputs(batch, shape), args.device)
        call = setting.wrap(lambda v: norms(way(placed, v)))
        t = attempt(what, lambda: seconds(lambda: call(x), args))
    return (t * images / batch, what, batch) if t else None


def fastest_way(args, images, net, shape, batches):
    """Of all ways and settings; compiled ones, which take long to compile, at the way's fastest batch alone."""
    found = []
    for name, way in ways():
        eager = [measured(args, images, net, shape, s, name, way, b)
                 for s in settings() if s.compiled is None for b in batches]
        found.append(best_of(eager))
        if found[-1] and name != "loop":  # K passes one after another: what batched is for
            found += [measured(args, images, net, shape, s, name, way, found[-1][2])
                      for s in settings() if s.compiled is not None]
    return best_of(found)


def on_device(args):
    ours, batches, images = Ours(args.ours, args), (4,) if args.tiny else (64, 256, 1000), 5 if args.tiny else N
    print(f"# {describe(args)}; exact operator norm, K = {K}, seconds for {images} images from one batch")
    print("# model    w  vmap(jacrev)_s  lipsweep_f32_s  times   best_s  lipsweep_best_s  times  off      best")
    for model in ("convnet", "mlp"):
        for w in WIDTHS[:2] if args.tiny else WIDTHS:
            if args.model not in (None, model):
                continue
            net, shape = network(model, w)
            jacrev = dict(ways())["jacrev"]
            plain = best_of(measured(args, images, net, shape, DEFAULTS, "jacrev", jacrev, b) for b in batches)
            best = best_of([plain, fastest_way(args, images, net, shape, batches)])
            with EXACT.on(args.device):
                placed, x = EXACT.place(net, inputs(min(images, MEAN_OVER), shape), args.device)
                mean = norms(loop(placed, x)).mean().item()
            one_width(args, ours, images, model, w, plain, best, mean)


def one_width(args, ours, images, model, w, plain, best, mean):
    """A row, and what the row was to reach."""
    parts = (f"w={w}", f"K={K}")
    mine, fastest = (ours.find("jacobian", model, d, *parts, f"n={images}") for d in ("f32", None))
    word = lambda t: f"{t:.4f}" if t else "-"  # noqa: E731
    times = lambda theirs, own: f"{theirs[0] / own:.2f}" if theirs and own else "-"  # noqa: E731
    off = ours.off("mean", mean, model, *parts)
    print(f"{model:7} {w:4} {word(plain and plain[0]):>15} {word(mine):>15} {times(plain, mine):>6} "
          f"{word(best and best[0]):>8} {word(fastest):>16} {times(best, fastest):>6}  {off:8} {best[1] if best else '-'}",
          flush=True)
    if args.tiny or not mine or not plain or model != "convnet":
        return
    if w == 64:
        target(plain[0] >= 4 * mine, f"w=64: {plain[0] / mine:.1f} times vmap(jacrev) at PyTorch's defaults, wanted 4")
        target(best[0] >= 2 * fastest, f"w=64: {best[0] / fastest:.1f} times PyTorch's best setting, wanted 2")
    if w <= 8:
        target(plain[0] >= 10 * mine, f"w={w}: {plain[0] / mine:.1f} times vmap(jacrev) at PyTorch's defaults, wanted 10")


def main():
    args = arguments(__doc__.splitlines()[0])
    if args.device:
        on_device(args)
    else:
        one_thread(args)


def one_thread(args):
    rates, means = ours(args.ours) if args.ours else ({}, {})
    cores = len(os.sched_getaffinity(0))
    print(f"# PyTorch {torch.__version__}, float32, exact operator norm, K = {K}")
    print("# model    w threads  way      batch  samples/s  lipsweep/PyTorch  difference of the mean norm")
    for threads in sorted({1, cores}):
        torch.set_num_threads(threads)
        for model, w in ROWS:
            if args.model not in (None, model):
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
