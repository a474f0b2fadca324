"""Wrong data sets and configurations: exit 6 or 2, one clear line, nothing begun."""
import gzip, json, os, resource, shutil, struct, sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from faultlib import *


def refused(config, out, code, *texts, more=()):
    ended = expect(sweep(config, out, *more), code, *texts)
    check(not os.path.exists(os.path.join(out, "cells")), "cells were begun", ended)
    return ended


def edit(path, change):
    with open(path, "rb") as f:
        old = f.read()
    with open(path, "wb") as f:
        f.write(change(bytearray(old)))


def changed(index, value):
    def change(data):
        data[index] = value
        return data

    return change


def damaged_images(folder):
    config, out, data = (
        write_config(folder),
        os.path.join(folder, "out"),
        os.path.join(folder, "data"),
    )
    images, labels = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
    cases = [
        (images, lambda b: b[:-1], "offset"),
        (images, lambda b: b + b"\0", "offset"),
        (images, lambda b: b"", "empty"),
        (images, changed(2, 9), "offset 0"),
        (images, changed(7, 81), "offset"),
        (images, lambda b: gzip.compress(bytes(b))[:-1], "gzip"),
        (labels, changed(8 + 4, 255), "offset 12"),
        (labels, lambda b: struct.pack(">II", 0x801, 39) + b[8:-1], "39"),
    ]
    for name, change, text in cases:
        shutil.rmtree(data)
        write_images(data)
        edit(os.path.join(data, name), change)
        ended = refused(config, out, 6, name, text)
        check(len(error_lines(ended)) == 1, "one error line", ended)
    for make in (lambda p: None, os.mkdir, os.mkfifo):
        shutil.rmtree(data)
        write_images(data)
        path = os.path.join(data, labels)
        os.remove(path)
        make(path)
        refused(config, out, 6, labels)
    shutil.rmtree(data)
    refused(config, out, 6, data)
    write_images(data)
    edit(
        os.path.join(data, images), lambda b: gzip.compress(bytes(b))
    )  # content decides, not the name
    expect(sweep(config, out), 0)


def missing_sets_name_their_command(folder):
    nowhere, out = os.path.join(folder, "nowhere"), os.path.join(folder, "out")
    for data, command in (
        ("fashion-mnist", "apt-get install dataset-fashion-mnist"),
        ("cifar10", "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"),
        ("cifar100", "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"),
    ):
        config = write_config(folder, data=data, data_dir=nowhere)
        refused(config, out, 6, nowhere, command)


def damaged_cifar(folder, name, files, label_bytes, cases):
    """Records of labels and 3072 pixels, five to a file; each case damages one file in one way."""
    data, out = os.path.join(folder, "data"), os.path.join(folder, "out")
    config = write_config(folder, data=name, width="[2]", seed="[0]", epochs=1, n_train=5, batch=5)
    shutil.rmtree(data)
    os.mkdir(data)

    def whole():
        for i, file in enumerate(files):
            with open(os.path.join(data, file), "wb") as f:
                for r in range(5):
                    labels = bytes([(i + r) % 10] * label_bytes)
                    f.write(labels + bytes((i * r + j) % 256 for j in range(3072)))

    for file, change, text in cases:
        whole()
        edit(os.path.join(data, file), change)
        refused(config, out, 6, file, text)
    for make in (lambda p: None, os.mkdir, os.mkfifo):
        whole()
        path = os.path.join(data, files[-1])
        os.remove(path)
        make(path)
        refused(config, out, 6, files[-1])
        shutil.rmtree(data)
        os.mkdir(data)
    whole()
    expect(sweep(config, out), 0)


def damaged_cifar10(folder):
    cases = [
        ("data_batch_2.bin", lambda b: b[:-1], "offset 12292"),
        ("data_batch_5.bin", lambda b: b + b"\0", "offset 15365"),
        ("test_batch.bin", changed(3073 * 2, 10), "offset 6146"),
        ("data_batch_3.bin", lambda b: b"", "empty"),
    ]
    files = ["data_batch_%d.bin" % k for k in range(1, 6)] + ["test_batch.bin"]
    damaged_cifar(folder, "cifar10", files, 1, cases)


