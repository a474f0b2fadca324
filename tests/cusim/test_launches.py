"""Every wrapper in kernels/*.cu looks for the errors of its launches: LIPS_TRY_LAUNCH stands behind the last CU_LAUNCH of a
function that returns a status, and behind the last call of one that launches and returns nothing."""
import glob, os, re, sys

os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def functions(text):
    """(head, name, body) of all at the outermost level of a file or of its namespace; comments are gone."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    for m in re.finditer(r"^([a-z_][^\n;{}#=]*?[ *])?([a-z_0-9]+)\(([^;{}]*)\)\n\{\n(.*?)^\}", text, re.M | re.S):
        yield m[1] or "", m[2], m[4]


def unchecked(text):
    """Names of the functions whose last launch nobody looks at."""
    found = list(functions(text))
    silent = {name for head, name, body in found if "CU_LAUNCH(" in body and head.split()[-1:] == ["void"]}
    launch = re.compile(r"\bCU_LAUNCH\(" + "".join(r"|\b%s(?:<[^;()]*>)?\(" % n for n in silent))
    for head, name, body in found:
        last = max([m.start() for m in launch.finditer(body)], default=-1)
        if last >= 0 and name not in silent and "LIPS_TRY_LAUNCH(" not in body[last:]:
            yield name


GOOD = """lips_status lips_cuda_a(int n)
{
    CU_LAUNCH(k, dim3(n), 1, 0, s, x);
    LIPS_TRY_LAUNCH(s);
    return LIPS_OK;
}
"""
passed = failed = 0
bad = GOOD.replace("    LIPS_TRY_LAUNCH(s);\n", "")
for wrong, text in ((False, GOOD), (True, bad)):
    good = bool(list(unchecked(text))) == wrong
    passed, failed = passed + good, failed + (not good)
wrappers = 0
for path in sorted(glob.glob("kernels/*.cu")):
    with open(path) as f:
        text = f.read()
    names = list(unchecked(text))
    wrappers += sum("CU_LAUNCH(" in body for _, _, body in functions(text))
    if text.count("CU_LAUNCH(") != sum(body.count("CU_LAUNCH(") for _, _, body in functions(text)):
        names.append("a launch outside of the functions that were found")
    for name in names:
        print("%s: %s: no LIPS_TRY_LAUNCH after its last launch" % (path, name))
    passed, failed = passed + (not names), failed + bool(names)
print("%d functions launch kernels" % wrappers)
print("%d passed, %d failed" % (passed, failed))
sys.exit(failed > 0 or wrappers < 40)
