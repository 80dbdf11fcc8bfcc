#!/bin/bash
# make bench: times the bundled network and, where they are, the real models of ESPL_ASSETS, then the kernels, and all of
# docs/benchmarks.md (bench/peers/all.sh), which WRITE=1 writes.
cd "$(dirname "$0")/.." || exit 1
assets=${ESPL_ASSETS:-../shared}
for model in examples/digits.onnx "$assets"/models/*/model.onnx; do
    [ -f "$model" ] || continue
    echo
    echo "$model"
    build/espalier bench "$model" --threads 1 || exit
done
echo
if bench/peers/setup.sh; then
    bench/peers/all.sh ${WRITE:+--write}
else
    echo "skipped: no ONNX Runtime to compare with"
    cmake --build build --target checkkern && build/tests/checkkern/checkkern --bench
fi