def damaged_cifar100(folder):
    cases = [
        ("train.bin", lambda b: b[:-1], "offset 12296"),
        ("test.bin", lambda b: b + b"\0", "offset 15370"),
        ("train.bin", changed(3074 * 2, 20), "offset 6148"),
        ("test.bin", changed(3074 * 3 + 1, 100), "offset 9223"),
        ("train.bin", lambda b: b"", "empty"),
        ("train.bin", lambda b: gzip.compress(bytes(b)), "offset 0: the file ends within a record"),
    ]
    damaged_cifar(folder, "cifar100", ["train.bin", "test.bin"], 2, cases)


def replaced_between_runs(folder):
    """Other bytes under the same names: the sweep says so and keeps what it has."""
    config, out, data = (
        write_config(folder, epochs=3),
        os.path.join(folder, "out"),
        os.path.join(folder, "data"),
    )
    expect(sweep(config, out), 0)
    before = results(out)
    cell = sorted(d for d in os.listdir(os.path.join(out, "cells")))[0]
    cell = os.path.join(out, "cells", cell)
    for n, seed in ((80, 2), (90, 1)):
        shutil.rmtree(data)
        write_images(data, n_train=n, seed=seed)
        done = os.path.join(cell, "done")
        os.rename(done, os.path.join(folder, "done"))  # something is left to do
        expect(sweep(config, out), 6)
        os.rename(os.path.join(folder, "done"), done)
        check_same(out, before, "after a refused data set")
    shutil.rmtree(data)
    write_images(data)
    expect(sweep(config, out), 0)
    check_same(out, before, "with the old data set again")


def bad_texts(folder):
    """Each with its line; never the last one wins, never a crash, nothing begun."""
    out = os.path.join(folder, "out")
    good = open(write_config(folder)).read()
    path = os.path.join(folder, "bad.yaml")
    lines = good.count("\n")
    cases = [
        (good + "lr: 0.1\n", "lr", lines + 1),
        (good + "batchsize: 4\n", "batch", lines + 1),
        (good + "depth: two\n", "depth", lines + 1),
        (good + "momentum: .nan\n", "momentum", lines + 1),
        (good + "momentum: 1e999\n", "momentum", lines + 1),
        (good + "weight_decay: -1\n", "weight_decay", lines + 1),
        (good + "n_val: 99999999999999999999\n", "n_val", lines + 1),
        (good + "warmup_epochs: 1.5\n", "warmup_epochs", lines + 1),
        (good + "\tdepth: 2\n", "", lines + 1),
        (good + "depth: {a: 1}\n", "", lines + 1),
        (good + "depth: " + "[" * 2000 + "\n", "", None),
        (good + "depth: " + "7" * (1 << 20) + "\n", "depth", lines + 1),
        (good + 'name: "' + "x" * (1 << 20) + '"\n', "name", lines + 1),
        (good.replace("\n", "\r\n") + "depht: 2\r\n", "depth", lines + 1),
        ("\ufeff" + good + "depht: 2\n", "depth", lines + 1),
        (good + "depht: 2", "depth", lines + 1),
        ("- a\n- b\n", "", 1),
        (good + "a: &x [*x]\n", "", None),
        (good + "\0", "", None),
        (good + "\xff\xfe", "", None),
    ]
    for text, key, line in cases:
        with open(path, "wb") as f:
            f.write(text.encode("latin-1" if "\xff" in text else "utf-8"))
        ended = refused(path, out, 2, key)
        check(len(ended.err) < 20000, "a long message", len(ended.err))
        if line:
            check("bad.yaml:%d" % line in ended.err, "line %d is not named" % line, ended)
    # Windows line ends, a byte order mark and a missing last newline are no errors.
    for text in (good.replace("\n", "\r\n"), "\ufeff" + good, good.rstrip("\n")):
        with open(path, "w", newline="") as f:
            f.write(text)
        expect(sweep(path, out), 0)
        shutil.rmtree(out)


