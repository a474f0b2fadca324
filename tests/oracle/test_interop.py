"""Weights out and in. Out: a sweep's checkpoint of each architecture loads into PyTorch's module with strict=True, through
contrib/read_safetensors.py, and gives the same logits on 256 images. In: lipsweep measure reads the architecture from a
state_dict's shapes; halves are converted and said to be; what is missing, extra, misshapen or no safetensors is named."""
import os
import subprocess
import tempfile

import numpy as np

from torchlib import (BACKENDS, BUILD, EMULATED, LIPSWEEP, check, close, contrib, finish, model_of, read, torch_or_skip,
                      write)

torch = torch_or_skip()
IMAGES, BATCH = (4, 4) if EMULATED else (256, 50)
SIDE, CHANNELS = 32, 3
MODELS = [{"model": "mlp", "width": 5, "depth": 2, "batch_norm": False},
          {"model": "convnet", "width": 3, "depth": 0, "batch_norm": False},
          {"model": "convnet", "width": 2, "depth": 0, "batch_norm": True},
          {"model": "resnet18", "width": 3, "depth": 0, "batch_norm": False},
          {"model": "resnet18", "width": 2, "depth": 0, "batch_norm": True},
          {"model": "vit", "width": 8, "depth": 2, "batch_norm": False}]


def module_of(spec):
    if spec["model"] != "vit":
        return model_of(torch, {**spec, "input": (CHANNELS, SIDE, SIDE)})
    from torchvision.models.vision_transformer import VisionTransformer
    w = spec["width"]
    return VisionTransformer(SIDE, 4, spec["depth"], w // 32 if w % 32 == 0 else 1, w, 4 * w,
                             num_classes=spec["classes"]).double()


