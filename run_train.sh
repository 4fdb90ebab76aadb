#!/usr/bin/env bash
# Trains a network: sets up what is missing, then passes all flags on. `./run_train.sh --demo` shows the whole way
# on a small synthetic set; `./run_train.sh --help` lists the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
prepare requirements.txt

if [ "${1:-}" != --demo ]; then
    exec "$PYTHON" -m jittor_pranet train "$@"
fi

shift
demo=${DEMO_DIR:-demo}
echo "The demo draws a synthetic polyp set, trains PraNet-V2 on it, tests and measures it, all under $demo/."
echo "The first run compiles Jittor and its kernels: allow 15 minutes on two cores without a GPU."
"$PYTHON" -m jittor_pranet demo --out "$demo"
rm -rf "$demo/snapshots" "$demo/maps"
"$PYTHON" -m jittor_pranet train --model_type PraNet-V2 --train_path "$demo/TrainDataset" \
    --train_save "$demo/snapshots" --trainsize 192 --batchsize 8 --epoch 4 "$@"
"$ROOT/run_test.sh" --weights "$demo/snapshots/last.npz" --test_path "$demo/TestDataset" \
    --save_path "$demo/maps" --testsize 192 --overlays
