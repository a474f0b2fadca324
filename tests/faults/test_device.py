"""GPUs that are not there, are full or fault, on the emulated device: build/cusim/lipsweep."""
import json, os, re, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import faultlib
from faultlib import *

PLAIN = faultlib.PROGRAM
EMULATED = os.path.join(ROOT, os.environ.get("SIM") or "build/cusim", "lipsweep")


def gpu(**faults):
    """The emulated device's environment; a name without its CUSIM_."""
    faultlib.PROGRAM = EMULATED
    return environment(
        **{k if k.startswith("CUDA") else "CUSIM_" + k: str(v) for k, v in faults.items()}
    )


def config_of(folder, **more):
    """Two cells: batch 4 launches some twenty times as often as batch 60, op by op."""
    keys = dict(
        width="[6]", batch="[4, 60]", seed="[0]", epochs=2, backend="cuda", jobs=1, emulated="true", cuda_graph="false",
    )
    keys.update(more)
    return write_config(folder, **keys)


def notes(out):
    found = {}
    for cell in sorted(os.listdir(os.path.join(out, "cells"))):
        path = os.path.join(out, "cells", cell, "failed")
        if os.path.exists(path):
            with open(path) as f:
                found[cell] = json.load(f)
    return found


def launches(folder, config):
    """Calls of an undisturbed run by function, and its results; it gives all memory back."""
    summary, out = os.path.join(folder, "summary"), os.path.join(folder, "calm")
    expect(sweep(config, out, env=gpu(SUMMARY=summary)), 0)
    with open(summary) as f:
        count = {k: int(v) for k, v in (l.split() for l in f) if k != "digest"}
    check(count["device_bytes"] == 0 and count["pinned_bytes"] == 0, "memory never freed", count)
    return count, results(out)


