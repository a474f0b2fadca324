#!/usr/bin/env python3
"""A sweep of convnets of widths 1 to 16 on one device: lipsweep with several cells at once, PyTorch one by one.

usage: sweep.py [LIPSWEEP] --device cuda|cpu [--tiny]
LIPSWEEP: the program, build/plain/lipsweep. Random images in CIFAR-10's format, 4000 of them, batch 128, Adam. Ours: the
time that further epochs of the whole sweep take, program starts, reading and report taken off by the difference of two
sweeps; as many cells at once as is fastest. PyTorch's: eager with its defaults, the sum over the widths of the steps of
as many epochs, each timed as in train_step.py; the network alone, no sweep around it.
"""
import os
import subprocess
import tempfile
import time

import numpy as np

from device import DEFAULTS, arguments, describe, target
from train_step import BATCH, device_step

SAMPLES, EPOCHS = 4000, (2, 12)


def write_images(folder):
    rng = np.random.default_rng(1)
    for name in [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]:
        pixels = rng.integers(0, 256, (10000, 3073), dtype="u1")
        pixels[:, 0] %= 10
        pixels.tofile(os.path.join(folder, name))


def run_sweep(program, folder, data, widths, samples, epochs, jobs):
    """Seconds of the whole program."""
    out = os.path.join(folder, f"out-{epochs}-{jobs}")
    keys = {"model": "convnet", "width": ",".join(map(str, widths)), "data": "cifar10", "data_dir": data,
            "n_train": samples, "n_test": 10, "batch": BATCH, "optimizer": "adam", "lr": 0.001, "epochs": epochs,
            "eval_epochs": "none", "save_epochs": "none", "measure_epochs": "none", "backend": "cuda", "jobs": jobs,
            "emulated": "true", "checkpoint_seconds": 0, "out": out}
    config = os.path.join(folder, "sweep.yaml")
    with open(config, "w", encoding="utf-8") as f:
        f.write("name: bench\n")
    start = time.perf_counter()
    p = subprocess.run([program, "sweep", config, "--quiet", *[f"{k}={v}" for k, v in keys.items()]],
                       capture_output=True, text=True)
    if p.returncode:
        raise SystemExit(f"error: {program} sweep: exit {p.returncode}: {p.stderr.strip()}")
    return time.perf_counter() - start


def main():
    args = arguments(__doc__.splitlines()[0])
    if not args.device:
        raise SystemExit("error: sweep.py: --device cuda, or --device cpu --tiny, is missing")
    program = os.path.abspath(args.ours or "build/plain/lipsweep")
    widths, samples = (list(range(1, 17)), SAMPLES) if not args.tiny else ([1, 2], BATCH)
    epochs, at_once = (EPOCHS, (1, 4, 8, 16)) if not args.tiny else ((1, 2), (1, 2))
    steps = -(-samples // BATCH) * (epochs[1] - epochs[0])
    print(f"# {describe(args)}; {len(widths)} convnets, w = {widths[0]}..{widths[-1]}, {epochs[1] - epochs[0]} epochs "
          f"of {samples} images")
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "cifar10")
        os.mkdir(data)
        write_images(data)
        ours = []
        for jobs in at_once:
            few, many = (run_sweep(program, folder, data, widths, samples, e, jobs) for e in epochs)
            ours.append((many - few, jobs))
            print(f"sweep convnet lipsweep, {jobs} at once: {many - few:.3f} s", flush=True)
    theirs = sum(device_step(args, "convnet", w, DEFAULTS) * steps for w in widths)
    print(f"sweep convnet PyTorch eager, one by one: {theirs:.3f} s")
    best, jobs = min(ours)
    print(f"sweep convnet PyTorch/lipsweep ({jobs} at once): {theirs / best:.2f}")
    if not args.tiny:
        target(theirs >= 10 * best, f"sweep of widths 1..16: {theirs / best:.1f} times PyTorch eager, wanted 10")


if __name__ == "__main__":
    main()
