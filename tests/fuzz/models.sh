#!/bin/bash
# The real models, truncated at 100 places and with 1,000 bytes flipped: models.sh MUTATE
assets=${ESPL_ASSETS:-$(dirname "$0")/../../../shared}
[ -d "$assets/models" ] || { echo "skipped: no assets"; exit 77; }
exec "$1" --truncations 100 --flips 1000 "$assets"/models/*/model.onnx
