"""lipsweep measure on networks and inputs that are wrong or degenerate: one clear error before anything runs, or records
with a reason; a number that is not finite stays with the samples it belongs to."""
import json
import os
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../oracle"))
import torchlib  # noqa: E402
from torchlib import LIPSWEEP, check, finish, read, write  # noqa: E402

torchlib.TYPES.update(float16="F16", int32="I32", uint8="U8", bool="BOOL")
N, K = 7, 3
folder = tempfile.TemporaryDirectory()
weights, inputs, values = (os.path.join(folder.name, f) for f in ("w", "x", "v"))
rng = np.random.default_rng(5)
x, y = rng.normal(size=(N, 1, 2, 3)).astype("f4"), rng.integers(0, K, N)
images = rng.normal(size=(N, 2, 8, 4)).astype("f4")


def numbers(*shape):
    return rng.normal(size=shape).astype("f4")


def mlp(k=K):
    return {"0.weight": numbers(4, 6), "0.bias": numbers(4), "2.weight": numbers(4, 4), "2.bias": numbers(4),
            "4.weight": numbers(k, 4), "4.bias": numbers(k)}


def convnet(batch_norm):
    tensors, c = {}, 2
    for layer, o in enumerate((2, 4, 8, 16), 1):
        tensors[f"layer{layer}.conv.weight"] = numbers(o, c, 3, 3) / 2
        if batch_norm:
            tensors.update({f"layer{layer}.bn.{n}": np.abs(numbers(o)) + 0.5
                            for n in ("weight", "bias", "running_mean", "running_var")})
        else:
            tensors[f"layer{layer}.conv.bias"] = numbers(o)
        c = o
    return {**tensors, "fc.weight": numbers(K, 16), "fc.bias": numbers(K)}


def changed(tensors, name, at, value):
    tensors = {k: v.copy() for k, v in tensors.items()}
    tensors[name][at] = value
    return tensors


def refused(what, tensors, data, rc, error, *args):
    write(weights, tensors)
    write(inputs, data)
    p = subprocess.run([LIPSWEEP, "measure", weights, "--inputs", inputs, "--metrics", "all", "--json", *args],
                       capture_output=True, text=True)
    check(p.returncode == rc and p.stdout == "" and error in p.stderr and p.stderr.count("\n") == 1,
          f"{what}: exit {p.returncode} (expected {rc}), {p.stderr!r}")


def measured(what, tensors, data, backend, *args):
    """Records and vectors; each record has a form, and what is not finite says why."""
    write(weights, tensors)
    write(inputs, data)
    p = subprocess.run([LIPSWEEP, "measure", weights, "--inputs", inputs, "--metrics", "all", "--json", "--per-sample", values,
                        "--backend", backend, *args], capture_output=True, text=True)
    check(p.returncode == 0, f"{what} on {backend}: exit {p.returncode}: {p.stderr}")
    records = json.loads(p.stdout)["records"]
    for r in records:
        texts = [k for k in ("value", "mean", "std_err", "min", "median", "q90", "max") if r.get(k) in ("nan", "inf", "-inf")]
        check(bool(texts) == (r.get("finite") is False) and (not texts or "finite" in r["reason"]), f"{what} on {backend}: {r}")
        check(r.get("value", 0) is not None or r["reason"], f"{what} on {backend}: null without a reason: {r}")
    return records, read(values), p.stderr


def get(records, quantity, **fields):
    found = [r for r in records if r["quantity"] == quantity and all(r.get(k) == v for k, v in fields.items())]
    check(found, f"no record {quantity} {fields}")
    return found[0] if found else {}


def all_finite(what, records, vectors):
    check(not any("finite" in r for r in records), f"{what}: not finite: {[r['quantity'] for r in records if 'finite' in r]}")
    check(all(np.all(np.isfinite(v)) for v in vectors.values()), f"{what}: vectors")


