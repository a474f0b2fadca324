"""Divergence, the same bits whatever the threads, and many cells in one process."""
import json, os, random, shutil, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faultlib import *


def cell_names(out):
    return sorted(os.listdir(os.path.join(out, "cells")))


def divergence(folder):
    """lr 1e6: the cell is recorded with its epoch, the others go on, exit 3; no NaN is stored."""
    config, out = write_config(
        folder, lr="[0.05, 1000000.0]", width="[5, 16]", depth=3, seed="[0]"
    ), os.path.join(folder, "out")
    ended = expect(sweep(config, out), 3)
    check("diverged" in ended.err, "stderr says so", ended)
    failed = [c for c in cell_names(out) if os.path.exists(os.path.join(out, "cells", c, "failed"))]
    done = [c for c in cell_names(out) if os.path.exists(os.path.join(out, "cells", c, "done"))]
    check(
        len(failed) == 2 and len(done) == 2 and not set(failed) & set(done), "cells", failed, done
    )
    for cell in failed:
        with open(os.path.join(out, "cells", cell, "failed")) as f:
            note = json.load(f)
        check(
            note["reason"] == "diverged" and 1 <= note["epoch"] <= 6 and "step" in note["message"],
            "the note",
            note,
        )
    table = open(os.path.join(out, "results.csv")).read()
    check("nan" not in table.lower() and "inf," not in table.lower(), "results.csv", table)
    # The same command: nothing is run again, the same answer.
    before = results(out)
    expect(sweep(config, out), 3)
    check_same(out, before, "the second time")
    # Asked to try them again: the same end.
    expect(sweep(config, out, "--retry-failed"), 3)
    check_same(out, before, "tried again")
    # Divergence is as deterministic as the rest.
    again = os.path.join(folder, "again")
    expect(sweep(config, again, "jobs=1"), 3)
    check_same(again, before, "in another process")


def only_diverging_cells(folder):
    config, out = write_config(
        folder, lr=1e6, width="[5]", depth=3, seed="[0]", optimizer="sgd"
    ), os.path.join(folder, "out")
    expect(sweep(config, out), 3)
    expect(run(["status", out]), 0)


def threads_do_not_matter(folder):
    """The same bytes for any number of jobs and OpenMP threads, both models, augmentation."""
    for number, model in enumerate(
        (
            dict(),
            dict(model="convnet", width="[1, 3]", epochs=2, augment="true"),
            dict(
                model="convnet",
                width="[2]",
                epochs=2,
                batch_norm="true",
                optimizer="adam",
                lr=0.001,
            ),
        )
    ):
        config = write_config(folder, **model)
        expected = None
        for jobs, threads in ((1, "1"), (2, "1"), (1, "2"), (2, "4"), (3, "3")):
            out = os.path.join(folder, "out%d-%d-%s" % (number, jobs, threads))
            env = environment(OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads)
            expect(sweep(config, out, "jobs=%d" % jobs, env=env), 0)
            expected = expected or results(out)
            check_same(out, expected, "%d jobs, %s threads, %s" % (jobs, threads, model))


def jobs_and_seeds_are_apart(folder):
    """A cell alone has the bytes that it has in a sweep of many."""
    whole, out = os.path.join(folder, "whole"), os.path.join(folder, "one")
    expect(sweep(write_config(folder), whole), 0)
    expect(sweep(write_config(folder, width="[5]", seed="[1]"), out), 0)
    found = {p.split(os.sep, 2)[2]: b for p, b in results(out).items() if p.startswith("cells")}
    twin = None
    for cell in cell_names(whole):
        if "w5" in cell and "s1" in cell:
            twin = {
                p.split(os.sep, 2)[2]: b
                for p, b in results(whole).items()
                if p.startswith(os.path.join("cells", cell))
            }
    check(
        twin is not None and twin["metrics.jsonl"] == found["metrics.jsonl"],
        "metrics differ",
        cell_names(whole),
    )


def soak(folder):
    """A thousand tiny cells in one process: memory and open files stay as after the fiftieth."""
    config = write_config(
        folder,
        data="sine",
        data_dir=None,
        n_train=16,
        n_test=8,
        label_noise=None,
        loss="mse",
        metrics="B",
        width="[1, 2, 3, 4]",
        seed="0..249",
        epochs=1,
        batch=8,
        measure_n=4,
        save_epochs='"none"',
        checkpoint_epochs=0,
        eval_epochs='"end"',
        measure_epochs='"end"',
        jobs=1,
    )
    out = os.path.join(folder, "out")
    process = start(["sweep", config, "out=" + out])
    cells, samples = os.path.join(out, "cells"), []
    while process.poll() is None:
        try:
            begun = len(os.listdir(cells))
            with open("/proc/%d/status" % process.pid) as f:
                rss = [int(l.split()[1]) for l in f if l.startswith("VmRSS")][0]
            samples.append((begun, rss, len(os.listdir("/proc/%d/fd" % process.pid))))
        except (OSError, IndexError):
            pass
        time.sleep(0.02)
    expect(Ended(process), 0)
    check(sum("done" in f for _, _, f in os.walk(cells)) == 1000, "cells done")
    early = [s for s in samples if 50 <= s[0] <= 250]
    late = [s for s in samples if 800 <= s[0] <= 995]  # the report at the end is another matter
    check(len(early) >= 5 and len(late) >= 5, "samples", len(samples), samples[-3:])
    rss = [max(s[1] for s in part) for part in (early, late)]
    fds = [max(s[2] for s in part) for part in (early, late)]
    print("  resident %d, then %d KiB; open files %d, then %d" % (rss[0], rss[1], fds[0], fds[1]))
    # 1 % and a heap's page or two; address sanitizer keeps freed memory, so there only files count.
    check(SANITIZED or rss[1] <= rss[0] * 1.01 + 256, "memory grows", rss)
    check(fds[1] <= fds[0], "open files grow", fds)


main(divergence, only_diverging_cells, threads_do_not_matter, jobs_and_seeds_are_apart, soak)
