#!/bin/sh
# Makes bench/peers/.venv, a Python of its own with the packages of requirements.txt. Silent when that is done already.
# PYTHON names the interpreter (default python3); on Debian and Ubuntu it needs the package python3-venv.
set -eu
cd "$(dirname "$0")"
stamp=.venv/installed
[ -f "$stamp" ] && cmp -s requirements.txt "$stamp" && exit 0

python=${PYTHON:-python3}
command -v "$python" >/dev/null || { echo "setup: there is no $python" >&2; exit 1; }
echo "setup: installing into bench/peers/.venv: $(sed '/^#/d' requirements.txt | tr '\n' ' ')"
rm -rf .venv
"$python" -m venv .venv || { echo "setup: no virtual environment; is python3-venv installed?" >&2; exit 1; }
.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
cp requirements.txt "$stamp"
