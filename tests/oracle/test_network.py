"""One network at a time against PyTorch in float64: logits, losses, Jacobians, parameter gradients in both modes, and a
few training steps from the same weights on the same batches (running statistics included)."""
import os
import subprocess
import tempfile

import numpy as np

from torchlib import BACKENDS, BUILD, SPECS, check, close, finish, fresh, name_of, read, save, tolerances, torch_or_skip, write

torch = torch_or_skip()
N, BATCH, STEPS = 13, 6, 4
# float64 sums in another order; float32 through a few layers.
TOL = tolerances(1e-10, 1e-5)


def mean_loss(z, y, kind):
    if kind == "cross_entropy":
        return torch.nn.functional.cross_entropy(z, y)
    target = y if y.is_floating_point() else torch.nn.functional.one_hot(y, z.shape[1]).double()
    return 0.5 * ((z - target) ** 2).sum(1).mean()


def gradient(model, x, y, kind):
    model.zero_grad()
    mean_loss(model(x), y, kind).backward()
    return torch.cat([p.grad.ravel() for p in model.parameters()]).numpy().copy()


def expected(model, x, y, case):
    kind, out = case["loss"], {}
    start = {k: v.clone() for k, v in model.state_dict().items()}
    model.eval()
    x_in = x.clone().requires_grad_(True)
    z = model(x_in)
    out["logits"] = z.detach().numpy()
    out["loss"] = [float(mean_loss(z[i:i + 1].detach(), y[i:i + 1], kind)) for i in range(N)]
    out["jacobian"] = torch.stack([torch.autograd.grad(z[:, k].sum(), x_in, retain_graph=True)[0].flatten(1)
                                   for k in range(z.shape[1])], 1).numpy()
    out["grad"] = gradient(model, x, y, kind)
    model.train()
    out["grad_training"] = gradient(model, x, y, kind)
    model.load_state_dict(start)
    if case["optimizer"] == "adam":
        opt = torch.optim.Adam(model.parameters(), lr=case["lr"], weight_decay=case["weight_decay"])
    else:
        opt = torch.optim.SGD(model.parameters(), lr=case["lr"], momentum=case["momentum"],
                              weight_decay=case["weight_decay"])
    for i in range(STEPS):
        at = i * BATCH % (N - BATCH + 1)
        opt.zero_grad()
        mean_loss(model(x[at:at + BATCH]), y[at:at + BATCH], kind).backward()
        opt.step()
    out["params"] = torch.cat([p.detach().ravel() for p in model.parameters()]).numpy()
    buffers = [b.double().ravel() for b in model.buffers()]
    if buffers:
        out["buffers"] = torch.cat(buffers).numpy()
    return out


def sensitivity(model, start, x, y, case, want):
    """Largest change of the trained parameters and running statistics when each starting weight moves by up to half a
    float32 unit (2^-24 of itself): what one rounding of the weights alone does, of three draws."""
    most = {"params": 0.0, "buffers": 0.0}
    for draw in range(3):
        rng = torch.Generator().manual_seed(draw)
        model.load_state_dict(start)
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(1 + 2.0**-24 * (2 * torch.rand(p.shape, generator=rng, dtype=p.dtype) - 1))
        moved = expected(model, x, y, case)
        for name in most:
            most[name] = max(most[name], float(np.linalg.norm(moved[name] - want[name]) / np.linalg.norm(want[name])))
    return most


def run_case(tmp, spec, case, backend, seed):
    what = f"{name_of(spec)} {case['loss']} {case['optimizer']} on {backend}"
    rng = np.random.default_rng(seed)
    model = fresh(torch, spec, seed)
    x = rng.normal(size=(N, *spec["input"])).astype("f4")
    if case["targets"]:
        y = rng.normal(size=(N, spec["classes"])).astype("f4")
    else:
        y = rng.integers(0, spec["classes"], N)
    weights, inputs, result = (os.path.join(tmp, f) for f in ("w.safetensors", "x.safetensors", "out.safetensors"))
    save(model, weights)
    write(inputs, {"x": x, "y": y})
    args = {"model": spec["model"], "width": spec["width"], "depth": spec["depth"], "classes": spec["classes"],
            "c": spec["input"][0], "h": spec["input"][1], "w": spec["input"][2], "batch_norm": int(spec["batch_norm"]),
            "loss": int(case["loss"] == "mse"), "optimizer": case["optimizer"], "lr": case["lr"],
            "momentum": case["momentum"], "weight_decay": case["weight_decay"], "steps": STEPS, "batch": BATCH}
    p = subprocess.run([os.path.join(BUILD, "tests/oracle/driver"), backend, weights, inputs, result,
                        *[f"{k}={v}" for k, v in args.items()]], capture_output=True, text=True)
    check(p.returncode == 0, f"{what}: driver exit {p.returncode}: {p.stderr}")
    if p.returncode:
        return
    got = read(result)
    y_torch = torch.from_numpy(y).double() if case["targets"] else torch.from_numpy(y)
    x_torch = torch.from_numpy(x).double()
    start = {k: v.clone() for k, v in model.state_dict().items()}
    want = expected(model, x_torch, y_torch, case)
    # Batch norm over the few values of a late stage magnifies: float32 rounds its weights at each of the steps, forwards
    # and backwards, and cannot come closer than a few times what one such rounding does.
    rounding = sensitivity(model, start, x_torch, y_torch, case, want) if backend != "ref" and "buffers" in want else {}
    check(sorted(got) == sorted(want), f"{what}: outputs {sorted(got)}")
    for name, value in want.items():
        tol = TOL[backend]
        # Adam divides by the root of the second moment: where a gradient is near 0 a step of lr hangs on its sign.
        # Agreement is judged over the whole vector; its float32 error is a few times that of the gradient.
        if backend != "ref" and case["optimizer"] == "adam" and name == "params":
            tol = 1e-4
        close(f"{what}: {name}", got[name], value, max(tol, 2 * STEPS * rounding.get(name, 0)))


CASES = [
    {"loss": "cross_entropy", "optimizer": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01, "targets": False},
    {"loss": "mse", "optimizer": "sgd", "lr": 0.02, "momentum": 0.0, "weight_decay": 0.0, "targets": True},
    {"loss": "cross_entropy", "optimizer": "adam", "lr": 0.01, "momentum": 0.0, "weight_decay": 0.02, "targets": False},
    {"loss": "mse", "optimizer": "adam", "lr": 0.001, "momentum": 0.0, "weight_decay": 0.0, "targets": False},
]
with tempfile.TemporaryDirectory() as folder:
    for number, one in enumerate(SPECS):
        for c, chosen in enumerate(CASES):
            for where in BACKENDS:
                run_case(folder, one, chosen, where, 10 * number + c)
finish()
