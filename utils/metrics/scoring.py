"""What all evaluations share: the scores of a method on a set, gathered by measuring files in processes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable

from utils.data.image_io import name_some
from utils.errors import UserError
from utils.parallel import map_in_processes
from utils.progress import track


@dataclass
class SetScores:
    """What one method reached on one test set.

    Attributes:
        targets: number of masks or label maps that the set has; `pairs` of them were scored.
        metrics: gathers scores by `add`: `BinaryMetrics` or `MulticlassMetrics`.
        pairs: the scored pairs of files in the order of their names, and `scores` those of each.
        defects: maps that were missing, extra, unreadable or of another size, a line each.
    """

    method: str
    dataset: str
    targets: int
    metrics: Any
    pairs: list = field(default_factory=list)
    scores: list = field(default_factory=list)
    defects: list[str] = field(default_factory=list)

    def add(self, pair, outcome) -> None:
        """Takes the scores of a pair, or the text of the defect that kept it from being measured."""
        if isinstance(outcome, str):
            self.defects.append(outcome)
            return
        self.pairs.append(pair)
        self.scores.append(outcome)
        self.metrics.add(outcome)

    def scored(self) -> str:
        """How many pairs were scored, and of how many if not of all."""
        count = len(self.pairs)
        return str(count) if count == self.targets else f"{count} of {self.targets}"


def score_pairs(plans: list[tuple[SetScores, list]], measure: Callable, workers: int, allow_missing: bool,
                unit: str) -> list[SetScores]:
    """Adds to each set's scores those of the pairs of files beside it.

    Args:
        measure: gives the scores of a pair, or the text of its defect; see `map_in_processes`.
        allow_missing: leave pairs with a defect out and name them in the scores, as those already there.
        unit: what a pair is called by the progress bar.

    Raises:
        UserError: a map has a defect, a set has no map to score, or a worker was killed.
    """
    if not allow_missing:
        _refuse_defects(plans)
    tasks = [(scores, pair) for scores, pairs in plans for pair in pairs]
    workers = min(workers, len(tasks)) if workers > 1 else 0
    outcomes = map_in_processes(measure, (pair for _, pair in tasks), workers, 8 * workers)
    for outcome, (scores, pair) in zip(track(outcomes, len(tasks), "evaluate", f"{unit}s"), tasks):
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


def check_folders(root: Path, datasets: list[str]) -> None:
    """Raises UserError where a method's folder has maps of some of the sets, and not of all."""
    missing = [name for name in datasets if not (root / name).is_dir()]
    if missing and len(missing) < len(datasets):
        available = [name for name in datasets if name not in missing]
        raise UserError(f"{root / missing[0]}: no such folder; to evaluate what is there give --datasets "
                        f"{' '.join(available)}")


def pairing_defects(folder: str | os.PathLike, targets: dict[str, Path], maps: dict[str, Path],
                    what: str) -> list[str]:
    """A line for targets (masks, or ``what`` they are called) without map, one for maps without target."""
    missing = [path.name for name, path in targets.items() if name not in maps]
    extra = [path.name for name, path in maps.items() if name not in targets]
    defects = []
    if missing:
        defects.append(f"{folder}: no map for {len(missing)} of {len(targets)} {what}s: {name_some(missing)}")
    if extra:
        defects.append(f"{folder}: no {what} for {len(extra)} of {len(maps)} maps: {name_some(extra)}")
    return defects


def _refuse_defects(plans: list[tuple[SetScores, list]]) -> None:
    defects = [defect for scores, _ in plans for defect in scores.defects]
    if defects:
        raise UserError(f"{name_some(defects, between=' | ')}; mend the maps, or score the others with "
                        "--allow_missing")
