#!/bin/sh
# Downloads the wheels of wheels.txt (49 MB) for Linux on x86-64: fetch.sh [FOLDER] [PYTHON VERSION]
set -eu
set -- "${1:-.whl}" "${2:-3.12}" "$(dirname "$0")/wheels.txt"
python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version "$2" \
    --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_24_x86_64 \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
    --dest "$1" --requirement "$3"
