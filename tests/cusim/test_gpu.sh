#!/usr/bin/env bash
# make test-gpu where there is no GPU, no toolkit or no compute-sanitizer: one line that says so, a failure, nothing run. And
# its runner, rehearsed on the emulated device with a stand-in for compute-sanitizer: what runs, what counts, what is left out.
set -u
if [ -z "${SIM:-}" ] || [ "${BUILD:-build/plain}" != build/plain ]; then
    echo "skipped: built without CUDA and the emulated device beside it"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
passed=0 failed=0
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
check() { # check WHAT CONDITION...
    if "${@:2}"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $1"
        cat "$tmp/out" "$tmp/err"
    fi
}
attempt() { # attempt COMMAND...: its exit code in rc, what it printed in $tmp/out and $tmp/err
    env -u MAKEFLAGS -u MAKELEVEL -u LIPS_TEST_BACKEND "$@" >"$tmp/out" 2>"$tmp/err"
    rc=$?
}
refused() { # refused TEXT: one line on stderr with that text, nothing on stdout
    [ $rc != 0 ] && [ ! -s "$tmp/out" ] && [ "$(wc -l <"$tmp/err")" = 1 ] && grep -q "^error: make test-gpu: .*$1" "$tmp/err"
}

attempt env CUDA_VISIBLE_DEVICES= tests/run-gpu ops/
check "no GPU to be seen" refused "cuda: \(no GPU\|this machine has no\)"
attempt env BUILD="$tmp/nowhere" tests/run-gpu
check "not built" refused "not built"
attempt env BUILD="$SIM" COMPUTE_SANITIZER="$tmp/none" tests/run-gpu ops/
check "no compute-sanitizer" refused "no such program"
for arguments in CUDA=0 FLAGS=asan; do
    attempt make -s --no-print-directory test-gpu $arguments
    check "$arguments" test "$rc" != 0
    check "$arguments: why" grep -qx "error: make test-gpu: needs the plain build with the CUDA toolkit.*" "$tmp/err"
done
if ! python3 -c 'import ctypes; ctypes.CDLL("libcuda.so.1")' 2>/dev/null; then
    attempt make -s --no-print-directory test-gpu
    check "no driver" test "$rc" != 0
    check "no driver: why" grep -qx "error: make test-gpu: this machine has no NVIDIA driver (libcuda.so.1)" "$tmp/err"
fi

# The stand-in notes its tool and runs the program; under the name in FAIL_TOOL it finds an error.
cat >"$tmp/sanitizer" <<'END'
#!/usr/bin/env bash
[ "$1 $3 $4 $5 $6 $7 $8" = "--tool --error-exitcode 99 --report-api-errors no --kernel-name kernel_substring=_GLOBAL__N_" ] || exit 98
echo "$2 $LIPS_TEST_FEW" >>"$NOTES"
"${@:9}" || exit 97
[ "$2" != "${FAIL_TOOL:-}" ] || exit 99
END
chmod +x "$tmp/sanitizer"
export NOTES=$tmp/notes PROGRAMS="ops/test_random_cuda ops/test_choose_cuda"
attempt env BUILD="$SIM" COMPUTE_SANITIZER="$tmp/sanitizer" tests/run-gpu ops/test_random ops/test_choose
check "a rehearsal" test "$rc" = 0
check "its sum" grep -qx "5 passed, 0 failed, 0 skipped" "$tmp/out"
check "all four tools" test "$(sort "$NOTES" | tr '\n' ' ')" = "initcheck 1 memcheck 1 racecheck 1 synccheck 1 "
check "what only the emulator can do" grep -qx "# left out: 1 tests of the emulator alone" "$tmp/out"
attempt env BUILD="$SIM" COMPUTE_SANITIZER="$tmp/sanitizer" FAIL_TOOL=racecheck tests/run-gpu ops/test_random
check "an error found" test "$rc" != 0
check "its sum" grep -qx "4 passed, 1 failed, 0 skipped" "$tmp/out"
attempt env BUILD="$SIM" tests/run-gpu cusim/test_gpu ops/test_random
check "without a sanitizer" grep -qx "# left out: 1 tests of the emulator alone, 4 runs of compute-sanitizer" "$tmp/out"
attempt env BUILD="$SIM" tests/run-gpu nonesuch
check "no such test" grep -qx "no test matches: nonesuch" "$tmp/out"
check "no such test fails" test "$rc" != 0
named=$(sed -n '/^emulator_only=(/,/^)/p' tests/run-gpu)
# Others ask which device it is.
for script in $(grep -l CUSIM_ tests/cusim/test_*.sh tests/cusim/test_*.py | xargs grep -L EMULATED); do
    check "$script is of the emulator alone, and named so" grep -qF " $script" <<<"$named"
done
for name in $(grep -o 'tests/[^ ]*' <<<"$named"); do
    check "$name exists" test -e "$name"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
