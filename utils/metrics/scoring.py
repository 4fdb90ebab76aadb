"""What all evaluations share: score sheets of a method on a set, filled by measuring files in processes."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, TypeVar

from utils.data.image_io import name_some
from utils.errors import UserError
from utils.parallel import start_worker
from utils.progress import track

Item, Figures = TypeVar("Item"), TypeVar("Figures")


@dataclass
class SetScores:
    """What one method reached on one test set.

    Attributes:
        truths: number of masks or label maps that the set has; `pairs` of them were scored.
        metrics: gathers figures by `add`: `BinaryMetrics` or `MulticlassMetrics`.
        pairs: the scored pairs of files in the order of their names, and `figures` those of each.
        defects: maps that were missing, extra, unreadable or of another size, a line each.
    """

    method: str
    dataset: str
    truths: int
    metrics: Any
    pairs: list = field(default_factory=list)
    figures: list = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def add(self, pair, outcome) -> None:
        """Takes the figures of a pair, or the text of the defect that kept it from being measured."""
        if isinstance(outcome, str):
            self.defects.append(outcome)
            return
        self.pairs.append(pair)
        self.figures.append(outcome)
        self.metrics.add(outcome)

    def scored(self) -> str:
        """How many pairs were scored, and of how many if not of all."""
        return str(self.truths) if len(self.pairs) == self.truths else f"{len(self.pairs)} of {self.truths}"


def fill(plans: list[tuple[SetScores, list]], measure: Callable, workers: int, chunk: int,
         allow_missing: bool, unit: str) -> list[SetScores]:
    """Fills empty score sheets, each with the figures of the pairs of files beside it.

    Args:
        measure: gives the figures of a pair, or raises UserError for a defect; see `measure_all`.
        allow_missing: leave pairs with a defect out and name them in the sheet, as those already there.
        unit: what a pair is called by the progress bar.

    Raises:
        UserError: a map has a defect, a set has no map to score, or a worker was killed.
    """
    if not allow_missing:
        _refuse_defects(plans)
    tasks = [(scores, pair) for scores, pairs in plans for pair in pairs]
    outcomes = measure_all(measure, [pair for _, pair in tasks], workers, chunk)
    for outcome, (scores, pair) in zip(track(outcomes, len(tasks), "evaluate", unit), tasks):
        scores.add(pair, outcome)
    if not allow_missing:
        _refuse_defects(plans)
    for scores, _ in plans:
        if not scores.pairs:
            raise UserError(f"{scores.dataset}: no map of {scores.method} can be scored: "
                            f"{name_some(scores.defects, between=' | ')}")
    return [scores for scores, _ in plans]


def default_workers(items: int, per_worker: int) -> int:
    """Processes for so many items, where starting one takes about as long as measuring ``per_worker``."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cpus, items // per_worker))


def pairing_defects(folder: str | os.PathLike, truths: dict[str, Path], maps: dict[str, Path],
                    what: str) -> list[str]:
    """A line each for truths (a mask or whatever they are called) without map, and maps without truth."""
    missing = [path.name for name, path in truths.items() if name not in maps]
    extra = [path.name for name, path in maps.items() if name not in truths]
    defects = []
    if missing:
        defects.append(f"{folder}: no map for {len(missing)} of {len(truths)} {what}s: {name_some(missing)}")
    if extra:
        defects.append(f"{folder}: no {what} for {len(extra)} of {len(maps)} maps: {name_some(extra)}")
    return defects


def _refuse_defects(plans: list[tuple[SetScores, list]]) -> None:
    defects = [defect for scores, _ in plans for defect in scores.defects]
    if defects:
        raise UserError(f"{name_some(defects, between=' | ')}; mend the maps, or score the others with "
                        "--allow_missing")


def measure_all(measure: Callable[[Item], Figures], items: list[Item], workers: int,
                chunk: int) -> Iterator[Figures | str]:
    """Yields for each item, in order, its figures or the text of its defect, from ``workers`` processes.

    Args:
        measure: importable from a module that imports quickly and without Jittor.
        chunk: items that a worker takes at a time.

    Raises:
        UserError: a worker was killed.
    """
    attempt = functools.partial(_figures_or_defect, measure)
    workers = min(workers, len(items))
    if workers <= 1:
        yield from map(attempt, items)
        return
    # Forking a server that has imported the module is quick; forking the caller is not safe with threads.
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([getattr(measure, "func", measure).__module__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=start_worker)
    try:
        yield from pool.map(attempt, items, chunksize=chunk)
    except BrokenProcessPool as error:
        raise UserError(f"one of {workers} worker processes was killed, often for want of memory; nothing "
                        "was written; try fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _figures_or_defect(measure: Callable[[Item], Figures], item: Item) -> Figures | str:
    try:
        return measure(item)
    except UserError as error:
        return str(error)
