"""SIGTERM and SIGUSR2 checkpoint and exit 75, SIGINT 130; the same command then ends the same."""
import os, random, shutil, signal, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faultlib import *

# Long enough to be met in the middle, short to finish: no checkpoint but those that signals cause.
LONG = dict(
    width="[5, 16]",
    seed="[0]",
    epochs=400,
    checkpoint_epochs=0,
    checkpoint_seconds=0,
    eval_epochs='"every:50"',
    measure_epochs='"end"',
    save_epochs='"end"',
)


def begun(out, process):
    """Does the process hold OUT, and has a cell metrics?"""
    try:
        with open(os.path.join(out, "lock")) as f:
            if "process %d " % process.pid not in f.read():
                return False
    except OSError:
        return False
    return any(
        os.path.getsize(os.path.join(d, "metrics.jsonl")) > 0
        for d, _, files in os.walk(out)
        if "metrics.jsonl" in files
    )


def wait_for_begin(process, out):
    deadline = time.monotonic() + TIMEOUT
    while not begun(out, process):
        check(process.poll() is None and time.monotonic() < deadline, "the sweep did not begin")
        time.sleep(0.002)


def states(out):
    return [d for d, _, files in os.walk(out) if "state.safetensors" in files]


def once(folder, sent, code, word):
    config = write_config(folder, **LONG)
    reference, out = os.path.join(folder, "reference"), os.path.join(folder, "out")
    expect(sweep(config, reference), 0)
    process = start(["sweep", config, "out=" + out])
    wait_for_begin(process, out)
    process.send_signal(sent)
    expect(Ended(process), code, word)
    check(states(out), "no checkpoint was written")
    no_temps(out)
    expect(sweep(config, out), 0)
    check_same(out, results(reference), "after " + sent.name)


def term_exits_75(folder):
    once(folder, signal.SIGTERM, 75, "SIGTERM")


def usr2_exits_75(folder):
    once(folder, signal.SIGUSR2, 75, "SIGUSR2")


def int_exits_130(folder):
    once(folder, signal.SIGINT, 130, "interrupted")


def requeue_loop(folder):
    """Stopped at random instants, the command started again each time: what a batch system does."""
    config = write_config(folder, **LONG)
    reference, out = os.path.join(folder, "reference"), os.path.join(folder, "out")
    expect(sweep(config, reference), 0)
    rng, codes = random.Random(3), []
    while len(codes) < 40:
        process = start(["sweep", config, "out=" + out])
        if len(codes) < 12:
            time.sleep(rng.uniform(0, 0.15))
            process.send_signal(rng.choice([signal.SIGTERM, signal.SIGUSR2]))
        codes.append(Ended(process).code)
        if codes[-1] == 0:
            break
        # Before the program has begun to listen a signal simply ends it.
        check(codes[-1] in (75, -signal.SIGTERM, -signal.SIGUSR2), "exit codes %s" % codes)
    check(codes[-1] == 0 and 75 in codes, "exit codes %s" % codes)
    check_same(out, results(reference), "after the exits %s" % codes)


def second_signal_ends_at_once(folder):
    """Also while the first one's checkpoint is being written: what is on disk stays usable."""
    config = write_config(folder, **LONG)
    reference, out = os.path.join(folder, "reference"), os.path.join(folder, "out")
    expect(sweep(config, reference), 0)
    for sent, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        for delay in (0, 0.0005, 0.002):
            process = start(["sweep", config, "out=" + out])
            wait_for_begin(process, out)
            process.send_signal(sent)
            time.sleep(delay)
            process.send_signal(sent)
            ended = Ended(process)
            # The first may have been quicker.
            check(ended.code in (code, 75 if sent == signal.SIGTERM else 130), "exit code", ended)
        expect(sweep(config, out), 0)
        check_same(out, results(reference), "after two times " + sent.name)
        shutil.rmtree(out)


def during_start_and_end(folder):
    """A signal at any time of a short sweep leaves either its end or something to go on from."""
    config = write_config(folder)
    reference, out = os.path.join(folder, "reference"), os.path.join(folder, "out")
    began = time.monotonic()
    expect(sweep(config, reference), 0)
    took, rng = time.monotonic() - began, random.Random(5)
    for _ in range(25):
        process = start(["sweep", config, "out=" + out])
        time.sleep(rng.uniform(0, took))
        process.send_signal(signal.SIGTERM)
        ended = Ended(process)
        check(ended.code in (0, 75, -signal.SIGTERM), "exit code", ended)
        if ended.code == 0:
            check_same(out, results(reference), "a sweep that ended")
            shutil.rmtree(out)
    expect(sweep(config, out), 0)
    check_same(out, results(reference), "after signals at random instants")


main(
    term_exits_75,
    usr2_exits_75,
    int_exits_130,
    requeue_loop,
    second_signal_ends_at_once,
    during_start_and_end,
)
