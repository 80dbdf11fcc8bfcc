#!/bin/bash
# Builds the consumer with the source tree as a subproject: subproject.sh SOURCE COMPILER
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cmake -S "$1/tests/install/consumer" -B "$folder" -G Ninja -DWANT=fetch -DESPALIER_SOURCE="$1" \
    -DCMAKE_C_COMPILER="$2" && cmake --build "$folder" --target consumer && "$folder/consumer"
