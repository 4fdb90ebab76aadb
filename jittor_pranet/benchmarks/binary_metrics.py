"""Times the metrics of maps and masks against a plain loop over thresholds."""

from __future__ import annotations

import cProfile
import functools
import pstats
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jittor_pranet.benchmarks.timing import shortest, time_workers
from jittor_pranet.reference_metrics.binary import measure
from utils.errors import UserError
from utils.metrics.evaluation import find_datasets, measure_files, plan_set, read_pair

FUNCTIONS = 8  # that the profile names


@dataclass(frozen=True)
class Options:
    """The flags of --what evaluate."""

    pred_root: Path | None
    gt_root: Path | None
    dataset: str | None
    rounds: int
    workers: list[int]
    images: int
    loop_images: int


def run(options: Options) -> int:
    """The metrics of maps and masks in files, against a plain loop over thresholds on some of them."""
    measure_pair = functools.partial(measure_files, mask_rule="mid")
    read = functools.partial(read_pair, mask_rule="mid")
    rounds, pairs = options.rounds, _pairs(options)
    some = pairs[::max(1, len(pairs) // options.loop_images)][:options.loop_images]
    read_seconds = shortest(rounds, lambda: [read(pair) for pair in pairs]) / len(pairs)
    seconds = shortest(rounds, lambda: [measure_pair(pair) for pair in pairs]) / len(pairs)
    loop = shortest(rounds, lambda: [measure(*read(pair)) for pair in some]) / len(some)
    height, width = read(pairs[0])[0].shape
    print(f"{len(pairs)} images, the first {width}x{height}; shortest of {rounds} rounds")
    print(f"one pass    {1e3 * seconds:8.2f} ms per image, one worker; "
          f"{1e3 * read_seconds:.2f} of it read the files")
    print(f"plain loop  {1e3 * loop:8.2f} ms per image, on {len(some)} of them")
    print(f"the loop takes {loop / seconds:.0f} times as long")
    expected = [measure(*read(pair)) for pair in some]
    difference = max(abs(value - scores[name]) for pair, scores in zip(some, expected)
                     for name, value in measure_pair(pair).result().items())
    print(f"the figures of the two differ by {difference:.1e} at most")

    items = (pairs * -(-options.images // len(pairs)))[:options.images]
    for workers, total in time_workers(rounds, options.workers, measure_pair, items):
        rate = len(items) / total
        print(f"{workers} worker(s) {rate:8.1f} images per second, their start spread over {len(items)}")

    print("where one worker's time goes:")
    for name, fraction in profile(lambda: [measure_pair(pair) for pair in pairs]):
        print(f"{100 * fraction:6.1f} %  {name}")
    return 0


def _pairs(options: Options) -> list:
    """The maps of one set with their masks."""
    if not (options.pred_root and options.gt_root):
        raise UserError("--what evaluate needs --pred_root and --gt_root, like the program evaluate")
    known = find_datasets(options.gt_root)
    with_maps = [name for name in known if (options.pred_root / name).is_dir()]
    if not with_maps:
        raise UserError(f"{options.pred_root}: has maps for none of the sets {', '.join(known)}")
    dataset, = find_datasets(options.gt_root, [options.dataset or with_maps[0]])
    return plan_set("", options.pred_root, options.gt_root, dataset, "mid")[1]


def profile(work: Callable[[], object]) -> list[tuple[str, float]]:
    """The functions that take most time themselves, each with its fraction of the total."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler)
    own = {f"{Path(file).name} {name}": row[2] for (file, _, name), row in stats.stats.items()}
    return [(name, own[name] / stats.total_tt) for name in sorted(own, key=own.get, reverse=True)[:FUNCTIONS]]
