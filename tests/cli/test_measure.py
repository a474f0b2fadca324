"""lipsweep measure: weights and inputs of the user's own (against numpy), a cell's own weights, contradictions, damage."""
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

LIPSWEEP = os.path.abspath(os.environ.get("LIPSWEEP", "build/plain/lipsweep"))
os.environ = {k: v for k, v in os.environ.items() if not k.startswith("LIPSWEEP_")}
TYPES = {"float32": "F32", "float64": "F64", "int64": "I64", "int32": "I32"}
passed = failed = 0


def write(path, **tensors):
    """A safetensors file; names have '.' as '__'."""
    header, data = {}, b""
    for name, value in tensors.items():
        raw = np.ascontiguousarray(value).tobytes()
        header[name.replace("__", ".").lstrip("_")] = {
            "dtype": TYPES[str(value.dtype)], "shape": list(value.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def read(path):
    raw = open(path, "rb").read()
    n = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    return {k: np.frombuffer(raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]], "<f8").reshape(v["shape"])
            for k, v in header.items()}


def check(ok, what):
    global passed, failed
    if ok:
        passed += 1
    else:
        failed += 1
        print("FAILED", what)


def run(*args, rc=0, error=None):
    p = subprocess.run([LIPSWEEP, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    ok = p.returncode == rc and "Sanitizer" not in p.stderr and (error is None or error in p.stderr)
    ok = ok and ("error: " in p.stderr) == (rc != 0)
    check(ok, f"{' '.join(args)}: exit {p.returncode}, stderr {p.stderr[:600]!r}")
    return p.stdout


def records(text):
    return {(r["quantity"], r.get("norm"), r.get("output"), r.get("layer")): r for r in json.loads(text)["records"]}


def own_mlp(tmp):
    """Two hidden layers; Jacobians, loss and error by hand."""
    rng = np.random.default_rng(1)
    n, c, h, w, width, k = 37, 2, 3, 3, 5, 4
    d = c * h * w
    W = [rng.normal(size=s).astype("f4") for s in ((width, d), (width, width), (k, width))]
    b = [rng.normal(size=s).astype("f4") for s in (width, width, k)]
    x = rng.normal(size=(n, c, h, w)).astype("f4")
    y = rng.integers(0, k, n)
    init = [a + rng.normal(size=a.shape).astype("f4") for a in W]
    weights, start, inputs = (os.path.join(tmp, s) for s in ("w.safetensors", "w0.safetensors", "x.safetensors"))
    write(weights, **{f"_{2 * i}__weight": a for i, a in enumerate(W)}, **{f"_{2 * i}__bias": a for i, a in enumerate(b)})
    write(start, **{f"_{2 * i}__weight": a for i, a in enumerate(init)}, **{f"_{2 * i}__bias": a for i, a in enumerate(b)})
    write(inputs, x=x, y=y)

    W8, b8 = [a.astype("f8") for a in W], [a.astype("f8") for a in b]
    op, fro, loss, wrong = [], [], [], []
    for i in range(n):
        a = [x[i].reshape(-1).astype("f8")]
        J = np.eye(d)
        for l in range(3):
            z = W8[l] @ a[-1] + b8[l]
            J = W8[l] @ J
            if l < 2:
                J = J * (z > 0)[:, None]
                z = np.maximum(z, 0)
            a.append(z)
        op.append(np.linalg.norm(J, 2))
        fro.append(np.linalg.norm(J))
        loss.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[y[i]])
        wrong.append(z.argmax() != y[i])

    for backend, tol in (("ref", 1e-12), ("cpu", 1e-5)):
        per_sample = os.path.join(tmp, f"p-{backend}.safetensors")
        out = run("measure", weights, "--inputs", inputs, "--init", start, "--json", "--backend", backend,
                  "--per-sample", per_sample, "--quiet")
        top, r = json.loads(out), records(out)
        check((top["model"], top["width"], top["depth"], top["classes"], top["input"], top["n"], top["split"], top["backend"]) ==
              ("mlp", width, 2, k, "2x3x3", n, "inputs", backend), f"{backend}: description")
        for norm, values in (("op", op), ("fro", fro)):
            got = r[("jacobian", norm, "logits", None)]
            check(abs(got["mean"] / np.mean(values) - 1) < tol and abs(got["max"] / np.max(values) - 1) < tol and
                  abs(got["median"] / np.median(values) - 1) < tol and
                  abs(got["std_err"] / (np.std(values, ddof=1) / np.sqrt(n)) - 1) < 10 * tol, f"{backend}: jacobian {norm}")
            each = read(per_sample)[f"jacobian.{norm}/logits"]
            check(each.shape == (n,) and np.allclose(each, values, rtol=tol, atol=0), f"{backend}: per sample {norm}")
        check(abs(r[("loss", None, None, None)]["value"] / np.mean(loss) - 1) < 10 * tol, f"{backend}: loss")
        check(r[("error", None, None, None)]["value"] == np.mean(wrong), f"{backend}: error")
        for l in range(3):
            want = np.linalg.norm(W8[l] - init[l]) / np.linalg.norm(init[l].astype("f8"))
            got = r[("distance.layer", None, None, l + 1)]
            check(abs(got["value"] / want - 1) < 1e-12 and got["layer_name"] == str(2 * l), f"{backend}: distance {l + 1}")

    # The same numbers whatever the threads, and with all flags spelt out.
    one = run("measure", weights, "--inputs", inputs, "--json", "--threads", "1", "--metrics", "all")
    two = run("measure", weights, "--inputs", inputs, "--json", "--threads=3", "--model", "mlp", "--width", "5", "--depth", "2",
              "--classes", "4", "--input", "2x3x3")
    check(one == two, "threads and flags change nothing")
    table = run("measure", weights, "--inputs", inputs, "--metrics", "jacobian,distance")
    check("quantity" in table and "not available: " in table and not any(l != l.rstrip() for l in table.split("\n")), "table")
    first = records(run("measure", weights, "--inputs", inputs, "--json", "--n", "5", "--metrics", "B"))
    check(first[("jacobian", "op", "logits", None)]["n"] == 5 and
          abs(first[("jacobian", "op", "logits", None)]["mean"] / np.mean(op[:5]) - 1) < 1e-5, "--n")

    # Contradictions and nonsense, each named.
    m = ("measure", weights, "--inputs", inputs)
    run(*m, "--model", "convnet", rc=2, error="--model convnet contradicts")
    run(*m, "--width", "6", rc=2, error="--width 6 contradicts")
    run(*m, "--depth", "1", rc=2, error="--depth 1 contradicts")
    run(*m, "--classes", "10", rc=2, error="--classes 10 contradicts")
    run(*m, "--batch-norm", rc=2, error="--batch-norm contradicts")
    run(*m, "--input", "3x3x2", rc=2, error="but the network takes 3x3x2")
    run(*m, "--input", "3x3", rc=2, error="--input must be CxHxW")
    run(*m, "--input", "3x3x0", rc=2, error="--input must be CxHxW")
    run(*m, "--width", "x", rc=2, error="--width must be a whole number")
    run(*m, "--metrics", "jacobain", rc=2, error="did you mean 'jacobian'")
    run(*m, "--backend", "tpu", rc=2, error="--backend must be one of")
    run(*m, "--loss", "hinge", rc=2, error="--loss must be one of")
    run(*m, "--threads", "0", rc=2, error="--threads must be")
    run(*m, "--split", "test", rc=2, error="--split is for a cell's data")
    run(*m, "--modle", "mlp", rc=2, error="did you mean --model?")
    run("measure", weights, rc=2, error="give --inputs")
    run("measure", inputs, "--inputs", inputs, rc=6, error="neither an mlp")
    run("measure", weights, "--inputs", weights, rc=6, error="there is no tensor x")
    bad = os.path.join(tmp, "bad.safetensors")
    write(bad, x=x, y=np.where(np.arange(n) == 9, k, y))
    run("measure", weights, "--inputs", bad, rc=6, error="y[9] is class 4")
    write(bad, x=x, y=y[:-1])
    run("measure", weights, "--inputs", bad, rc=6, error="y has 36 rows, x has 37")
    write(bad, x=x, y=y.astype("f4"))
    run("measure", weights, "--inputs", bad, rc=6, error="y must be")
    write(bad, x=x[:, :, :2], y=y)
    run("measure", weights, "--inputs", bad, rc=2, error="do not fit")
    write(bad, x=x[0], y=y)
    run("measure", weights, "--inputs", bad, rc=6, error="x has 3 dimensions")
    write(bad, x=x[:0], y=y[:0])
    run("measure", weights, "--inputs", bad, rc=6, error="x has no values")
    write(bad, **{"_0__weight": W[0], "_0__bias": b[0], "_2__weight": W[1], "_4__weight": W[2], "_4__bias": b[2]})
    run("measure", bad, "--inputs", inputs, rc=6, error="2.bias is missing")
    write(bad, **{"_0__weight": W[0], "_0__bias": b[0], "_2__weight": W[1], "_2__bias": b[1], "_4__weight": W[2], "_4__bias": b[1]})
    run("measure", bad, "--inputs", inputs, rc=6, error="4.bias")
    open(bad, "wb").write(open(weights, "rb").read()[:-1])
    run("measure", bad, "--inputs", inputs, rc=6, error=bad)
    run("measure", weights, "--inputs", bad, rc=6, error=bad)
    # Rows of numbers for a network of rows of numbers.
    write(bad, x=x.reshape(n, d), y=y)
    flat = records(run("measure", weights, "--inputs", bad, "--json", "--metrics", "B"))
    check(abs(flat[("jacobian", "op", "logits", None)]["mean"] / np.mean(op) - 1) < 1e-5, "x (N,D)")
    # Targets: half the squared distance.
    t = rng.normal(size=(n, k)).astype("f4")
    write(bad, x=x, y=t)
    check(("loss", None, None, None) in records(run("measure", weights, "--inputs", bad, "--json", "--metrics", "loss")), "mse")
    write(bad, x=x, y=t[:, :2])
    run("measure", weights, "--inputs", bad, rc=6, error="targets of 2 values")


def own_probes(tmp):
    """Inputs that are not data, from the user's own data: a linear network shows what they are."""
    rng = np.random.default_rng(3)
    n, c, h, w, k = 60, 2, 3, 4, 5
    x = (rng.normal(size=(n, c, h, w)) * np.array([0.5, 3]).reshape(2, 1, 1) + np.array([10, -2]).reshape(2, 1, 1)).astype("f4")
    W = rng.normal(size=(k, c * h * w)).astype("f4")
    weights, inputs, each = (os.path.join(tmp, s) for s in ("pw.safetensors", "px.safetensors", "pe.safetensors"))
    write(weights, _0__weight=W, _0__bias=np.zeros(k, "f4"))
    write(inputs, x=x, y=rng.integers(0, k, n))
    m = ("measure", weights, "--inputs", inputs)
    names = ("uniform", "normal", "hypersphere", "jitter", "path")
    top = json.loads(run(*m, "--json", "--probe", ",".join(names), "--n", "300"))
    check((top["split"], top["n"]) == ("probe:" + ",".join(names), 300), "probes: description")
    rs = {(r["split"], r["quantity"], r.get("norm"), r.get("output")): r for r in top["records"]}
    check({r["split"] for r in top["records"]} == {"probe:" + p for p in names}, "probes: splits")
    check({r["quantity"] for r in top["records"]} == {"jacobian", "layer.input_jacobian", "layer.param_jacobian",
                                                      "layer.bias_jacobian", "layer.act_norm"}, "probes: quantities")
    check({r.get("output") for r in top["records"]} == {None, "logits", "softmax", "log_softmax"}, "probes: no labels, no loss")
    check(all(r["n"] == 300 and r["seed"] == 1234 and "mean" in r for r in top["records"]), "probes: n and seed")
    mean, std = x.astype("f8").mean((0, 2, 3)), x.astype("f8").std((0, 2, 3))
    for p in names:
        check(abs(rs["probe:" + p, "jacobian", "op", "logits"]["mean"] / np.linalg.norm(W.astype("f8"), 2) - 1) < 1e-5, f"{p}: jacobian")
        norm = rs["probe:" + p, "layer.act_norm", None, None]
        # E |x|^2 = mean^2 + std^2 of it
        got = norm["mean"] ** 2 + 300 * norm["std_err"] ** 2
        want = h * w * {"uniform": (mean ** 2 + std ** 2 / 3).sum(), "normal": (mean ** 2 + std ** 2).sum(),
                        "jitter": (mean ** 2 + 2 * std ** 2).sum(), "path": (mean ** 2 + (0.67 * std) ** 2).sum(),
                        "hypersphere": c / (h * w + 2)}[p]
        check(abs(got / want - 1) < 0.05, f"{p}: mean squared norm {got}, expected {want}")
        check(p != "hypersphere" or norm["max"] <= np.sqrt(c) + 1e-6, "hypersphere: at most 1 in each channel")
    one = json.loads(run(*m, "--json", "--probe", "path", "--n", "300", "--per-sample", each, "--threads", "1"))
    check(one["records"] == [r for r in top["records"] if r["split"] == "probe:path"], "one probe is as among several")
    check(read(each)["layer.act_norm/0"].shape == (300,), "probe: per sample")
    few = json.loads(run(*m, "--json", "--probe", "path", "--n", "10", "--metrics", "layer.act_norm", "--per-sample", each + "2"))
    check(few["n"] == 10 and np.array_equal(read(each)["layer.act_norm/0"][:10], read(each + "2")["layer.act_norm/0"]), "probe: --n")
    other = json.loads(run(*m, "--json", "--probe", "path", "--n", "300", "--probe-seed", "5", "--metrics", "layer.act_norm"))
    check(other["records"][0]["seed"] == 5 and other["records"][0]["mean"] != rs["probe:path", "layer.act_norm", None, None]["mean"],
          "--probe-seed")
    table = run(*m, "--probe", "uniform,normal", "--metrics", "B")
    check("\nprobe:uniform\n" in table and "\nprobe:normal\n" in table and "500 samples" in table, "probes: table")
    run(*m, "--probe", "unifrom", rc=2, error="did you mean 'uniform'?")
    run(*m, "--probe", "none", rc=2, error="nothing to measure")
    run(*m, "--probe", "path", "--metrics", "distance,loss", rc=2, error="without labels")
    run(*m, "--probe", "path,normal", "--per-sample", each, rc=2, error="one --probe")
    run(*m, "--probe", "path", "--n", "0", rc=2, error="--n must be")
    run(*m, "--probe-seed", "3", rc=2, error="goes with --probe")


def own_convnet(tmp):
    rng = np.random.default_rng(2)
    w, k = 3, 4
    for bn in (False, True):
        tensors, c = {}, 2
        for l, o in enumerate((w, 2 * w, 4 * w, 8 * w), 1):
            tensors[f"layer{l}__conv__weight"] = rng.normal(size=(o, c, 3, 3)).astype("f4") / 3
            if bn:
                tensors[f"layer{l}__bn__weight"] = rng.uniform(0.5, 1.5, o).astype("f4")
                tensors[f"layer{l}__bn__bias"] = rng.normal(size=o).astype("f4")
                tensors[f"layer{l}__bn__running_mean"] = rng.normal(size=o).astype("f4")
                tensors[f"layer{l}__bn__running_var"] = rng.uniform(0.5, 1.5, o).astype("f4")
            else:
                tensors[f"layer{l}__conv__bias"] = rng.normal(size=o).astype("f4")
            c = o
        tensors["fc__weight"] = rng.normal(size=(k, 8 * w)).astype("f4")
        tensors["fc__bias"] = rng.normal(size=k).astype("f4")
        weights, inputs = os.path.join(tmp, f"c{bn}.safetensors"), os.path.join(tmp, "cx.safetensors")
        write(weights, **tensors)
        write(inputs, x=rng.normal(size=(5, 2, 8, 12)).astype("f4"))
        ref, cpu = (run("measure", weights, "--inputs", inputs, "--json", "--metrics", "B", "--backend", b) for b in ("ref", "cpu"))
        top = json.loads(ref)
        check((top["model"], top["width"], top["classes"], top["input"], top["batch_norm"]) == ("convnet", w, k, "2x8x12", bn),
              f"convnet, batch norm {bn}: description")
        a, b = (records(s)[("jacobian", "op", "logits", None)]["mean"] for s in (ref, cpu))
        check(a > 0 and abs(a / b - 1) < 1e-4, f"convnet, batch norm {bn}: ref and cpu")
        # Without labels, what needs them says so.
        no_labels = records(run("measure", weights, "--inputs", inputs, "--json", "--metrics", "loss,jacobian"))
        check(no_labels[("loss", None, None, None)]["value"] is None and "reason" in no_labels[("loss", None, None, None)],
              "loss without labels")
        run("measure", weights, "--inputs", inputs, "--batch-norm", *([] if bn else ["--json"]), rc=0 if bn else 2)
        run("measure", weights, "--inputs", inputs, "--input", "2x12x8", rc=2, error="2x8x12 in --inputs")
    write(inputs, x=rng.normal(size=(5, 3, 8, 12)).astype("f4"))
    run("measure", weights, "--inputs", inputs, rc=2, error="3 channels do not fit")
    write(inputs, x=rng.normal(size=(5, 2, 6, 12)).astype("f4"))
    run("measure", weights, "--inputs", inputs, rc=2, error="multiples of 4")


def own_cell(tmp):
    """A cell's weights need no flag and give the cell's numbers to the bit."""
    out = os.path.join(tmp, "out")
    cell = run("train", "data=sine", "loss=mse", "n_train=40", "n_val=7", "n_test=9", "batch=20", "epochs=3", "width=4",
               "measure_n=11", "probes=jitter,path", "probe_n=25", "--out", out).strip()
    weights = os.path.join(cell, "epoch-0003.safetensors")
    lines = [json.loads(l) for l in open(os.path.join(cell, "metrics.jsonl"))]
    mine = [r for r in lines if r["quantity"] in ("jacobian", "distance.layer", "distance.total")]
    probed = [r for r in mine if r.get("split", "").startswith("probe:")]
    mine = [r for r in mine if r not in probed]
    again = json.loads(run("measure", weights, "--json"))["records"]
    check(len(mine) > 3 and again == mine, "measure gives the cell's records")
    again = json.loads(run("measure", weights, "--json", "--probe", "path,jitter"))["records"]
    check(len(probed) >= 4 and again == probed, "measure gives the cell's records on probes")
    run("measure", weights, "--probe", "path", "--split", "test", rc=2, error="--split is for")
    for split, n in (("train", 40), ("val", 7), ("test", 9), ("train_clean", 40)):
        top = json.loads(run("measure", weights, "--json", "--split", split, "--n", "0"))
        check(top["n"] == n and top["split"] == split and top["epoch"] == 3, f"--split {split}")
    run("measure", weights, "--split", "tset", rc=2, error="--split must be one of")
    run("measure", weights, "--width", "5", rc=2, error="--width 5 contradicts")
    plain = os.path.join(tmp, "plain.safetensors")
    run("export", weights, "--to", plain)
    run("measure", plain, rc=2, error="give --inputs")
    run("export", weights, rc=2, error="--to")
    run("validate", weights)
    for name, head, said in (("w.pt", b"\x80\x02}q", "is a Python pickle"), ("w.bin", b"PK\003\004..", "is a zip file")):
        other = os.path.join(tmp, name)
        open(other, "wb").write(head)
        run("validate", other, rc=6, error=f"{other} {said} (torch.save?), not safetensors")
    check("1 of 1 cells begun, 1 finished" in run("validate", out), "validate OUT")
    # One flipped bit anywhere in the weights is noticed.
    raw = bytearray(open(weights, "rb").read())
    raw[-3] ^= 4
    open(weights, "wb").write(raw)
    run("measure", weights, rc=6, error=weights)
    run("validate", out, rc=6, error="1 problems")
    open(os.path.join(cell, "metrics.jsonl"), "a").write('{"quantity":"loss"\n{"torn')
    run("validate", out, rc=6, error="2 problems")


with tempfile.TemporaryDirectory() as tmp:
    own_mlp(tmp)
    own_probes(tmp)
    own_convnet(tmp)
    own_cell(tmp)
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0)
