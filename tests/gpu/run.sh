#!/usr/bin/env bash
# On a GPU machine without network: checks, times and trains, each in less than ten minutes. prepare.sh says what the
# machine has and fetches the rest.
#
# usage: tests/gpu/run.sh smoke                      doctor, and a few operations checked
#        tests/gpu/run.sh tests                      the tests marked gpu
#        tests/gpu/run.sh sanitize                   our kernels under compute-sanitizer's memcheck and racecheck
#        tests/gpu/run.sh precision                  errors of maps and gradients in fp32, tf32 and amp
#        tests/gpu/run.sh benchmark                  networks, training steps and operations against PyTorch
#        tests/gpu/run.sh memory                     500 training steps at three scales: the GPU's memory
#        tests/gpu/run.sh train NETWORK SEED         ours; again to go on where it stopped
#        tests/gpu/run.sh reference NETWORK SEED     PyTorch's, of the same initial weights and order; again to go on
#        tests/gpu/run.sh results                    maps and measures of all that were trained; tables, curves
#
# Variables: OUT, for what is to be kept (.gpu/out); WHEELS (.gpu/wheels); DATA, with TrainDataset/ and TestDataset/
# (.gpu/data); SECONDS_EACH, after which training stops to be resumed (520; 0: never); EPOCHS and TRAINSIZE (the
# published ones); PRECISION, of benchmark and train (fp32). DEVICE=cpu trains without a GPU; PYTHON is then one that has
# all packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
what=${1:?"name what to run: smoke, tests, sanitize, precision, benchmark, memory, train, reference or results"}
OUT=${OUT:-.gpu/out} WHEELS=${WHEELS:-.gpu/wheels} DATA=${DATA:-.gpu/data} PRECISION=${PRECISION:-fp32}
DEVICE=${DEVICE:-cuda} TRAINSIZE=${TRAINSIZE:-352}
export JITTOR_PRANET_CACHE=${JITTOR_PRANET_CACHE:-$PWD/.gpu/cache} PYTHONUNBUFFERED=1 PYTHONPATH=$PWD
mkdir -p "$OUT"

# An environment of our own that sees all packages of the machine's, and ours before them. It sees them last, or pip
# would take those for ours.
python=${PYTHON:-.gpu/environment/bin/python}
if [ ! "${PYTHON:-}" ] && [ ! -e .gpu/environment/whole ]; then
    python3 -m venv --clear --without-pip .gpu/environment
    python3 -m pip --python "$python" install --quiet --no-index --no-deps "$WHEELS"/*.whl
    packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$packages/machine.pth"
    touch .gpu/environment/whole
fi

within() {  # at most SECONDS_EACH, then as Ctrl-C does; to be stopped is no failure
    local code=0
    timeout --signal=INT --kill-after=60 "${SECONDS_EACH:-520}" "$@" || code=$?
    case $code in 0 | 124 | 130) ;; *) return "$code" ;; esac
}

initial() {  # both start from these
    local file=.gpu/runs/initial-$1-$2.npz
    [ -f "$file" ] || "$python" -m tests.gpu.initial_weights "$1" "$2" "$file" >&2
    echo "$file"
}

case $what in
smoke) "$python" -m jittor_pranet doctor --smoke --device cuda 2>&1 | tee "$OUT/doctor.txt" ;;
tests) within "$python" -m pytest -q -m gpu -p no:cacheprovider --durations=20 2>&1 | tee "$OUT/tests.txt" ;;
precision)
    for each in fp32 tf32 amp; do
        within "$python" -m tests.tools.parity_report --device cuda --precision $each 2>&1 | tee "$OUT/parity-$each.md"
    done ;;
benchmark)
    for task in "ops --against plain torch" "infer --bs 1 16 --against torch torch.compile" \
            "train --bs 16 --against torch torch.compile"; do
        name=${task%% *}
        # shellcheck disable=SC2086  # a task is several words
        "$python" -m jittor_pranet benchmark --what $task --device cuda --precision "$PRECISION" \
            --model_type PraNet-V2 PVT-PraNet-V2 --json "$OUT/$name-$PRECISION.json" 2>&1 |
            tee "$OUT/$name-$PRECISION.txt"
    done ;;
sanitize)
    for tool in memcheck racecheck; do
        within compute-sanitizer --tool $tool --target-processes all --error-exitcode 3 \
            "$python" -m pytest -q -m gpu -p no:cacheprovider tests/lib/ops -k "not plain" 2>&1 |
            tee "$OUT/$tool.txt"
    done ;;
memory)
    nvidia-smi --query-gpu=timestamp,memory.used --format=csv,nounits --loop=5 >"$OUT/memory.csv" &
    trap "kill $!" EXIT
    rm -rf .gpu/runs/memory
    within "$python" -m jittor_pranet train --train_path "$DATA/TrainDataset" --train_save .gpu/runs/memory \
        --max_steps 500 --val_fraction 0 --device cuda
    cp .gpu/runs/memory/log.csv "$OUT/memory-steps.csv" ;;
train | reference)
    network=${2:?"name a network"} seed=${3:?"name a seed"}
    run=$what-$network-$seed
    if [ "$what" = train ] && [ "$PRECISION" != fp32 ]; then run=$PRECISION-$network-$seed; fi
    folder=.gpu/runs/$run
    weights=$(initial "$network" "$seed")
    options=(--model_type "$network" --train_path "$DATA/TrainDataset" --train_save "$folder" --resume auto
             --weights "$weights" --seed "$seed" --val_fraction 0 ${EPOCHS:+--epoch "$EPOCHS"}
             --trainsize "$TRAINSIZE" --device "$DEVICE")
    if [ "$what" = train ]; then
        within "$python" -m jittor_pranet train "${options[@]}" --cache ram --precision "$PRECISION"
    else
        within "$python" -m tests.gpu.train_reference "${options[@]}"
    fi
    cp "$folder/log.csv" "$OUT/$run.csv"
    if [ -f "$folder/curves.png" ]; then cp "$folder/curves.png" "$OUT/$run.png"; fi ;;
results)
    roots=()
    shopt -s nullglob
    for weights in .gpu/runs/{train,reference,tf32,amp}-*/last.npz; do
        name=$(basename "$(dirname "$weights")")
        "$python" -m jittor_pranet test --weights "$weights" --test_path "$DATA/TestDataset" \
            --save_path ".gpu/maps/$name" --bs 8 --testsize "$TRAINSIZE" --device "$DEVICE"
        roots+=(--pred_root ".gpu/maps/$name")
    done
    "$python" -m jittor_pranet evaluate "${roots[@]}" --gt_root "$DATA/TestDataset" --result_path .gpu/evaluation |
        tee "$OUT/results.txt"
    cp .gpu/evaluation/summary.json "$OUT/results.json"
    "$python" -m tests.gpu.summary "$OUT" | tee "$OUT/results.md" ;;
*) echo "error: $what is none of smoke, tests, sanitize, precision, benchmark, memory, train, reference, results" >&2
    exit 2 ;;
esac
