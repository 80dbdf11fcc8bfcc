#!/bin/bash
# make demo: compresses the bundled network for this very machine on the built-in data and prints the table.
cd "$(dirname "$0")/.." || exit 1
echo '$ build/espalier compress examples/digits.onnx --chip host --data digits -o build/demo'
build/espalier compress examples/digits.onnx --chip host --data digits -o build/demo || exit
echo
echo 'build/demo holds model.espl (what our runtime runs), model.onnx (the same integers for other runtimes),'
echo 'recipe.yaml (what was done) and report.json. Try: build/espalier bench build/demo/model.espl --layers'
