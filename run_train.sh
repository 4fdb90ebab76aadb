#!/usr/bin/env bash
# Trains a network: sets up what is missing, then passes all flags on. `./run_train.sh --demo` shows the whole way
# on a small synthetic set, `--demo --classes 4` on scans of several classes; `./run_train.sh --help` lists the flags.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
prepare requirements.txt

if [ "${1:-}" != --demo ]; then
    exec "$PYTHON" -m jittor_pranet train "$@"
fi

shift
demo=${DEMO_DIR:-demo}
drawing=()
if [ "${1:-}" = --classes ]; then
    classes=${2:?--classes: how many, the background included}
    shift 2
    what="synthetic scans of $classes classes" network=EMCAD-B2-DSRA
    drawing=(--classes "$classes")
    training=(--task multiclass --num_class "$classes" --trainsize 128 --epoch 15)
    testing=()
else
    what="a synthetic polyp set" network=PraNet-V2
    training=(--trainsize 192 --batchsize 8 --epoch 4)
    testing=(--testsize 192)
fi
echo "The demo draws $what, trains $network on it, tests and measures it, all under $demo/."
echo "The first run compiles Jittor and its kernels: allow 15 minutes on two cores without a GPU."
"$PYTHON" -m jittor_pranet demo --out "$demo" "${drawing[@]}"
rm -rf "$demo/snapshots" "$demo/maps"
"$PYTHON" -m jittor_pranet train --model_type "$network" --train_path "$demo/TrainDataset" \
    --train_save "$demo/snapshots" "${training[@]}" "$@"
"$ROOT/run_test.sh" --weights "$demo/snapshots/last.npz" --test_path "$demo/TestDataset" \
    --save_path "$demo/maps" --overlays "${testing[@]}"
