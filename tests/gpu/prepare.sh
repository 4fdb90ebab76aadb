#!/usr/bin/env bash
# Where there is a network: fetches what a GPU machine without one lacks, into a folder to carry there (50 MB). That
# machine has Python 3.12, an NVIDIA driver, nvcc 13, and PyTorch for CUDA 13 with NVIDIA's wheels.
# usage: tests/gpu/prepare.sh [FOLDER, .gpu/wheels if left out]
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-.gpu/wheels}
python=${PYTHON:-python3}
packages=$(grep -E '^(numpy|onednn)' requirements.txt | grep -v '>= "3.13"' | cut -d';' -f1)
mkdir -p "$folder"
# shellcheck disable=SC2086  # one word for each package
"$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
    --dest "$folder" $packages
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$folder" -r requirements-jittor.txt
ls -l "$folder"
