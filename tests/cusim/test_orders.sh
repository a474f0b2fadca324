#!/usr/bin/env bash
# The kernels' results are the same bits in every order of blocks, warps and lanes (CUSIM_ORDER), and nothing on the device
# leaks: the emulated device's digest of all that was copied to the host.
set -u
if [ -z "${SIM:-}" ]; then
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
passed=0 failed=0
check() { # check WHAT CONDITION...
    if "${@:2}"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $1"
    fi
}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
export LIPS_TEST_BACKEND=cuda
for program in ops/test_exact ops/test_gram_cuda nn/test_chunk; do
    for order in forward reverse random:1; do
        (CUSIM_ORDER=$order CUSIM_SUMMARY=$dir/$order "$SIM/tests/$program" >"$dir/log.$order" 2>&1 || tail "$dir/log.$order") &
    done
    wait
    for order in forward reverse random:1; do
        check "$program, $order: a digest" grep -q '^digest [0-9a-f]' "$dir/$order"
        check "$program, $order: the same bits as forward" test "$(grep ^digest "$dir/$order")" = "$(grep ^digest "$dir/forward")"
        check "$program, $order: all memory freed" grep -qx 'device_bytes 0' "$dir/$order"
        check "$program, $order: all pinned memory freed" grep -qx 'pinned_bytes 0' "$dir/$order"
    done
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
