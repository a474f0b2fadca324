"""What the fault tests share: a tiny experiment, the program under faults, comparing outputs."""
import os, random, shutil, struct, subprocess, sys, tempfile, time, traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build/plain"))
PROGRAM = os.path.join(ROOT, os.environ.get("LIPSWEEP", "build/plain/lipsweep"))
SANITIZED = os.path.basename(BUILD) != "plain"  # some ten times slower
TIMEOUT = 300  # a hang is a failure; nothing here takes a tenth of it


class Skip(Exception):
    """The machine does not offer what the test needs; the text says what."""


def main(*tests):
    """Runs the tests, each with an empty folder; ends the program with the counts."""
    passed = failed = skipped = 0
    wanted = sys.argv[1:]
    for test in tests:
        if wanted and not any(w in test.__name__ for w in wanted):
            continue
        folder = tempfile.mkdtemp(prefix="lipsweep-fault-")
        start = time.time()
        try:
            test(folder)
            passed, word = passed + 1, "PASS"
        except Skip as reason:
            skipped, word = skipped + 1, "SKIP (%s)" % reason
        except Exception:
            traceback.print_exc(file=sys.stdout)
            failed, word = failed + 1, "FAIL"
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print("%-44s %s  %.1f s" % (test.__name__, word, time.time() - start), flush=True)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    sys.exit(failed > 0)


