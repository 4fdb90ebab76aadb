"""The program `benchmark`: times a part of the project on this machine, beside what it is compared with."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from pathlib import Path

from jittor_pranet.benchmarks.comparison import BASELINES
from jittor_pranet.cli.arguments import add_device_argument, add_precision_argument, positive, whole
from lib.registry import NETWORKS

# What can be timed, and the module in benchmarks/ whose `run(Options) -> exit code` does it. The fields of
# its `Options` are named as the flags.
BENCHMARKS = {"evaluate": "binary_metrics", "labels": "multiclass_metrics", "data": "data",
              "infer": "networks", "train": "networks", "ops": "ops", "cold_start": "cold_start"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--what", choices=BENCHMARKS, required=True, help="the part to time")
    add("--rounds", type=whole(1), default=5, help="how often each timing is taken")
    add("--model_type", nargs="+", default=["PraNet-V2"], metavar="NAME",
        help=f"of {', '.join(NETWORKS)}; with data, the one whose training is to be kept busy")
    add_device_argument(parser)
    add_precision_argument(parser)
    _add_comparison(parser.add_argument_group("--what infer, train, ops, cold_start").add_argument)
    add = parser.add_argument_group("--what evaluate, labels, data").add_argument
    add("--workers", type=whole(0), nargs="+", default=[0, 1, 2], metavar="N",
        help="numbers of processes to compare")
    add("--images", type=whole(1), default=1000, metavar="N",
        help="images that they are timed on, of evaluate and data")
    _add_evaluate(parser.add_argument_group("--what evaluate").add_argument)
    parser.add_argument_group("--what labels").add_argument(
        "--shape", type=whole(8), nargs=3, default=[150, 512, 512], metavar=("D", "H", "W"),
        help="voxels of the volume")
    _add_data(parser.add_argument_group("--what data").add_argument)


def _add_comparison(add) -> None:
    add("--bs", type=whole(1), nargs="+", default=[1], metavar="N", help="images in a batch, of networks")
    add("--testsize", type=whole(32), default=352, help="side of the images in pixels, of networks")
    add("--against", nargs="*", choices=BASELINES, default=["torch"],
        help="what to compare with, in turns: plain is ours by plain formulas of Jittor; without a value, "
             "nothing")
    add("--json", type=Path, metavar="FILE", help="write every single timing to FILE, after each row")


def _add_evaluate(add) -> None:
    add("--pred_root", type=Path, metavar="DIR", help="folder with a folder of maps per test set")
    add("--gt_root", type=Path, metavar="DIR", help="folder of the test sets: <set>/masks")
    add("--dataset", metavar="SET", help="the set to measure; the first that has maps if left out")
    add("--loop_images", type=whole(1), default=5, metavar="N", help="images to time the plain loop on")


def _add_data(add) -> None:
    add("--train_path", metavar="DIR", help="folder with images/ and masks/")
    add("--trainsize", type=whole(32), default=352, help="side of the training images in pixels")
    add("--batchsize", type=whole(1), default=8, help="images in a batch")
    add("--step_seconds", type=positive, metavar="S",
        help="mean time of a step, as log.csv has them; found by a short training if left out")


def run(args: argparse.Namespace) -> int:
    module = importlib.import_module(f"jittor_pranet.benchmarks.{BENCHMARKS[args.what]}")
    names = [field.name for field in dataclasses.fields(module.Options)]
    return module.run(module.Options(**{name: getattr(args, name) for name in names}))
