"""Output folders that are busy, unwritable, oddly named, full, or of another experiment."""
import fcntl, os, resource, shutil, signal, stat, subprocess, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faultlib import *


def in_use(folder):
    """Two processes on one OUT: the second exits 4 and names the first; nothing is disturbed."""
    config, out = write_config(folder, epochs=600, checkpoint_epochs=50), os.path.join(
        folder, "out"
    )
    first = start(["sweep", config, "out=" + out])
    while first.poll() is None and not os.path.exists(os.path.join(out, "lock")):
        time.sleep(0.005)
    time.sleep(0.1)
    expect(sweep(config, out), 4, "lock", str(first.pid))
    expect(Ended(first), 0)
    expect(sweep(config, out), 0)  # the lock went with its holder
    reference = os.path.join(folder, "reference")
    expect(sweep(config, reference), 0)
    check_same(out, results(reference), "with a second process")


def report_under_the_lock(folder):
    """While the report of a finished sweep is drawn, the folder is still taken."""
    config, out, tools = write_config(folder), os.path.join(folder, "out"), os.path.join(folder, "tools")
    begun, go = os.path.join(folder, "begun"), os.path.join(folder, "go")
    os.makedirs(tools)
    with open(os.path.join(tools, "gnuplot"), "w") as f:
        f.write("#!/bin/sh\nPATH=/bin:/usr/bin\ntouch %s\nwhile [ ! -e %s ]; do sleep 0.02; done\nexit 1\n" % (begun, go))
    os.chmod(f.name, 0o755)
    first = start(["sweep", config, "out=" + out], env=environment(PATH=tools))
    while first.poll() is None and not os.path.exists(begun):
        time.sleep(0.005)
    second = sweep(config, out)
    open(go, "w").close()
    expect(second, 4, "lock", str(first.pid))
    Ended(first)
    expect(sweep(config, out), 0)


def clock_set_back(folder):
    """By a year, in a run and between a run that is killed and the one that goes on."""
    config, out = write_config(folder), os.path.join(folder, "out")
    expect(sweep(config, out), 0)
    expected = results(out)
    year = environment(LD_PRELOAD=interposer(), FAULT_CLOCK=str(365 * 86400))
    year["ASAN_OPTIONS"] = year.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
    shutil.rmtree(out)
    expect(sweep(config, out, env=year), 0)
    check_same(out, expected, "with the clock set back")
    shutil.rmtree(out)
    ended = sweep(config, out, env=faulty("/state.safetensors", 3, "killafter", "rename"))
    check(ended.code == -signal.SIGKILL, "killed after a checkpoint", ended)
    ahead = dict(year, FAULT_CLOCK=str(-365 * 86400))  # as if the files were of next year
    expect(sweep(config, out, env=ahead), 0)
    check_same(out, expected, "resumed at another date")
    no_temps(out)


def stale_lock(folder):
    config, out = write_config(folder), os.path.join(folder, "out")
    os.makedirs(out)
    with open(os.path.join(out, "lock"), "w") as f:
        f.write("process 999999 on elsewhere\n")
    expect(sweep(config, out), 0)


def odd_names(folder):
    config, reference = write_config(folder), os.path.join(folder, "reference")
    expect(sweep(config, reference), 0)
    expected = results(reference)
    for name in (
        "with spaces and 'quotes'",
        "Überläufe-λ-深",
        "a/b/c/d",
        'dollar $HOME `x` "q"',
        "-starts-with-dash",
        "100%s%n",
    ):
        out = os.path.join(folder, "odd", name)
        expect(sweep(config, out), 0)
        check_same(out, expected, name)
    target, link = os.path.join(folder, "target"), os.path.join(folder, "link")
    os.mkdir(target)
    os.symlink(target, link)
    expect(sweep(config, link), 0)
    check(os.path.islink(link), "the link was replaced")
    check_same(target, expected, "a symlink")


