#!/usr/bin/env bash
# Runs the whole test suite: sets up what is missing, then passes all arguments on to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/../setup.sh"
prepare requirements-dev.txt
cd "$ROOT"
"$PYTHON" -m ruff check .
exec "$PYTHON" -m pytest "$@"
