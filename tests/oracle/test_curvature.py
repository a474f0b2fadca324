"""Curvature and Lipschitz bounds of lipsweep measure against PyTorch's autograd in float64: the full Hessian and
Gauss-Newton matrix row by row, their traces and eigenvalues, the alignment of the gradient, both landscape
inequalities; certified bounds against unrolled operators."""
import json
import os
import subprocess
import tempfile

import numpy as np

from torchlib import BACKENDS, LIPSWEEP, SPECS, check, close, finish, fresh, name_of, save, tolerances, torch_or_skip, write

torch = torch_or_skip()
N, PARAMS_MAX = 12, 1200
EIGEN = tolerances(1e-7, 1e-4)  # of the largest eigenvalue
TRACE = tolerances(1e-10, 1e-5)
SPECTRAL = 1e-5  # the stated residual of layer.weight_op


def flat(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def losses(z, y, kind):
    if kind == "cross_entropy":
        return torch.nn.functional.cross_entropy(z, y, reduction="none")
    return 0.5 * ((z - torch.nn.functional.one_hot(y, z.shape[1]).double()) ** 2).sum(1)


def rows(values, params):
    """d values / d params, one backward pass per entry."""
    return torch.stack([flat(torch.autograd.grad(v, params, retain_graph=True)) for v in values])


def hessian(model, x, y, kind):
    params = list(model.parameters())
    grads = torch.autograd.grad(losses(model(x), y, kind).mean(), params, create_graph=True)
    out = [torch.autograd.grad(g, params, retain_graph=True, allow_unused=True) for g in flat(grads)]
    return torch.stack([flat([torch.zeros_like(p) if h is None else h for p, h in zip(params, row)]) for row in out])


def gauss_newton(model, x, kind):
    total = 0
    for i in range(len(x)):
        z = model(x[i:i + 1])[0]
        p = torch.softmax(z, 0).detach()
        s = torch.diag(p) - torch.outer(p, p) if kind == "cross_entropy" else torch.eye(len(p)).double()
        j = rows(z, list(model.parameters()))
        total = total + j.T @ s @ j / len(x)
    return total


def operator_norm(layer, shape):
    """Of a linear or convolution layer as the matrix that it is on inputs of the given shape."""
    eye = torch.eye(int(np.prod(shape))).double().reshape(-1, *shape)
    with torch.no_grad():
        bias, layer.bias = layer.bias, None
        matrix = layer(eye).flatten(1)
        layer.bias = bias
    return np.linalg.svd(matrix.numpy(), compute_uv=False)[0]


def bounds(model, spec):
    """The layers' norms, and what poolings and batch norms multiply their product by."""
    (c, h, w), width = spec["input"], spec["width"]
    if spec["model"] == "mlp":
        return [operator_norm(m, (m.in_features,)) for m in model if isinstance(m, torch.nn.Linear)], 1
    shapes = [(c, h, w), (width, h, w), (2 * width, h // 2, w // 2), (4 * width, h // 4, w // 4)]
    blocks = [model.layer1, model.layer2, model.layer3, model.layer4]
    factor = 0.25 / np.sqrt(h * w / 16)
    for b in blocks if spec["batch_norm"] else []:
        factor *= (b.bn.weight.abs() / (b.bn.running_var + b.bn.eps).sqrt()).max().item()
    return [*(operator_norm(b.conv, s) for b, s in zip(blocks, shapes)), operator_norm(model.fc, (8 * width,))], factor


def expected(model, x, y, kind):
    """Records that do not depend on how an eigenspace is spanned, by (quantity, output, layer or rank)."""
    h, g = hessian(model, x, y, kind).numpy(), gauss_newton(model, x, kind).numpy()
    values, vectors = np.linalg.eigh(h)
    values, vectors = values[::-1], vectors[:, ::-1]
    top = min(10, len(values))
    trace, eigen = {}, {}
    trace["hessian.trace", None, None] = np.trace(h)
    trace["ggn.trace", None, None] = np.trace(g)
    at = 0
    layers = []
    for name, p in model.named_parameters():
        owner = name.rsplit(".", 1)[0]
        if not owner.endswith("bn"):
            if owner not in layers:
                layers.append(owner)
            key = "hessian.trace", None, layers.index(owner) + 1
            trace[key] = trace.get(key, 0) + np.trace(h[at:at + p.numel(), at:at + p.numel()])
        at += p.numel()
    eigen["hessian.lambda_max", None, None] = values[0]
    eigen["ggn.lambda_max", None, None] = np.linalg.eigvalsh(g)[-1]
    for i in range(top):
        eigen["hessian.top", None, i + 1] = values[i]
    grad = flat(torch.autograd.grad(losses(model(x), y, kind).mean(), list(model.parameters()))).numpy()
    apart = top == len(values) or values[top - 1] - values[top] > 1e-3 * values[0]
    share = ((vectors[:, :top].T @ grad) ** 2).sum() / (grad @ grad) if apart else None
    return trace, eigen, share


def landscape(model, x, y, kind, first_norm, trace):
    """Sides of both inequalities."""
    xg = x.clone().requires_grad_(True)
    each = losses(model(xg), y, kind)
    per = [torch.autograd.grad(v, list(model.parameters()), retain_graph=True) for v in each]
    gx = torch.autograd.grad(each.sum(), xg)[0].flatten(1).norm(dim=1).mean().item()
    return {"input.left": x.flatten(1).norm(dim=1).min().item() / first_norm * gx,
            "input.right": np.mean([p[0].norm().item() for p in per]),
            "param.left": np.mean([(flat(p) ** 2).sum().item() for p in per]),
            "param.right": 2 * each.max().item() * trace}


def run_case(tmp, spec, kind, seed):
    rng = np.random.default_rng(seed)
    model = fresh(torch, spec, seed).eval()
    if sum(p.numel() for p in model.parameters()) > PARAMS_MAX:
        return
    x, y = rng.normal(size=(N, *spec["input"])).astype("f4"), rng.integers(0, spec["classes"], N)
    weights, inputs = (os.path.join(tmp, f) for f in ("w.safetensors", "x.safetensors"))
    save(model, weights)
    write(inputs, {"x": x, "y": y})
    xt, yt = torch.from_numpy(x).double(), torch.from_numpy(y)
    trace, eigen, share = expected(model, xt, yt, kind)
    norms, factor = bounds(model, spec)
    sides = landscape(model, xt, yt, kind, norms[0], trace["hessian.trace", None, None])
    top = abs(eigen["hessian.lambda_max", None, None])
    for backend in BACKENDS:
        what = f"{name_of(spec)} {kind} on {backend}"
        p = subprocess.run([LIPSWEEP, "measure", weights, "--model", spec["model"], "--width", str(spec["width"]),
                            "--depth", str(spec["depth"]), "--classes", str(spec["classes"]), "--input",
                            "x".join(map(str, spec["input"])), *(["--batch-norm"] if spec["batch_norm"] else []),
                            "--inputs", inputs, "--metrics", "B,E,H", "--loss", kind, "--json", "--backend", backend,
                            "--threads", "2", "--quiet"], capture_output=True, text=True)
        check(p.returncode == 0, f"{what}: exit {p.returncode}: {p.stderr}")
        if p.returncode:
            continue
        got = {(r["quantity"], r.get("output"), r.get("layer", r.get("rank"))): r for r in json.loads(p.stdout)["records"]}
        for key, value in trace.items():
            close(f"{what}: {key}", got[key]["value"], value, TRACE[backend])
        for key, value in eigen.items():
            r = got[key]
            off, stated = abs(r["value"] - value), r.get("residual", 0) * abs(r["value"])
            check(off <= max(EIGEN[backend] * top, stated),
                  f"{what}: {key}: expected {value:.12g}, off by {off:.3g}, residual {stated:.3g}")
        if share is not None:
            check(abs(got["hessian.alignment", None, None]["mean"] - share) < 1e-3, f"{what}: alignment, {share}")
        for name, value in sides.items():
            close(f"{what}: {name}", got["bound.landscape", name, None]["value"], value, 3 * SPECTRAL)
        close(f"{what}: product", got["lipschitz.product", None, None]["value"], np.prod(norms), 5 * SPECTRAL)
        certified = got["lipschitz.certified", None, None]["value"]
        check(1 - 1e-6 < certified / (np.prod(norms) * factor) < 1 + 1e-4,
              f"{what}: certified {certified}, expected {np.prod(norms) * factor}")
        check(got["lipschitz.chain", None, None]["value"] == 1, f"{what}: chain")


with tempfile.TemporaryDirectory() as folder:
    tiny = [{**s, "input": (min(s["input"][0], 2), 4, 4), "width": min(s["width"], 1 if "conv" in s["model"] else 4)}
            for s in SPECS]
    for number, one in enumerate(tiny):
        run_case(folder, one, "cross_entropy", 300 + number)
        run_case(folder, one, "mse", 400 + number)
finish()
