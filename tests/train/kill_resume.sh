#!/bin/bash
# Training that is killed at random moments ends like training that was left alone: kill_resume.sh PROGRAM KILLS
#
# Kills (SIGKILL) the program so many times, each time going on with --resume, and compares the final weights byte for
# byte and the logs line for line (without the speed, which no two runs share). A convolutional network with
# augmentation, momentum and an average of the weights, and a recurrent one that carries its state.
set -u
program=$(realpath "$1") kills=$2
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
RANDOM=7

cat >images.yaml <<'END'
kind: digits
split: train
count: 1920
augment: {pad: 2, flip: true}
END
cat >images-recipe.yaml <<'END'
epochs: 3
batch: 32
lr: 0.05
momentum: 0.9
nesterov: true
ema: 0.95
schedule: plateau
patience: 0
END
for i in $(seq 1 6000); do echo "w$((i * i % 97)) w$((i % 13))"; done >words.txt
cat >text.yaml <<'END'
kind: text
path: words.txt
END
cat >text-recipe.yaml <<'END'
epochs: 2
batch: 10
sequence: 8
lr: 0.01
optimizer: adamw
weight_decay: 0.01
clip: 1
END

# In a process of its own, so that what is killed is the program and not a shell around it.
train() {
    exec "$program" train "$network" --data "$data.yaml" --recipe "$data-recipe.yaml" --threads 2 --checkpoint-steps 5 -q \
        --log "$1.jsonl" -o "$1.onnx" "${@:2}"
}

same() {
    cmp "$1.onnx" "$2.onnx" || return 1
    diff <(sed 's/, "samples_per_s.*//' "$1.jsonl") <(sed 's/, "samples_per_s.*//' "$2.jsonl") >/dev/null ||
        { echo "the logs differ:"; diff "$1.jsonl" "$2.jsonl" | tail -n 3; wc -l "$1.jsonl" "$2.jsonl"; return 1; }
}

check() {
    network=$1 data=$2
    local begin end length killed=0 ended=0
    begin=$(date +%s%N)
    (train calm >/dev/null) || { echo "$network: the calm run failed"; return 1; }
    end=$(date +%s%N)
    length=$(((end - begin) / 1000000))
    while [ $killed -lt "$3" ]; do
        (train wild --resume >/dev/null 2>wild.err) &
        local own=$!
        sleep "$(printf '0.%03d' $((RANDOM % (length < 999 ? length : 999))))"
        if kill -9 $own 2>/dev/null; then killed=$((killed + 1)); fi
        wait $own 2>/dev/null
        if [ -e wild.onnx ]; then # it was quicker
            same calm wild || { echo "$network: differs after $killed kills"; return 1; }
            ended=$((ended + 1))
            rm -rf wild.onnx wild.onnx.ckpt wild.jsonl
        elif [ -s wild.err ]; then
            echo "$network: $(cat wild.err)"
            return 1
        fi
    done
    (train wild --resume >/dev/null) || { echo "$network: the last run failed"; return 1; }
    same calm wild || { echo "$network: differs after $killed kills"; return 1; }
    ls wild.onnx.ckpt | grep -vxE '(last|best)\.ckpt' && { echo "$network: left-over files"; return 1; }
    echo "$network: killed $killed times, ended $((ended + 1)) times, always the same weights and logs"
    rm -rf calm* wild*
}

check lenet5 images $(((kills + 1) / 2)) && check lstm-lm text $((kills / 2))
