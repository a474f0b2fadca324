"""Training and a small sweep on the CUDA device against the cpu backend: every record of every cell agrees, and the device
gives the same bytes twice, whatever runs beside it. On the emulated device (SIM), or on the one that SIM's program finds."""
import csv, os, sys

SIM = os.environ.get("SIM", "")
if not SIM:
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
os.environ["LIPSWEEP"] = os.path.join(SIM, "lipsweep")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))
from faultlib import *

EMULATED = "emulated" in run(["info"]).out
# float32 on both sides, rounded in another order at each of some ten steps; norms and eigenvalues of the weights these
# lead to. Batch norm over the few values of the last stages magnifies (tests/oracle/test_network.py).
TOL, TOL_NORMED = 1e-4, 1e-2
MODELS = {
    "mlp": dict(model="mlp", depth=2, width="[3, 17]"),
    "convnet": dict(model="convnet", width="[2, 3]"),
    "convnet_bn": dict(model="convnet", width="[3]", batch_norm="true"),
    "resnet18": dict(model="resnet18", width="[1]"),
    "vit": dict(model="vit", depth=1, width="[8]"),
}
COUNTED = ("error", "memorized")  # one sample on the other side of a tie moves them


def keys(backend, **more):
    n, epochs = (24, 2) if EMULATED else (80, 4)
    found = dict(
        backend=backend, emulated="true", seed="[0]", n_train=n, n_test=10, batch=8, epochs=epochs, lr=0.02, jobs=1,
        measure_n=8, metrics="A,B,C,F", eval_epochs='"every:1"', save_epochs='"end"', measure_epochs='"end"',
        cuda_conv="own", cuda_linear="own",  # a choice by measured time may vary
    )
    found.update(more)
    return found


def cells(folder, run_name, **more):
    """results.csv of a sweep as {what: (quantity, number)}, and its folder."""
    out = os.path.join(folder, run_name)
    config = write_config(folder, **keys(**more))
    expect(sweep(config, out), 0)
    found = {}
    with open(os.path.join(out, "results.csv"), newline="") as f:
        for row in csv.DictReader(f):
            what = [v for k, v in row.items() if k in ("model", "width", "seed", "batch_norm", "quantity", "norm", "output",
                                                       "layer", "split", "epoch", "rank")]
            number = row.get("value") or row.get("mean")
            if number not in ("", None, "null"):
                found[tuple(what)] = (row["quantity"], float(number))
    return found, out


def agree(folder, tol, **more):
    want, _ = cells(folder, "cpu", backend="cpu", **more)
    got, _ = cells(folder, "cuda", backend="cuda", **more)
    check(len(want) > 20, "hardly any records", len(want))
    check(sorted(want) == sorted(got), "other records", set(want) ^ set(got))
    scale = {}
    for quantity, value in want.values():
        scale[quantity] = max(scale.get(quantity, 0), abs(value))
    for what, (quantity, value) in want.items():
        off = abs(got[what][1] - value)
        most = 0.05 if quantity in COUNTED else tol * max(abs(value), 0.01 * scale[quantity])
        check(off <= most, "%s: cpu %.9g, cuda %.9g" % (what, value, got[what][1]))


def mlp(folder):
    agree(folder, TOL, **MODELS["mlp"])


def convnet(folder):
    agree(folder, TOL, **MODELS["convnet"])


def convnet_bn(folder):
    agree(folder, TOL_NORMED, **MODELS["convnet_bn"])


def resnet18(folder):
    agree(folder, TOL, **MODELS["resnet18"])


def vit(folder):
    agree(folder, TOL, **MODELS["vit"])


def libraries(folder):
    """cuBLAS and cuDNN in the place of the own kernels."""
    agree(folder, TOL, **dict(MODELS["convnet"], width="[3]", cuda_conv="nvidia", cuda_linear="nvidia"))


def same_bytes(folder):
    """Two runs, and three cells at once."""
    more = dict(MODELS["mlp"], width="[3]", seed="[0, 1, 2]", backend="cuda")
    _, first = cells(folder, "first", **more)
    reference = results(first)
    _, second = cells(folder, "second", **more)
    check_same(second, reference, "run again")
    _, together = cells(folder, "together", **dict(more, jobs=3))
    check_same(together, reference, "three at once")


main(mlp, convnet, convnet_bn, resnet18, vit, libraries, same_bytes)
