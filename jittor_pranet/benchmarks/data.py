"""Times reading training batches against the optimizer steps that are made on them."""

from __future__ import annotations

import argparse
import csv
import functools
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from jittor_pranet.benchmarks.timing import shortest
from utils.errors import UserError
from utils.files import PROJECT_ROOT

STEPS = 3  # that training makes on a batch, one at each scale


def run(args: argparse.Namespace) -> int:
    """Training batches from files and from memory, against the optimizer steps that are made on them."""
    if not args.train_path:
        raise UserError("--what data needs --train_path, like the program train")
    if len(args.model_type) > 1:
        raise UserError(f"--model_type {' '.join(args.model_type)}: --what data needs one network, whose "
                        "training is to be kept busy")
    from utils.data.polyps import TrainSet

    files, kept = (TrainSet(args.train_path, args.trainsize, in_memory) for in_memory in (False, True))
    needed = STEPS * args.step_seconds if args.step_seconds else _training_seconds(args)
    print(f"{len(files)} pairs, {args.trainsize}x{args.trainsize}, batches of {args.batchsize}; shortest of "
          f"{args.rounds} rounds of {args.images} images, the processes' start included")
    rate = args.batchsize / needed
    print(f"training       {rate:8.1f} images/s; a batch has {STEPS} steps in {needed:.3g} s")
    rows = [(f"--workers {workers}", files, workers) for workers in args.workers]
    for name, train_set, workers in [*rows, ("--cache ram", kept, 0)]:
        batches = functools.partial(_endless_batches, train_set, args.batchsize, workers)
        rate = args.images / shortest(args.rounds, lambda some=batches: _read(some(), args.images))
        wait = 1e3 * _wait(batches(), needed)
        print(f"{name:14} {rate:8.1f} images/s; training waits {wait:.1f} ms for a batch")
    return 0


def _endless_batches(train_set, batch_size: int, workers: int) -> Iterator[tuple]:
    from utils.data.polyps import epoch_batches

    for epoch in itertools.count():
        yield from epoch_batches(train_set, batch_size, 0, epoch, workers)


def _read(batches: Iterator[tuple], images: int) -> None:
    """Takes batches until they hold that many images."""
    with closing(batches):
        for _, _, stems in batches:
            images -= len(stems)
            if images <= 0:
                return


def _wait(batches: Iterator[tuple], needed: float) -> float:
    """Median seconds for a batch after a pause as long as training needs for one, as far as that matters."""
    with closing(batches):
        next(batches)
        seconds = []
        for _ in range(10):
            time.sleep(min(needed, 0.5))
            seconds.append(shortest(1, lambda: next(batches)))
        return statistics.median(seconds)


def _training_seconds(args: argparse.Namespace) -> float:
    """Seconds of the steps on a batch, by the log of a short training, whose first batch is left out.

    Raises:
        UserError: it fails; it has said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jittor_pranet", "train", "--train_path", args.train_path,
                   "--train_save", folder, "--model_type", *args.model_type, "--trainsize", args.trainsize,
                   "--batchsize", args.batchsize, "--max_steps", 2 * STEPS, "--device", args.device]
        environment = {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
        if subprocess.run(list(map(str, command)), env=environment, stdout=subprocess.DEVNULL).returncode:
            raise UserError("the training to be timed has failed, see above; --step_seconds does without it")
        with open(Path(folder) / "log.csv", newline="") as log:
            return sum(float(row["seconds"]) for row in list(csv.DictReader(log))[STEPS:])
