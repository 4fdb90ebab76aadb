"""Prints how far maps and gradients are from the published values in float64, beside PyTorch's own float32.

    python -m tests.tools.parity_report [--device cuda --precision tf32]

Tables in Markdown. Without PyTorch the columns that need it are left open, and the table of ONNX is left out.
Where a GPU rounds, as --precision has it, its errors are those of the rounding.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jittor_pranet.cli.arguments import add_device_argument, add_precision_argument
from lib.registry import NETWORKS
from tests.helpers.networks import forward_errors, golden, onnx_errors
from tests.helpers.training_pass import (
    branch_errors,
    jittor_pass,
    projection_errors,
    projection_floors,
    reference_pass,
)
from utils.runtime import backend

SIDES = ("foreground", "background")
MAPS = {"RA": ("5", "4", "3", "2"),
        "DSRA": tuple(f"{side} {stage}" for side in SIDES for stage in (2, 3, 4, 5)),
        "EMCAD": ("4", "3", "2", "1"),
        "EMCAD-DSRA": tuple(f"{side} {level}" for side in SIDES for level in (4, 3, 2, 1))}


def map_rows() -> Iterator[tuple[str, ...]]:
    yield "network", "map", "relative error", "PyTorch float32", "ratio"
    for file in ("forward", "multiclass"):
        for index, case in enumerate(golden(file)):
            network = f"{case['model']}, {case['size']} px, {_classes(case.get('num_class', 1))}"
            labels = MAPS[NETWORKS[case["model"]].decoder]
            for label, (error, floor) in zip(labels, forward_errors(case, index, file)):
                yield network, label, f"{error:.1e}", f"{floor:.1e}", f"{error / floor:.2f}"


def _classes(count: int) -> str:
    return "1 class" if count == 1 else f"{count} classes"


def gradient_rows() -> Iterator[tuple[str, ...]]:
    """Errors are median / worst over all parameters."""
    yield ("network", "error", "PyTorch float32", "same branches", "ReLU inputs crossed",
           "furthest, in PyTorch's own errors")
    for case in golden("train"):
        jittor = jittor_pass(case)
        on_branches = crossed = furthest = "-"
        if importlib.util.find_spec("torch"):
            reference = reference_pass(case, jittor)
            on_branches = _spread(branch_errors(jittor, reference))
            crossed = f"{len(reference.crossings)} of {sum(each.size for each in jittor.relu_outputs)}"
            furthest = f"{reference.crossings.max(initial=0):.1f}"
        errors, floors = projection_errors(jittor.gradients, case), projection_floors(case)
        yield case["model"], _spread(errors), _spread(floors), on_branches, crossed, furthest


def onnx_rows() -> Iterator[tuple[str, ...]]:
    yield "network", "from ours", "from PyTorch"
    for name in NETWORKS:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            errors = onnx_errors(name, 352, Path(folder))
        yield name, *(f"{error:.1e}" for error in errors)


def _spread(errors: dict[str, float]) -> str:
    values = list(errors.values())
    return f"{np.median(values):.1e} / {max(values):.1e}"


def print_table(rows: Iterator[tuple[str, ...]]) -> None:
    """Row by row, as they come."""
    for index, row in enumerate(rows):
        print(f"| {' | '.join(row)} |", flush=True)
        if index == 0:
            print("|" + " --- |" * len(row))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_device_argument(parser)
    add_precision_argument(parser)
    args = parser.parse_args()
    device = backend.prepare(args.device, args.precision)
    print(f"On {device} in {args.precision}.\n")
    print("Maps, batch 2 (1 with 4 classes), of grey images where there are 9 classes: relative\n"
          "error of each against float64.\n")
    print_table(map_rows())
    print("\nGradients of one training pass, batch 2, 256 px: error of each one's projection on a random\n"
          "vector, and of the whole gradient where PyTorch in float64 takes our branch at every ReLU;\n"
          "median / worst over the parameters.\n")
    print_table(gradient_rows())
    if device == "cpu" and importlib.util.find_spec("torch") and importlib.util.find_spec("onnxruntime"):
        print("\nONNX files of `convert` in onnxruntime, batch 3, 352 px: relative difference of logits.\n")
        print_table(onnx_rows())


if __name__ == "__main__":
    main()
