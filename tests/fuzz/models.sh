#!/bin/bash
# The real models, and what two recipes make of them, truncated at 100 places and with 1,000 bytes flipped:
# models.sh MUTATE ESPALIER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
assets=${ESPL_ASSETS:-$here/../../../shared}
[ -d "$assets/models" ] || { echo "skipped: no assets"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
files=()
for model in "$assets"/models/*/model.onnx; do
    files+=("$model")
    for recipe in bank-2-16-s8 unstructured-90; do
        out=$work/$(basename "$(dirname "$model")")-$recipe
        "$2" compress "$model" --chip cortex-a76 --recipe "$here/../../recipes/$recipe.yaml" -q -o "$out" >/dev/null
        files+=("$out/model.espl")
    done
done
"$1" --truncations 100 --flips 1000 "${files[@]}"
