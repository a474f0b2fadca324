#!/usr/bin/env bash
# The benches of the cuda backend: every op's results are right on the emulated device, at tiny shapes; without a device the
# same rows are predictions, and say so; what compares with PyTorch reads their rows.
set -u
if [ -z "${SIM:-}" ] || [ ! -x "${SIM:-}/bench/cuda_kernels" ]; then
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
        tail -n 20 "$tmp/out"
    fi
}
rows() { grep -cE "^  .* $1\$" "$tmp/out"; }
ops() { awk '$1 != "#" {print $1}' "$1" | sort -u | tr '\n' ' '; }
row() { grep -qE "^  $1 +$2 +[a-z0-9/]+ +$3 .* [0-9.e+-]+ +0 emulated\$" "$tmp/out"; } # an error, nothing wrong

BENCH_PREDICT=1 "$BUILD/bench/cuda_kernels" >"$tmp/out" 2>/dev/null
check "predictions" test $? = 0
check "they say so" grep -q "^# PREDICTIONS for an H100 SXM, nothing was measured: BENCH_PREDICT is set" "$tmp/out"
check "in every row" test "$(rows predicted)" = "$(grep -c '^  ' "$tmp/out")"
check "and in the target" grep -qE "^# target (PASS|FAIL): predicted, [0-9]+ of [0-9]+ elementwise" "$tmp/out"
ops "$tmp/out" >"$tmp/ops"
CUDA_VISIBLE_DEVICES= "$BUILD/bench/cuda_kernels" add >"$tmp/out" 2>/dev/null
check "no device: predictions" grep -q "^# PREDICTIONS .* nothing was measured: cuda: " "$tmp/out"
# Streams, small ones, doubles and tokens; products of a patch and of the last layer; optimisers.
for select in O=0,R= R=4 O=10,R=0 sgd adam n=1 doubles= gather; do
    "$SIM/bench/cuda_kernels" "$select" 2>/dev/null >"$tmp/out" || check "$select" false
    check "$select: rows" test "$(rows emulated)" -gt 0
    cat "$tmp/out" >>"$tmp/all"
done
check "every op of the predictions" test "$(ops "$tmp/all")" = "$(cat "$tmp/ops")"
cp "$tmp/all" "$tmp/out"
check "nothing is wrong" test "$(grep -cE ' [1-9][0-9]* emulated$' "$tmp/all")" = 0
check "no target is judged" test "$(grep -c '^# target' "$tmp/all")" = 0

"$SIM/bench/cuda_networks" "mlp w=4" >"$tmp/out" 2>/dev/null
check "networks" test $? = 0
check "jacobian" row jacobian mlp "w=4,n=5,K=10"
check "gradient norms" row gradient_norms mlp "w=4,n=5,K=10"
check "training step" row train_step mlp "w=4,B=128,direct"
check "means for others to compare" grep -qE "^# mean mlp w=4 K=10 [0-9.]+$" "$tmp/out"
CUDA_VISIBLE_DEVICES= bench/gpu_all "$BUILD" >"$tmp/out" 2>&1
check "no GPU: a failure" test $? != 0
check "no GPU: one line" grep -qx "error: bench/gpu_all: cuda: .*" "$tmp/out"
check "no GPU: no more" test "$(wc -l <"$tmp/out")" = 1
echo "$passed passed, $failed failed"
[ $failed = 0 ]
