#!/usr/bin/env bash
# Writes the maps of a trained network and measures them: another name of `./pranet test --evaluate`.
set -euo pipefail
exec "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/pranet" test --evaluate "$@"
