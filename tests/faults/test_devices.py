"""Several devices, and several cells on each, on the emulated device: build/cusim/lipsweep."""
import glob, json, os, re, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import faultlib
from faultlib import *

EMULATED = os.path.join(ROOT, os.environ.get("SIM") or "build/cusim", "lipsweep")
faultlib.PROGRAM = EMULATED


def gpu(**faults):
    """The emulated devices' environment; a name without its CUSIM_."""
    return environment(
        **{k if k.startswith("CUDA") else "CUSIM_" + k: str(v) for k, v in faults.items()}
    )


def config_of(folder, **more):
    """Four cells; those with batch 4 launch some twenty times as often as those with batch 60."""
    keys = dict(
        width="[6]", batch="[4, 60]", seed="[0, 1]", epochs=2, backend="cuda", emulated="true"
    )
    keys.update(more, jobs=more.get("jobs"))
    return write_config(folder, **keys)


def notes(out, name="failed"):
    found = {}
    for path in glob.glob(os.path.join(out, "cells", "*", name)):
        with open(path) as f:
            found[os.path.basename(os.path.dirname(path))] = json.load(f)
    return found


def devices_used(out):
    used = set()
    for path in glob.glob(os.path.join(out, "cells", "*", "timing.jsonl")):
        with open(path) as f:
            used |= {json.loads(l)["device"] for l in f}
    return used


def calm_results(folder, config):
    """Of one device with one cell at a time."""
    out = os.path.join(folder, "calm")
    expect(sweep(config, out, "jobs=1", env=gpu()), 0)
    return results(out)


def summary_of(path):
    with open(path) as f:
        return {k: int(v) for k, v in (l.split() for l in f) if k != "digest"}


def same_on_any(folder):
    """Records do not depend on which device runs a cell, nor beside how many others."""
    config = config_of(folder)
    calm = calm_results(folder, config)
    for n, more, used in (
        (1, ["cells_per_device=4"], {0}),
        (2, [], {0, 1}),
        (3, ["cells_per_device=1"], {0, 1, 2}),
        (3, ["device=2"], {2}),
        (3, ["device=2,0", "cells_per_device=2"], {0, 2}),
        (2, ["device=all", "jobs=3"], {0, 1}),
    ):
        out = os.path.join(folder, "out")
        expect(sweep(config, out, *more, env=gpu(DEVICES=n)), 0)
        check_same(out, calm, "%d devices %s" % (n, more))
        check(
            devices_used(out) == {"emulated %d" % i for i in used},
            "devices used",
            more,
            devices_used(out),
        )
        shutil.rmtree(out)
    # Begun on one device, finished on others.
    config, out = config_of(folder, seed="[0]"), os.path.join(folder, "moved")
    expect(sweep(config, out, "device=1", env=gpu(DEVICES=2)), 0)
    config = config_of(folder)
    expect(sweep(config, out, "device=0,2", env=gpu(DEVICES=3)), 0)
    check_same(out, calm, "moved")


def data_of_their_own(folder):
    """Cells beside each other on a device, of one data set and of another: each gets its own."""
    config = config_of(folder, label_noise="[0, 0.5]", n_train="[60, 40]", batch="[40]", seed="[0]")
    calm, out = calm_results(folder, config), os.path.join(folder, "out")
    expect(sweep(config, out, "cells_per_device=4", env=gpu()), 0)
    check_same(out, calm, "other data beside it")


def steps_one_by_one(folder):
    """A step that cannot be recorded is run op by op from then on: one line, the same results."""
    config = config_of(folder, batch="[40]", seed="[0]", n_train=60, epochs=4, eval_epochs="end")
    calm, out = calm_results(folder, config), os.path.join(folder, "out")
    path = os.path.join(folder, "summary")
    expect(sweep(config, out, env=gpu(SUMMARY=path)), 0)
    count = summary_of(path)  # the cell's two recordings, for steps of both sizes, are the last
    for call, back in (
        ("cudaStreamBeginCapture", 1),
        ("cudaStreamEndCapture", 1),
        ("cudaGraphInstantiate", 1),
        ("cudaGraphInstantiate", 0),
    ):
        shutil.rmtree(out)
        n = count[call] - back
        ended = expect(sweep(config, out, env=gpu(FAIL="%s:%d" % (call, n), SUMMARY=path)), 0)
        said = [l for l in ended.err.splitlines() if "op by op, not as one CUDA graph" in l]
        check(len(said) == 1, "said once", call, n, ended)
        after = summary_of(path)["cudaStreamBeginCapture"]
        check(after == count["cudaStreamBeginCapture"] - back, "not tried again", call, n, after)
        check_same(out, calm, "%s:%d" % (call, n))


