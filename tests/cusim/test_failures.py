"""A sweep on the emulated CUDA device while calls fail: the n-th of each function that it makes, too little memory, a kernel
that faults. Each run ends with a documented exit code and says what failed; the same command without the fault then gives the
same bytes as a run that nothing happened to; nothing on the device leaks."""
import os, sys
from concurrent.futures import ThreadPoolExecutor

SIM = os.environ.get("SIM", "")
if not SIM:
    print("0 passed, 0 failed, 1 skipped")
    sys.exit(0)
os.environ["LIPSWEEP"] = os.path.join(SIM, "lipsweep")
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "faults"))
from faultlib import *

# Functions that end or describe something: their failure may go unnoticed.
QUIET = ("Destroy", "Free", "GetLastError", "PeekAtLastError", "GetVersion", "GetProperty", "MemGetInfo")
# Failed, partial, memory, and a fault in the device; 0 where a second way was found.
CODES = (0, 1, 2, 3, 5)

# Every call of each function: for who has minutes.
THOROUGH = bool(os.environ.get("THOROUGH"))


def small(folder):
    return write_config(
        folder, backend="cuda", emulated="true", width="[3]", seed="[0, 1]", epochs=1, n_train=20, batch=10,
        measure_n=4, eval_epochs='"end"', save_epochs='"end"', measure_epochs='"end"', metrics="A,B", jobs=1,
        cuda_linear="own",  # a choice by measured time would make the calls vary
    )


def device_run(config, out, *more, **switches):
    """The sweep with the device's switches set; returns (ended, what the device counted)."""
    summary = out + ".summary"
    if os.path.exists(summary):
        os.remove(summary)
    ended = sweep(config, out, *more, env=environment(CUSIM_SUMMARY=summary, **switches))
    counted = {}
    if os.path.exists(summary):
        with open(summary) as f:
            counted = dict(line.split() for line in f)
    return ended, counted


def clean(folder):
    config, out = small(folder), os.path.join(folder, "clean")
    ended, counted = device_run(config, out)
    expect(ended, 0, "emulated")
    check(counted["device_bytes"] == "0" and counted["pinned_bytes"] == "0", "leaks", counted)
    calls = {k: int(v) for k, v in counted.items() if k.startswith("cu")}
    check(calls.get("cudaLaunchKernel", 0) > 0, "no kernel ran", counted)
    return config, results(out), calls


def recovers(config, out, reference, what):
    """Without the fault the same command ends as if nothing had been."""
    ended, _ = device_run(config, out, "--retry-failed")
    expect(ended, 0)
    check_same(out, reference, what)


def places(function, n):
    """Which of a function's n calls to fail: the first, the middle and the last; more of those that take memory."""
    if THOROUGH:
        return range(1, n + 1)
    if SANITIZED:
        return [(n + 1) // 2]
    steps = 8 if "Malloc" in function else 2
    return sorted({1 + (n - 1) * k // steps for k in range(steps + 1)})


def one_failure(folder, config, reference, variable, quiet, function, at, recover):
    out = os.path.join(folder, "%s-%d" % (function, at))
    ended, counted = device_run(config, out, **{variable: "%s:%d" % (function, at)})
    what = "%s=%s:%d" % (variable, function, at)
    check(ended.code in CODES, what + ": exit code", ended)
    check("Sanitizer" not in ended.err and "runtime error:" not in ended.err, what, ended)
    if not quiet and ended.code != 0:
        check(error_lines(ended) or "failed" in ended.err, what + ": not a word", ended)
    if variable == "CUSIM_FAIL" and not quiet:
        check(counted.get("device_bytes") == "0", what + ": device memory leaks", counted, ended)
    if ended.code == 0:
        check_same(out, reference, what)
    elif recover:
        recovers(config, out, reference, what + ", run again")


def failing(folder, variable, quiet):
    config, reference, calls = clean(folder)
    todo = []
    for function, n in sorted(calls.items()):
        if quiet == any(q in function for q in QUIET):
            picked = places(function, n)
            todo += [(function, at, THOROUGH or at == picked[len(picked) // 2]) for at in picked]
    check(todo, "no function was tried")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: one_failure(folder, config, reference, variable, quiet, *job), todo))


def failing_calls(folder):
    failing(folder, "CUSIM_FAIL", False)


def failing_ends(folder):
    failing(folder, "CUSIM_FAIL", True)


def faulting_kernels(folder):
    """An illegal address in a kernel: the device is lost to the process."""
    config, reference, calls = clean(folder)
    faults = 0
    n, graphs = calls["cudaLaunchKernel"], calls["cudaGraphLaunch"]
    for function, at in [("cudaLaunchKernel", k) for k in (1, n // 4, n // 2, n)] + [("cudaGraphLaunch", graphs)]:
        out = os.path.join(folder, "fault-%s-%d" % (function, at))
        ended, counted = device_run(config, out, CUSIM_STICKY="%s:%d" % (function, at))
        check(ended.code in CODES, "exit code", ended)
        # A sweep times a few steps first, as many as it takes: it may end before that kernel.
        if ended.code == 0 and "illegal" not in ended.err:
            check(int(counted[function]) < at, "a fault that nobody saw", ended, counted)
            check_same(out, reference, "without a fault")
            continue
        faults += 1
        check("illegal" in ended.err, "the fault is named", ended)
        recovers(config, out, reference, "after a fault in %s %d" % (function, at))
    check(faults > 0, "no kernel faulted")


def little_memory(folder):
    """From no memory to enough: out of memory is said with bytes, or the results are right."""
    config, reference, _ = clean(folder)
    enough = 0
    for kib in (0, 1, 4, 16, 64, 256, 1024, 4096, 65536, 1048576):
        out = os.path.join(folder, "memory-%d" % kib)
        ended, counted = device_run(config, out, CUSIM_MEMORY=str(kib << 10))
        check(ended.code in CODES, "exit code", ended)
        check(counted.get("device_bytes") == "0", "device memory leaks", counted, ended)
        if ended.code == 0:
            enough += 1
            check_same(out, reference, "%d KiB" % kib)
        else:
            check("out of" in ended.err and "memory" in ended.err, "memory is what was missing", ended)
            check(enough == 0, "%d KiB fail, less was enough" % kib, ended)
    check(enough > 0, "never enough")


def orders(folder):
    """The same bytes in every order of threads."""
    config, reference, _ = clean(folder)
    for order in ("reverse", "random:1", "random:2"):
        out = os.path.join(folder, order.replace(":", ""))
        ended, _ = device_run(config, out, CUSIM_ORDER=order)
        expect(ended, 0)
        check_same(out, reference, order)


def refused_without_asking(folder):
    """An emulated device is for tests: a sweep on it has to say that it means it."""
    config, out = small(folder), os.path.join(folder, "out")
    expect(sweep(config, out, "emulated=false"), 2, "emulated")
    check(not os.path.exists(os.path.join(out, "results.csv")), "something ran")


def stamped(folder):
    """Every record says that it was made on an emulated device."""
    config, out = small(folder), os.path.join(folder, "out")
    expect(sweep(config, out), 0)
    table = open(os.path.join(out, "results.csv")).read().splitlines()
    column = table[0].split(",").index("device")
    value = table[0].split(",").index("value")
    rows = [row.split(",") for row in table[1:]]
    check(rows and all(r[column] == "emulated" for r in rows if r[value]), "devices", rows)


main(failing_calls, failing_ends, faulting_kernels, little_memory, orders, refused_without_asking, stamped)
