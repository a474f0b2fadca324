#!/usr/bin/env bash
# Precision and libraries as configured, through the whole program on the emulated device: what each record says, that the
# numbers change with the precision and not with the library's rounding alone, and what is refused.
set -u
program=${SIM:-build/cusim}/lipsweep
passed=0 failed=0
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
if [ ! -x "$program" ]; then
    echo "skipped: built without the emulated device"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
check() { # check WHAT COMMAND...
    if "${@:2}"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $1"
    fi
}
export XDG_CACHE_HOME=$tmp/cache
small="model=mlp width=8 data=sine loss=mse n_train=24 batch=8 epochs=1 metrics=loss,jacobian,hessian.lambda_max probes=none emulated=true"
# trial NAME KEY=VALUE...: a cell's records in $tmp/NAME.jsonl
trial() {
    "$program" train $small out="$tmp/$1" "${@:2}" >"$tmp/log" 2>&1 || { cat "$tmp/log"; return 1; }
    cat "$tmp/$1"/cells/*/metrics.jsonl >"$tmp/$1.jsonl"
}
# says NAME QUANTITY PRECISION: every such record
says() {
    local all with
    all=$(grep -c "\"quantity\":\"$2\"" "$tmp/$1.jsonl")
    with=$(grep "\"quantity\":\"$2\"" "$tmp/$1.jsonl" | grep -c "\"precision\":\"$3\"")
    [ "$all" -gt 0 ] && [ "$all" = "$with" ]
}
values() { # values NAME QUANTITY
    grep "\"quantity\":\"$2\"" "$tmp/$1.jsonl" | grep -o '"\(value\|mean\)":[^,}]*'
}
differ() { [ "$(values "$1" "$3")" != "$(values "$2" "$3")" ]; }
same() { [ -n "$(values "$1" "$3")" ] && [ "$(values "$1" "$3")" = "$(values "$2" "$3")" ]; }
refused() { # refused TEXT ARGUMENT...
    "$program" "${@:2}" >"$tmp/log" 2>&1
    [ $? = 2 ] && grep -q -- "$1" "$tmp/log"
}

check "default" trial f32 backend=cuda
check "measuring in bf16" trial mixed backend=cuda measure_precision=bf16
check "training in bf16" trial bf16 backend=cuda precision=bf16
check "libraries" trial nvidia backend=cuda cuda_conv=nvidia cuda_linear=nvidia
check "own kernels" trial own backend=cuda cuda_conv=own cuda_linear=own
check "default: loss" says f32 loss float32
check "default: jacobian" says f32 jacobian float32
check "measuring: loss" says mixed loss float32
check "measuring: jacobian" says mixed jacobian float32/bf16
check "measuring: curvature" says mixed hessian.lambda_max float32
check "training: loss" says bf16 loss bf16
check "training: jacobian" says bf16 jacobian float32
check "measuring leaves the training alone" same f32 mixed loss
check "measuring in bf16 is another number" differ f32 mixed jacobian
check "curvature is measured in float32 all the same" same f32 mixed hessian.lambda_max
check "training in bf16 is another training" differ f32 bf16 loss
if "$program" info 2>/dev/null | grep -q '^cuda .* emulated'; then
    check "nothing is measured on an emulated device: auto is own" same f32 own jacobian
fi
check "the library was used" differ own nvidia jacobian
check "cpu refuses" refused "precision: bf16 needs backend: cuda, not cpu" train $small precision=bf16 out="$tmp/no"
check "ref refuses" refused "measure_precision: tf32 needs backend: cuda, not ref" \
    train $small backend=ref measure_precision=tf32 out="$tmp/no"
check "unknown" refused "must be one of f32, tf32, bf16" train $small backend=cuda precision=f16 out="$tmp/no"
weights=$(ls "$tmp"/f32/cells/*/epoch-0001.safetensors)
check "measure: on cpu refused" refused "measure-precision bf16 needs --backend cuda" \
    measure "$weights" --backend cpu --measure-precision bf16
"$program" measure "$weights" --backend cuda --measure-precision tf32 --metrics jacobian --json >"$tmp/m.jsonl" 2>"$tmp/log"
check "measure: asked for" grep -q '"precision":"float32/tf32"' "$tmp/m.jsonl"
check "nothing under a refused name" test ! -e "$tmp/no"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
