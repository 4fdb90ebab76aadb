"""The program `benchmark`: times a part of the project on this machine, beside what it is compared with."""

from __future__ import annotations

import argparse
import cProfile
import csv
import functools
import itertools
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from jittor_pranet.options import positive, whole
from utils import backend
from utils.errors import UserError

STEPS = 3  # that training makes on a batch, one at each scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--what", choices=BENCHMARKS, required=True, help="the part to time")
    add("--rounds", type=whole(1), default=3, help="how often each timing is taken; the shortest counts")
    add("--workers", type=whole(0), nargs="+", default=[0, 1, 2], metavar="N",
        help="numbers of processes to compare")
    add("--images", type=whole(1), default=1000, metavar="N", help="images that they are timed on")
    add = parser.add_argument_group("--what evaluate").add_argument
    add("--pred_root", type=Path, metavar="DIR", help="folder with a folder of maps per test set")
    add("--gt_root", type=Path, metavar="DIR", help="folder of the test sets: <set>/masks")
    add("--dataset", metavar="SET", help="the set to measure; the first that has maps if left out")
    add("--loop_images", type=whole(1), default=5, metavar="N", help="images to time the plain loop on")
    add = parser.add_argument_group("--what data").add_argument
    add("--train_path", metavar="DIR", help="folder with images/ and masks/")
    add("--trainsize", type=whole(32), default=352, help="side of the training images in pixels")
    add("--batchsize", type=whole(1), default=8, help="images in a batch")
    add("--model_type", default="PraNet-V2", metavar="NAME", help="network whose training is to be kept busy")
    add("--step_seconds", type=positive, metavar="S",
        help="mean time of a step, as log.csv has them; found by a short training if left out")
    backend.add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    BENCHMARKS[args.what](args)
    return 0


def shortest(rounds: int, work: Callable[[], object]) -> float:
    """Seconds of the quickest of several runs: whatever else the machine does only makes a run slower."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def profile(work: Callable[[], object], most: int = 8) -> list[tuple[str, float]]:
    """The functions that take most time themselves, each with its share of the whole."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler)
    own = {f"{Path(file).name} {name}": row[2] for (file, _, name), row in stats.stats.items()}
    return [(name, own[name] / stats.total_tt) for name in sorted(own, key=own.get, reverse=True)[:most]]


# ---------------------------------------------------------------- evaluate


def evaluate(args: argparse.Namespace) -> None:
    """The measures of maps and masks in files, against a plain loop over thresholds on some of them."""
    from tests.metrics_oracle import measure
    from utils.evaluation import measure_all, measure_files, read_pair

    read = functools.partial(read_pair, mask_rule="mid")
    pairs = _pairs(args)
    some = pairs[::max(1, len(pairs) // args.loop_images)][:args.loop_images]
    reading = shortest(args.rounds, lambda: [read(pair) for pair in pairs]) / len(pairs)
    ours = shortest(args.rounds, lambda: [measure_files(pair, "mid") for pair in pairs]) / len(pairs)
    loop = shortest(args.rounds, lambda: [measure(*read(pair)) for pair in some]) / len(some)
    height, width = read(pairs[0])[0].shape
    print(f"{len(pairs)} images, the first {width}x{height}; shortest of {args.rounds} rounds")
    print(f"one pass    {1e3 * ours:8.2f} ms per image, one worker; {1e3 * reading:.2f} of it read the files")
    print(f"plain loop  {1e3 * loop:8.2f} ms per image, on {len(some)} of them")
    print(f"the loop takes {loop / ours:.0f} times as long")
    differences = [_difference(pair, measure(*read(pair))) for pair in some]
    print(f"the figures of the two differ by {max(differences):.1e} at most")

    shared = (pairs * -(-args.images // len(pairs)))[:args.images]
    for workers in sorted({max(1, count) for count in args.workers}):
        seconds = shortest(args.rounds, lambda count=workers: list(measure_all(shared, "mid", count)))
        rate = len(shared) / seconds
        print(f"{workers} worker(s) {rate:8.1f} images per second, their start spread over {len(shared)}")

    print("where one worker's time goes:")
    for name, share in profile(lambda: [measure_files(pair, "mid") for pair in pairs]):
        print(f"{100 * share:6.1f} %  {name}")


def _pairs(args: argparse.Namespace) -> list:
    """The maps of one set with their masks."""
    from utils.evaluation import find_datasets, plan_set

    if not (args.pred_root and args.gt_root):
        raise UserError("--what evaluate needs --pred_root and --gt_root, like the program evaluate")
    known = find_datasets(args.gt_root)
    with_maps = [name for name in known if (args.pred_root / name).is_dir()]
    if not with_maps:
        raise UserError(f"{args.pred_root}: has maps for none of the sets {', '.join(known)}")
    dataset, = find_datasets(args.gt_root, [args.dataset or with_maps[0]])
    return plan_set("", args.pred_root, args.gt_root, dataset, "mid")[1]


def _difference(pair, expected: dict[str, float]) -> float:
    from utils.evaluation import measure_files

    figures = measure_files(pair, "mid").result()
    return max(abs(figures[name] - expected[name]) for name in figures)


# ---------------------------------------------------------------- data


def data(args: argparse.Namespace) -> None:
    """Training batches from files and from memory, against the optimizer steps that are made on them."""
    if not args.train_path:
        raise UserError("--what data needs --train_path, like the program train")
    from utils.dataset import TrainSet

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


def _endless_batches(train_set, batch_size: int, workers: int) -> Iterator[tuple]:
    from utils.dataset import epoch_batches

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
                   "--train_save", folder, "--model_type", args.model_type, "--trainsize", args.trainsize,
                   "--batchsize", args.batchsize, "--max_steps", 2 * STEPS, "--device", args.device]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        if subprocess.run(list(map(str, command)), env=environment, stdout=subprocess.DEVNULL).returncode:
            raise UserError("the training to be timed has failed, see above; --step_seconds does without it")
        with open(Path(folder) / "log.csv", newline="") as log:
            return sum(float(row["seconds"]) for row in list(csv.DictReader(log))[STEPS:])


BENCHMARKS: dict[str, Callable[[argparse.Namespace], None]] = {"evaluate": evaluate, "data": data}
"""What can be timed: a function of the arguments that prints what it measured. Its imports are its own."""
