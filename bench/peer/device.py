"""What the comparisons on a GPU share: arguments, settings of PyTorch, the device's clock, rows of our own benches.

--device cuda compares with build/plain/bench/cuda_networks on this machine's GPU. --device cpu --tiny goes the same ways
at sizes that say nothing about speed: to see that they run. Without --device a script compares on one thread of the CPU.
"""
import argparse
import contextlib
import statistics
import sys
import time
import warnings

import torch

warnings.filterwarnings("ignore")  # PyTorch's, about itself

SECONDS, CALLS = 1.0, 10  # at least so long and so often, after a warm-up


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("ours", nargs="?", help="output of our bench from the same session")
    parser.add_argument("model", nargs="?", help="this model only")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print(f"# PyTorch {torch.__version__} finds no GPU here: no comparison")
        sys.exit(0)
    return args


def describe(args):
    name = torch.cuda.get_device_name() if args.device == "cuda" else "the CPU"
    return f"PyTorch {torch.__version__} (CUDA {torch.version.cuda}) on {name}"


class Setting:
    """How PyTorch computes: None of them, or what it can do best."""

    def __init__(self, name, tf32=None, bf16=False, channels_last=False, compiled=None):
        self.name, self.tf32, self.bf16, self.channels_last, self.compiled = name, tf32, bf16, channels_last, compiled

    @contextlib.contextmanager
    def on(self, device):
        """tf32 None: PyTorch's defaults, which allow it in cuDNN and not in matrix products."""
        kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
        if self.tf32 is not None:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        try:
            with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
                yield
        finally:
            torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept

    def place(self, net, x, device):
        """Both on the device, in the setting's memory format; copies."""
        net, x = net.to(device), x.to(device)
        if self.channels_last and x.dim() == 4:
            net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        return net, x

    def wrap(self, function):
        if self.compiled is None:
            return function
        torch._dynamo.reset()
        return torch.compile(function, **self.compiled)


DEFAULTS = Setting("defaults")
EXACT = Setting("float32", tf32=False)


def settings(graphs=False):
    """From PyTorch's defaults to all that it offers. graphs: also as CUDA graphs (mode="reduce-overhead")."""
    yield DEFAULTS
    compilers = [({}, " compiled")] + ([({"mode": "reduce-overhead"}, " graphs")] if graphs else [])
    for compiled, word in [(None, "")] + (compilers if hasattr(torch, "compile") else []):
        yield Setting("tf32" + word, tf32=True, compiled=compiled)
        yield Setting("tf32 nhwc" + word, tf32=True, channels_last=True, compiled=compiled)
        yield Setting("bf16 nhwc" + word, tf32=True, bf16=True, channels_last=True, compiled=compiled)


def seconds(call, args):
    """Median of a call's time on the device, by events; on the CPU by the clock on the wall."""
    for _ in range(1 if args.tiny else 3):
        call()
    times, end = [], time.perf_counter() + (0 if args.tiny else SECONDS)
    while time.perf_counter() < end or len(times) < (2 if args.tiny else CALLS):
        if args.device == "cuda":
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            call()
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop) * 1e-3)
        else:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def attempt(what, call):
    """The call's result; None, and a line that says why, where this PyTorch or the memory does not do it."""
    try:
        return call()
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        return None
    except Exception as e:  # what torch.compile raises is of many kinds
        lines = str(e).strip().splitlines()
        print(f"# {what}: {type(e).__name__}: {lines[0] if lines else ''}"[:160])
        return None


class Ours:
    """Rows of our bench: seconds by (op, model, dtype, {key: value} of the shape), as far as they were measured."""

    def __init__(self, path, args):
        self.rows, self.means = [], {}
        if not path:
            return
        with open(path, encoding="utf-8") as f:
            for line in f:
                fields = line.split()
                if fields[:1] == ["#"] and fields[1:2] in (["mean"], ["gradmean"]):
                    self.means[fields[1], fields[2], tuple(fields[3:-1])] = float(fields[-1])
                elif fields and fields[0] != "#" and fields[-1] in ("measured", "emulated" if args.tiny else "measured"):
                    self.rows.append((fields[0], fields[1], fields[2], fields[3].split(","), float(fields[5]) * 1e-6))

    def find(self, op, model, dtype, *parts):
        """Of the row whose shape has all the parts ("w=4"); dtype None: the fastest. None: there is none."""
        found = [t for o, m, d, shape, t in self.rows if o == op and m == model and dtype in (None, d)
                 and all(p in shape for p in parts)]
        return min(found, default=None)

    def off(self, what, value, model, *parts):
        """Relative difference of a mean from ours, as text; "-": we have none."""
        found = [v for (w, m, shape), v in self.means.items() if (w, m) == (what, model) and all(p in shape for p in parts)]
        return f"{abs(found[0] / value - 1):.1e}" if found else "-"


def target(ok, text):
    print(f"# target {'PASS' if ok else 'FAIL'}: measured, {text}", flush=True)
