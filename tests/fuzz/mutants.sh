#!/bin/bash
# 100,000 damaged forms of the real models, as ONNX and as the .espl files that two recipes make of them:
#   mutants.sh MUTANTS ESPALIER FOLDER [COUNT]
# FOLDER keeps the models and how far the run is, so that it can be stopped; a finished run begins anew.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
assets=${ESPL_ASSETS:-$here/../../../shared}
[ -d "$assets/models" ] || { echo "skipped: no assets"; exit 77; }
mkdir -p "$3"
count=${4:-100000}
files=()
for model in "$assets"/models/*/model.onnx; do
    files+=("$model")
    for recipe in bank-2-16-s8 unstructured-90; do
        out=$3/$(basename "$(dirname "$model")")-$recipe
        [ -f "$out/model.espl" ] ||
            "$2" compress "$model" --chip cortex-a76 --recipe "$here/../../recipes/$recipe.yaml" -q -o "$out" >/dev/null
        files+=("$out/model.espl")
    done
done
read -r done _ 2>/dev/null <"$3/state" || done=0
[ "$done" -lt "$count" ] || rm -f "$3"/state "$3"/state.failed*
"$1" "$count" "$3/state" "${files[@]}"
