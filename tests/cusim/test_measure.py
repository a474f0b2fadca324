"""Every quantity of small cells on the emulated CUDA device against the cpu backend, from the same weights; what crosses the bus
for it, and how often the host waits."""
import array, glob, json, os, random, struct, sys

SIM = os.environ.get("SIM", "")
if not SIM:
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
os.environ["LIPSWEEP"] = os.path.join(SIM, "lipsweep")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))
from faultlib import *

# SIM's program may as well run on a GPU (make test-gpu), which counts nothing.
EMULATED = "emulated" in run(["info"]).out
# Without the eigenvalues, whose dozens of products take the emulator minutes in deep networks.
MOST = "A,B,C,D,E,F,ggn.trace,hessian.trace,landscape,logit_hessian"
CASES = {
    "mlp": dict(model="mlp", width="[6]", depth=2, metrics="all", trace_metrics="C", trace_epochs='"0"'),
    "mlp-mse": dict(model="mlp", width="[5]", loss="mse", metrics="B,C,hessian,ggn"),
    "convnet": dict(model="convnet", width="[2]", batch_norm="true", metrics="all"),
    "resnet18": dict(model="resnet18", width="[2]", metrics=MOST),
    "vit": dict(model="vit", width="[4]", depth=1, metrics=MOST, probes='"jitter"'),
}
COMMON = dict(
    epochs=0, n_train=20, batch=10, measure_n=9, curvature_n=7, seed="[3]", probes='"uniform,path"', probe_n=3, trace_n=5,
    eval_epochs='"0"', save_epochs='"none"', measure_epochs='"0"', jobs=1, init="he",
)
FIELDS = ("mean", "min", "median", "q90", "max", "value")


def records(folder, name, backend, **more):
    settings = dict(COMMON, **CASES[name])
    settings.update(more)
    config = write_config(folder, f"{name}-{backend}.yaml", backend=backend, emulated="true", **settings)
    out = os.path.join(folder, f"{name}-{backend}")
    summary = out + ".summary"
    expect(run(["train", config, "out=" + out], env=environment(CUSIM_SUMMARY=summary)), 0)
    lines = []
    for cell in os.listdir(os.path.join(out, "cells")):
        with open(os.path.join(out, "cells", cell, "metrics.jsonl")) as f:
            lines += [json.loads(line) for line in f]
    counted = {}
    if os.path.exists(summary):
        with open(summary) as f:
            counted = dict(line.split() for line in f)
    return {tuple(r.get(k) for k in ("quantity", "norm", "output", "layer", "rank", "split", "epoch")): r for r in lines}, counted


def agree(name):
    def test(folder):
        cpu, _ = records(folder, name, "cpu")
        cuda, _ = records(folder, name, "cuda")
        check(cpu.keys() == cuda.keys() and len(cpu) > 20, "other records", cpu.keys() ^ cuda.keys())
        top = max([abs(r["value"]) for k, r in cpu.items() if k[0] == "hessian.top"] + [0])
        for key, a in cpu.items():
            b = cuda[key]
            check(b.get("device") == (("emulated" if EMULATED else "cuda") if "device" in a else None), "not on the device", a, b)
            check(a.get("precision") == b.get("precision"), "another precision", a, b)
            check(a.get("reason") == b.get("reason"), "another reason", a, b)
            for field in FIELDS:
                x, y = a.get(field), b.get(field)
                check((x is None) == (y is None), f"{field}: one has it", a, b)
                if x is None or isinstance(x, str):
                    check(x == y, f"{field} differs", a, b)
                    continue
                # Floats of a pass: some 1e-6 of the largest sample. Eigenvalues: of the largest one.
                scale = max(abs(x), abs(a.get("max", 0)), top if key[0].startswith("hessian.top") else 0)
                if key[0] == "hessian.alignment":
                    scale = 100  # of eigenvectors, which neighbours share
                check(abs(x - y) <= 1e-4 * scale, f"{key} {field}: cpu {x!r}, cuda {y!r}", a, b)

    test.__name__ = name.replace("-", "_")
    return test


def counts_of(summary):
    return {k: int(v) for k, v in summary.items() if k != "digest"}


def counts(summary):
    with open(summary) as f:
        return counts_of(dict(line.split() for line in f))