def one_copy_of_the_data(folder):
    """Cells of one device share the data set in its memory; copies do not add up."""
    keys = dict(width="[1]", batch="[60]", seed="[0, 1, 2, 3]", n_train=None, metrics="A", epochs=1)
    data = os.path.join(folder, "data")
    write_images(data, n_train=300, n_test=100, side=24)
    config, loads = config_of(folder, **keys), {}
    for cells in (1, 4):
        path, out = os.path.join(folder, "summary"), os.path.join(folder, "out%d" % cells)
        more = ["cells_per_device=%d" % cells, "eval_epochs=end"]
        expect(sweep(config, out, *more, env=gpu(SUMMARY=path)), 0)
        count = summary_of(path)
        check(count["device_bytes"] == 0 and count["pinned_bytes"] == 0, "never freed", count)
        loads[cells] = count["to_device_bytes"]
    pixels = 400 * 24 * 24
    check(
        loads[1] - loads[4] > pixels * 3 // 2,
        "bytes copied to the device, one and four cells at once",
        loads,
        pixels,
    )


def lost_among_others(folder):
    """One of two devices faults: the cell is tried once more, alone on a device; the same results."""
    for all_of_them in (False, True):
        config = config_of(folder, checkpoint_epochs=1, eval_epochs="end", epochs=4)
        out = os.path.join(folder, "out%d" % all_of_them)
        path = os.path.join(folder, "summary")
        expect(sweep(config, out, env=gpu(SUMMARY=path, DEVICES=2)), 0)
        calm, count = results(out), summary_of(path)
        shutil.rmtree(out)
        at = "cudaLaunchKernel:%d" % (count["cudaLaunchKernel"] * 8 // 10)
        faults = dict(STICKY=at, DEVICES=2, **({"STICKY_ALL": 1} if all_of_them else {}))
        ended = expect(sweep(config, out, env=gpu(**faults)), 0, "starting again")
        check("the device is lost" in ended.err, "the line", ended)
        check_same(out, calm, "one of two devices lost")
        check(not notes(out, "device-lost"), "no note is left")


def lost_by_one_cell(folder):
    """A cell that faults alone is recorded; one that ran beside it is not."""
    config = config_of(
        folder,
        checkpoint_epochs=0,
        checkpoint_seconds=1000,
        eval_epochs="end",
        seed="[0]",
        epochs=8,
        cuda_graph="false",  # so that launches can be counted
    )
    path, out = os.path.join(folder, "summary"), os.path.join(folder, "out")
    expect(sweep(config, out, env=gpu(SUMMARY=path)), 0)
    calm, count = results(out), summary_of(path)
    shutil.rmtree(out)
    at = "cudaLaunchKernel:%d" % (count["cudaLaunchKernel"] * 2 // 3)
    for more in ({}, {"STICKY_ALL": 1}):
        faulty = gpu(STICKY=at, DEVICES=2, **more)
        expect(sweep(config, out, env=faulty), 3, "starting again")
        if not more:  # it is tried again, and ends
            expect(sweep(config, out, "--retry-failed", env=faulty), 3)
        failed = notes(out)
        check(
            len(failed) == 1
            and "-b4-" in list(failed)[0]
            and list(failed.values())[0]["reason"] == "device",
            "the cell",
            failed,
        )
        expect(sweep(config, out, "--retry-failed", env=gpu(DEVICES=2)), 0)
        check_same(out, calm, "tried again")
        shutil.rmtree(out)


def out_of_memory_beside_others(folder):
    """Want of memory beside others is tried again alone, whatever the plan had said."""
    config = config_of(folder, epochs=1)
    calm = calm_results(folder, config)
    path, out, again = os.path.join(folder, "summary"), os.path.join(folder, "out"), 0
    more = ["cells_per_device=2", "device=0,1"]
    expect(sweep(config, out, *more, env=gpu(SUMMARY=path, DEVICES=2)), 0)
    total = summary_of(path)["cudaMalloc"]
    for n in range(total - 60, total - 8, 20):
        shutil.rmtree(out)
        ended = sweep(config, out, *more, env=gpu(FAIL="cudaMalloc:%d" % n, DEVICES=2))
        failed = notes(out)
        check(ended.code == (3 if failed else 0), "exit code", failed, ended)
        again += ended.err.count("it is tried once more, alone on device")
        for note in failed.values():
            check(
                note["reason"] == "oom" and "planned for the cell" in note["message"], "note", note
            )
        if not failed:
            check_same(out, calm, "allocation %d" % n)
    check(again > 0, "no cell was put off")


def no_more_memory(folder):
    """From some point on nothing is given out: each cell is put off at most once, then recorded."""
    config = config_of(folder, epochs=1)
    calm = calm_results(folder, config)
    path, out = os.path.join(folder, "summary"), os.path.join(folder, "out")
    more = ["cells_per_device=2", "device=0"]
    expect(sweep(config, out, *more, env=gpu(SUMMARY=path)), 0)
    total = summary_of(path)["cudaMalloc"]
    shutil.rmtree(out)
    none_left = ",".join("cudaMalloc:%d" % n for n in range(total // 2, total + 1000))
    ended = expect(sweep(config, out, *more, env=gpu(FAIL=none_left)), 3)
    failed = notes(out)
    check({n["reason"] for n in failed.values()} == {"oom"}, "reasons", failed)
    check(len(failed) + len(notes(out, "done")) == 4, "each cell ends", failed, notes(out, "done"))
    put_off = [l for l in ended.err.splitlines() if "it is tried once more" in l]
    check(len(put_off) >= 2, "two ran at once", put_off)
    for cell in failed:
        check(sum(cell in l for l in put_off) <= 1, "put off again", cell, put_off)
    expect(sweep(config, out, "--retry-failed", *more, env=gpu()), 0)
    check_same(out, calm, "with memory again")


def little_memory(folder):
    """A device with too little memory for a cell is passed over; one with less takes fewer at once."""
    config = config_of(folder, width="[6, 60]", batch="[40]", epochs=1)
    calm = calm_results(folder, config)
    for memory in ("%d,%d" % (1 << 18, 64 << 20), "%d,%d" % (64 << 20, 1 << 18)):
        out = os.path.join(folder, "out")
        expect(sweep(config, out, env=gpu(DEVICES=2, MEMORY=memory)), 0)
        big = 0 if memory.startswith("67") else 1
        check(devices_used(out) == {"emulated %d" % big}, "the large device", devices_used(out))
        check_same(out, calm, memory)
        shutil.rmtree(out)


def hangs(folder):
    """A kernel that never ends: one line within the limit, exit 1; afterwards it goes on as ever."""
    config = config_of(folder, seed="[0]", checkpoint_epochs=1, eval_epochs="end", epochs=4)
    calm = calm_results(folder, config)
    path, out = os.path.join(folder, "summary"), os.path.join(folder, "out")
    expect(sweep(config, out, env=gpu(SUMMARY=path)), 0)
    launches = summary_of(path)["cudaLaunchKernel"]
    shutil.rmtree(out)
    for at, what in ((launches * 3 // 4, "mlp-w6-b"), (3, "planning the sweep")):
        begun = time.time()
        hang = gpu(HANG="cudaLaunchKernel:%d" % at, DEVICES=2)
        ended = expect(
            sweep(config, out, "hang_seconds=1.5", env=hang), 1, what, "has not answered for"
        )
        # The limit and 2 seconds, after what it takes to get there.
        check(time.time() - begun < 60, "in time", time.time() - begun)
        check(len(error_lines(ended)) == 1, "one line", ended)
        check(
            re.search(r"device [01] has not.*stream 0x[0-9a-f]+, epoch \d+, step \d+", ended.err),
            "line",
            ended,
        )
    # 0: nobody watches.
    expect(sweep(config, out, "hang_seconds=0", env=gpu()), 0)
    check_same(out, calm, "after a hang")


def planned(folder):
    """--dry-run shows for each device what it starts with, and what does not fit anywhere."""
    config = config_of(folder, width="[6, 1000]", batch="[20]", seed="[0, 1, 2]", epochs=1)
    dry = ["sweep", config, "--dry-run", "out=" + os.path.join(folder, "none")]
    more = ["device=0,2", "cells_per_device=2"]
    plan = json.loads(expect(run(dry + ["--json"] + more, env=gpu(DEVICES=3)), 0).out)
    check([d["device"] for d in plan["devices"]] == [0, 2] and plan["jobs"] == 4, "devices", plan)
    for d in plan["devices"]:
        check(d["cells"] == 2 and d["fits"] and d["data_bytes"] > 60 * 64, "two cells", d)
        check(d["bytes"] == d["cell_bytes"] + d["data_bytes"] <= d["limit_bytes"], "bytes", d)
    large = max(c["memory_bytes"] for c in plan["cells"])
    less = gpu(DEVICES=2, MEMORY=large)
    ended = expect(run(dry, env=less), 0)
    check("device 1 (emulated (cusim)): " in ended.out, "a line for each", ended)
    check("3 cells do not fit on any device" in ended.out, "what does not fit", ended)
    plan = json.loads(expect(run(dry + ["--json"], env=less), 0).out)
    check(not plan["devices"][0]["fits"], "does not fit", plan)
    ended = run(["info", "--json"], env=environment(CUSIM_DEVICES="2", CUSIM_CAPABILITY="100"))
    found = [d for d in json.loads(ended.out)["devices"] if d["backend"] == "cuda"]
    check([d["device"] for d in found] == [0, 1], "info", found)
    check(found[1]["capability"] == "10.0" and found[1]["bytes"] > 0, "info", found)


def plan_and_allocations(folder):
    """What is planned for a cell with its data is what the device gives out at most, from both
    sides: nothing is forgotten, and less than half of it is for the host or never used."""
    for i, keys in enumerate((
        dict(model="mlp", width="[64]", metrics="A"),
        dict(model="convnet", width="[4]", batch_norm="true", metrics="A,B"),
        dict(model="vit", width="[6]", depth=1, metrics="A,B,C"),
        dict(model="convnet", width="[4]", metrics="hessian.trace,ggn.trace"),
    )):
        small = dict(batch="[20]", seed="[0]", n_train=40, epochs=1, save_epochs="end")
        small.update(keys, eval_epochs="end", measure_epochs="end", cells_per_device=1)
        config, path = config_of(folder, **small), os.path.join(folder, "summary")
        dry = expect(run(["sweep", config, "--dry-run", "--json"], env=gpu()), 0)
        plan = json.loads(dry.out)["devices"][0]["bytes"]
        out = os.path.join(folder, "out%d" % i)
        expect(sweep(config, out, env=gpu(SUMMARY=path)), 0)
        peak = summary_of(path)["peak_bytes_0"]
        check(peak <= plan <= 2 * peak, "planned and allocated", keys, plan, peak)


def choices_in_the_folder(folder):
    """What is measured for the cells of a sweep stands in its folder: a run that goes on takes it
    from there, not from this machine's cache."""
    keys = dict(width="[3]", batch="[20]", seed="[0]", n_train=40, epochs=1, metrics="B")
    config, out = config_of(folder, **keys), os.path.join(folder, "out")
    env = gpu(NAME="some GPU")
    env["XDG_CACHE_HOME"] = os.path.join(folder, "cache")
    expect(sweep(config, out, "eval_epochs=end", "measure_epochs=end", env=env), 0)
    products = []
    for path in (out, os.path.join(folder, "cache", "lipsweep")):
        with open(os.path.join(path, "cuda-choices.tsv")) as f:
            products.append({line.split("\t")[0] for line in f})
    kept, cached = products
    check(kept and kept <= cached, "products", kept, cached)
    # The planning's are in the cache alone; it goes back with one cotangent, measuring with ten.
    back = [{p for p in found if " linear_vjp " in p} for found in products]
    check(len(back[0]) > 1 and back[0] == back[1], "backward passes", kept, cached)


def measured_choices(folder):
    """info lists what was measured on this machine, as text and as JSON."""
    os.makedirs(os.path.join(folder, "lipsweep"))
    with open(os.path.join(folder, "lipsweep", "cuda-choices.tsv"), "w") as f:
        f.write("GPU, cuBLAS: conv f32 1 2\ttile\ttile 1 ms\ntorn line\nGPU: x\tlibrary\t2 ms\n")
    env = gpu(DEVICES=1)
    env["XDG_CACHE_HOME"] = folder
    found = json.loads(run(["info", "--json"], env=env).out)["choices"]
    want = [
        {"product": "GPU, cuBLAS: conv f32 1 2", "chosen": "tile", "times": "tile 1 ms"},
        {"product": "GPU: x", "chosen": "library", "times": "2 ms"},
    ]
    check(found == want, "choices", found)
    text = run(["info"], env=env).out
    check("choices measured" in text and "GPU: x: library; 2 ms" in text, "as text", text)


def bad_devices(folder):
    """One clear line each, exit 2, nothing made."""
    config, out = config_of(folder), os.path.join(folder, "out")
    list_text = "must be all, or numbers from 0 to 1023 joined by commas, not "
    for text, more, faults in (
        ("there is no device 7, this machine has 2 (0..1)", ["device=7"], dict(DEVICES=2)),
        ("there is no device 2, this machine has 2 (0..1)", ["device=0,2"], dict(DEVICES=2)),
        ("device: names device 1 twice", ["device=1,0,1"], dict(DEVICES=2)),
        ("device: " + list_text + "''", ["device="], {}),
        ("device: " + list_text + "'-1'", ["device=-1"], {}),
        ("device: " + list_text + "'0,,1'", ["device=0,,1"], {}),
        ("device: " + list_text + "'0,x'", ["device=0,x"], {}),
        ("device: " + list_text + "'1024'", ["device=1024"], {}),
        (
            "no GPU is visible (CUDA_VISIBLE_DEVICES is '')",
            ["device=all"],
            dict(CUDA_VISIBLE_DEVICES=""),
        ),
        ("this machine has no GPU", ["device=0,1"], dict(DEVICES=0)),
        (
            "cells_per_device: must be auto or a whole number from 1 to 4096, not '0'",
            ["cells_per_device=0"],
            {},
        ),
        ("cells_per_device: must be auto or a whole number", ["cells_per_device=-2"], {}),
        (
            "cells_per_device: 2 needs backend: cuda, not cpu",
            ["cells_per_device=2", "backend=cpu"],
            {},
        ),
        ("jobs: 2 is less than cells_per_device 3", ["jobs=2", "cells_per_device=3"], {}),
        (
            "jobs: 9 is more than cells_per_device 2 on 2 devices",
            ["jobs=9", "cells_per_device=2"],
            dict(DEVICES=2),
        ),
        (
            "jobs: 1 leaves some of the devices 0,1 without a cell",
            ["jobs=1", "device=0,1"],
            dict(DEVICES=2),
        ),
        ("hang_seconds: must be a number from 0", ["hang_seconds=-1"], {}),
    ):
        ended = expect(sweep(config, out, *more, env=gpu(**faults)), 2, text)
        check(len(error_lines(ended)) == 1, "one line", ended)
        check(not os.path.exists(os.path.join(out, "cells")), "no cells", text)
    empty = write_config(folder, "empty.yaml", backend="cuda", emulated="true", device="[]")
    expect(sweep(empty, out, env=gpu()), 2, "empty.yaml:", "device: the list is empty")
    listed = config_of(folder, device="[1, 0]")
    expect(sweep(listed, out, env=gpu(DEVICES=2)), 0)


if not os.path.exists(EMULATED):
    print("no emulated device: built without CUDA\n0 passed, 0 failed, 1 skipped")
    sys.exit(0)
main(
    same_on_any,
    data_of_their_own,
    steps_one_by_one,
    one_copy_of_the_data,
    lost_among_others,
    lost_by_one_cell,
    out_of_memory_beside_others,
    no_more_memory,
    little_memory,
    hangs,
    planned,
    plan_and_allocations,
    choices_in_the_folder,
    measured_choices,
    bad_devices,
)