def write_cifar(folder, classes):
    """Six files of 50 records, or CIFAR-100's two; noise for images."""
    rng = np.random.default_rng(5)
    names = ["train.bin", "test.bin"] if classes == 100 else \
        [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]
    for name in names:
        n = 200 if classes == 100 else 50
        label = np.arange(n) % classes
        head = np.stack([label // 5, label], 1) if classes == 100 else label[:, None]
        with open(os.path.join(folder, name), "wb") as f:
            f.write(np.hstack([head, rng.integers(0, 256, (n, 3072))]).astype("u1").tobytes())


def run(*args, rc=0, error=None):
    p = subprocess.run([LIPSWEEP, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    ok = p.returncode == rc and (error is None or all(e in p.stderr for e in error))
    check(ok, f"{' '.join(args)}: exit {p.returncode}, expected {rc} with {error}: {p.stderr[:600]}")
    return p


def logits_of(tmp, weights, spec, x, backend):
    inputs, out = os.path.join(tmp, "lx.safetensors"), os.path.join(tmp, "lo.safetensors")
    write(inputs, {"x": x, "y": np.zeros(len(x), "i8")})
    args = {**spec, "batch_norm": int(spec["batch_norm"]), "c": CHANNELS, "h": SIDE, "w": SIDE, "loss": 0,
            "optimizer": "sgd", "lr": 0.1, "momentum": 0, "weight_decay": 0, "steps": 0, "batch": 2}
    p = subprocess.run([os.path.join(BUILD, "tests/oracle/driver"), backend, weights, inputs, out,
                        *[f"{k}={v}" for k, v in args.items()]], capture_output=True, text=True)
    check(p.returncode == 0, f"logits of {spec}: {p.stderr}")
    return read(out)["logits"] if p.returncode == 0 else np.zeros(0)


def out_case(tmp, data, classes, spec, backend):
    what = f"{spec['model']}{' bn' if spec['batch_norm'] else ''}, {classes} classes, {backend}"
    spec = {**spec, "classes": classes}
    path = run("train", f"model={spec['model']}", f"width={spec['width']}", f"depth={spec['depth']}",
               f"batch_norm={str(spec['batch_norm']).lower()}", f"data=cifar{classes}", f"data_dir={data}", f"n_train={3 * BATCH}",
               "n_test=20", f"batch={BATCH}", "epochs=2", "lr=0.01", "measure_epochs=none", f"backend={backend}", "--quiet",
               "--out", os.path.join(tmp, f"out-{what}")).stdout.strip()
    weights = os.path.join(path, "epoch-0002.safetensors")
    module = module_of(spec).float().eval()
    state = contrib("read_safetensors").read(weights)
    fitted = module.load_state_dict(state, strict=True)
    check(not fitted.missing_keys and not fitted.unexpected_keys, f"{what}: {fitted}")
    for name, value in state.items():
        if name.endswith("num_batches_tracked"):
            check(value.dtype == torch.int64 and value.dim() == 0 and value == 6, f"{what}: {name} is {value}")
    x = np.random.default_rng(7).normal(size=(IMAGES, CHANNELS, SIDE, SIDE)).astype("f4")
    with torch.no_grad():
        want = module(torch.from_numpy(x)).double().numpy()
    close(f"{what}: logits", logits_of(tmp, weights, spec, x, BACKENDS[-1]), want, 1e-5)


def bytes_of(t, dtype):
    """A tensor as raw bytes of the given type, for write()."""
    if not t.is_floating_point():
        return t.numpy()
    half = t.to({"F16": torch.float16, "BF16": torch.bfloat16}[dtype])
    return dtype, list(t.shape), half.contiguous().view(torch.int16).numpy().tobytes()


def in_case(tmp, spec):
    what = f"{spec['model']}{' bn' if spec['batch_norm'] else ''}"
    torch.manual_seed(3)
    module, side = module_of({**spec, "classes": 4}), SIDE if spec["model"] == "vit" else 8
    if spec["model"] == "mlp":
        module = model_of(torch, {**spec, "classes": 4, "input": (CHANNELS, side, side)})
    if spec["model"] == "resnet18" and not spec["batch_norm"]:
        torch.nn.init.zeros_(module.layer1[0].conv2.weight)
    state = {k: v.float() if v.is_floating_point() else v for k, v in module.state_dict().items()}
    x = np.random.default_rng(8).normal(size=(6, CHANNELS, side, side)).astype("f4")
    y = np.arange(6) % 4
    weights, inputs = os.path.join(tmp, "w.safetensors"), os.path.join(tmp, "x.safetensors")
    write(inputs, {"x": x, "y": y})
    measure = ("measure", weights, "--inputs", inputs, "--metrics", "A,B", "--json")
    described = [f'"model":"{spec["model"]}"', f'"width":{spec["width"]}', '"classes":4']
    described += [f'"depth":{spec["depth"]}'] if spec["model"] in ("mlp", "vit") else []

    write(weights, {k: v.numpy() for k, v in state.items()})
    plain = run(*measure).stdout.replace(" ", "")
    check(all(d in plain for d in described), f"{what}: {described} in {plain[:300]}")
    for dtype in ("F16", "BF16"):
        write(weights, {k: bytes_of(v, dtype) for k, v in state.items()})
        p = run(*measure, error=[dtype, "converted"])
        rounded = {k: v.half().float() if dtype == "F16" else v.bfloat16().float() for k, v in state.items()
                   if v.is_floating_point()}
        write(weights, {k: rounded.get(k, v).numpy() for k, v in state.items()})
        check(run(*measure).stdout == p.stdout, f"{what}: {dtype} is its float32 values")

    names = [k for k, v in state.items() if v.dim()]
    for gone in (names[0], names[1], names[len(names) // 2], names[-2]):
        write(weights, {k: v.numpy() for k, v in state.items() if k != gone})
        want = ",".join(map(str, state[gone].shape))
        run(*measure, "--classes", "4", rc=6, error=[f"{gone} is missing (expected F32 [{want}])"])
    write(weights, {**{k: v.numpy() for k, v in state.items()}, "extra.weight": np.zeros((2, 3), "f4")})
    run(*measure, rc=6, error=["extra.weight [2,3] is not a tensor of this network"])
    odd = names[len(names) // 2]
    write(weights, {k: np.zeros((7, 1), "f4") if k == odd else v.numpy() for k, v in state.items()})
    run(*measure, rc=6, error=[f"{odd} is F32 [7,1] (expected F32 ["])

    write(weights, {k: v.numpy() for k, v in state.items()})
    run(*measure, "--classes", "10", rc=2, error=["--classes 10 contradicts"])
    run(*measure, "--width", str(spec["width"] + 1), rc=2, error=["contradicts"])
    run(*measure, "--model", "mlp" if spec["model"] != "mlp" else "vit", rc=2, error=["contradicts"])
    write(inputs, {"x": x, "y": y + 1})
    run(*measure, rc=6, error=["is class 4, but the network has classes 0 to 3"])


def pickles(tmp, state):
    """torch.save in both of its formats, as weights and as inputs: named, never opened."""
    touched = os.path.join(tmp, "touched")

    class Trap:
        def __reduce__(self):
            return open, (touched, "w")

    good, inputs = os.path.join(tmp, "good.safetensors"), os.path.join(tmp, "px.safetensors")
    write(good, {k: v.float().numpy() for k, v in state.items()})
    write(inputs, {"x": np.zeros((2, CHANNELS, 8, 8), "f4")})
    for name, zipped, text in (("w.pt", True, "a zip file (torch.save?)"), ("w.pth", False, "a Python pickle (torch.save?)")):
        path = os.path.join(tmp, name)
        torch.save({"state": state, "trap": Trap()}, path, _use_new_zipfile_serialization=zipped)
        run("measure", path, "--inputs", inputs, rc=6, error=[path, text, "safetensors.torch.save_file"])
        run("measure", good, "--inputs", path, rc=6, error=[path, text])
    check(not os.path.exists(touched), "a pickle was opened")


with tempfile.TemporaryDirectory() as folder:
    sets = {n: os.path.join(folder, f"cifar{n}") for n in (10, 100)}
    for n, where in sets.items():
        os.mkdir(where)
        write_cifar(where, n)
    for one in MODELS:
        out_case(folder, sets[10], 10, one, BACKENDS[-1])
        in_case(folder, one)
    for one in (MODELS[3], MODELS[4]):
        out_case(folder, sets[100], 100, one, BACKENDS[-1])
    if "ref" in BACKENDS:
        out_case(folder, sets[10], 10, MODELS[4], "ref")
    pickles(folder, module_of({**MODELS[3], "classes": 4}).state_dict())
finish()