def crosses_the_bus(folder):
    """A block of 48 samples is as many launches and waits as one of 16, and Gram matrices (800 bytes each) stay on the device."""
    if not EMULATED:
        raise Skip("a GPU counts no calls")
    CASES["bus"] = dict(model="convnet", width="[2]", metrics="B,C", n_train=60, probes="none", eval_epochs='"none"', save_epochs='"0"')
    records(folder, "bus", "cpu")
    weights = glob.glob(os.path.join(folder, "bus-cpu", "cells", "*", "epoch-0000.safetensors"))[0]
    n = {}
    for samples in (16, 48):
        summary = os.path.join(folder, str(samples))
        ended = run(["measure", weights, "--backend", "cuda", "--n", str(samples)], env=environment(CUSIM_SUMMARY=summary))
        expect(ended, 0)
        n[samples] = counts(summary)
    for call in ("cudaLaunchKernel", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpyAsync"):
        check(n[16][call] == n[48][call], call, n)
    # op and fro: 3 maps at the input, 3 items of 5 layers; 2 numbers; 10 loss norms; 5 inputs: 53 doubles. p, u, class: 30.
    # Logits: 10 floats. The way there: the same piece, but the image, 64 floats, instead of the logits.
    host = (n[48]["to_host_bytes"] - n[16]["to_host_bytes"]) / 32
    device = (n[48]["to_device_bytes"] - n[16]["to_device_bytes"]) / 32
    check(host <= 53 * 8 + 30 * 8 + 40 and device <= 53 * 8 + 30 * 8 + 256, "bytes a sample", host, device)


def write_inputs(path, n):
    """Rows of noise under labels, as --inputs wants them."""
    draw = random.Random(7)
    x = array.array("f", (draw.gauss(0, 1) for _ in range(n * 64))).tobytes()
    y = array.array("q", (draw.randrange(10) for _ in range(n))).tobytes()
    tensors = {"x": ("F32", [n, 1, 8, 8], 0, len(x)), "y": ("I64", [n], len(x), len(x) + len(y))}
    header = json.dumps({k: {"dtype": t, "shape": s, "data_offsets": [a, b]} for k, (t, s, a, b) in tensors.items()}).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + x + y)


def vectors_stay(folder):
    """A Lanczos step of one block, and of two, carries the basis' products over the bus: no vector of the 1210 parameters. It waits
    once, or twice where a projection is repeated."""
    if not EMULATED:
        raise Skip("a GPU counts no calls")
    CASES["stay"] = dict(model="mlp", width="[16]", depth=1, metrics="B", probes="none", eval_epochs='"none"', save_epochs='"0"')
    records(folder, "stay", "cpu")
    weights = glob.glob(os.path.join(folder, "stay-cpu", "cells", "*", "epoch-0000.safetensors"))[0]
    inputs = os.path.join(folder, "noise.safetensors")
    write_inputs(inputs, 600)
    for n, blocks in (("40", 1), ("600", 2)):
        seen = []
        for metric in ("hessian.lambda_max", "hessian.top"):
            summary = os.path.join(folder, metric + n)
            command = ["measure", weights, "--inputs", inputs, "--n", n, "--curvature-n", "0", "--metrics", metric, "--backend", "cuda", "--json"]
            ended = run(command, env=environment(CUSIM_SUMMARY=summary))
            expect(ended, 0)
            found = json.loads(ended.out)["records"]
            seen.append((found[0]["iterations"] + len(found), counts(summary)))
        products = seen[1][0] - seen[0][0]
        check(products >= 20, "too few products to compare", seen)
        each = {k: (seen[1][1][k] - seen[0][1][k]) / products for k in seen[0][1] if k in seen[1][1]}
        # 1 + 2 pairs + 80 products, both ways; a kernel of a block is some 30 launches.
        check(each["cudaStreamSynchronize"] <= 2 and each["cudaEventSynchronize"] <= 0.5, "waits a product", n, each)
        check(each["cudaMemcpyAsync"] <= 3, "copies a product", n, each)
        check(max(each["to_host_bytes"], each["to_device_bytes"]) <= 2 * 101 * 8, "bytes a product", n, each)
        check(each["cudaLaunchKernel"] <= 20 + 20 * blocks, "launches a product", n, each)
        # The samples, 256 bytes each, cross once: for the blocks of hessian.top and the gradients of hessian.alignment.
        summary = os.path.join(folder, "again" + n)
        command = ["measure", weights, "--inputs", inputs, "--n", n, "--curvature-n", "0", "--metrics", "hessian.alignment", "--backend", "cuda"]
        expect(run(command, env=environment(CUSIM_SUMMARY=summary)), 0)
        more = counts(summary)["to_device_bytes"] - seen[1][1]["to_device_bytes"]
        check(more < int(n) * 128, "bytes of the samples again", n, more)


def handles_stay(folder):
    """A cell makes the streams of its handles once, however often it measures, and its probes cross the bus once."""
    if not EMULATED:
        raise Skip("a GPU counts no calls")
    CASES["handles"] = dict(model="mlp", width="[6]", depth=1, metrics="jacobian", epochs=2, eval_epochs='"none"', probe_n=40)
    seen = []
    for at in ("2", "0,1,2"):
        inside = os.path.join(folder, "at" + at)
        os.mkdir(inside)
        seen.append(counts_of(records(inside, "handles", "cuda", measure_epochs=f'"{at}"')[1]))
    check(seen[0]["cudaStreamCreateWithFlags"] == seen[1]["cudaStreamCreateWithFlags"], "streams", seen)
    # Of two more measurements: weights and the pieces of the samples' numbers. The probes' 80 rows of 256 bytes would add 40 960.
    more = seen[1]["to_device_bytes"] - seen[0]["to_device_bytes"]
    check(0 < more < 50000, "bytes to the device", more)


main(*[agree(name) for name in CASES], crosses_the_bus, vectors_stay, handles_stay)
