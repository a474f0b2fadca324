#!/usr/bin/env bash
# The command line: help, options, keys, precedence, exit codes, messages; nothing is trained here.
. "$(dirname "$0")/lib.sh"
cat >"$tmp/c.yaml" <<'END'
name: test
n_train: 100
n_test: 100
batch: 50
epochs: 3
width: [2, 3]
END
cfg=$tmp/c.yaml

# Help and version.
check 0 -o "usage: lipsweep COMMAND" -o sweep -o validate -- --help
check 0 -o "lipsweep 0." -- --version
check 2 -e "no command is given" --
check 2 -e "unknown command 'swep' (did you mean 'sweep'?)" -- swep
check 2 -e "unknown command 'zzz'" -- zzz
for command in sweep train measure report status export validate info; do
    check 0 -o "usage: lipsweep $command" -o "--help" -- $command --help
    check 0 -o "usage: lipsweep $command" -- $command -h
    check 2 -e "$command: unknown option 'no-such-thing-at-all'" -- $command --no-such-thing-at-all
done
check 0 -o "label_noise" -o "a number from 0 to 1; default 0" -- sweep --help
check 0 -o "learning rate" -- train --help
check 0 -o "| \`width\` | a whole number from 1 to 1000000 | \`64\` |" -- info --keys-markdown
check 0 -o "label_noise" -- info --keys
check 0 -o "backends  " -o "fashion-mnist" -- info
check 0 -o '"backends":["' -o '"key":"width"' -- info --json
/usr/bin/python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$tmp/stdout"
verdict "$([ $? = 0 ] || echo "not JSON")" "info --json is JSON"

# Options.
check 2 -e "something is missing; usage: lipsweep sweep CONFIG.yaml" -- sweep
check 2 -e "unexpected argument 'b'" -- status a b
check 2 -e "unknown option 'dry-rum' (did you mean --dry-run?)" -- sweep "$cfg" --dry-rum
check 2 -e "unknown option 'widht' (did you mean --width?)" -- sweep "$cfg" --widht 3
check 2 -e "unknown option 'labelnoise' (did you mean --label-noise?)" -- sweep "$cfg" --labelnoise=0.1
check 2 -e "unknown option '-x'" -- sweep "$cfg" -x
check 2 -e "--dry-run takes no value" -- sweep "$cfg" --dry-run=yes
check 2 -e "--dry-run is given twice" -- sweep "$cfg" --dry-run --dry-run
check 2 -e "--set needs a value" -- sweep "$cfg" --set
check 2 -e "--width needs a value" -- sweep "$cfg" --width
check 2 -e "unknown option 'widht'" -e "unknown option 'sede'" -- sweep "$cfg" --widht=1 --sede=2

# Keys: every form, later over earlier, environment between file and line.
cells() { check 0 -o "$1 cells, output" -- validate "$cfg" "${@:2}"; }
cells 2
cells 3 width=1,2,4
cells 3 --width 1,2,4
cells 3 --width=1,2,4
cells 3 --set width=1,2,4
cells 3 "width=range(5,8)"
cells 10 "width=logspace(1,512,10)"
cells 10 seed=0..4
cells 20 seed=0..4 label-noise=0,0.2
cells 1 width=3 width=5
cells 4 --augment=true,false
cells 2 --augment
cells 2 --augment false
check 0 -o "output $tmp/o" -- validate "$cfg" --out "$tmp/o"
LIPSWEEP_WIDTH=1,2,3 check 0 -o "3 cells" -- validate "$cfg"
LIPSWEEP_WIDTH=1,2,3 check 0 -o "1 cells" -- validate "$cfg" width=9
LIPSWEEP_WIDHT=1 check 2 -e "environment: unknown key 'widht' (did you mean 'width'?)" -- validate "$cfg"
LIPSWEEP_WIDTH=0 check 2 -e "environment: width: must be a whole number" -- validate "$cfg"
LIPSWEEP_ISA=base check 0 -o "2 cells" -- validate "$cfg"

# Bad values on the line and in the file: exit 2, where and what, all at once.
check 2 -e "command line: width: must be a whole number from 1 to 1000000, not '0'" -- sweep "$cfg" width=0
check 2 -e "command line: width: must be" -- sweep "$cfg" width=2147483648
check 2 -e "command line: label_noise: must be a number from 0 to 1, not '1.5'" -- sweep "$cfg" label_noise=1.5
check 2 -e "command line: batch: 101 is more than the 100 training samples" -- sweep "$cfg" batch=101
check 2 -e "command line: unknown key 'wdith'" -e "command line: lr: must be" -- sweep "$cfg" wdith=3 lr=nan
check 2 -e "command line: metrics: " -e "did you mean 'jacobian'" -- sweep "$cfg" metrics=jacobain
printf 'width: 4\nwidht: 4\nlr: 1e999\nwidth: 5\nbatch: 3\n\tseed: 1\n' >"$tmp/bad.yaml"
check 2 -e "$tmp/bad.yaml:2:1: unknown key 'widht' (did you mean 'width'?)" -e "$tmp/bad.yaml:3:5: lr: must be" \
    -e "$tmp/bad.yaml:4:1: width: duplicate key, first given on line 1" -e "$tmp/bad.yaml:6:1: a tab" -- sweep "$tmp/bad.yaml"
check 2 -e "$tmp/none.yaml" -- sweep "$tmp/none.yaml"
check 2 -e "$tmp" -- sweep "$tmp"
check 2 -e "train runs one cell, but width has 2 values" -- train "$cfg"
check 2 -e "--json goes with --dry-run" -- sweep "$cfg" --json
verdict "$([ -e out/c ] && echo "out/c was made")" "a refused sweep writes nothing"

# Dry runs.
check 0 -o "mlp-w2-" -o "mlp-w3-" -- sweep "$cfg" --dry-run --out "$tmp/dry"
verdict "$([ -e "$tmp/dry" ] && echo "it was written")" "a dry run writes nothing"
check 0 -o '"' -- sweep "$cfg" --dry-run --json --out "$tmp/dry"
/usr/bin/python3 -c 'import json, sys; json.load(open(sys.argv[1]))' "$tmp/stdout"
verdict "$([ $? = 0 ] || echo "not JSON")" "sweep --dry-run --json is JSON"
echo 'width: []' >"$tmp/empty.yaml"
check 0 -o "0 cells" -- validate "$tmp/empty.yaml"
check 0 -o "report/index.html" -- sweep "$tmp/empty.yaml" --out "$tmp/empty"
verdict "$([ "$(wc -l <"$tmp/empty/results.csv")" = 1 ] || echo "not the header alone")" "an empty sweep's results.csv"

# Folders and files that are not there.
check 6 -e "$tmp/nothing" -- report "$tmp/nothing"
check 6 -e "$tmp/nothing" -- status "$tmp/nothing"
check 6 -e "$tmp/nothing" -- export "$tmp/nothing" --to "$tmp/x"
check 6 -e "holds no sweep" -- validate "$tmp"
check 6 -e "$tmp/no.safetensors" -- measure "$tmp/no.safetensors"
check 6 -e "$tmp/no.safetensors" -- validate "$tmp/no.safetensors"
check 2 -e "key=value goes with a configuration" -- validate "$tmp" width=3
check 6 -e "get it with" -- sweep "$cfg" data=cifar10 "data_dir=$tmp" width=1 --out "$tmp/data"

# Results that cannot be written are an error, not silence.
if [ -w /dev/full ]; then
    "$LIPSWEEP" info >/dev/full 2>"$tmp/stderr"
    verdict "$([ $? = 1 ] || echo "exit is not 1")" "info >/dev/full"
fi
finish
