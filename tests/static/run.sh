#!/bin/bash
# The static program: no library beside it, and the same answers as the other one.
#   run.sh SOURCE BUILD
set -u
source=$1 build=$2
# shellcheck source=tests/check.sh
. "$source/tests/check.sh"
program=$build/espalier-static
check "it builds" cmake --build "$build" --target espalier-static
check "it asks for no loader and no library" bash -c "! readelf -lW '$program' | grep -E 'INTERP|DYNAMIC'"
check "its version" bash -c "diff <('$program' --version) <('$build/espalier' --version)"
compress=(compress "$source/examples/digits.onnx" --chip x86-avx2 --data digits --quiet)
check "it compresses" "$program" "${compress[@]}" -o "$folder/static"
check "the other one compresses" "$build/espalier" "${compress[@]}" -o "$folder/other"
for file in model.espl model.onnx recipe.yaml; do
    check "$file is the same" cmp "$folder/static/$file" "$folder/other/$file"
done
# Pictures, archives and compressed files go through the static libraries; training through our own products.
check "data sets" "$source/tests/cli/run.sh" "$program" "$source/tests/cli/data.test"
check "a step of training" bash -c "cd '$folder' && printf 'kind: digits\nsplit: train\ncount: 200\n' >few.yaml &&
    '$program' train lenet5 --data few.yaml --epochs 1 -o trained.onnx --quiet"
# In a folder of its own, where nothing else is.
if [ "$(id -u)" -eq 0 ] && command -v chroot >/dev/null; then
    mkdir "$folder/bare"
    cp "$program" "$folder/static/model.espl" "$folder/bare"
    check "it runs where nothing else is" chroot "$folder/bare" /espalier-static eval /model.espl --data digits --count 100
fi
finish
