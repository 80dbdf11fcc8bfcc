#!/bin/bash
# make bench: times the kernels, then the bundled network and, where they are, the real models of ESPL_ASSETS,
# those beside ONNX Runtime too (bench/peers).
cd "$(dirname "$0")/.." || exit 1
assets=${ESPL_ASSETS:-../shared}
cmake --build build --target checkkern && build/tests/checkkern/checkkern --bench || exit
for model in examples/digits.onnx "$assets"/models/*/model.onnx; do
    [ -f "$model" ] || continue
    echo
    echo "$model"
    build/espalier bench "$model" --threads 1 || exit
done
if [ ! -d "$assets/models" ]; then
    echo "skipped: no assets"
elif bench/peers/setup.sh; then
    echo
    bench/peers/.venv/bin/python bench/peers/ort.py --threads 1 2
else
    echo "skipped: no ONNX Runtime to compare with"
fi
