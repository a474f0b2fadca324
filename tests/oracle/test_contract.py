"""Every quantity of sections A to H of one network at a time, as a user who has only the definitions would check
them: full Jacobians, explicit Hessians and unrolled operators by PyTorch's autograd in float64, against the records and
the per-sample file of `lipsweep measure --metrics all`. The names of records and vectors, their fields and statistics
are compared as whole sets, so that nothing is missing and nothing is there that has no definition."""
import json
import os
import subprocess
import tempfile

import numpy as np

from torchlib import BACKENDS, LIPSWEEP, check, close, finish, fresh, name_of, read, save, tolerances, torch_or_skip, write

torch = torch_or_skip()
grad_of = torch.autograd.grad
NORM = tolerances(1e-10, 1e-5)
TRACE = tolerances(1e-10, 1e-5)
EIGEN = tolerances(1e-6, 1e-4)  # of the largest
SPECTRAL = 1e-5  # beside the stated residual
HESSIAN_PARAMS = 800  # larger networks have no explicit Hessian here
RESIDUAL_PARAMS = 2821  # but the smallest residual network
FIELDS = {"quantity", "norm", "output", "layer", "layer_name", "rank", "split", "epoch", "n", "mean", "std_err", "min",
          "median", "q90", "max", "exact", "value", "reason", "iterations", "residual", "precision", "device", "seed"}