def unusable(folder):
    """One line that names the folder, exit 1, and nothing written anywhere else."""
    config = write_config(folder)
    before = set(os.listdir(folder))
    plain = os.path.join(folder, "small.yaml")
    for out in (
        plain,
        os.path.join(plain, "below"),
        "/proc/nowhere",
        os.path.join(folder, "x" * 300),
    ):
        ended = sweep(config, out)
        check(ended.code in (1, 2), "exit code", ended)
        check(len(error_lines(ended)) == 1, "one error line", ended)
    ended = sweep(config, os.path.join(folder, *(["y" * 200] * 24)))
    check(ended.code in (1, 2) and len(error_lines(ended)) == 1, "a path that is too long", ended)
    check(
        set(os.listdir(folder)) - {"y" * 200} == before, "something was written", os.listdir(folder)
    )


def as_nobody():
    os.setgid(65534)
    os.setuid(65534)


def read_only(folder):
    config, out = write_config(folder), os.path.join(folder, "out")
    os.makedirs(out)
    os.chmod(folder, 0o755)
    os.chmod(out, 0o555)
    options = {}
    if os.getuid() == 0:  # root writes everywhere
        options["preexec_fn"] = as_nobody
        if (
            subprocess.run(
                [PROGRAM, "--version"],
                preexec_fn=as_nobody,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ).returncode
            != 0
        ):
            raise Skip("another user cannot run the program")
    ended = sweep(config, out, **options)
    expect(ended, 1, out)
    check(len(error_lines(ended)) == 1, "one error line", ended)
    check(os.listdir(out) == [], "something was written", os.listdir(out))


def full_disk(folder):
    """Full from the n-th write on: exit 1 with a line that says so; with room again, the same."""
    config = write_config(folder, width="[3]", seed="[0]", epochs=2, jobs=1, save_epochs='"end"')
    reference, out, log = (
        os.path.join(folder, "reference"),
        os.path.join(folder, "out"),
        os.path.join(folder, "log"),
    )
    expect(sweep(config, reference), 0)
    expected = results(reference)
    expect(sweep(config, out, env=faulty(out, 0, calls="write,open,mkdir", log=log)), 0)
    calls = [line.split(" ", 2) for line in open(log).read().splitlines()]
    shutil.rmtree(out)
    for number, call, path in calls[:: 1 if not SANITIZED else 7]:
        if "/report/" in path or "sqlite" in path:
            continue
        ended = sweep(config, out, env=faulty(out, number, "enospc", "write,open,mkdir", keep=True))
        what = "full at %s %s %s" % (number, call, path)
        optional = ("lock", "timing.jsonl", "progress.json")
        if ended.code == 0:
            check(any(o in path for o in optional), what + ": not noticed", ended)
        else:
            check(ended.code == 1 and "No space left on device" in ended.err, what, ended)
            check(len(error_lines(ended)) == 1, what + ": one error line", ended)
        no_temps(out)
        expect(sweep(config, out), 0)
        check_same(out, expected, what)
        shutil.rmtree(out)


def failing_sync(folder):
    """EIO from each fsync, rename: clean error, and nothing lost."""
    config = write_config(folder, width="[3]", seed="[0]", epochs=2, jobs=1, save_epochs='"end"')
    reference, out, log = (
        os.path.join(folder, "reference"),
        os.path.join(folder, "out"),
        os.path.join(folder, "log"),
    )
    expect(sweep(config, reference), 0)
    expected = results(reference)
    expect(sweep(config, out, env=faulty(out, 0, calls="fsync,rename", log=log)), 0)
    calls = [line.split(" ", 2) for line in open(log).read().splitlines()]
    shutil.rmtree(out)
    for number, call, path in calls[:: 1 if not SANITIZED else 7]:
        if "/report/" in path or "sqlite" in path:
            continue
        what = "EIO at %s %s %s" % (number, call, path)
        ended = sweep(config, out, env=faulty(out, number, "eio", "fsync,rename"))
        if ended.code == 0:
            check("progress.json" in path, what + ": not noticed", ended)
        else:
            check(ended.code == 1 and "Input/output error" in ended.err, what, ended)
        no_temps(out)
        expect(sweep(config, out), 0)
        check_same(out, expected, what)
        shutil.rmtree(out)


