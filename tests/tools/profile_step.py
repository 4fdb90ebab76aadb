"""Prints where the time of a training step goes on this machine: the part of each operation.

    python -m tests.tools.profile_step [--model_type NAME] [--batchsize N] [--trainsize PIXELS] [--plain_ops]

A table in Markdown. --plain_ops profiles the plain formulas that the fused operations of lib/ops replace.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter

from jittor_pranet.cli.arguments import add_device_arguments, prepare_device
from utils.data.synthetic import deterministic
from utils.runtime import backend

# What is told apart by a piece of its source; other operations of ours by the body they name.
PIECES = {"Weights(weights)": "convolution, gradients", "Forward(forward)": "convolution",
          "turned(inputs, outputs), in1_p, y": "linear", "multiply(y, in0_p, w": "linear, gradient of x",
          "multiply(turned(outputs, rows)": "linear, gradient of the weight", "scores": "attention"}
BODY = r"using namespace pranet;.*?<([A-Z]\w+)>"
OURS = r"using namespace pranet;.*?\b([A-Z]\w+|[a-z]+_[a-z_]+)(?:<.*?>)*(?: body)?[{(]"
MIN_PART = 0.01  # of all, to have a row of its own


def label(source: str) -> str:
    if not source.startswith("code"):
        kinds = sorted(set(re.findall(r"«opkey\d+:(\w+)", source))) or [source.partition("«")[0]]
        return "Jittor's own: " + ", ".join(kinds)
    own = re.search(BODY, source, re.S) or re.search(OURS, source, re.S)
    return own[1] if own else next((name for piece, name in PIECES.items() if piece in source), "other")


def operation_seconds(model_type: str, batch: int, size: int) -> tuple[Counter, float]:
    """Seconds of each kind of operation in a step, and of all."""
    from lib import build_model
    from lib.optimizer import Adam, trainable_parameters

    jt = backend.jt
    model = build_model(model_type)
    model.train()
    optimizer = Adam(trainable_parameters(model), clip=0.5)
    images, masks = deterministic.images(batch, size), deterministic.masks(batch, size)

    def step():
        optimizer.step(sum(model.losses(model(jt.array(images)), jt.array(masks))), lr=1e-4)
        jt.sync_all(True)

    step()
    step()
    with jt.profile_scope() as report:
        step()
    column, seconds = report[0].index("TotalTime"), Counter()
    for row in report[1:]:
        seconds[label(row[0])] += float(row[column]) / 1e9
    return seconds, sum(seconds.values())


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the time of a training step goes.")
    parser.add_argument("--model_type", default="PraNet-V2")
    parser.add_argument("--batchsize", type=int, default=4)
    parser.add_argument("--trainsize", type=int, default=352)
    add_device_arguments(parser)
    args = parser.parse_args()
    prepare_device(args.device, args.precision, args.plain_ops)
    by_operation, total = operation_seconds(args.model_type, args.batchsize, args.trainsize)
    print(f"{args.model_type}, batch {args.batchsize}, {args.trainsize} px: {total:.2f} s in operations\n")
    print("| operation | ms | share |\n| --- | --- | --- |")
    for name, seconds in by_operation.most_common():
        if seconds >= MIN_PART * total:
            print(f"| {name} | {1e3 * seconds:.0f} | {100 * seconds / total:.0f} % |")
    rest = sum(seconds for seconds in by_operation.values() if seconds < MIN_PART * total)
    print(f"| all others | {1e3 * rest:.0f} | {100 * rest / total:.0f} % |")


if __name__ == "__main__":
    main()