class Truth:
    """What one network is by definition, on x and y."""

    def __init__(self, model, x, y, kind):
        self.model, self.x, self.y, self.kind = model, x, y, kind
        self.layers = [(n, m) for n, m in model.named_modules()
                       if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))]
        self.params = list(model.parameters())
        self.sample, self.scalar, self.why = {}, {}, {}  # vectors; numbers; what must be null

    def loss(self, z):
        if self.y is None or (self.kind == "cross_entropy" and self.y.is_floating_point()):
            return None
        if self.kind == "cross_entropy":
            return torch.nn.functional.cross_entropy(z, self.y, reduction="none")
        y = self.y if self.y.is_floating_point() else torch.nn.functional.one_hot(self.y, z.shape[1]).double()
        return 0.5 * ((z - y) ** 2).sum(1)

    def jacobian_at(self, inputs, outputs):
        """(N, outputs, D): samples do not see one another."""
        return torch.stack([grad_of(outputs[:, k].sum(), inputs, retain_graph=True)[0].flatten(1)
                            for k in range(outputs.shape[1])], 1).numpy()

    def put_matrix(self, key, tail, j):
        s = np.linalg.svd(j, compute_uv=False)
        self.sample[f"{key}.op/{tail}"] = s[:, 0]
        self.sample[f"{key}.fro/{tail}"] = np.sqrt((s ** 2).sum(1))

    def outputs(self):
        x = self.x.clone().requires_grad_(True)
        z = self.model(x)
        n, labels = len(x), self.y is not None and not self.y.is_floating_point()
        self.put_matrix("jacobian", "logits", self.jacobian_at(x, z))
        self.put_matrix("jacobian", "softmax", self.jacobian_at(x, torch.softmax(z, 1)))
        self.put_matrix("jacobian", "log_softmax", self.jacobian_at(x, torch.log_softmax(z, 1)))
        loss = self.loss(z)
        for tail, f in (("target_logit", z[range(n), self.y][:, None] if labels else None),
                        ("loss", None if loss is None else loss[:, None])):
            for norm in ("op", "fro"):
                if f is None:
                    self.why["jacobian", norm, tail, None] = "needs "
            if f is not None:
                self.put_matrix("jacobian", tail, self.jacobian_at(x, f))
        self.each_loss(x, z, loss, labels)
        p = torch.softmax(z, 1).detach().numpy()
        for i, what in ((-1, "max"), (1, "min_nonzero")):
            if self.kind == "mse" or (what == "min_nonzero" and z.shape[1] == 1):
                self.why["logit_hessian." + what, None, None, None] = "" if self.kind == "mse" else "one output"
            else:
                self.sample["logit_hessian." + what] = [np.linalg.eigvalsh(np.diag(q) - np.outer(q, q))[i] for q in p]
        if self.kind == "mse":
            self.why["logit_hessian.trace", None, None, None] = self.why["logit_hessian.degenerate", None, None, None] = ""
        else:
            self.sample["logit_hessian.trace"] = (p * (1 - p)).sum(1)
            self.scalar["logit_hessian.degenerate", None, None, None] = np.mean(self.sample["logit_hessian.max"] < np.array(1e-6))

    def each_loss(self, x, z, loss, labels):
        if not labels:
            self.why["error", None, None, None] = "needs "
        else:
            self.scalar["error", None, None, None] = (z.argmax(1) != self.y).double().mean().item()
        named = ["loss", "landscape.loss_max", *(("landscape." + g, o) for g in ("input_grad", "param_grad", "param_grad_layer1")
                                                  for o in ("norm", "norm_sq"))]
        if loss is None:
            for q in named:
                q, o = q if isinstance(q, tuple) else (q, None)
                self.why[q, None, o, None] = "needs "
            return
        self.sample["loss"] = loss.detach().numpy()
        self.scalar["loss", None, None, None] = loss.mean().item()
        self.scalar["landscape.loss_max", None, None, None] = loss.max().item()
        gx = grad_of(loss.sum(), x, retain_graph=True)[0].flatten(1).norm(dim=1).numpy()
        per = [grad_of(v, self.params, retain_graph=True) for v in loss]
        everything = np.array([np.sqrt(sum((g ** 2).sum().item() for g in s)) for s in per])
        layer1 = np.array([s[0].norm().item() for s in per])
        for key, v in (("input_grad", gx), ("param_grad", everything), ("param_grad_layer1", layer1)):
            self.sample[f"landscape.{key}/norm"], self.sample[f"landscape.{key}/norm_sq"] = v, v ** 2

    def through_layers(self):
        """Inputs of every layer, made leaves for that layer alone; the parameters' Jacobians sample by sample."""
        for number, (name, layer) in enumerate(self.layers, 1):
            seen = []

            def leaf(_, args):
                seen.append(args[0].detach().clone().requires_grad_(True))
                return (seen[0],)

            hook = layer.register_forward_pre_hook(leaf)
            z = self.model(self.x)
            hook.remove()
            loss = self.loss(z)
            self.put_matrix("layer.input_jacobian", name, self.jacobian_at(seen[0], z))
            self.sample[f"layer.act_norm/{name}"] = seen[0].detach().flatten(1).norm(dim=1).numpy()
            for what, p in (("param", layer.weight), ("bias", layer.bias)):
                if p is None:
                    self.why[f"layer.{what}_jacobian", "op", None, number] = "bias"
                    self.why[f"layer.{what}_jacobian", "fro", None, number] = "bias"
                    continue
                self.put_matrix(f"layer.{what}_jacobian", name, np.array(
                    [[grad_of(v, p, retain_graph=True)[0].flatten().numpy() for v in row] for row in z]))
            for what, v in (("input", seen[0]), ("param", layer.weight)):
                if loss is None:
                    self.why[f"layer.loss_grad_{what}", "fro", None, number] = "needs "
                elif what == "input":
                    self.sample[f"layer.loss_grad_input.fro/{name}"] = grad_of(
                        loss.sum(), v, retain_graph=True)[0].flatten(1).norm(dim=1).numpy()
                else:
                    self.sample[f"layer.loss_grad_param.fro/{name}"] = [
                        grad_of(w, v, retain_graph=True)[0].norm().item() for w in loss]
            self.of_weight(number, name, layer, seen[0].shape[1:])

    def of_weight(self, number, name, layer, shape):
        """The layer as the matrix that it is on its real input; its kernel reshaped; its bound."""
        eye = torch.eye(int(np.prod(shape))).double().reshape(-1, *shape)
        with torch.no_grad():
            zero = layer(torch.zeros_like(eye[:1]))
            op = np.linalg.svd((layer(eye) - zero).flatten(1).numpy(), compute_uv=False)[0]
        w = layer.weight.detach().flatten(1).numpy()
        self.scalar["layer.weight_op", None, None, number] = op
        self.scalar["layer.weight_op_reshaped", None, None, number] = np.linalg.svd(w, compute_uv=False)[0]
        self.scalar["layer.weight_fro", None, None, number] = np.linalg.norm(w)
        left, right = self.sample[f"layer.input_jacobian.op/{name}"], self.sample[f"layer.param_jacobian.op/{name}"]
        act = self.sample[f"layer.act_norm/{name}"]
        self.scalar["bound.layer", None, "left", number] = left.mean()
        if act.min() > 0:
            self.scalar["bound.layer", None, "right", number] = op / act.min() * right.mean()
            if right.mean() > 0:
                self.scalar["bound.layer", None, "ratio", number] = left.mean() / (op / act.min() * right.mean())
        for side in ("right", "ratio"):
            if ("bound.layer", None, side, number) not in self.scalar:
                self.why["bound.layer", None, side, number] = "h_l = 0" if act.min() == 0 else "zero"
        # Beyond rounding: a layer of width 1 has equality.
        self.scalar["bound.layer", None, "violations", number] = np.mean(left * act > op * right * (1 + 1e-4))

    def bounds(self):
        product = np.prod([self.scalar["layer.weight_op", None, None, l] for l in range(1, len(self.layers) + 1)])
        self.scalar["lipschitz.product", None, None, None] = product
        factor = 1
        if hasattr(self.model, "conv1"):
            self.scalar["lipschitz.certified", None, None, None] = self.residual_bound()
            self.scalar["lipschitz.chain", None, None, None] = 1
            return
        if hasattr(self.model, "layer1"):
            factor = 0.25 / np.sqrt(np.prod(self.x.shape[2:]) / 16)
        for m in self.model.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                factor *= (m.weight.abs() / (m.running_var + m.eps).sqrt()).max().item()
        self.scalar["lipschitz.certified", None, None, None] = product * factor
        self.scalar["lipschitz.chain", None, None, None] = 1

    def residual_bound(self):
        """Of a residual network: a block adds the bounds of branch and shortcut; a ReLU has 1."""
        norm = {name: self.scalar["layer.weight_op", None, None, l] for l, (name, _) in enumerate(self.layers, 1)}
        scale = {name: (m.weight.abs() / (m.running_var + m.eps).sqrt()).max().item()
                 for name, m in self.model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
        bound, positions = norm["conv1"] * scale.get("bn1", 1), np.prod([-(-s // 8) for s in self.x.shape[2:]])
        for block in (f"layer{stage}.{i}." for stage in range(1, 5) for i in range(2)):
            branch = np.prod([norm[f"{block}conv{i}"] * scale.get(f"{block}bn{i}", 1) for i in (1, 2)])
            bound *= branch + norm.get(f"{block}downsample.0", 1)
        return bound / np.sqrt(positions) * norm["fc"]

    def curvature(self):
        z = self.model(self.x)
        loss, size, g = self.loss(z), sum(p.numel() for p in self.params), 0
        explicit = size <= (RESIDUAL_PARAMS if hasattr(self.model, "conv1") else HESSIAN_PARAMS)
        for row in z:
            p = torch.softmax(row, 0).detach().numpy()
            s = np.diag(p) - np.outer(p, p) if self.kind == "cross_entropy" else np.eye(len(p))
            j = np.array([np.concatenate([t.flatten().numpy() for t in grad_of(v, self.params, retain_graph=True)])
                          for v in row])
            g = g + (j.T @ s @ j if explicit else np.einsum("kp,kl,lp->p", j, s, j)) / len(z)
        diagonal = np.diag(g) if explicit else g
        names = [n for n, _ in self.model.named_parameters()]
        at = np.cumsum([0] + [p.numel() for p in self.params])
        parts = {None: diagonal.sum()}
        for number, (layer, _) in enumerate(self.layers, 1):
            parts[number] = sum(diagonal[at[i]:at[i + 1]].sum() for i, n in enumerate(names)
                                if n in (f"{layer}.weight", f"{layer}.bias"))
        for number, value in parts.items():
            self.scalar["ggn.trace", None, None, number] = value
            if loss is None:
                self.why["hessian.trace", None, None, number] = "needs "
            else:
                self.scalar["hessian.trace", None, None, number] = value  # piecewise linear; the Hessian below agrees
        self.spectra = {"ggn.lambda_max": np.linalg.eigvalsh(g)[-1:]} if explicit else {}
        self.share = None
        if loss is None:
            for q in ("hessian.lambda_max", "hessian.top", "hessian.alignment", "bound.landscape"):
                self.why[q, None, None, None] = "needs "
            return
        first = grad_of(loss.mean(), self.params, create_graph=True)
        self.inequalities(parts[None])
        if not explicit:
            return
        flat = torch.cat([v.flatten() for v in first])
        h = np.array([np.concatenate([(torch.zeros_like(p) if t is None else t).flatten().numpy() for p, t in zip(
            self.params, grad_of(v, self.params, retain_graph=True, allow_unused=True))]) for v in flat])
        check(abs(np.trace(h) - parts[None]) <= 1e-9 * max(1e-9, abs(parts[None])), "tr H = tr Gauss-Newton")
        values, vectors = np.linalg.eigh(h)
        top = min(10, size)
        self.spectra["hessian.lambda_max"] = values[-1:]
        self.spectra["hessian.top"] = values[::-1][:top]
        grad = flat.detach().numpy()
        if grad @ grad > 0 and (top == size or values[-top] - values[-top - 1] > 1e-3 * values[-1]):
            self.share = ((vectors[:, -top:].T @ grad) ** 2).sum() / (grad @ grad)

    def inequalities(self, trace):
        def mean(key):
            return np.mean(self.sample[key])

        h, theta = self.sample[f"layer.act_norm/{self.layers[0][0]}"].min(), self.scalar["layer.weight_op", None, None, 1]
        values = {"input.h_1": h, "input.theta_1": theta, "input.grad": mean("landscape.input_grad/norm"),
                  "input.right": mean("landscape.param_grad_layer1/norm"),
                  "param.loss_max": self.sample["loss"].max(), "param.trace": trace,
                  "param.left": mean("landscape.param_grad/norm_sq"), "param.right": 2 * self.sample["loss"].max() * trace}
        values["input.left"] = h / theta * values["input.grad"]
        for side in ("input", "param"):
            if values[side + ".right"] > 0:
                values[side + ".ratio"] = values[side + ".left"] / values[side + ".right"]
            else:
                self.why["bound.landscape", None, side + ".ratio", None] = "zero"
        for what, value in values.items():
            self.scalar["bound.landscape", None, what, None] = value


def key_of(r):
    return r["quantity"], r.get("norm"), r.get("output"), r.get("layer")


def statistics(v):
    n = len(v)
    return [v.mean(), v.std(ddof=1) / np.sqrt(n) if n > 1 else 0, v.min(), np.median(v), np.quantile(v, 0.9), v.max(), n]


def check_form(what, r):
    check(set(r) <= FIELDS, f"{what}: fields {sorted(set(r) - FIELDS)}")
    check(("mean" in r) + ("value" in r) == 1 and ("reason" in r) == ("value" in r and r["value"] is None), f"{what}: form {r}")
    numbers = [r[k] for k in ("mean", "std_err", "min", "median", "q90", "max", "value", "residual") if r.get(k) is not None]
    check(all(isinstance(v, (int, float)) and np.isfinite(v) for v in numbers), f"{what}: finite {r}")
    host = r["quantity"].startswith(("layer.weight", "lipschitz.product", "lipschitz.certified", "distance"))
    check((r.get("split") == "inputs") != host, f"{what}: split {r}")


def check_samples(what, truth, records, got, backend):
    layer_of = {name: number for number, (name, _) in enumerate(truth.layers, 1)}
    extra = set(got) - set(truth.sample) - {"error", *(f"ggn.trace/{n}" for n in layer_of), "ggn.trace"}
    check(not extra, f"{what}: vectors without a definition: {sorted(extra)}")
    for name, want in truth.sample.items():
        want = np.asarray(want)
        if not check_has(what, name, got):
            continue
        tol = NORM[backend] * (1 if "hessian" not in name else 10)
        close(f"{what}: {name}", got[name], want, tol)
        head, _, tail = name.partition("/")
        norm = head.rsplit(".", 1)[1] if head.endswith((".op", ".fro")) else None
        quantity = head[:-len(norm) - 1] if norm else head
        layer = layer_of.get(tail)
        key = quantity, norm, None if layer else tail or None, layer
        if quantity == "loss":
            continue
        if check_has(what, key, records):
            r = records[key][0]
            check(r.get("layer_name") == (tail if layer else None) and r["exact"] is True, f"{what}: {r}")
            close(f"{what}: statistics of {name}", [r[k] for k in ("mean", "std_err", "min", "median", "q90", "max", "n")],
                  statistics(want), tol)


def check_has(what, key, where):
    check(key in where, f"{what}: {key} is missing")
    return key in where


def check_scalars(what, truth, records, backend):
    for key, want in truth.scalar.items():
        if not check_has(what, key, records):
            continue
        r = records[key][0]
        name = key[0] + (key[2] or "")
        spectral = key[0] in ("layer.weight_op", "layer.weight_op_reshaped", "bound.layer", "bound.landscape") or "lipschitz" in name
        tol = max(NORM[backend], SPECTRAL if spectral else 0, TRACE[backend] if "trace" in name else 0)
        if key[0] == "lipschitz.certified":  # never below
            check(want * (1 - 1e-6) <= r["value"] <= want * (1 + 1e-4), f"{what}: {key}: {r['value']}, expected {want}")
        else:
            check(r["value"] is not None and abs(r["value"] - want) <= tol * abs(want) + 1e-300,
                  f"{what}: {key}: {r['value']}, expected {want:.17g}")
    for key, why in truth.why.items():
        for r in records.get(key, [{}]):
            check("value" in r and r["value"] is None and why in r["reason"], f"{what}: {key} is not null: {r}")


def check_spectra(what, truth, records, backend):
    for quantity, want in truth.spectra.items():
        rows = records.get((quantity, None, None, None), [])
        check([r.get("rank") for r in rows] == ([None] if quantity.endswith("max") else list(range(1, len(want) + 1))),
              f"{what}: {quantity}: ranks {rows}")
        scale = np.abs(truth.spectra["ggn.lambda_max" if quantity[0] == "g" else "hessian.lambda_max"]).max()
        for r, value in zip(rows, want):
            stated = r.get("residual", 0) * abs(r["value"])
            check(abs(r["value"] - value) <= max(EIGEN[backend] * scale, stated) and r["exact"] is False,
                  f"{what}: {quantity}: {r}, expected {value:.12g}")
    if truth.share is not None:
        r = records["hessian.alignment", None, None, None][0]
        check(abs(r["mean"] - truth.share) < 1e-3, f"{what}: alignment {r}, expected {truth.share}")


def known_keys(truth):
    """All that a file may hold."""
    keys = set(truth.scalar) | set(truth.why)
    keys |= {(f"distance.{q}", None, None, l) for q, ls in (("layer", range(1, len(truth.layers) + 1)), ("total", [None]))
             for l in ls}
    for quantity in ("hessian.lambda_max", "hessian.top", "ggn.lambda_max", "hessian.alignment"):
        keys.add((quantity, None, None, None))
    for name in truth.sample:
        head, _, tail = name.partition("/")
        norm = head.rsplit(".", 1)[1] if head.endswith((".op", ".fro")) else None
        layer = {n: i for i, (n, _) in enumerate(truth.layers, 1)}.get(tail)
        keys.add((head[:-len(norm) - 1] if norm else head, norm, None if layer else tail or None, layer))
    return keys


def run_case(tmp, spec, kind, labels, n, seed):
    rng = np.random.default_rng(seed)
    model, before = fresh(torch, spec, seed).eval(), fresh(torch, spec, seed + 1)
    x = rng.normal(size=(n, *spec["input"])).astype("f4")
    y = {"targets": rng.normal(size=(n, spec["classes"])).astype("f4"),
         "labels": rng.integers(0, spec["classes"], n), "none": None}[labels]
    weights, init, inputs, values = (os.path.join(tmp, f) for f in ("w.safetensors", "i.safetensors", "x.safetensors", "v.safetensors"))
    save(model, weights)
    save(before, init)
    write(inputs, {"x": x} if y is None else {"x": x, "y": y})
    yt = None if y is None else torch.from_numpy(y).double() if labels == "targets" else torch.from_numpy(y)
    truth = Truth(model, torch.from_numpy(x).double(), yt, kind)
    truth.outputs()
    truth.through_layers()
    truth.bounds()
    truth.curvature()
    known = seed % 2 == 0
    for number, (name, layer) in enumerate(truth.layers, 1):
        a, b = (dict(m.named_parameters())[name + ".weight"].detach() for m in (model, before))
        truth.scalar["distance.layer", None, None, number] = ((a - b).norm() / b.norm()).item()
    a, b = (torch.cat([p.detach().flatten() for p in m.parameters()]) for m in (model, before))
    truth.scalar["distance.total", None, None, None] = ((a - b).norm() / b.norm()).item()
    if not known:
        for key in [k for k in truth.scalar if k[0].startswith("distance")]:
            del truth.scalar[key]
            truth.why[key] = "initial weights"
    for backend in BACKENDS:
        what = f"{name_of(spec)} K={spec['classes']} N={n} {kind} {labels} on {backend}"
        p = subprocess.run([LIPSWEEP, "measure", weights, "--model", spec["model"], "--width", str(spec["width"]),
                            "--depth", str(spec["depth"]), "--classes", str(spec["classes"]), "--input",
                            "x".join(map(str, spec["input"])), *(["--batch-norm"] if spec["batch_norm"] else []),
                            *(["--init", init] if known else []), "--inputs", inputs, "--metrics", "all", "--loss", kind,
                            "--json", "--per-sample", values, "--backend", backend], capture_output=True, text=True)
        check(p.returncode == 0 and "error" not in p.stderr, f"{what}: exit {p.returncode}: {p.stderr}")
        if p.returncode:
            continue
        records = {}
        for r in json.loads(p.stdout)["records"]:
            check_form(what, r)
            records.setdefault(key_of(r), []).append(r)
        check(all(len(v) == 1 for k, v in records.items() if k[0] != "hessian.top"), f"{what}: one record each")
        unknown = set(records) - known_keys(truth)
        check(not unknown, f"{what}: records without a definition: {unknown}")
        check_samples(what, truth, records, read(values), backend)
        check_scalars(what, truth, records, backend)
        check_spectra(what, truth, records, backend)


def probe_inputs(tmp, shape, probe, inputs, n):
    """The inputs of a probe themselves: a network whose hidden layer is one entry of the input, or its negative."""
    size, x = int(np.prod(shape)), []
    weights, values = os.path.join(tmp, "entry.safetensors"), os.path.join(tmp, "entry.values")
    for entry in range(size):
        sides = []
        for sign in (1, -1):
            write(weights, {"0.weight": sign * np.eye(size, dtype="f4")[entry:entry + 1], "0.bias": np.zeros(1, "f4"),
                            "2.weight": np.ones((1, 1), "f4"), "2.bias": np.zeros(1, "f4")})
            subprocess.run([LIPSWEEP, "measure", weights, "--inputs", inputs, "--probe", probe, "--n", str(n), "--metrics",
                            "layer.act_norm", "--backend", "ref", "--per-sample", values], capture_output=True, check=True)
            sides.append(read(values)["layer.act_norm/2"])
        x.append(sides[0] - sides[1])
    return np.stack(x, 1).reshape(n, *shape)


def is_probe(probe, x, data):
    """Is x what section G says?"""
    mean, std = (f(data.astype("f8"), axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    if probe == "uniform":
        return np.all(np.abs(x - mean) <= std * (1 + 1e-6))
    if probe == "hypersphere":
        return np.all((x ** 2).sum((2, 3)) <= 1 + 1e-6)
    if probe == "path":  # |x - a| + |x - b| = |a - b| for some pair
        far = np.sqrt(((x[:, None] - data[None]) ** 2).sum((2, 3, 4)))
        apart = np.sqrt(((data[:, None] - data[None]) ** 2).sum((2, 3, 4)))
        return all(np.min(np.abs(f[:, None] + f[None] - apart)) < 1e-5 for f in far)
    return np.all(np.isfinite(x)) and np.ptp(x) > 0


def run_probes(tmp, spec, n):
    rng = np.random.default_rng(77)
    data = rng.normal(1, 2, size=(6, *spec["input"])).astype("f4")
    weights, inputs, values = (os.path.join(tmp, f) for f in ("w.safetensors", "x.safetensors", "v.safetensors"))
    write(inputs, {"x": data})
    model = fresh(torch, spec, 78).eval()
    for probe in ("uniform", "normal", "hypersphere", "jitter", "path"):
        x = probe_inputs(tmp, spec["input"], probe, inputs, n)
        check(is_probe(probe, x, data), f"{probe}: its inputs")
        truth = Truth(model, torch.from_numpy(x), None, "cross_entropy")
        truth.outputs()
        truth.through_layers()
        save(model, weights)
        for backend in BACKENDS:
            p = subprocess.run([LIPSWEEP, "measure", weights, "--inputs", inputs, "--probe", probe, "--n", str(n), "--json",
                                "--backend", backend, "--per-sample", values], capture_output=True, text=True)
            what = f"{name_of(spec)} on {probe} on {backend}"
            check(p.returncode == 0, f"{what}: {p.stderr}")
            top, got = json.loads(p.stdout), read(values)
            check({r["split"] for r in top["records"]} == {"probe:" + probe}, f"{what}: split")
            check({r["quantity"] for r in top["records"]} == {"jacobian", "layer.input_jacobian", "layer.param_jacobian",
                                                              "layer.bias_jacobian", "layer.act_norm"}, f"{what}: quantities")
            wanted = {k for k in truth.sample if not k.startswith("logit_hessian")}
            check(set(got) == wanted, f"{what}: vectors {set(got) ^ wanted}")
            for name in wanted & set(got):
                close(f"{what}: {name}", got[name], truth.sample[name], NORM[backend])


def mlp(width, depth, classes, shape):
    return {"model": "mlp", "width": width, "depth": depth, "classes": classes, "input": shape, "batch_norm": False}


def convnet(width, classes, shape, batch_norm=False):
    return {"model": "convnet", "width": width, "depth": 0, "classes": classes, "input": shape, "batch_norm": batch_norm}


def resnet18(width, classes, shape, batch_norm=False):
    return {"model": "resnet18", "width": width, "depth": 0, "classes": classes, "input": shape, "batch_norm": batch_norm}


CASES = [
    (mlp(1, 0, 10, (1, 3, 5)), "cross_entropy", "labels", 9),
    (mlp(1, 0, 3, (2, 2, 3)), "mse", "targets", 8),
    (mlp(7, 2, 3, (1, 4, 4)), "cross_entropy", "labels", 12),
    (mlp(5, 1, 1, (1, 2, 5)), "mse", "targets", 6),
    (mlp(5, 1, 1, (1, 2, 5)), "cross_entropy", "labels", 6),
    (mlp(9, 2, 2, (3, 2, 2)), "mse", "labels", 7),
    (mlp(11, 2, 10, (1, 3, 3)), "cross_entropy", "labels", 1),
    (mlp(6, 1, 4, (1, 3, 3)), "cross_entropy", "none", 5),
    (mlp(6, 1, 4, (1, 3, 3)), "cross_entropy", "targets", 5),
    (convnet(1, 2, (2, 4, 8)), "cross_entropy", "labels", 7),
    (convnet(1, 1, (1, 8, 4), True), "mse", "targets", 6),
    (convnet(1, 10, (3, 4, 4), True), "cross_entropy", "labels", 8),
    (convnet(3, 10, (3, 8, 8)), "cross_entropy", "labels", 5),
    (convnet(3, 3, (1, 12, 8), True), "mse", "labels", 5),
    (convnet(5, 2, (2, 4, 4)), "cross_entropy", "none", 3),
    (convnet(2, 10, (3, 8, 8), True), "cross_entropy", "labels", 1),
    (resnet18(1, 3, (1, 5, 4)), "cross_entropy", "labels", 5),
    (resnet18(2, 3, (3, 8, 8)), "mse", "targets", 4),
    (resnet18(1, 4, (2, 8, 8), True), "cross_entropy", "labels", 4),
    (resnet18(2, 2, (3, 8, 9), True), "mse", "labels", 3),
]
if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for place, case in enumerate(CASES):
            run_case(folder, *case, 500 + place)
        run_probes(folder, mlp(5, 2, 3, (2, 1, 3)), 15)
    finish()
