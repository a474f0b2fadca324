#!/usr/bin/env bash
# The README's generated parts are up to date, what it names exists, and every configuration is valid.
. "$(dirname "$0")/lib.sh"
LIPSWEEP=$LIPSWEEP .ci/readme --check 2>"$tmp/stderr"
verdict "$([ $? = 0 ] || cat "$tmp/stderr")" ".ci/readme --check"
for path in $(grep -oE '\b(configs|contrib|include|src|tests|bench|tools)/[a-zA-Z0-9_./-]*' README.md | sort -u); do
    verdict "$([ -e "$path" ] || echo "does not exist")" "README names $path"
done
for config in configs/*.yaml; do
    check 0 -o "cells, output out/$(basename "$config" .yaml)" -- validate "$config"
    verdict "$(grep -qF "$config" README.md || echo "is not in the README")" "$config"
done
finish