def values_that_are_not_finite(backend):
    clean = measured("clean", mlp_1, {"x": x, "y": y}, backend)
    all_finite("clean", *clean[:2])
    for bad in (np.nan, np.inf):
        data = x.copy()
        data[2, 0, 1, 1] = bad
        records, vectors, said = measured("bad input", mlp_1, {"x": data, "y": y}, backend)
        others = np.arange(N) != 2
        check("an input is not finite, the first in sample 2" in said, f"warning: {said}")
        check(set(vectors) == set(clean[1]), "bad input: vectors")
        for name, v in vectors.items():
            check(np.array_equal(v[others], clean[1][name][others]), f"{name} of the other samples on {backend}")
            check(name == "error" or name.startswith("layer.bias_jacobian") or not np.isfinite(v[2]), f"{name}[2] = {v[2]}")
        for r in records:
            if r["quantity"].startswith(("layer.weight", "lipschitz.product", "lipschitz.certified")):
                check("finite" not in r, f"the weights are sound: {r}")
        check(get(records, "lipschitz.chain")["value"] is None, "chain of a NaN")
    target = np.where(np.arange(N)[:, None] == 4, np.nan, numbers(N, K)).astype("f4")
    records, vectors, said = measured("bad target", mlp_1, {"x": x, "y": target}, backend)
    check("a target is not finite, the first in sample 4" in said, f"warning: {said}")
    check(np.all(np.isfinite(vectors["jacobian.op/logits"])) and np.flatnonzero(np.isnan(vectors["loss"])).tolist() == [4],
          "a bad target's sample")
    for what, tensors, data in (("weight", changed(mlp_1, "2.weight", (1, 1), np.nan), x),
                                ("bias", changed(mlp_1, "4.bias", 1, np.inf), x),
                                ("running mean", changed(convnet(True), "layer2.bn.running_mean", 1, np.nan), images)):
        records, vectors, said = measured(what, tensors, {"x": data, "y": y}, backend)
        check("a weight is not finite" in said and get(records, "jacobian", norm="op")["mean"] == "nan", f"{what}: {said}")
    records, _, said = measured("variance", changed(convnet(True), "layer2.bn.running_var", 1, -1), {"x": images, "y": y}, backend)
    check("a value of the network is not finite" in said and get(records, "lipschitz.chain")["value"] is None, "negative variance")


def degenerate_networks(backend):
    for name in ("0.weight", "2.weight", "4.weight"):
        records, vectors, _ = measured(f"zero {name}", changed(mlp_1, name, ..., 0), {"x": x, "y": y}, backend)
        all_finite(f"zero {name}", records, vectors)
        check(not np.any(vectors["jacobian.op/logits"]), f"zero {name}: Jacobian")
        check(get(records, "lipschitz.certified")["value"] == 0 and get(records, "lipschitz.chain")["value"] == 1, f"zero {name}: E")
        check(get(records, "layer.weight_op", layer_name=name[0])["value"] == 0, f"zero {name}: norm")
    records, vectors, _ = measured("all zero", {k: 0 * v for k, v in mlp_1.items()}, {"x": x, "y": y}, backend)
    all_finite("all zero", records, vectors)
    check("weight is zero" in get(records, "bound.landscape", output="input.ratio")["reason"], "all zero: bound.landscape")
    records, vectors, _ = measured("dead", changed(mlp_1, "2.bias", ..., -1e6), {"x": x, "y": y}, backend)
    all_finite("dead", records, vectors)
    for name in ("jacobian.fro/logits", "jacobian.op/loss", "layer.input_jacobian.op/2", "layer.param_jacobian.fro/0",
                 "layer.act_norm/4", "landscape.input_grad/norm", "layer.loss_grad_param.fro/2"):
        check(not np.any(vectors[name]), f"dead: {name} is exactly 0 on {backend}")
    check(np.all(vectors["layer.bias_jacobian.op/4"] == 1), "dead: the last bias")
    check("h_l = 0" in get(records, "bound.layer", output="right", layer=3)["reason"], "dead: h_l")
    check("zero" in get(records, "bound.layer", output="ratio", layer=1)["reason"], "dead: both sides")
    records, vectors, _ = measured("black", mlp_1, {"x": 0 * x, "y": y}, backend)
    all_finite("black", records, vectors)
    records, vectors, _ = measured("zero variance", changed(convnet(True), "layer2.bn.running_var", ..., 0), {"x": images, "y": y},
                                   backend)
    all_finite("zero variance", records, vectors)
    for k, n, label in ((1, 1, 0), (1, N, 0), (K, 1, 2)):
        records, vectors, _ = measured(f"K {k}, N {n}", mlp(k), {"x": x[:n], "y": np.full(n, label)}, backend)
        all_finite(f"K {k}, N {n}", records, vectors)
        check(all(r["std_err"] == 0 for r in records if "mean" in r and n == 1), "one sample: no spread")
        check(k > 1 or "one output" in get(records, "logit_hessian.min_nonzero")["reason"], "one output: its Hessian")