def size_limit(folder):
    """RLIMIT_FSIZE, as `ulimit -f` sets it: a failed write, not a death by SIGXFSZ."""
    config, out = write_config(folder, width="[64]", seed="[0]", jobs=1), os.path.join(
        folder, "out"
    )
    for limit in (512, 4096, 20000):
        ended = sweep(
            config,
            out,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        )
        check(ended.code == 1 and "File too large" in ended.err, "limit %d" % limit, ended)
        no_temps(out)
    reference = os.path.join(folder, "reference")
    expect(sweep(config, out), 0)
    expect(sweep(config, reference), 0)
    check_same(out, results(reference), "after the limit")


def small_file_system(folder):
    """A real one: 256 KiB tmpfs."""
    mount = os.path.join(folder, "mount")
    os.mkdir(mount)
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], stderr=subprocess.DEVNULL
    ).returncode:
        raise Skip("tmpfs cannot be mounted here")
    try:
        config, out = write_config(
            folder, width="[200]", seed="0..9", save_epochs='"every:1"'
        ), os.path.join(mount, "out")
        ended = sweep(config, out)
        check(ended.code == 1 and "No space left on device" in ended.err, "full", ended)
        no_temps(out)
        subprocess.run(["mount", "-o", "remount,size=64m", mount], check=True)
        expect(sweep(config, out), 0)
        reference = os.path.join(folder, "reference")
        expect(sweep(config, reference), 0)
        check_same(out, results(reference), "after room was made")
    finally:
        subprocess.run(["umount", "-l", mount])


def removed_meanwhile(folder):
    """OUT removed under a running sweep: an error or a result, nothing written elsewhere."""
    config, out = write_config(folder, epochs=2000, checkpoint_epochs=20), os.path.join(
        folder, "out"
    )
    before = set(os.listdir(folder)) | {"out"}
    process = start(["sweep", config, "out=" + out])
    while process.poll() is None and not any("state.safetensors" in f for _, _, f in os.walk(out)):
        time.sleep(0.005)
    shutil.rmtree(out, ignore_errors=True)
    ended = Ended(process)
    check(ended.code in (0, 1, 3, 6), "exit code", ended)
    check(set(os.listdir(folder)) <= before, "something was written elsewhere", os.listdir(folder))


def other_experiment(folder):
    """A setting changed under an existing output is refused by name; nothing is overwritten."""
    config, out = write_config(folder), os.path.join(folder, "out")
    expect(sweep(config, out), 0)
    before = results(out)
    for change, key in (
        (dict(lr=0.07), "lr"),
        (dict(epochs=7), "epochs"),
        (dict(width="[2, 5]"), "width"),
        (dict(label_noise=0.3), "label_noise"),
    ):
        ended = expect(sweep(write_config(folder, "changed.yaml", **change), out), 2, key)
        check(len(error_lines(ended)) >= 1, "an error line", ended)
        check_same(out, before, "after a refused change of " + key)
    # More cells of the same experiment are welcome, and the old ones are kept as they are.
    more = write_config(folder, "more.yaml", width="[2, 5, 9, 16]")
    expect(sweep(more, out), 0)
    now = results(out)
    for path in before:
        if path.startswith("cells"):
            check(now.get(path) == before[path], path + " changed")


main(
    in_use,
    report_under_the_lock,
    clock_set_back,
    stale_lock,
    odd_names,
    unusable,
    read_only,
    full_disk,
    failing_sync,
    size_limit,
    small_file_system,
    removed_meanwhile,
    other_experiment,
)
