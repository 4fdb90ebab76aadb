"""Times reading training batches against the optimizer steps that are made on them."""

from __future__ import annotations

import csv
import functools
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from jittor_pranet.benchmarks.timing import shortest
from utils.data.polyps import TrainSet, epoch_batches
from utils.errors import UserError
from utils.files import child_environment

STEPS = 3  # that training makes on a batch, one at each scale


@dataclass(frozen=True)
class Options:
    """The flags of --what data."""

    model_type: list[str]
    train_path: str | None
    trainsize: int
    batchsize: int
    step_seconds: float | None
    device: str
    rounds: int
    workers: list[int]
    images: int


def run(options: Options) -> int:
    """Training batches from files and from memory, against the optimizer steps that are made on them."""
    if not options.train_path:
        raise UserError("--what data needs --train_path, like the program train")
    if len(options.model_type) > 1:
        raise UserError(f"--model_type {' '.join(options.model_type)}: --what data needs one network, whose "
                        "training is to be kept busy")

    size, batch_size = options.trainsize, options.batchsize
    on_disk, in_ram = (TrainSet(options.train_path, size, in_memory) for in_memory in (False, True))
    needed = STEPS * options.step_seconds if options.step_seconds else _training_seconds(options)
    print(f"{len(on_disk)} pairs, {size}x{size}, batches of {batch_size}; shortest of "
          f"{options.rounds} rounds of {options.images} images, the processes' start included")
    rate = batch_size / needed
    print(f"training       {rate:8.1f} images/s; a batch has {STEPS} steps in {needed:.3g} s")
    rows = [(f"--workers {workers}", on_disk, workers) for workers in options.workers]
    for name, train_set, workers in [*rows, ("--cache ram", in_ram, 0)]:
        batches = functools.partial(_endless_batches, train_set, batch_size, workers)
        seconds = shortest(options.rounds, functools.partial(_read, batches, options.images))
        wait = 1e3 * _wait(batches(), needed)
        print(f"{name:14} {options.images / seconds:8.1f} images/s; training waits {wait:.1f} ms for a batch")
    return 0


def _endless_batches(train_set, batch_size: int, workers: int) -> Iterator[tuple]:
    for epoch in itertools.count():
        yield from epoch_batches(train_set, batch_size, 0, epoch, workers)


def _read(batches: Callable[[], Iterator[tuple]], images: int) -> None:
    """Takes batches until they hold that many images."""
    with closing(batches()) as taken:
        for _, _, stems in taken:
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


def _training_seconds(options: Options) -> float:
    """Seconds of the steps on a batch, by the log of a short training, whose first batch is left out.

    Raises:
        UserError: it fails; it has said why.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jittor_pranet", "train", "--train_path", options.train_path,
                   "--train_save", folder, "--model_type", *options.model_type,
                   "--trainsize", options.trainsize, "--batchsize", options.batchsize,
                   "--max_steps", 2 * STEPS, "--device", options.device]
        if subprocess.run(list(map(str, command)), env=child_environment(),
                          stdout=subprocess.DEVNULL).returncode:
            raise UserError("the training to be timed has failed, see above; --step_seconds does without it")
        with open(Path(folder) / "log.csv", newline="") as log:
            return sum(float(row["seconds"]) for row in list(csv.DictReader(log))[STEPS:])
