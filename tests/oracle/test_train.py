"""lipsweep train from files to weights against PyTorch: the same IDX files, standardisation, batch order (Philox in
numpy), schedule and optimiser in float64, started from epoch 0's weights; weights, running statistics, losses and
errors of the last epoch agree."""
import glob
import json
import os
import struct
import subprocess
import tempfile

import numpy as np

from torchlib import BACKENDS, LIPSWEEP, check, close, finish, model_of, name_of, read, tolerances, torch_or_skip

torch = torch_or_skip()
N, N_TEST, BATCH, EPOCHS, SIDE, CLASSES = 50, 20, 16, 4, 8, 5
# Weights are stored as floats. cpu: float32 arithmetic, its rounding carried through 16 steps.
TOL = tolerances(1e-7, 1e-5)
ORDER, SUBSET = 2, 6  # streams of base/random.h


def philox(seed, stream, epoch, n):
    """64-bit words at indices 0..n-1: Philox 4x32-10 (Salmon et al. 2011)."""
    mask = np.uint64(0xFFFFFFFF)
    index = np.arange(n, dtype=np.uint64)
    c = [index & mask, index >> np.uint64(32), np.full(n, epoch, np.uint64), np.full(n, stream, np.uint64)]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k[0]), p1 & mask,
             (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k[1]), p0 & mask]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return (c[0] << np.uint64(32)) | c[1]


def permutation(seed, stream, epoch, n):
    words, out = philox(seed, stream, epoch, n), list(range(n))
    for i in range(n - 1, 0, -1):
        j = (int(words[i]) * (i + 1)) >> 64
        out[i], out[j] = out[j], out[i]
    return out


def write_idx(folder, prefix, images, labels):
    with open(os.path.join(folder, prefix + "-images-idx3-ubyte"), "wb") as f:
        f.write(struct.pack(">IIII", 0x803, *images.shape) + images.tobytes())
    with open(os.path.join(folder, prefix + "-labels-idx1-ubyte"), "wb") as f:
        f.write(struct.pack(">II", 0x801, len(labels)) + labels.tobytes())


def load(model, path):
    state = read(path)
    model.load_state_dict({k: torch.from_numpy(v.astype("i8" if k.endswith("tracked") else "f8").copy())
                           for k, v in state.items()}, strict=True)


def evaluate(model, x, y):
    model.eval()
    with torch.no_grad():
        z = model(x)
        return float(torch.nn.functional.cross_entropy(z, y)), float((z.argmax(1) != y).double().mean())


def rate_of(case, epoch):
    rate = case["lr"]
    if epoch < case["warmup_epochs"]:
        rate = case["warmup_lr"] + (case["lr"] - case["warmup_lr"]) * epoch / case["warmup_epochs"]
    return rate * case["lr_decay"] ** (epoch // case["lr_step"])


def train(model, x, y, case, seed):
    if case["optimizer"] == "adam":
        opt = torch.optim.Adam(model.parameters(), weight_decay=case["weight_decay"])
    else:
        opt = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=case["weight_decay"])
    model.train()
    for epoch in range(EPOCHS):
        order = permutation(seed, ORDER, epoch, N)
        for group in opt.param_groups:
            group["lr"] = rate_of(case, epoch)
        for at in range(0, N, BATCH):
            rows = order[at:at + BATCH]
            opt.zero_grad()
            torch.nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            opt.step()


