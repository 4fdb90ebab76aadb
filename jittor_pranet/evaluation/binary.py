"""The task binary: maps of one class against masks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jittor_pranet.reports import binary as report
from utils.metrics import tables
from utils.metrics.binary import METRICS, THRESHOLDS
from utils.metrics.evaluation import evaluate, find_datasets
from utils.metrics.scoring import SetScores
from utils.metrics.tables import Table


class BinaryTask:
    """See `jittor_pranet.evaluation.task`.

    Args:
        gt_root: folder of the test sets, of which ``datasets`` are measured; None takes all.
        mask_rule: name of a rule in `MASK_RULES`.
    """

    paper_table, notes = staticmethod(tables.paper_table), staticmethod(tables.notes)

    def __init__(self, gt_root: Path, datasets: list[str] | None, mask_rule: str):
        self.gt_root, self.mask_rule = gt_root, mask_rule
        self.folders = {name: gt_root / name for name in find_datasets(gt_root, datasets)}
        self.settings = {"mask_rule": mask_rule}

    def evaluate(self, methods: dict[str, Path], workers: int, allow_missing: bool) -> list[SetScores]:
        return evaluate(methods, self.gt_root, list(self.folders), self.mask_rule, workers, allow_missing)

    def tables(self, scores: list[SetScores]) -> list[Table]:
        return [tables.results_table(scores, self.mask_rule)]

    def set_summary(self, entry: SetScores) -> dict[str, float | int]:
        """The set's scores (fractions of 1), images scored, masks there are, images with undefined scores."""
        undefined = {f"undefined_{name}": count for name, count in entry.metrics.undefined.items()}
        return {**entry.metrics.result(), "images": entry.metrics.images, "masks": entry.targets, **undefined}

    def files(self, scores: list[SetScores]) -> dict[str, Any]:
        curves = {f"{entry.method}/{entry.dataset}/{name}": curve
                  for entry in scores for name, curve in entry.metrics.curves().items()}
        return {
            "summary.csv": [{"method": entry.method, "dataset": entry.dataset, **self.set_summary(entry)}
                            for entry in scores],
            "per_image.csv": [row for entry in scores for row in _image_rows(entry)],
            "curves.npz": {"thresholds": THRESHOLDS, **curves},
        }

    def report_section(self, entries: list[SetScores], colours: dict[str, str], limit: int) -> list[str]:
        return report.section(entries, colours, self.gt_root / entries[0].dataset / "images", limit)


def _image_rows(entry: SetScores) -> Iterator[dict]:
    for pair, scores in zip(entry.pairs, entry.scores):
        values = scores.result()
        yield {"method": entry.method, "dataset": entry.dataset, "image": pair.map.name,
               **{name: values[name] for name in METRICS}, "brightest": scores.brightest,
               "undefined": " ".join(scores.undefined)}
