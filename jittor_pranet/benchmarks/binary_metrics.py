"""Times the measures of maps and masks against a plain loop over thresholds."""

from __future__ import annotations

import argparse
import cProfile
import functools
import pstats
from collections.abc import Callable
from pathlib import Path

from jittor_pranet.benchmarks.timing import shortest
from utils.errors import UserError


def run(args: argparse.Namespace) -> int:
    """The measures of maps and masks in files, against a plain loop over thresholds on some of them."""
    from jittor_pranet.reference_metrics.binary import measure
    from utils.metrics.evaluation import measure_files, read_pair
    from utils.parallel import map_in_processes

    measure_pair = functools.partial(measure_files, mask_rule="mid")
    read = functools.partial(read_pair, mask_rule="mid")
    pairs = _pairs(args)
    some = pairs[::max(1, len(pairs) // args.loop_images)][:args.loop_images]
    reading = shortest(args.rounds, lambda: [read(pair) for pair in pairs]) / len(pairs)
    ours = shortest(args.rounds, lambda: [measure_pair(pair) for pair in pairs]) / len(pairs)
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
        processes = workers if workers > 1 else 0
        seconds = shortest(args.rounds, lambda count=processes: list(
            map_in_processes(measure_pair, shared, count, 8 * count)))
        rate = len(shared) / seconds
        print(f"{workers} worker(s) {rate:8.1f} images per second, their start spread over {len(shared)}")

    print("where one worker's time goes:")
    for name, share in profile(lambda: [measure_pair(pair) for pair in pairs]):
        print(f"{100 * share:6.1f} %  {name}")
    return 0


def _pairs(args: argparse.Namespace) -> list:
    """The maps of one set with their masks."""
    from utils.metrics.evaluation import find_datasets, plan_set

    if not (args.pred_root and args.gt_root):
        raise UserError("--what evaluate needs --pred_root and --gt_root, like the program evaluate")
    known = find_datasets(args.gt_root)
    with_maps = [name for name in known if (args.pred_root / name).is_dir()]
    if not with_maps:
        raise UserError(f"{args.pred_root}: has maps for none of the sets {', '.join(known)}")
    dataset, = find_datasets(args.gt_root, [args.dataset or with_maps[0]])
    return plan_set("", args.pred_root, args.gt_root, dataset, "mid")[1]


def _difference(pair, expected: dict[str, float]) -> float:
    from utils.metrics.evaluation import measure_files

    figures = measure_files(pair, "mid").result()
    return max(abs(figures[name] - expected[name]) for name in figures)


def profile(work: Callable[[], object], most: int = 8) -> list[tuple[str, float]]:
    """The functions that take most time themselves, each with its share of the whole."""
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler)
    own = {f"{Path(file).name} {name}": row[2] for (file, _, name), row in stats.stats.items()}
    return [(name, own[name] / stats.total_tt) for name in sorted(own, key=own.get, reverse=True)[:most]]
