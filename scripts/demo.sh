#!/bin/bash
# make demo: compresses the bundled network for this very machine on the built-in data, prints the table, and measures
# what came out of it.
set -o pipefail
cd "$(dirname "$0")/.." || exit 1
out=build/demo

show() {
    echo "\$ $*"
    "$@" || exit
    echo
}

cat <<'EOT'
examples/digits.onnx is a small convolutional network that reads handwritten-like digits; the program draws the digits
itself. It is now fitted to this machine: Espalier measures the machine, quantizes the network to 8-bit integers, times
every layer before and after, and takes back what does not pay or costs more than one point of accuracy.

EOT
show build/espalier compress examples/digits.onnx --chip host --data digits --threads 1 -o $out

echo 'Each of the three files again, on 2,000 digits that training never saw:'
echo
for model in examples/digits.onnx $out/model.espl $out/model.onnx; do
    accuracy=$(build/espalier eval "$model" --data digits --quiet | sed -n 's/^top1 *//p') || exit
    time=$(build/espalier bench "$model" --threads 1 --quiet | sed -n 's/^median *//p') || exit
    printf '  %-22s %9d bytes   %s right   %s on one thread\n' "$model" "$(wc -c <"$model")" "$accuracy" "$time"
done
cat <<EOT

$out/model.espl runs with \`build/espalier run\` and with the small runtime library, libespalier-rt.
$out/model.onnx holds the same integers as standard ONNX, for other tools. $out/recipe.yaml says what was
done to each layer; $out/report.json has every figure of the table.
Next: build/espalier bench $out/model.espl --layers, build/espalier --help, docs/commands.md.
EOT
