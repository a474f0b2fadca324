"""kill -9 at any instant, again and again; the same command then ends with the same bytes."""
import os, random, re, shutil, signal, subprocess, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faultlib import *

KILLS = times(170)  # at random instants of time
STATE_KILLS = times(30)  # inside checkpoints
IN_A_ROW = 10


def reference(folder, config):
    out = os.path.join(folder, "reference")
    began = time.monotonic()
    expect(sweep(config, out), 0)
    took = time.monotonic() - began
    no_temps(out)
    return results(out), took


def cells_done(out):
    return sum("done" in files for _, _, files in os.walk(out))


def random_instants(folder):
    config = write_config(folder, width="[2, 16]")
    expected, took = reference(folder, config)
    rng, out, kills, rounds, row = random.Random(20240601), os.path.join(folder, "out"), 0, 0, 0
    while kills < KILLS:
        process = start(["sweep", config, "out=" + out])
        try:
            process.wait(timeout=rng.uniform(0, took))
        except subprocess.TimeoutExpired:
            process.kill()
        ended = Ended(process)
        if ended.code == -signal.SIGKILL:
            kills, row = kills + 1, row + 1
            if row < IN_A_ROW:
                continue
            ended = sweep(config, out)
        expect(ended, 0)
        check_same(out, expected, "after %d kills in a row (kill %d)" % (row, kills))
        no_temps(out)
        shutil.rmtree(out)
        rounds, row = rounds + 1, 0
    check(rounds >= KILLS // IN_A_ROW, "the sweep ended only %d times" % rounds)


def inside_checkpoints(folder):
    """The n-th operation on a state file is the last one, n random; a write may be torn in half."""
    config = write_config(folder, width="[2, 16]", epochs=4, jobs=1)
    expected, _ = reference(folder, config)
    log = os.path.join(folder, "log")
    expect(sweep(config, os.path.join(folder, "counted"), env=faulty("/state", 0, log=log)), 0)
    total = len(open(log).readlines())
    check(total >= 40, "only %d operations on state files" % total)
    rng, out, kills, row = random.Random(7), os.path.join(folder, "out"), 0, 0
    while kills < STATE_KILLS or row:
        at, do = rng.randint(1, total // 2), rng.choice(["kill", "torn", "killafter"])
        ended = sweep(config, out, env=faulty("/state", at, do))
        if ended.code == -signal.SIGKILL:
            kills, row = kills + 1, row + 1
            if row < IN_A_ROW and kills < STATE_KILLS:
                continue
            ended = sweep(config, out)
        expect(ended, 0)
        check_same(out, expected, "after %d kills in checkpoints" % row)
        no_temps(out)
        shutil.rmtree(out)
        row = 0


def every_file_operation(folder):
    """Crash before each single operation on the output folder, and in the middle of each write."""
    config = write_config(folder, width="[3]", seed="[0]", epochs=2, jobs=1, save_epochs='"end"')
    expected, _ = reference(folder, config)
    log, out = os.path.join(folder, "log"), os.path.join(folder, "out")
    expect(sweep(config, out, env=faulty(out, 0, log=log)), 0)
    calls = [line.split(" ", 2) for line in open(log).read().splitlines()]
    # The report's files are made again from the cells each time: a few of its operations will do.
    calls = [c for c in calls if not ("/report/" in c[2] or "sqlite" in c[2]) or int(c[0]) % 4 == 0]
    shutil.rmtree(out)
    for number, call, path in calls[:: 1 if not SANITIZED else 9]:
        for do in ("kill", "torn") if call == "write" else ("kill",):
            ended = sweep(config, out, env=faulty(out, number, do))
            check(ended.code == -signal.SIGKILL, "%s at %s %s" % (do, call, path), ended)
            expect(sweep(config, out), 0)
            check_same(out, expected, "%s at operation %s: %s %s" % (do, number, call, path))
            no_temps(out)
            shutil.rmtree(out)
    print("  %d operations" % len(calls))


def restart_makes_progress(folder):
    """Killed after each checkpoint, a run still ends: each restart completes an epoch or a cell."""
    config = write_config(folder, width="[3]", seed="[0, 1]", epochs=3, jobs=1)
    expected, _ = reference(folder, config)
    out, restarts = os.path.join(folder, "out"), 0
    while True:
        # The first rename onto state.safetensors is the first checkpoint of this process.
        ended = sweep(config, out, env=faulty("/state.safetensors", 1, "killafter", "rename"))
        if ended.code == 0:
            break
        check(ended.code == -signal.SIGKILL, "killed after a checkpoint", ended)
        restarts += 1
        check(restarts <= 2 * 3, "%d restarts and no end" % restarts)
    check(restarts >= 3, "only %d restarts" % restarts)
    check_same(out, expected, "after %d restarts" % restarts)


def checkpoint_order(folder):
    """The bytes are on the disk before the name, and the name before the program goes on."""
    config = write_config(folder, width="[3]", seed="[0]", epochs=3, jobs=1)
    log, out = os.path.join(folder, "log"), os.path.join(folder, "out")
    expect(sweep(config, out, env=faulty(out, 0, log=log)), 0)
    calls = [line.split(" ", 2)[1:] for line in open(log).read().splitlines()]
    names = [(c, os.path.basename(p)) for c, p in calls]
    renames = [
        i
        for i, (c, n) in enumerate(names)
        if c == "rename" and re.match(r"(state|epoch-\d+)\.safetensors$|done$", n)
    ]
    check(len(renames) >= 5, "few renames", names)
    for i in renames:
        before = [
            c
            for c, p in calls[:i]
            if os.path.dirname(p) == os.path.dirname(calls[i][1]) and c in ("write", "fsync")
        ]
        check(
            before and before[-1] == "fsync",
            "%s renamed before its fsync" % calls[i][1],
            names[: i + 1],
        )
        after = [(c, p) for c, p in calls[i + 1 :] if c in ("fsync", "rename", "write")]
        while after and after[0][0] == "rename":
            after.pop(0)
        check(
            after and after[0] == ("fsync", os.path.dirname(calls[i][1])),
            "%s: its folder is not synced next" % calls[i][1],
            names[i : i + 4],
        )


def killed_with_two_generations(folder, name):
    """A run that has ended right after its fourth checkpoint; its cell folder."""
    config = write_config(folder, width="[5]", seed="[0]", jobs=1)
    out = os.path.join(folder, name)
    ended = sweep(config, out, env=faulty("/state.safetensors", 4, "killafter", "rename"))
    check(ended.code == -signal.SIGKILL, "killed after a checkpoint", ended)
    cells = os.path.join(out, "cells")
    return config, out, os.path.join(cells, os.listdir(cells)[0])


def damaged_checkpoints(folder):
    """A changed bit, a missing end: said, and the previous one is used; both: the cell fails."""
    config, _, _ = killed_with_two_generations(folder, "reference")
    expect(sweep(config, os.path.join(folder, "reference")), 0)
    expected, rng = results(os.path.join(folder, "reference")), random.Random(11)
    for number in range(times(12)):
        config, out, cell = killed_with_two_generations(folder, "out")
        state, prev = os.path.join(cell, "state.safetensors"), os.path.join(
            cell, "state.prev.safetensors"
        )
        whole = open(state, "rb").read()
        bit = rng.randrange(8 * len(whole))
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        with open(state, "wb") as f:
            f.write(broken if number % 3 else whole[: rng.randrange(len(whole))])
        expect(sweep(config, out), 0, state, "going on from the previous checkpoint " + prev)
        check_same(out, expected, "after bit %d" % bit)
        shutil.rmtree(out)
    config, out, cell = killed_with_two_generations(folder, "out")
    for name in ("state.safetensors", "state.prev.safetensors"):
        with open(os.path.join(cell, name), "r+b") as f:
            f.truncate(100)
    expect(sweep(config, out), 3, "state.safetensors")
    expect(sweep(config, out), 3)
    expect(sweep(config, out, "--retry-failed"), 0)
    check_same(out, expected, "tried again from the start")


def damaged_metrics(folder):
    """metrics.jsonl with a torn last line, or shorter than its checkpoint: the same in the end."""
    config, _, _ = killed_with_two_generations(folder, "reference")
    expect(sweep(config, os.path.join(folder, "reference")), 0)
    expected = results(os.path.join(folder, "reference"))
    for change in (
        lambda b: b + b'{"quantity":"lo',
        lambda b: b + b"\0" * 4096,
        lambda b: b[:-1],
        lambda b: b[:10],
        lambda b: b"",
    ):
        config, out, cell = killed_with_two_generations(folder, "out")
        path = os.path.join(cell, "metrics.jsonl")
        old = open(path, "rb").read()
        with open(path, "wb") as f:
            f.write(change(old))
        expect(sweep(config, out), 0)
        check_same(out, expected, "after damage to metrics.jsonl")
        shutil.rmtree(out)


main(
    random_instants,
    inside_checkpoints,
    every_file_operation,
    restart_makes_progress,
    checkpoint_order,
    damaged_checkpoints,
    damaged_metrics,
)
