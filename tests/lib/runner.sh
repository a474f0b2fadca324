# Shared by tests/run and tests/run-gpu: runs programs and scripts one by one, counts what they say.
# The script that sources it sets `logs`, a folder.
# A script prints a last line "N passed, N failed[, N skipped]" and exits non-zero if one failed.
passed=0 failed=0 skipped=0 programs=0
# A refused allocation is a NULL for the program to handle, under the address sanitizer too.
export ASAN_OPTIONS=allocator_may_return_null=1:${ASAN_OPTIONS:-}
wanted() { # wanted PATH NAME...: does the path contain one of the names, if there are any?
    local path=$1 name
    shift
    [ $# = 0 ] && return 0
    for name in "$@"; do [[ $path == *$name* ]] && return 0; done
    return 1
}
left_out() { # left_out NAME REASON
    printf '%-48s skipped: %s\n' "$1" "$2"
    programs=$((programs + 1)) skipped=$((skipped + 1))
}
run_one() { # run_one NAME LOG KIND COMMAND...: KIND says how it counts: c (cmocka), script, or status (its exit code alone)
    local name=$1 log=$logs/$2 kind=$3 start rc p f s
    shift 3
    start=$(date +%s)
    "$@" >"$log" 2>&1 </dev/null
    rc=$?
    programs=$((programs + 1))
    case $kind in
        c)
            p=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{s+=$1} END {print s+0}')
            f=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$log" | awk '{s+=$1} END {print s+0}')
            s=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$log" | awk '{s+=$1} END {print s+0}')
            ;;
        script)
            read -r p f s < <(sed -nE 's/^([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\1 \2 \4/p' "$log" | tail -n 1)
            p=${p:-0} f=${f:-0} s=${s:-0}
            ;;
        status) p=$((rc == 0)) f=0 s=0 ;;
    esac
    # A crash, or a program that ran nothing, is a failure even if no test said so.
    if [ "$f" = 0 ] && { [ $rc != 0 ] || [ $((p + s)) = 0 ]; }; then f=1; fi
    printf '%-48s %4d passed %3d failed %3d skipped  %4ds\n' "$name" "$p" "$f" "$s" $(($(date +%s) - start))
    [ "$f" = 0 ] || { echo "---- $log (exit $rc)"; tail -n 40 "$log"; echo "----"; }
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}
sum_up() { # sum_up NAME...: the last line; fails if a test did, or if none ran
    [ $programs -gt 0 ] || { echo "no test matches: $*"; failed=1; }
    echo "$passed passed, $failed failed, $skipped skipped"
    [ $failed = 0 ]
}
