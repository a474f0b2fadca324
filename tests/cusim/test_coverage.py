"""Every kernel of the product, each instance of a template on its own, runs on the emulated device in a test that compares it
with ref or with plain loops. Most do in the programs that `make test` has run before this script, whose summaries it reads
(tests/run); here: widths around the fast paths, and the kernels with 64-bit indices, which otherwise begin at 2^31 values."""
import os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import SourceFileLoader

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD, SIM = os.environ.get("BUILD", "build/plain"), os.environ.get("SIM", "")
# What compares results of kernels with those of the reference.
PROGRAMS = (
    "ops/test_backends", "ops/test_exact", "ops/test_gram_cuda", "ops/test_attention_cuda", "ops/test_random_cuda",
    "cusim/test_conv_kernels", "cusim/test_flat_kernels", "cusim/test_norm_kernels",
)
# Further walks over the ops: the environment, by the name of their log.
WALKS = {
    "width-127": dict(LIPS_TEST_WIDTH="127", LIPS_TEST_CASES="2"),
    "width-128": dict(LIPS_TEST_WIDTH="128", LIPS_TEST_CASES="4"),
    "width-129": dict(LIPS_TEST_WIDTH="129", LIPS_TEST_CASES="2"),
    "long": dict(CUSIM_INDEX_MAX="1", LIPS_TEST_CASES="5"),
    "long-packs": dict(CUSIM_INDEX_MAX="1", LIPS_TEST_WIDTH="12", LIPS_TEST_CASES="5"),
}


def run(program, summary, **environment):
    """0, or what it said."""
    env = dict(os.environ, LIPS_TEST_BACKEND="cuda", CUSIM_ORDER="reverse", CUSIM_SUMMARY=summary, **environment)
    ended = subprocess.run([program], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return ended.stdout[-3000:] if ended.returncode else None


def main():
    folder = os.path.join(BUILD, "kernels")
    if not SIM or not os.path.isdir(folder) or not any(n.endswith(".ptxas") for n in os.listdir(folder)):
        print("no kernels compiled for a GPU to compare with\n0 passed, 0 failed, 1 skipped")
        return 0
    logs = os.path.join(BUILD, "logs")
    os.makedirs(logs, exist_ok=True)
    passed, failed, pairs = 0, 0, []
    jobs = []
    for name in PROGRAMS:
        program = os.path.join(SIM, "tests", name)
        kind = ".cpp" if name.startswith("cusim/") else ".c.cusim"
        summary = os.path.join(logs, name.replace("/", "_") + kind + ".summary")
        pairs.append((program, summary))
        if not os.path.exists(summary) or os.path.getmtime(summary) < os.path.getmtime(program):
            jobs.append((program, summary, {}))
    for name, environment in WALKS.items():
        program = os.path.join(SIM, "tests", "ops/test_backends")
        pairs.append((program, os.path.join(logs, "coverage-%s.summary" % name)))
        jobs.append((*pairs[-1], environment))
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda job: run(job[0], job[1], **job[2]), jobs))
    for (program, _, environment), said in zip(jobs, answers):
        passed, failed = passed + (not said), failed + bool(said)
        if said:
            print("FAILED: %s %s\n%s" % (program, environment, said))
    ran = SourceFileLoader("kernels_ran", os.path.join(HERE, "kernels_ran")).load_module()
    good, bad = ran.report(folder, [p for p in pairs if os.path.exists(p[1])])
    for line in bad:
        print("FAILED: " + line)
    # Of the judge itself: 64 registers of 1024 threads are all that there are, 65 take up 72 each.
    if ran.too_many(64, 1024) or not ran.too_many(65, 1024) or not ran.too_many(255, 257):
        bad.append("registers of a launch")
        print("FAILED: registers of a launch")
    passed, failed = passed + len(good), failed + len(bad)
    print("%d passed, %d failed" % (passed, failed))
    return int(failed > 0 or not good)


sys.exit(main())
