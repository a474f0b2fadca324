#!/usr/bin/env bash
# The race detector (TSan in kernels, each of their threads a TSan fiber) on the planted kernels: a race is reported in every
# bad one, by the name of its kernel, and nothing in the correct ones.
set -u
program=build/cusim-race/planted
passed=0 failed=0
check() { # check WHAT CONDITION...
    if "${@:2}"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $1"
        cat "$log"
    fi
}
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT
if [ ! -x $program ]; then
    echo "skipped: built without the race detector"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
# With random addresses TSan may find its own taken.
fixed=()
setarch -R true 2>/dev/null && fixed=(setarch -R)
for kernel in $($program list); do
    "${fixed[@]}" $program "$kernel" good >"$log" 2>&1
    check "$kernel, correct: no report" test $? = 0
    "${fixed[@]}" $program "$kernel" bad >"$log" 2>&1
    check "$kernel: a race is reported" grep -q "WARNING: ThreadSanitizer: data race" "$log"
    check "$kernel: by its name" grep -q " planted::$kernel<false>(" "$log"
done
echo "$passed passed, $failed failed"
[ $failed = 0 ]