def lost_once(folder):
    """A fault late in the first cell: a new process goes on from its checkpoint; the same results."""
    config, out = config_of(folder, checkpoint_epochs=1, epochs=8, eval_epochs="end"), os.path.join(
        folder, "out"
    )
    count, calm = launches(folder, config)
    ended = expect(
        sweep(
            config,
            out,
            env=gpu(STICKY="cudaLaunchKernel:%d" % (count["cudaLaunchKernel"] * 7 // 10)),
        ),
        0,
    )
    check(ended.err.count("starting again") == 1, "one new process", ended)
    check(
        "cudaErrorIllegalAddress" in ended.err and "the device is lost" in ended.err,
        "the line",
        ended,
    )
    check_same(out, calm, "after a lost device")


def lost_again(folder):
    """The long cell faults each time: tried once more, then recorded; the short one is not touched."""
    config = config_of(
        folder, checkpoint_epochs=0, checkpoint_seconds=1000, epochs=10, eval_epochs="end"
    )
    out = os.path.join(folder, "out")
    count, calm = launches(folder, config)
    faulty = gpu(STICKY="cudaLaunchKernel:%d" % (count["cudaLaunchKernel"] // 2))
    ended = expect(sweep(config, out, env=faulty), 3)
    check(ended.err.count("starting again") == 2, "tried twice", ended)
    failed = notes(out)
    check(len(failed) == 1, "one cell has failed", failed, ended)
    cell, note = failed.popitem()
    check(
        note["reason"] == "device"
        and "-b4-" in cell
        and "cudaErrorIllegalAddress" in note["message"],
        "the note",
        cell,
        note,
    )
    ours = results(out)
    for path, data in calm.items():
        if "-b60-" in path:
            check(ours.get(path) == data, "the other cell: " + path)
    # Asked again, without the fault: complete, and as ever.
    expect(sweep(config, out, "--retry-failed", env=gpu()), 0)
    check_same(out, calm, "tried again")


def lost_beside_others(folder):
    """Two cells at once: nobody knows which did it, so both are tried alone; neither fails."""
    config, out = config_of(folder, batch="[4, 5]", checkpoint_epochs=1), os.path.join(
        folder, "out"
    )
    count, calm = launches(folder, config)
    faulty = gpu(STICKY="cudaLaunchKernel:%d" % (count["cudaLaunchKernel"] * 8 // 10))
    expect(sweep(config, out, "jobs=2", env=faulty), 0, "starting again")
    check_same(out, calm, "after a lost device beside others")


def lost_before_cells(folder):
    """A fault while the sweep is planned: one line, exit 1, nothing made."""
    out = os.path.join(folder, "out")
    ended = expect(sweep(config_of(folder), out, env=gpu(STICKY="cudaLaunchKernel:3")), 1)
    check(len(error_lines(ended)) == 1 and "the device is lost" in ended.err, "one line", ended)
    check(not os.path.exists(os.path.join(out, "cells")), "no cells", os.listdir(folder))


def memory_swept_down(folder):
    """A device with less and less memory: a cell has the same results or is recorded with bytes."""
    config = config_of(folder, width="[6, 60]", batch="[40]", epochs=1)
    _, calm = launches(folder, config)
    ends = set()
    for quarters in (40, 16, 8, 6, 4, 3, 2, 1):
        out = os.path.join(folder, "out%d" % quarters)
        ended = sweep(config, out, env=gpu(MEMORY=quarters << 18))
        failed = notes(out)
        check(ended.code == (3 if failed else 0), "exit code", failed, ended)
        for cell, note in failed.items():
            numbers = re.findall(
                r"[0-9.e+-]+ GiB|[0-9]+ bytes asked, [0-9]+ of [0-9]+ free", note["message"]
            )
            check(note["reason"] == "oom" and numbers, "the note", note)
        ours = results(out)
        for path, data in calm.items():
            cell = path.split(os.sep)[1] if path.startswith("cells" + os.sep) else None
            if cell and cell not in failed:
                check(ours.get(path) == data, "%d quarters of a MiB: %s" % (quarters, path))
        ends.add(len(failed))
    check({0, 2} <= ends, "some run had room, some had none", ends)


def allocation_fails(folder):
    """Single allocations of a running cell fail: the cell says what was asked, free and planned."""
    config = config_of(folder, batch="[40]", epochs=1)
    count, calm = launches(folder, config)
    total, seen = count["cudaMalloc"], 0
    for n in range(max(1, total - 24), total + 1, 6):
        out = os.path.join(folder, "out%d" % n)
        ended = sweep(config, out, env=gpu(FAIL="cudaMalloc:%d" % n))
        failed = notes(out)
        check(ended.code == (3 if failed else 0), "exit code", failed, ended)
        for note in failed.values():
            seen += 1
            check(
                note["reason"] == "oom"
                and "bytes asked" in note["message"]
                and "planned for the cell" in note["message"],
                "the note",
                note,
            )
        if not failed:
            check_same(out, calm, "allocation %d" % n)
    check(seen > 0, "no allocation of a cell was hit")


def no_device(folder):
    """One clear line each, and the exit code of a usage error."""
    config, out = config_of(folder), os.path.join(folder, "out")
    for text, more, faults in (
        ("no GPU is visible (CUDA_VISIBLE_DEVICES is '')", [], dict(CUDA_VISIBLE_DEVICES="")),
        ("this machine has no GPU", [], dict(DEVICES=0)),
        ("there is no device 5, this machine has 2 (0..1)", ["device=5"], dict(DEVICES=2)),
        ("compute capability 7.0) is too old, 8.0 is needed", [], dict(CAPABILITY=70)),
        ("driver is too old: it supports CUDA 12.4", [], dict(DRIVER=12040)),
        ("no NVIDIA driver", [], dict(DRIVER=0)),
    ):
        ended = expect(sweep(config, out, *more, env=gpu(**faults)), 2, text)
        check(len(error_lines(ended)) == 1, "one line", ended)
        check(not os.path.exists(os.path.join(out, "cells")), "no cells", text)
        ended = expect(run(["info"], env=gpu(**faults)), 0)
        check("device=5" in more or text in ended.out, "info says so", ended)
    expect(sweep(config, out, "device=1", env=gpu(DEVICES=2)), 0)


def auto(folder):
    """backend auto: the processor where there is no GPU, with one line; never an emulated one."""
    reference, out = os.path.join(folder, "cpu"), os.path.join(folder, "auto")
    expect(sweep(config_of(folder, backend="cpu"), reference, env=gpu()), 0)
    calm = results(reference)
    config = config_of(folder, backend="auto")
    for program, faults, text in (
        (EMULATED, dict(DEVICES=0), "backend auto: cpu (cuda: this machine has no GPU)"),
        (EMULATED, {}, "backend auto: cpu (the CUDA device is an emulated one)"),
        (PLAIN, {}, "backend auto: "),
    ):
        env = gpu(**faults)
        faultlib.PROGRAM = program
        ended = expect(sweep(config, out, env=env), 0, text)
        check(ended.err.count("backend auto") == 1, "one line", ended)
        if "backend auto: cuda" in ended.err:
            raise Skip("this machine has a GPU")
        check_same(out, calm, text)
    ended = run(["sweep", config_of(folder, backend="[auto, cpu]"), "out=" + out + "2"], env=gpu())
    expect(ended, 2, "auto cannot be one of several values")


def same_as_cpu(folder):
    """The numbers of a small sweep on the emulated device against the processor's, and their bits
    in other thread orders."""
    keys = dict(
        model="mlp", width="[3]", batch="[20]", epochs=2, metrics="A,B,C,D,F", backend="cuda"
    )
    table = {}
    for backend in ("cpu", "cuda"):
        out = os.path.join(folder, backend)
        expect(sweep(config_of(folder, **dict(keys, backend=backend)), out, env=gpu()), 0)
        cell = os.listdir(os.path.join(out, "cells"))[0]
        with open(os.path.join(out, "cells", cell, "metrics.jsonl")) as f:
            table[backend] = [json.loads(l) for l in f]
    check(len(table["cpu"]) == len(table["cuda"]) > 20, "records", len(table["cpu"]))
    for a, b in zip(table["cpu"], table["cuda"]):
        check(
            (a.get("device"), b.get("device")) in (("cpu", "emulated"), (None, None)),
            "device",
            a,
            b,
        )
        for key in ("value", "mean", "max"):
            if isinstance(a.get(key), (int, float)):
                check(abs(a[key] - b[key]) <= 1e-4 * abs(a[key]) + 1e-6, key, a, b)
    calm = results(os.path.join(folder, "cuda"))
    for order in ("reverse", "random:3"):
        out = os.path.join(folder, order.replace(":", ""))
        expect(sweep(config_of(folder, **keys), out, env=gpu(ORDER=order)), 0)
        check_same(out, calm, "thread order " + order)


if not os.path.exists(EMULATED):
    print("no emulated device: built without CUDA\n0 passed, 0 failed, 1 skipped")
    sys.exit(0)
main(
    lost_once,
    lost_again,
    lost_beside_others,
    lost_before_cells,
    memory_swept_down,
    allocation_fails,
    no_device,
    auto,
    same_as_cpu,
)
