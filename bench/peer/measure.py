#!/usr/bin/env python3
"""The per-sample gradient norms of bench/measure.c in PyTorch, and the bench's own ratios.

usage: measure.py [OURS [MODEL]] [--device cuda|cpu [--tiny]]
OURS: output of build/plain/bench/measure from the same session. PyTorch: norms of each sample's parameter gradient
per tensor from vmap(grad(loss)), one thread, its thread's processor time, at several chunks of the batch, the fastest
counting; then one ordinary gradient of the batch, for scale. Each row ends in the ratio of the times, PyTorch /
lipsweep. The ratios among our own rows follow: gradient norms over one gradient of the same batch; B, C and the exact
trace over B alone, with the layers' weight norms, which cost the same for any n, shared out over SWEEP samples.

--device (device.py): convnet and mlp at w = 1, 4, 8, 16, 32, 64, against OURS of build/plain/bench/cuda_networks: norms of
N images, PyTorch's from one batch, in the fastest of its settings and batches.
"""
import os
import statistics
import time

# Before torch: a threaded BLAS reads it once, and torch.set_num_threads does not reach every one.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import torch  # noqa: E402
from torch import nn  # noqa: E402

from device import EXACT, Ours, arguments, attempt, describe, seconds, settings  # noqa: E402
from jacobian import K, N, WIDTHS, best_of, inputs, network  # noqa: E402

SAMPLES, SWEEP, SECONDS = 128, 4000, 1.0
ROWS = [("convnet", w) for w in (4, 16, 64)] + [("mlp", w) for w in (16, 128, 512)]


def median(call):
    call()
    times, end = [], time.perf_counter() + SECONDS
    while time.perf_counter() < end or len(times) < 3:
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return statistics.median(times)


def functional():
    """vmap, grad and functional_call of this PyTorch; None where it has none."""
    try:
        from torch.func import functional_call, grad, vmap
        return vmap, grad, functional_call
    except ImportError:
        return None


def sample_norms(net, x, y, chunk):
    """Of each tensor's gradient, (len(x)) each."""
    vmap, grad, functional_call = functional()
    params = {k: p.detach() for k, p in net.named_parameters()}

    def loss(p, xi, yi):
        return nn.functional.cross_entropy(functional_call(net, p, (xi[None],)), yi[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    found = []
    for i in range(0, len(x), chunk):
        found.append([g.flatten(1).norm(dim=1) for g in each(params, x[i:i + chunk], y[i:i + chunk]).values()])
    return [torch.cat(parts) for parts in zip(*found)]


def batch_gradient(net, x, y):
    params = [p.requires_grad_(True) for p in net.parameters()]
    torch.autograd.grad(nn.functional.cross_entropy(net(x), y), params)


def ours(path):
    """Seconds by (op, model, width), planned megabytes by (model, width)."""
    seconds, plans = {}, {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            fields = line.split()
            if fields[:2] == ["#", "plan"]:
                plans[fields[2], int(fields[3][2:])] = float(fields[4])
            elif len(fields) > 5 and fields[0] != "#" and fields[3].startswith("w="):
                width = int(fields[3][2:].split(",")[0])
                seconds[fields[0], fields[1], width] = float(fields[5]) * 1e-6
    return seconds, plans


def on_device(args):
    ours, images = Ours(args.ours, args), 5 if args.tiny else N
    print(f"# {describe(args)}; per-sample gradient norms of {images} images from one batch")
    print("# model    w  vmap(grad)_s  lipsweep_s  times  gradient_s  lipsweep_s  norms/gradient: PyTorch lipsweep  off      best")
    for model in ("convnet", "mlp"):
        for w in WIDTHS[:2] if args.tiny else WIDTHS:
            if args.model in (None, model):
                one_width(args, ours, images, model, w)


def one_width(args, ours, images, model, w):
    net, shape = network(model, w)
    found, plain = [], []
    for setting in settings():
        for batch in (4,) if args.tiny else (64, 256, 1000):
            y = (torch.arange(batch) % K).to(args.device)
            with setting.on(args.device):
                placed, x = setting.place(net, inputs(batch, shape), args.device)
                norms, gradient = setting.wrap(sample_norms), setting.wrap(batch_gradient)
                what = f"{setting.name}, batch {batch}"
                t = attempt(what, lambda: seconds(lambda: norms(placed, x, y, batch), args))
                found.append((t * images / batch, what) if t else None)
                t = attempt(what, lambda: seconds(lambda: gradient(placed, x, y), args))
                plain.append((t * images / batch, what) if t else None)
    theirs, their_gradient = best_of(found), best_of(plain)
    mine, my_gradient = (ours.find(op, model, "f32", f"w={w}", f"n={images}") for op in ("gradient_norms", "gradient"))
    with EXACT.on(args.device):
        placed, x = EXACT.place(net, inputs(min(images, 16), shape), args.device)
        squares = [n.double() ** 2 for n in sample_norms(placed, x, (torch.arange(len(x)) % K).to(args.device), len(x))]
        mean = torch.stack(squares).sum(0).sqrt().mean().item()
    off = ours.off("gradmean", mean, model, f"w={w}", f"K={K}")
    cells = [theirs and theirs[0], mine, theirs and mine and theirs[0] / mine, their_gradient and their_gradient[0],
             my_gradient, theirs and their_gradient and theirs[0] / their_gradient[0],
             mine and my_gradient and mine / my_gradient]
    print(f"{model:7} {w:4} " + " ".join(f"{c:10.4f}" if c else f"{'-':>10}" for c in cells)
          + f"  {off:8} {theirs[1] if theirs else '-'}", flush=True)


def main():
    args = arguments(__doc__.splitlines()[0])
    if not args.device:
        one_thread(args)
    elif functional():
        on_device(args)
    else:
        print(f"# PyTorch {torch.__version__} has no torch.func: no comparison")


def one_thread(args):
    torch.set_num_threads(1)
    took, plans = ours(args.ours) if args.ours else ({}, {})
    if functional():
        print(f"# PyTorch {torch.__version__}, float32, 1 thread, vmap(grad) and norms of {SAMPLES} samples")
        print("# model    w  chunk    norms_s  gradient_s  PyTorch/lipsweep (norms)")
        for model, w in ROWS:
            net, shape = network(model, w)
            x, y = inputs(SAMPLES, shape), torch.arange(SAMPLES) % K
            best = min((median(lambda: sample_norms(net, x, y, chunk)), chunk) for chunk in (8, 32, SAMPLES)
                       if w * chunk <= 2048 or model == "mlp")
            line = f"{model:7} {w:4} {best[1]:6} {best[0]:10.4f} {median(lambda: batch_gradient(net, x, y)):11.4f}"
            if ("gradient_norms", model, w) in took:
                line += f"  {best[0] / took['gradient_norms', model, w]:15.2f}x"
            print(line, flush=True)
    else:
        print(f"# PyTorch {torch.__version__} has no torch.func: no comparison")
    for model, w in ROWS:
        if ("measure_B", model, w) not in took:
            continue
        t = {op: took[op, model, w] for op in ("gradient", "gradient_norms", "measure_B", "measure_BCH",
                                                  "weight_norms")}
        once = t["weight_norms"] * SAMPLES / SWEEP
        print(f"# {model} w={w}: gradient norms / gradient {t['gradient_norms'] / t['gradient']:.2f}; "
              f"B, C and trace / B {(t['measure_BCH'] + once) / t['measure_B']:.2f} over {SWEEP} samples; "
              f"planned memory {plans.get((model, w), float('nan')):.0f} MB a thread")


if __name__ == "__main__":
    main()
