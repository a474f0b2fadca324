#!/usr/bin/env python3
"""The training step of bench/train_step.c in PyTorch, one thread: same networks, shapes and optimiser.

usage: train_step.py [OURS [MODEL]] [--device cuda|cpu [--tiny]]
OURS: output of build/plain/bench/train_step from the same session; then each row ends in the ratio of
samples per second, lipsweep / PyTorch. Every optimiser variant that this PyTorch has is tried, and the
fastest counts. Data are gathered by index from 4000 samples, as in training.

--device (device.py): convnet and mlp at w = 1, 4, 8, 16, 32, 64, data on the device, against OURS of
build/plain/bench/cuda_networks: eager with PyTorch's defaults, and the fastest of TF32, BF16 autocast, channels_last,
torch.compile, and its CUDA graphs (mode="reduce-overhead").
"""
import os
import statistics
import time

# Before torch: a threaded BLAS reads it once, and torch.set_num_threads does not reach every one.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import torch  # noqa: E402
from torch import nn  # noqa: E402

from device import Ours, arguments, attempt, describe, seconds, settings  # noqa: E402
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


def device_step(args, model, w, setting):
    """Seconds of one step in a setting."""
    torch.manual_seed(1)
    net, shape = build(model, w, False)
    with setting.on(args.device):
        net, x = setting.place(net, torch.randn(SAMPLES, *shape), args.device)
        y = torch.randint(10, (SAMPLES,), device=args.device)
        order = torch.randint(SAMPLES, (64, BATCH), device=args.device)
        opt = torch.optim.Adam(net.parameters(), lr=1e-3, fused=setting.name != "defaults")
        forward = setting.wrap(lambda a, b: nn.functional.cross_entropy(net(a), b))
        count = [0]

        def step():
            idx = order[count[0] % len(order)]
            count[0] += 1
            loss = forward(x[idx], y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
        return attempt(f"{model} w={w}, {setting.name}", lambda: seconds(step, args))


def on_device(args):
    mine = Ours(args.ours, args)
    print(f"# {describe(args)}; Adam, batch {BATCH}, microseconds a step")
    print("# model    w  eager_us  lipsweep_f32_us  times  best_us  lipsweep_best_us  times  best")
    for model in ("convnet", "mlp"):
        for w in (1, 4) if args.tiny else (1, 4, 8, 16, 32, 64):
            if args.model not in (None, model):
                continue
            found = [(t, s.name) for s in settings(graphs=True) for t in [device_step(args, model, w, s)] if t]
            eager, best = next((t for t, name in found if name == "defaults"), None), min(found, default=None)
            ours_f32, fastest = (mine.find("train_step", model, d, f"w={w}", f"B={BATCH}") for d in ("f32", None))
            cells = [eager and eager * 1e6, ours_f32 and ours_f32 * 1e6, eager and ours_f32 and eager / ours_f32,
                     best and best[0] * 1e6, fastest and fastest * 1e6, best and fastest and best[0] / fastest]
            print(f"{model:7} {w:4} " + " ".join(f"{c:12.2f}" if c else f"{'-':>12}" for c in cells)
                  + f"  {best[1] if best else '-'}", flush=True)


def main():
    args = arguments(__doc__.splitlines()[0])
    if args.device:
        on_device(args)
    else:
        one_thread(args)


def one_thread(args):
    torch.set_num_threads(1)
    mine = ours(args.ours) if args.ours else {}
    print(f"# PyTorch {torch.__version__}, 1 thread, cpu time, Adam, batch {BATCH}")
    print("# model        w  median_us   samples/s    lipsweep/PyTorch")
    for model, w, bn in ROWS:
        if args.model not in (None, model):
            continue
        torch.manual_seed(1)
        net, shape = build(model, w, bn)
        x, y = torch.randn(SAMPLES, *shape), torch.randint(10, (SAMPLES,))
        t = min(median_step(net, opt, x, y) for opt in optimisers(net))
        name = model + ("_bn" if bn else "")
        ratio = mine.get((name, w))
        print(f"{name:12} {w:3} {t * 1e6:10.1f} {BATCH / t:11.0f}"
              + (f"    {ratio * t / BATCH:.2f}x" if ratio else ""), flush=True)


if __name__ == "__main__":
    main()