def bad_values(folder):
    out = os.path.join(folder, "out")
    cases = [
        ("width", 0),
        ("width", -3),
        ("width", 2**31),
        ("width", 2**63),
        ("batch", 0),
        ("batch", 61),
        ("depth", -1),
        ("epochs", -1),
        ("label_noise", 1.5),
        ("lr", 0),
        ("lr", "inf"),
        ("n_train", 1000),
        ("measure_n", -1),
        ("model", "resnet"),
        ("metrics", "jacobean"),
        ("eval_epochs", '"often"'),
        ("width", "[2, 2]"),
        ("seed", "0..x"),
        ("backend", "gpu"),
    ]
    for key, value in cases:
        config = write_config(folder, **{key: value})
        refused(config, out, 2, key)
    # From the command line and the environment too, with the key's name.
    config = write_config(folder)
    refused(config, out, 2, "width", more=["width=0"])
    refused(config, out, 2, "wdth", more=["wdth=3"])
    expect(
        run(["sweep", config, "out=" + out], env=environment(LIPSWEEP_WIDTH="zero")),
        2,
        "environment: width",
    )
    # An empty axis is an empty sweep: nothing to do, and that is no error.
    expect(sweep(write_config(folder, width="[]"), os.path.join(folder, "empty")), 0)
    # All errors at once.
    config = write_config(folder, width=0, batch=0, lr=-1)
    ended = refused(config, out, 2, "width", "batch", "lr")
    check(ended.err.count("small.yaml:") >= 3, "three errors", ended)
    expect(run(["sweep", os.path.join(folder, "none.yaml")]), 2, "none.yaml")
    expect(run(["sweep", folder]), 2)
    expect(run(["sweap"]), 2, "sweep")
    expect(run(["sweep", config, "--colour"]), 2, "colour")


def small_and_prime_sizes(folder):
    """Width 1, primes, depth 0, a batch of one and of all samples: cpu agrees with float64."""
    for number, change in enumerate(
        (
            dict(width="[1, 7, 31, 127]"),
            dict(depth=0, width=3),
            dict(batch=1, n_train=7, epochs=2),
            dict(batch=60, depth=3, width=13),
            dict(model="convnet", width="[1, 3]", epochs=1),
        )
    ):
        found = []
        for backend in ("cpu", "ref"):
            settings = dict(seed="[0]", epochs=3, backend=backend, lr=0.01)
            settings.update(change)
            config, out = write_config(folder, **settings), os.path.join(
                folder, "%s%d" % (backend, number)
            )
            expect(sweep(config, out), 0)
            values = []
            for cell in sorted(os.listdir(os.path.join(out, "cells"))):
                with open(os.path.join(out, "cells", cell, "metrics.jsonl")) as f:
                    for line in f:
                        record = json.loads(line)
                        if record["quantity"] in ("loss", "jacobian"):
                            values.append(
                                (record["quantity"], record.get("value", record.get("mean")))
                            )
            found.append(values)
        check(len(found[0]) == len(found[1]) > 0, "records", found)
        # Float32 roundoff, 2^-24, grows with the few steps; 1e-3 is a wrong formula.
        for a, b in zip(*found):
            check(
                a[0] == b[0] and abs(a[1] - b[1]) <= 1e-3 * abs(b[1]) + 1e-6,
                "cpu %s, ref %s" % (a, b),
                change,
            )


def many_cells_are_listed(folder):
    """A million cells: planned and shown without holding them all."""
    config = write_config(folder, width="range(1,1001)", seed="0..999", epochs=1)
    log = os.path.join(folder, "stdout")
    with open(log, "wb") as stdout:
        process = subprocess.Popen(
            [PROGRAM, "sweep", config, "out=" + os.path.join(folder, "out"), "--dry-run"],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        _, status, used = os.wait4(process.pid, 0)
        err = process.stderr.read().decode()
    check(os.waitstatus_to_exitcode(status) == 0, "exit code", err)
    check(
        "1000000" in open(log).read().replace(" ", "").replace(",", ""),
        "the number of cells",
        open(log).read()[:500],
    )
    check(SANITIZED or used.ru_maxrss < 512 * 1024, "%d KiB" % used.ru_maxrss)


main(
    damaged_images,
    missing_sets_name_their_command,
    damaged_cifar10,
    damaged_cifar100,
    replaced_between_runs,
    bad_texts,
    bad_values,
    small_and_prime_sizes,
    many_cells_are_listed,
)