def times(n):
    """How often to repeat something: less where the program is slow."""
    return n if not SANITIZED else max(1, n // 8)


def check(condition, text, *more):
    if not condition:
        raise AssertionError("\n".join([text] + [str(m) for m in more]))


def write_images(folder, n_train=80, n_test=40, side=8, seed=1):
    """An IDX set: ten classes, each a bright square of its own place in noise."""
    rng = random.Random(seed)
    os.makedirs(folder, exist_ok=True)
    for stem, n in (("train", n_train), ("t10k", n_test)):
        labels = [(7 * i + 3) % 10 for i in range(n)]
        pixels = bytearray()
        for label in labels:
            image = [rng.randrange(120) for _ in range(side * side)]
            for k in range(3):
                image[(label * 5 + k * 9) % (side * side)] = 255
            pixels += bytes(image)
        with open(os.path.join(folder, stem + "-images-idx3-ubyte"), "wb") as f:
            f.write(struct.pack(">IIII", 0x803, n, side, side) + pixels)
        with open(os.path.join(folder, stem + "-labels-idx1-ubyte"), "wb") as f:
            f.write(struct.pack(">II", 0x801, n) + bytes(labels))


SMALL = dict(
    data="idx",
    n_train=60,
    label_noise=0.2,
    model="mlp",
    width="[2, 5, 16]",
    seed="[0, 1]",
    epochs=6,
    batch=16,
    lr=0.05,
    checkpoint_epochs=1,
    checkpoint_seconds=0,
    eval_epochs='"every:1"',
    save_epochs='"0,3,end"',
    measure_epochs='"0,end"',
    metrics="A,B,F",
    measure_n=20,
    jobs=2,
)


def write_config(folder, name="small.yaml", **settings):
    """A YAML file of SMALL with changes (None removes a key); makes its data. Returns its path."""
    data = os.path.join(folder, "data")
    if not os.path.isdir(data):
        write_images(data)
    keys = dict(SMALL, data_dir=data)
    keys.update(settings)
    path = os.path.join(folder, name)
    with open(path, "w") as f:
        f.writelines("%s: %s\n" % (k, v) for k, v in keys.items() if v is not None)
    return path


def environment(**more):
    """Without gnuplot: figures take longer than all the rest, and are tests/report's business."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LIPSWEEP")}
    env["PATH"] = "/nonexistent"
    env.update(more)
    return env


def start(args, env=None, **options):
    return subprocess.Popen(
        [PROGRAM] + args,
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options
    )


class Ended:
    def __init__(self, process, timeout=TIMEOUT):
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        self.code, self.out, self.err = (
            process.returncode,
            out.decode("utf-8", "replace"),
            err.decode("utf-8", "replace"),
        )

    def __str__(self):
        return "exit %s\nstdout: %s\nstderr: %s" % (self.code, self.out[-2000:], self.err[-3000:])


def run(args, env=None, timeout=TIMEOUT, **options):
    return Ended(start(args, env, **options), timeout)


def sweep(config, out, *more, **options):
    return run(["sweep", config, "out=" + out] + list(more), **options)


def expect(ended, code, *texts):
    """The documented exit code, no sanitizer report, and the texts on stderr."""
    check(ended.code == code, "expected exit %d" % code, ended)
    check(
        "Sanitizer" not in ended.err and "runtime error:" not in ended.err,
        "sanitizer report",
        ended,
    )
    for text in texts:
        check(text in ended.err, "stderr lacks %r" % text, ended)
    return ended


def error_lines(ended):
    return [l for l in ended.err.splitlines() if l.startswith("error: ")]


# Files that depend on time or on the machine, or that only a resume needs.
VOLATILE = {"timing.jsonl", "progress.json", "lock", "results.sqlite"}


# Keys that say where and how it runs.
RUNNING = (b"out", b"jobs", b"name", b"device", b"cells_per_device", b"hang_seconds")


def settled(name, data):
    """sweep.yaml without the keys that say where and how it runs."""
    if name != "sweep.yaml":
        return data
    return b"".join(
        l for l in data.splitlines(True) if l.split(b":")[0] not in RUNNING
    )


def results(out):
    """Everything under OUT that must not depend on what happened on the way: {path: bytes}."""
    found = {}
    for folder, _, files in os.walk(out):
        below = os.path.relpath(folder, out)
        if below.split(os.sep)[0] == "report":
            continue
        for name in files:
            if name not in VOLATILE:
                path = os.path.join(folder, name)
                with open(path, "rb") as f:
                    found[os.path.normpath(os.path.join(below, name))] = settled(name, f.read())
    return found


def check_same(out, reference, what):
    ours = results(out)
    only_ours, only_reference = sorted(set(ours) - set(reference)), sorted(
        set(reference) - set(ours)
    )
    check(
        not only_ours and not only_reference,
        what + ": other files",
        "more: %s" % only_ours,
        "missing: %s" % only_reference,
    )
    for path in sorted(ours):
        check(
            ours[path] == reference[path],
            "%s: %s differs" % (what, path),
            ours[path][:400],
            reference[path][:400],
        )


_interposer = None


def interposer():
    """The library of interpose.c, built once."""
    global _interposer
    if not _interposer:
        folder = os.path.join(BUILD, "tests", "faults")
        os.makedirs(folder, exist_ok=True)
        _interposer = os.path.join(folder, "interpose.so")
        temp = "%s.%d" % (_interposer, os.getpid())
        source = os.path.join(ROOT, "tests", "faults", "interpose.c")
        subprocess.run(
            ["cc", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", source, "-o", temp, "-ldl"],
            check=True,
        )
        os.rename(temp, _interposer)
    return _interposer


def faulty(path, at, do="", calls=None, keep=False, log=None):
    """Environment in which call `at` below `path` fails or ends the program (interpose.c)."""
    env = environment(LD_PRELOAD=interposer(), FAULT_PATH=path, FAULT_AT=str(at), FAULT_DO=do)
    env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    if calls:
        env["FAULT_CALLS"] = calls
    if keep:
        env["FAULT_KEEP"] = "1"
    if log:
        env["FAULT_LOG"] = log
    return env


def no_temps(out):
    left = [
        os.path.join(d, f)
        for d, _, fs in os.walk(out)
        for f in fs
        if ".tmp." in f or f.endswith(".new")
    ]
    check(not left, "temporary files left", left)
