# Shared by the scripts here: run a command, check exit code, standard output and standard error.
set -u
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
LIPSWEEP=$PWD/${LIPSWEEP:-build/plain/lipsweep}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

# check RC [-o TEXT | -e TEXT | -O TEXT | -E TEXT]... -- ARGS...
# The program run with ARGS must exit with RC; its stdout (-o) and stderr (-e) must contain each TEXT, or must not (-O, -E).
check() {
    local want_rc=$1 rc problem='' wants=() i kind text
    shift
    while [ "$1" != -- ]; do
        wants+=("$1" "$2")
        shift 2
    done
    shift
    "$LIPSWEEP" "$@" >"$tmp/stdout" 2>"$tmp/stderr" </dev/null
    rc=$?
    [ $rc = "$want_rc" ] || problem="exit $rc instead of $want_rc"
    # A refusal says why, on stderr, each line as an error; a success says nothing of the kind.
    if [ "$want_rc" = 0 ]; then
        grep -q '^error: ' "$tmp/stderr" && problem="$problem; an error on success"
    else
        grep -q '^error: ' "$tmp/stderr" || problem="$problem; no error line"
    fi
    grep -q 'Sanitizer\|: runtime error:' "$tmp/stderr" && problem="$problem; sanitizer"
    for ((i = 0; i < ${#wants[@]}; i += 2)); do
        kind=${wants[i]} text=${wants[i + 1]}
        case $kind in
            -o) grep -qF -- "$text" "$tmp/stdout" || problem="$problem; stdout lacks '$text'" ;;
            -e) grep -qF -- "$text" "$tmp/stderr" || problem="$problem; stderr lacks '$text'" ;;
            -O) grep -qF -- "$text" "$tmp/stdout" && problem="$problem; stdout has '$text'" ;;
            -E) grep -qF -- "$text" "$tmp/stderr" && problem="$problem; stderr has '$text'" ;;
        esac
    done
    verdict "$problem" "lipsweep $*"
}

# verdict PROBLEM WHAT: counts a test, shows it if PROBLEM is not empty.
verdict() {
    if [ -z "$1" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $2: $1"
        [ -s "$tmp/stdout" ] && { echo "  stdout:"; head -n 5 "$tmp/stdout"; }
        [ -s "$tmp/stderr" ] && { echo "  stderr:"; head -n 5 "$tmp/stderr"; }
    fi
}

finish() {
    echo "$passed passed, $failed failed"
    [ $failed = 0 ]
}
