"""lipsweep measure on a user's own weights and inputs against brute force with PyTorch's autograd in float64: the
Jacobian norms under all five output maps per sample, and their statistics; loss and error."""
import json
import os
import subprocess
import tempfile

import numpy as np

from torchlib import BACKENDS, LIPSWEEP, SPECS, check, close, finish, fresh, name_of, read, save, tolerances, torch_or_skip, write

torch = torch_or_skip()
N = 21
TOL = tolerances(1e-10, 1e-5)


def jacobian(f, x):
    """(N, outputs, D) of f, one output at a time."""
    x = x.clone().requires_grad_(True)
    z = f(x)
    return torch.stack([torch.autograd.grad(z[:, k].sum(), x, retain_graph=True)[0].flatten(1)
                        for k in range(z.shape[1])], 1)


def per_sample_loss(z, y, kind):
    if kind == "cross_entropy":
        return torch.nn.functional.cross_entropy(z, y, reduction="none")
    target = y if y.is_floating_point() else torch.nn.functional.one_hot(y, z.shape[1]).double()
    return 0.5 * ((z - target) ** 2).sum(1)


def maps(model, y, kind):
    """The five outputs as functions whose Jacobian is taken whole; None where there is no label to say which."""
    yield "logits", model
    yield "softmax", lambda x: torch.softmax(model(x), 1)
    yield "log_softmax", lambda x: torch.log_softmax(model(x), 1)
    if not y.is_floating_point():
        yield "target_logit", lambda x: model(x).gather(1, y[:, None])
    yield "loss", lambda x: per_sample_loss(model(x), y, kind)[:, None]


def run_case(tmp, spec, kind, targets, seed):
    rng = np.random.default_rng(seed)
    model = fresh(torch, spec, seed).eval()
    x = rng.normal(size=(N, *spec["input"])).astype("f4")
    y = rng.normal(size=(N, spec["classes"])).astype("f4") if targets else rng.integers(0, spec["classes"], N)
    weights, inputs, values = (os.path.join(tmp, f) for f in ("w.safetensors", "x.safetensors", "v.safetensors"))
    save(model, weights)
    write(inputs, {"x": x, "y": y})
    xt = torch.from_numpy(x).double()
    yt = torch.from_numpy(y).double() if targets else torch.from_numpy(y)
    want = {}
    for output, f in maps(model, yt, kind):
        s = np.linalg.svd(jacobian(f, xt).numpy(), compute_uv=False)
        want[f"jacobian.op/{output}"] = s[:, 0]
        want[f"jacobian.fro/{output}"] = np.sqrt((s ** 2).sum(1))
    with torch.no_grad():
        loss = per_sample_loss(model(xt), yt, kind).numpy()
        wrong = None if targets else (model(xt).argmax(1) != yt).double().mean()
    for backend in BACKENDS:
        what = f"{name_of(spec)} {kind} {'targets' if targets else 'labels'} on {backend}"
        p = subprocess.run([LIPSWEEP, "measure", weights, "--model", spec["model"], "--width", str(spec["width"]),
                            "--depth", str(spec["depth"]), "--classes", str(spec["classes"]), "--input",
                            "x".join(map(str, spec["input"])), *(["--batch-norm"] if spec["batch_norm"] else []),
                            "--inputs", inputs, "--metrics", "A,B", "--loss", kind, "--json", "--per-sample", values,
                            "--backend", backend, "--threads", "2", "--quiet"], capture_output=True, text=True)
        check(p.returncode == 0, f"{what}: exit {p.returncode}: {p.stderr}")
        if p.returncode:
            continue
        got = read(values)
        records = {(r["quantity"], r.get("norm"), r.get("output")): r for r in json.loads(p.stdout)["records"]}
        for name, value in want.items():
            check(name in got, f"{what}: {name} is missing")
            if name not in got:
                continue
            close(f"{what}: {name}", got[name], value, TOL[backend])
            norm, output = name.split(".")[1].split("/")
            r = records[("jacobian", norm, output)]
            close(f"{what}: statistics of {name}",
                  [r["mean"], r["std_err"], r["min"], r["median"], r["q90"], r["max"], r["n"]],
                  [value.mean(), value.std(ddof=1) / np.sqrt(N), value.min(), np.median(value), np.quantile(value, 0.9),
                   value.max(), N], TOL[backend])
        close(f"{what}: loss", records[("loss", None, None)]["value"], loss.mean(), TOL[backend])
        if wrong is not None:
            check(abs(records[("error", None, None)]["value"] - float(wrong)) < 1e-12, f"{what}: error")


with tempfile.TemporaryDirectory() as folder:
    for number, one in enumerate(SPECS):
        run_case(folder, one, "cross_entropy", False, 100 + number)
        run_case(folder, one, "mse", number % 2 == 0, 200 + number)
finish()
