#!/usr/bin/env bash
# Trains a network: another name of `./pranet train`. `./run_train.sh --demo` shows the whole way on a small synthetic
# set, `--demo --classes 4` on scans of several classes.
set -euo pipefail
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
prepare requirements.txt

is_demo=false classes='' flags=()
while [ $# -gt 0 ]; do
    case $1 in
        --demo) is_demo=true ;;
        --classes) classes=${2:?--classes: how many, the background included} && shift ;;
        *) flags+=("$1") ;;
    esac
    shift
done
if ! $is_demo; then
    [ -z "$classes" ] || fail "--classes: goes with --demo; the classes of a training are --num_class"
    exec "$PYTHON" -m jittor_pranet train ${flags[@]+"${flags[@]}"}
fi

demo=${DEMO_DIR:-demo} mark=.written-by-the-demo
if [ -n "$classes" ]; then
    what="synthetic scans of $classes classes" network=EMCAD-B2-DSRA
    drawing=(--out "$demo" --classes "$classes")
    training=(--task multiclass --num_class "$classes" --trainsize 128 --epoch 15)
else
    what="a synthetic polyp set" network=PraNet-V2
    drawing=(--out "$demo")
    training=(--trainsize 192 --batchsize 8 --epoch 4)
fi
training=(--model_type "$network" --train_path "$demo/TrainDataset" --train_save "$demo/snapshots" "${training[@]}"
    ${flags[@]+"${flags[@]}"})

# Nothing is touched before the flags are known to be right, and all that is there to be the demo's own.
case " ${flags[*]-} " in *" -h "* | *" --help "*) exec "$PYTHON" -m jittor_pranet train --help ;; esac
"$PYTHON" -c 'import sys; from jittor_pranet.__main__ import parse; parse(sys.argv[1:])' train "${training[@]}"
for folder in "$demo/snapshots" "$demo/maps"; do
    [ ! -e "$folder" ] || [ -e "$folder/$mark" ] ||
        fail "$folder: is there, and the demo did not write it; name another folder in DEMO_DIR, or move it away"
done

# An earlier demo's results are put aside, and come back if this one does not reach its end.
end() {
    local code=$? folder
    for folder in "$demo/snapshots" "$demo/maps"; do
        if [ $code = 0 ]; then
            rm -rf "$folder.earlier"
        elif [ -e "$folder.earlier" ]; then
            rm -rf "$folder" && mv "$folder.earlier" "$folder"
        fi
    done
    exit $code
}

echo "The demo draws $what, trains $network on it, tests and measures it, all under $demo/."
echo "The first run compiles Jittor and its kernels: allow 15 minutes on two cores without a GPU."
"$PYTHON" -m jittor_pranet demo "${drawing[@]}"
trap end EXIT
for folder in "$demo/snapshots" "$demo/maps"; do
    if [ -e "$folder" ]; then
        if [ -e "$folder.earlier" ]; then rm -rf "$folder"; else mv "$folder" "$folder.earlier"; fi # it was killed
    fi
    mkdir -p "$folder" && touch "$folder/$mark"
done
"$PYTHON" -m jittor_pranet train "${training[@]}"
"$ROOT/run_test.sh" --weights "$demo/snapshots/last.npz" --test_path "$demo/TestDataset" \
    --save_path "$demo/maps" --overlays
