#!/bin/bash
# Two processes train like one: ranks.sh PROGRAM HAS_MPI (skipped, 77, without mpirun or without MPI in the program)
set -u
program=$(realpath "$1")
command -v mpirun >/dev/null || { echo "skipped: no mpirun"; exit 77; }
[ "$2" = 1 ] || { echo "skipped: the program was built without MPI"; exit 77; }
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
run="timeout 300 mpirun --oversubscribe --mca mpi_yield_when_idle 1 -n 2 $program"

printf 'kind: digits\nsplit: train\ncount: 64\n' >few.yaml
printf 'epochs: 2\nbatch: 16\nlr: 0.05\nmomentum: 0.9\nprecision: f64\nsync_batch_norm: true\n' >sync.yaml
sed '/sync/d' sync.yaml >apart.yaml
"$program" new resnet8 --width 0.125 --input 1x28x28 -q -o net.onnx || exit 1

# NAME RECIPE, and the command before the program's name
train() {
    $3 train net.onnx --data few.yaml --eval few.yaml --recipe "$2.yaml" --threads 1 -q --json --log "$1.jsonl" -o "$1.onnx" \
        >"$1.json" 2>"$1.err" || { cat "$1.err"; return 1; }
}
# The largest difference of the losses of two logs.
difference() {
    paste -d' ' <(grep -o 'loss": [^,]*' "$1.jsonl") <(grep -o 'loss": [^,]*' "$2.jsonl") |
        awk '{ d = $2 - $4; if (d < 0) d = -d; if (d > most) most = d } END { print most + 0, NR }'
}

train one sync "$program" || exit 1
train two sync "$run" || exit 1
grep -q '"ranks": 2' two.json || { echo "two processes did not train together"; exit 1; }
train apart apart "$run" || exit 1
read -r same lines < <(difference one two)
read -r other _ < <(difference one apart)
echo "two ranks: losses differ by $same in $lines lines; without shared batch statistics by $other"
awk -v s="$same" -v o="$other" -v n="$lines" 'BEGIN { exit !(s <= 1e-6 && o > 1e-6 && n >= 12) }' || exit 1

# A rank that is killed ends the job; the next start goes on.
sed -i 's/epochs: 2/epochs: 40/' sync.yaml
(exec $run train net.onnx --data few.yaml --recipe sync.yaml --threads 1 -q --checkpoint-steps 2 -o long.onnx) \
    >/dev/null 2>lost.err &
job=$!
for i in $(seq 1 600); do [ -e long.onnx.ckpt/last.ckpt ] && break; sleep 0.1; done
victim=$(pgrep -P "$(pgrep -P $job)" | tail -n 1) # timeout, mpirun, ranks
kill -9 "$victim"
wait $job && { echo "the job went on without a rank"; exit 1; }
grep -q 'signal 9' lost.err || { cat lost.err; exit 1; }
[ ! -e long.onnx ] && [ -e long.onnx.ckpt/last.ckpt ] || { echo "no checkpoint is left"; exit 1; }
"$program" train net.onnx --data few.yaml --recipe sync.yaml --epochs 3 --threads 1 -q --resume -o long.onnx >/dev/null ||
    { echo "cannot go on"; exit 1; }
echo "a lost rank: the job ended, and went on from its checkpoint"
