"""The task multiclass: label maps of several classes against those of the scans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from jittor_pranet.reports import multiclass as report
from utils.data.scan_sets import find_scan_sets, scan_set_folders
from utils.data.scans import ScanOptions
from utils.errors import UserError
from utils.metrics import multiclass_tables as tables
from utils.metrics.multiclass import METRICS, STATES
from utils.metrics.multiclass_evaluation import evaluate_labels
from utils.metrics.scoring import SetScores
from utils.metrics.tables import Table


class MulticlassTask:
    """See `jittor_pranet.evaluation.task`.

    Args:
        gt_root: folder of sets of scans, or a set itself; of the ``datasets`` in it and of the names in the
            file ``test_list``, where they are given.
        class_names: of all classes but the background; None calls them by their numbers.
        absent: name of a rule in `ABSENT_RULES`.

    Raises:
        UserError: the names are not one for each class, or there are no such sets.
    """

    paper_table = staticmethod(tables.paper_table)

    def __init__(self, gt_root: Path, datasets: list[str] | None, test_list: Path | None,
                 options: ScanOptions, class_names: list[str] | None, absent: str):
        _check_names(class_names, options.num_class)
        self.options, self.absent = options, absent
        self.names = tables.class_names(options.num_class, class_names)
        self.folders = scan_set_folders(gt_root, datasets)
        self.sets = find_scan_sets(gt_root, datasets, test_list)
        self.settings = {"absent": absent, "classes": self.names[1:]}

    def evaluate(self, methods: dict[str, Path], workers: int, allow_missing: bool) -> list[SetScores]:
        return evaluate_labels(methods, self.sets, self.options, self.absent, workers, allow_missing)

    def tables(self, scores: list[SetScores]) -> list[Table]:
        return [tables.means_table(scores),
                *(tables.classes_table(dataset, scores, self.names) for dataset in self.sets)]

    def notes(self, scores: list[SetScores]) -> list[str]:
        return tables.notes(scores, self.names)

    def set_summary(self, entry: SetScores) -> dict:
        """The set's scores, those of its classes with scans in each of `STATES`, and confusion."""
        metrics = entry.metrics
        classes = {name: {**_by_name(means), **dict(zip(STATES, counts.tolist()))}
                   for name, means, counts in zip(self.names[1:], metrics.class_means(), metrics.states)}
        return {"scans": len(entry.pairs), "label_maps": entry.targets,
                "without_spacing": metrics.without_spacing, "mean": _by_name(metrics.means().values()),
                "classes": classes, "confusion": metrics.confusion.tolist()}

    def files(self, scores: list[SetScores]) -> dict[str, Any]:
        scans = [row for entry in scores for row in self._scan_rows(entry)]
        return {"summary.csv": [row for entry in scores for row in self._class_rows(entry)],
                "per_scan.json": scans, "per_scan.csv": scans}

    def _class_rows(self, entry: SetScores) -> Iterator[dict]:
        summary = self.set_summary(entry)
        for name, scores in [*summary["classes"].items(), ("mean", summary["mean"])]:
            yield {"method": entry.method, "dataset": entry.dataset, "class": name,
                   **{column: scores.get(column) for column in (*METRICS, *STATES)}}

    def _scan_rows(self, entry: SetScores) -> Iterator[dict]:
        for pair, table, scores in zip(entry.pairs, entry.metrics.tables, entry.scores):
            for name, values, state in zip(self.names[1:], table, scores.states()):
                yield {"method": entry.method, "dataset": entry.dataset, "scan": pair.scan.name,
                       "class": name, **_by_name(values), "state": STATES[state]}

    def report_section(self, entries: list[SetScores], colours: dict[str, str], limit: int) -> list[str]:
        return report.section(entries, colours, self.options, self.names, limit)


def _check_names(given: list[str] | None, num_class: int) -> None:
    if given and len(given) != num_class - 1:
        raise UserError(f"--class_names: {len(given)} names given, expected {num_class - 1}, one for "
                        f"each class but the background of --num_class {num_class}")
    if given and len(set(given)) < len(given):
        raise UserError(f"--class_names {' '.join(given)}: two classes have the same name")


def _by_name(values: Iterable[float]) -> dict[str, float | None]:
    """`METRICS` by name, None where undefined."""
    return {name: None if math.isnan(value) else float(value) for name, value in zip(METRICS, values)}
