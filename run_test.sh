#!/usr/bin/env bash
# Writes the maps of a trained network and measures them: sets up what is missing, then passes all flags on.
# `./run_test.sh --help` lists the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
prepare requirements.txt
exec "$PYTHON" -m jittor_pranet test --evaluate "$@"
