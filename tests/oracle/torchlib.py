"""Shared by the oracle tests: the models in PyTorch, safetensors files, counting. Needs numpy; torch is imported on
demand so that a machine without it skips with a reason."""
import importlib
import json
import os
import struct
import subprocess
import sys

import numpy as np

BUILD = os.path.abspath(os.environ.get("BUILD", "build/plain"))
LIPSWEEP = os.path.abspath(os.environ.get("LIPSWEEP", os.path.join(BUILD, "lipsweep")))
for key in [k for k in os.environ if k.startswith("LIPSWEEP_")]:
    del os.environ[key]
os.environ["LIPSWEEP_EMULATED"] = "true"  # an emulated device will do
# What runs: float64 and float32 on the CPU, or the backend that LIPS_TEST_BACKEND names (make test-gpu).
BACKENDS = tuple(filter(None, [os.environ.get("LIPS_TEST_BACKEND")])) or ("ref", "cpu")
# An emulated device is hundreds of times slower: tests do less there.
EMULATED = BACKENDS == ("cuda",) and "emulated" in subprocess.run([LIPSWEEP, "info"], capture_output=True, text=True).stdout
TYPES = {"float32": "F32", "float64": "F64", "int64": "I64"}
DTYPES = {v: k for k, v in TYPES.items()}
counts = {"passed": 0, "failed": 0}


def torch_or_skip():
    try:
        import torch
        import torchvision  # noqa: F401
    except ImportError as e:
        print(f"SKIP: no PyTorch with torchvision here ({e})")
        print("0 passed, 0 failed, 1 skipped")
        sys.exit(0)
    torch.set_num_threads(1)
    return torch


def tolerances(ref, float32):
    """By backend."""
    return {"ref": ref, "cpu": float32, "cuda": float32}


def finish():
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    sys.exit(counts["failed"] != 0)


def check(ok, what):
    counts["passed" if ok else "failed"] += 1
    if not ok:
        print("FAIL", what)


def close(what, got, want, tol):
    """Relative L2 error at most tol, worst entry over largest at most 10 tol; NaN and Inf never pass."""
    got, want = np.asarray(got, "f8").ravel(), np.asarray(want, "f8").ravel()
    if got.shape != want.shape or got.size == 0:
        return check(False, f"{what}: {got.size} values, expected {want.size}")
    scale, norm = np.abs(want).max(), np.linalg.norm(want)
    if scale == 0:
        return check(bool(np.all(got == 0)), f"{what}: expected zeros, got {np.abs(got).max():.3g}")
    worst, rel = np.abs(got - want).max() / scale, np.linalg.norm(got - want) / norm
    i = int(np.abs(got - want).argmax())
    check(bool(worst <= 10 * tol and rel <= tol),
          f"{what}: index {i} expected {want[i]:.17g}, got {got[i]:.17g}; rel L2 {rel:.3g}, tolerance {tol:.3g}")


def write(path, tensors):
    """tensors: arrays, or (dtype, shape, bytes) for types that numpy has not."""
    header, data = {}, b""
    for name, value in tensors.items():
        dtype, shape, raw = value if isinstance(value, tuple) else \
            (TYPES[str(value.dtype)], list(value.shape), np.ascontiguousarray(value).tobytes())
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
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
    return {k: np.frombuffer(raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]],
                             DTYPES[v["dtype"]]).reshape(v["shape"]) for k, v in header.items()}


def contrib(name):
    """A file of contrib/, which users are told to take."""
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "contrib")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)


def model_of(torch, spec):
    """The definition in QUANTITIES, section Models, written with PyTorch's own layers; float64."""
    nn = torch.nn
    c, h, w = spec["input"]
    width, k = spec["width"], spec["classes"]
    if spec["model"] == "mlp":
        sizes = [c * h * w] + [width] * spec["depth"]
        layers = []
        for a, b in zip(sizes, sizes[1:]):
            layers += [nn.Linear(a, b), nn.ReLU()]

        class Mlp(nn.Sequential):
            def forward(self, x):
                return super().forward(x.flatten(1))

        return Mlp(*layers, nn.Linear(sizes[-1], k)).double()

    if spec["model"] == "resnet18":
        return contrib("torchvision_models").ResNet18(width, k, c, spec["batch_norm"]).double()

    class Block(nn.Module):
        def __init__(self, a, b):
            super().__init__()
            self.conv = nn.Conv2d(a, b, 3, padding=1, bias=not spec["batch_norm"])
            self.bn = nn.BatchNorm2d(b) if spec["batch_norm"] else nn.Identity()

        def forward(self, x):
            return torch.relu(self.bn(self.conv(x)))

    class ConvNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer1, self.layer2 = Block(c, width), Block(width, 2 * width)
            self.layer3, self.layer4 = Block(2 * width, 4 * width), Block(4 * width, 8 * width)
            self.fc = nn.Linear(8 * width, k)

        def forward(self, x):
            pool = nn.functional.avg_pool2d
            x = pool(self.layer2(self.layer1(x)), 2)
            x = self.layer4(pool(self.layer3(x), 2))
            return self.fc(x.mean((2, 3)))

    return ConvNet().double()


def fresh(torch, spec, seed):
    """A model whose values are floats, with batch norms away from the identity."""
    torch.manual_seed(seed)
    model = model_of(torch, spec)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.mul_(1.5)
            if p.dim() == 1 and "bn" in name:
                p.add_(0.3 * torch.randn_like(p))
            p.copy_(p.float().double())
        for name, b in model.named_buffers():
            if name.endswith("running_mean"):
                b.copy_((0.2 * torch.randn_like(b)).float().double())
            elif name.endswith("running_var"):
                b.copy_((0.5 + torch.rand_like(b)).float().double())
    return model


def save(model, path):
    write(path, {k: v.numpy() if v.dtype.is_floating_point is False else v.numpy().astype("f4")
                 for k, v in model.state_dict().items()})


SPECS = [
    {"model": "mlp", "width": 1, "depth": 0, "classes": 4, "input": (1, 4, 5), "batch_norm": False},
    {"model": "mlp", "width": 9, "depth": 1, "classes": 3, "input": (2, 4, 4), "batch_norm": False},
    {"model": "mlp", "width": 6, "depth": 3, "classes": 10, "input": (1, 3, 7), "batch_norm": False},
    {"model": "convnet", "width": 1, "depth": 0, "classes": 3, "input": (1, 4, 4), "batch_norm": False},
    {"model": "convnet", "width": 3, "depth": 0, "classes": 10, "input": (3, 8, 12), "batch_norm": False},
    {"model": "convnet", "width": 2, "depth": 0, "classes": 5, "input": (3, 8, 8), "batch_norm": True},
    {"model": "resnet18", "width": 1, "depth": 0, "classes": 3, "input": (2, 5, 8), "batch_norm": False},
    {"model": "resnet18", "width": 2, "depth": 0, "classes": 4, "input": (3, 8, 8), "batch_norm": False},
    {"model": "resnet18", "width": 2, "depth": 0, "classes": 5, "input": (3, 8, 8), "batch_norm": True},
]


def name_of(spec):
    return f"{spec['model']} w{spec['width']} d{spec['depth']}{' bn' if spec['batch_norm'] else ''}"