def run_case(tmp, folder, x, y, spec, case, backend, seed):
    what = f"{name_of(spec)} {case['optimizer']} on {backend}"
    out = os.path.join(tmp, f"{what}".replace(" ", "-"))
    keys = {"data": "idx", "data_dir": folder, "model": spec["model"], "width": spec["width"],
            "batch_norm": str(spec["batch_norm"]).lower(), "epochs": EPOCHS, "batch": BATCH, "seed": seed, "data_seed": 9,
            "save_epochs": f"0,{EPOCHS}", "eval_epochs": f"0,{EPOCHS}", "measure_epochs": "none", "backend": backend,
            "out": out, **case}
    if spec["model"] == "mlp":
        keys["depth"] = spec["depth"]
    p = subprocess.run([LIPSWEEP, "train", "--quiet", *[f"{k}={v}" for k, v in keys.items()]], capture_output=True,
                       text=True)
    check(p.returncode == 0, f"{what}: exit {p.returncode}: {p.stderr}")
    if p.returncode:
        return
    cell = os.path.dirname(glob.glob(os.path.join(out, "**", "metrics.jsonl"), recursive=True)[0])
    model = model_of(torch, spec)
    load(model, os.path.join(cell, "epoch-0000.safetensors"))
    records = [json.loads(line) for line in open(os.path.join(cell, "metrics.jsonl"))]
    value = {(r["quantity"], r["split"], r["epoch"]): r["value"] for r in records if "value" in r and "split" in r}
    for epoch in (0, EPOCHS):
        for split in ("train", "test"):
            loss, error = evaluate(model, x[split], y[split])
            close(f"{what}: {split} loss at epoch {epoch}", value["loss", split, epoch], loss, TOL[backend])
            check(abs(value["error", split, epoch] - error) < 1e-12, f"{what}: {split} error at epoch {epoch}")
        if epoch == 0:
            train(model, x["train"], y["train"], case, seed)
    got = read(os.path.join(cell, f"epoch-{EPOCHS:04d}.safetensors"))
    for name, want in model.state_dict().items():
        close(f"{what}: {name}", got[name], want.numpy(), TOL[backend])


SPECS = [{"model": "mlp", "width": 11, "depth": 2, "batch_norm": False},
         {"model": "convnet", "width": 2, "depth": 0, "batch_norm": False},
         {"model": "convnet", "width": 3, "depth": 0, "batch_norm": True},
         {"model": "resnet18", "width": 2, "depth": 0, "batch_norm": False},
         {"model": "resnet18", "width": 2, "depth": 0, "batch_norm": True}]
CASES = [{"optimizer": "sgd", "lr": 0.05, "weight_decay": 0.001, "warmup_epochs": 2, "warmup_lr": 0.01, "lr_step": 3,
          "lr_decay": 0.5},
         {"optimizer": "adam", "lr": 0.002, "weight_decay": 0.0, "warmup_epochs": 0, "warmup_lr": 0.001, "lr_step": 2,
          "lr_decay": 0.25}]
rng = np.random.default_rng(3)
with tempfile.TemporaryDirectory() as tmp_folder:
    pixels = {s: rng.integers(0, 256, (n, SIDE, SIDE), dtype=np.uint8) for s, n in (("train", N), ("test", N_TEST))}
    labels = {s: rng.integers(0, CLASSES, len(v)).astype("u1") for s, v in pixels.items()}
    for s, prefix in (("train", "train"), ("test", "t10k")):
        labels[s][:CLASSES] = range(CLASSES)
        write_idx(tmp_folder, prefix, pixels[s], labels[s])
    mean, std = np.float32(pixels["train"].mean() / 255), np.float32(pixels["train"].std() / 255)
    X, Y = {}, {}
    for which, s in enumerate(("train", "test")):
        rows = permutation(9, SUBSET, which, len(pixels[s]))
        scaled = ((pixels[s][rows] / 255.0 - float(mean)) / float(std)).astype("f4")
        X[s] = torch.from_numpy(scaled[:, None]).double()
        Y[s] = torch.from_numpy(labels[s][rows].astype("i8"))
    for number, one in enumerate(SPECS):
        one.update(classes=CLASSES, input=(1, SIDE, SIDE))
        for chosen in CASES:
            # The last batch has two samples: in the last stage two values per channel, whose normalisation is a sign.
            # Float64 follows it, float32 soon goes another way (its single steps: test_network.py).
            two_values = one["model"] == "resnet18" and one["batch_norm"]
            for where in [b for b in BACKENDS if b == "ref" or not two_values]:
                run_case(tmp_folder, tmp_folder, X, Y, one, chosen, where, 77 + number)
finish()