def what_is_not_there(backend):
    records, vectors, _ = measured("no labels", mlp_1, {"x": x}, backend)
    all_finite("no labels", records, vectors)
    for q in ("loss", "error", "landscape.input_grad", "landscape.param_grad", "landscape.loss_max", "hessian.trace",
              "hessian.lambda_max", "hessian.top", "hessian.alignment", "bound.landscape", "layer.loss_grad_param"):
        check("needs labels" in get(records, q)["reason"], f"no labels: {q}")
    for q in ("ggn.lambda_max", "ggn.trace", "bound.layer", "lipschitz.chain"):
        check(get(records, q)["value"] is not None, f"no labels: {q}")
    records, _, _ = measured("targets", mlp_1, {"x": x, "y": numbers(N, K)}, backend, "--loss", "cross_entropy")
    check("class labels" in get(records, "loss")["reason"], "targets under cross-entropy")
    records, _, _ = measured("mse", mlp_1, {"x": x, "y": numbers(N, K)}, backend)
    check("cross-entropy" in get(records, "logit_hessian.max")["reason"], "squared loss: logit Hessian")
    records, _, _ = measured("no bias", convnet(True), {"x": images, "y": y}, backend)
    check("no bias" in get(records, "layer.bias_jacobian", layer=2)["reason"], "batch norm: no bias")
    check("not known" in get(records, "distance.total")["reason"], "no initial weights")


def refusals():
    for what, data in (("5 dimensions", x[None]), ("1 dimensions", x.ravel())):
        refused(what, mlp_1, {"x": data, "y": y}, 6, "x has " + what)
    refused("no values", mlp_1, {"x": x[:0], "y": y[:0]}, 6, "x has no values")
    refused("other size", mlp_1, {"x": x[..., :2], "y": y}, 2, "4 values do not fit")
    refused("rows for a convnet", convnet(False), {"x": images.reshape(N, -1), "y": y}, 2, "needs --input")
    refused("other channels", convnet(False), {"x": images[:, :1], "y": y}, 2, "1 channels do not fit")
    refused("too large", mlp_1, {"x": x.astype("f8") * 1e300, "y": y}, 6, inputs + ": tensor x: value 0")
    refused("no x", mlp_1, {"z": x, "y": y}, 6, "no tensor x")
    for label in (-1, K):
        refused(f"label {label}", mlp_1, {"x": x, "y": np.where(np.arange(N) == 3, label, y)}, 6,
                f"{inputs}: y[3] is class {label}")
    for bad in (y.astype("f4"), y[:, None], y > 0, np.int64(2) * np.ones((), "i8")):
        refused(f"y {bad.dtype} {bad.shape}", mlp_1, {"x": x, "y": bad}, 6, "y must be (N) I64 classes or (N,K) F32 targets")
    refused("few labels", mlp_1, {"x": x, "y": y[:5]}, 6, "y has 5 rows, x has 7")
    refused("few targets", mlp_1, {"x": x, "y": numbers(N, 2)}, 6, "targets of 2 values")
    refused("whole weights", {k: v.astype("i8") for k, v in mlp_1.items()}, {"x": x, "y": y}, 6, "0.weight is I64 [4,6]")
    refused("missing", {k: v for k, v in mlp_1.items() if k != "2.bias"}, {"x": x, "y": y}, 6, weights + " does not fit mlp")
    refused("more", {**mlp_1, "5.bias": numbers(3)}, {"x": x, "y": y}, 6, "5.bias [3] is not a tensor of this network")
    refused("other shape", {**mlp_1, "2.weight": numbers(4, 3)}, {"x": x, "y": y}, 6, "2.weight is F32 [4,3]")
    refused("no folder", mlp_1, {"x": x, "y": y}, 1, "cannot write " + folder.name + "/none/v", "--per-sample",
            folder.name + "/none/v")
    for kind in ("f8", "f2", "i8", "u1"):  # what fits a float is taken
        write(weights, mlp_1)
        write(inputs, {"x": np.round(x).astype(kind), "y": y.astype("i4" if kind == "f8" else "u1")})
        p = subprocess.run([LIPSWEEP, "measure", weights, "--inputs", inputs, "--metrics", "B"], capture_output=True)
        check(p.returncode == 0 and p.stderr == b"", f"x of {kind}: {p.stderr}")


mlp_1 = mlp()
for one in ("ref", "cpu"):
    values_that_are_not_finite(one)
    degenerate_networks(one)
    what_is_not_there(one)
refusals()
finish()
