"""Measures whole test sets: pairs maps with masks by stem and spreads the pairs over processes."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.image_io import find_images, name_some, read_levels
from utils.metrics import Measures, PairFigures, binary_mask, measure_pair
from utils.progress import track
from utils.readers import start_worker

IMAGES_PER_WORKER = 250  # starting a process costs about as much as measuring this many images
CHUNK = 4  # images that a worker takes at a time


@dataclass(frozen=True)
class MapPair:
    """The file of a map and that of its mask, which share ``stem``."""

    stem: str
    map: Path
    mask: Path


@dataclass
class SetScores:
    """What one method reached on one test set.

    Attributes:
        masks: number of masks that the set has; `measures.images` of them were scored.
        pairs: the scored pairs in the order of their names, and `figures` those of each.
        defects: maps that were missing, extra, unreadable or of another size, a line each.
    """

    method: str
    dataset: str
    masks: int
    measures: Measures
    pairs: list[MapPair] = field(default_factory=list)
    figures: list[PairFigures] = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def add(self, pair: MapPair, outcome: PairFigures | str) -> None:
        """Takes the figures of a pair, or the defect that kept it from being measured."""
        if isinstance(outcome, str):
            self.defects.append(outcome)
            return
        self.pairs.append(pair)
        self.figures.append(outcome)
        self.measures.add(outcome)


def find_datasets(gt_root: Path, wanted: list[str] | None = None) -> list[str]:
    """The test sets in a folder, each a folder that holds `masks`; the wanted ones of them if any are named.

    Raises:
        UserError: there is no such folder, no set in it, or no set of a wanted name.
    """
    if not gt_root.is_dir():
        raise UserError(f"{gt_root}: no such folder; --gt_root takes the folder that holds the test sets")
    found = sorted(path.parent.name for path in gt_root.glob("*/masks") if path.is_dir())
    if not found:
        hint = f"; give {gt_root.resolve().parent}" if (gt_root / "masks").is_dir() else ""
        raise UserError(f"{gt_root}: holds no test set (a folder with masks/ in it){hint}")
    unknown = [name for name in wanted or [] if name not in found]
    if unknown:
        raise UserError(f"{gt_root}: has no set {name_some(unknown)}; with masks/ it holds "
                        f"{name_some(found, 20)}")
    return list(dict.fromkeys(wanted or found))


def evaluate(methods: dict[str, Path], gt_root: Path, datasets: list[str], mask_rule: str,
             workers: int = 0, allow_missing: bool = False) -> list[SetScores]:
    """Measures ``root/<set>`` against ``gt_root/<set>/masks`` for every set and every method's root.

    The figures do not depend on the number of workers: 0 means one for every few hundred images, at most
    one per CPU. Maps with a defect are left out and named in the scores if ``allow_missing``.

    Raises:
        UserError: a folder is missing, a map has a defect, a set has no map to score, or a worker was killed.
    """
    plans = [plan_set(method, root, gt_root, dataset, mask_rule)
             for dataset in datasets for method, root in methods.items()]
    if not allow_missing:
        _refuse_defects(plans)
    tasks = [(scores, pair) for scores, pairs in plans for pair in pairs]
    outcomes = measure_all([pair for _, pair in tasks], mask_rule, workers or default_workers(len(tasks)))
    for outcome, (scores, pair) in zip(track(outcomes, len(tasks), "evaluate", "image"), tasks):
        scores.add(pair, outcome)
    if not allow_missing:
        _refuse_defects(plans)
    for scores, _ in plans:
        if not scores.pairs:
            raise UserError(f"{scores.dataset}: no map of {scores.method} can be scored: "
                            f"{name_some(scores.defects, between=' | ')}")
    return [scores for scores, _ in plans]


def default_workers(images: int) -> int:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, images // IMAGES_PER_WORKER))


def plan_set(method: str, root: Path, gt_root: Path, dataset: str,
          mask_rule: str) -> tuple[SetScores, list[MapPair]]:
    """An empty score sheet with the defects of pairing, and the pairs to measure."""
    folder = root / dataset
    masks, maps = find_images(gt_root / dataset / "masks"), find_images(folder)
    scores = SetScores(method, dataset, len(masks), Measures(mask_rule))
    missing = [path.name for stem, path in masks.items() if stem not in maps]
    extra = [path.name for stem, path in maps.items() if stem not in masks]
    if missing:
        scores.defects.append(f"{folder}: no map for {len(missing)} of {len(masks)} masks: "
                              f"{name_some(missing)}")
    if extra:
        scores.defects.append(f"{folder}: no mask for {len(extra)} of {len(maps)} maps: {name_some(extra)}")
    return scores, [MapPair(stem, maps[stem], mask) for stem, mask in masks.items() if stem in maps]


def _refuse_defects(plans: list[tuple[SetScores, list[MapPair]]]) -> None:
    defects = [defect for scores, _ in plans for defect in scores.defects]
    if defects:
        raise UserError(f"{name_some(defects, between=' | ')}; mend the maps, or score the others with "
                        "--allow_missing")


def measure_all(pairs: list[MapPair], mask_rule: str, workers: int) -> Iterator[PairFigures | str]:
    """Yields for each pair, in order, its figures or the text of its defect, from ``workers`` processes.

    Raises:
        UserError: a worker was killed.
    """
    measure = functools.partial(measure_files, mask_rule=mask_rule)
    workers = min(workers, len(pairs))
    if workers <= 1:
        yield from map(measure, pairs)
        return
    # Forking a server that has imported this module is quick; forking the caller is not safe with threads.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)
    try:
        yield from pool.map(measure, pairs, chunksize=CHUNK)
    except BrokenProcessPool as error:
        raise UserError(f"one of {workers} worker processes was killed, often for want of memory; nothing "
                        "was written; try fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def measure_files(pair: MapPair, mask_rule: str) -> PairFigures | str:
    """The figures of a pair, or the text of the defect that keeps it from being measured."""
    try:
        return measure_pair(*read_pair(pair, mask_rule))
    except UserError as error:
        return str(error)


def read_pair(pair: MapPair, mask_rule: str) -> tuple[np.ndarray, np.ndarray]:
    """The levels of a map, (H, W) uint8, and its mask, (H, W) bool.

    Raises:
        UserError: one of them is not readable as grey levels, or they differ in size.
    """
    levels, grey = read_levels(pair.map), read_levels(pair.mask)
    if levels.shape != grey.shape:
        raise UserError(f"{pair.map}: is {levels.shape[1]}x{levels.shape[0]} pixels, its mask "
                        f"{grey.shape[1]}x{grey.shape[0]}; resize the map to its mask")
    try:
        return levels, binary_mask(grey, mask_rule)
    except ValueError as error:
        raise UserError(f"{pair.mask}: {error}; multiply it by 255") from error
