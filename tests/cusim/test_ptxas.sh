#!/usr/bin/env bash
# No kernel spills registers, and ptxas serializes no products of warpgroups, on any architecture that the build compiled for
# (kernels/report).
set -u
folder=${BUILD:-build/plain}/kernels
if ! ls "$folder"/*.ptxas >/dev/null 2>&1; then
    echo "skipped: no kernel was compiled by nvcc in this build"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
report=$(kernels/report "$folder")
spilling=$(awk '$1 ~ /^sm_/ && $3 > 0' <<<"$report")
kernels=$(grep -c '^sm_' <<<"$report")
serialized=$(grep '^# serialized' <<<"$report")
if [ "$kernels" -gt 0 ] && [ -z "$spilling$serialized" ]; then
    echo "1 passed, 0 failed"
else
    echo "of $kernels kernels these spill, or have their products serialized:"
    echo "$spilling$serialized"
    echo "0 passed, 1 failed"
    exit 1
fi
