#!/usr/bin/env bash
# The public headers compile alone as C11 and C++; the example builds against the library as a user
# would, and runs.
set -u
cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build/plain}
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
passed=0 failed=0
check() { # name, command...
    local name=$1
    shift
    if "$@" >"$dir/log" 2>&1; then
        passed=$((passed + 1))
    else
        echo "FAILED: $name"
        cat "$dir/log"
        failed=$((failed + 1))
    fi
}
for header in include/lipsweep/*.h; do
    printf '#include "%s"\nint main(void) { return 0; }\n' "${header#include/}" >"$dir/alone.c"
    cp "$dir/alone.c" "$dir/alone.cpp"
    strict=(-pedantic -Wall -Wextra -Werror -Iinclude -fsyntax-only)
    check "$header as C11" gcc -std=c11 "${strict[@]}" "$dir/alone.c"
    check "$header as C++" g++ -std=c++11 "${strict[@]}" "$dir/alone.cpp"
done
flags=$(make -s FLAGS="${BUILD#build/}" config | sed -n 's/^flags *[a-z]*: //p')
libs=$(make -s config | sed -n 's/^libraries *//p')
# shellcheck disable=SC2086
check "example builds" gcc $flags tests/api/example.c "$BUILD/liblipsweep.a" $libs -o "$dir/example"
/usr/bin/python3 - "$dir/mlp.safetensors" <<'PY'
import json, struct, sys
shapes = {"0.weight": [3, 4], "0.bias": [3], "2.weight": [2, 3], "2.bias": [2]}
header, data = {}, b""
for name, shape in shapes.items():
    n = shape[0] * (shape[1] if len(shape) > 1 else 1)
    values = struct.pack("<%df" % n, *[((7 * i) % 11 - 4) / 8 for i in range(n)])
    offsets = [len(data), len(data) + len(values)]
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    data += values
text = json.dumps(header).encode()
open(sys.argv[1], "wb").write(struct.pack("<Q", len(text)) + text + data)
PY
check "example runs" "$dir/example" "$dir/mlp.safetensors" mlp 3 1 2 1 2 2
cp "$dir/log" "$dir/out"
check "it prints a Jacobian norm" grep -q '^Jacobian norm op: mean [0-9.]*, largest' "$dir/out"
check "it prints records" grep -q '"quantity":"layer.param_jacobian","norm":"op"' "$dir/out"
refused() { # expected exit code, expected text, arguments
    local code=$1 text=$2
    shift 2
    "$dir/example" "$@" >"$dir/o" 2>"$dir/e"
    [ $? = "$code" ] && grep -q "$text" "$dir/e" && [ "$(wc -l <"$dir/e")" = 1 ]
}
check "a wrong width is named" refused 6 '0.weight' "$dir/mlp.safetensors" mlp 4 1 2 1 2 2
check "a missing description is said" refused 2 'does not say what network' "$dir/mlp.safetensors"
check "a missing file is named" refused 6 'nowhere.safetensors' "$dir/nowhere.safetensors"
check "an unknown kind is named" refused 2 'rnn' "$dir/mlp.safetensors" rnn 3 1 2 1 2 2
echo "$passed passed, $failed failed"
[ $failed = 0 ]
