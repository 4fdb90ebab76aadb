"""What the program `evaluate` does with label maps of several classes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path

from jittor_pranet.cli.scan_options import scan_options_of
from jittor_pranet.evaluation.results import write_csv, write_json, write_summary
from jittor_pranet.reports.multiclass import write_report
from utils.data.scan_sets import find_scan_sets
from utils.data.scans import ScanOptions
from utils.errors import UserError
from utils.metrics.multiclass import METRICS, STATES
from utils.metrics.multiclass_evaluation import evaluate_labels
from utils.metrics.multiclass_tables import class_names, classes_table, means_table, notes, paper_table
from utils.metrics.scoring import SetScores
from utils.metrics.tables import Table


def measure(args: argparse.Namespace, methods: dict[str, Path], folder: Path,
            ) -> tuple[list[Table], list[str], list[str]]:
    """Measures the label maps and writes the figures. Returns tables, remarks, names of the files."""
    options, absent = scan_options_of(args), args.absent or "sound"
    names = _names(args.class_names, options)
    sets = find_scan_sets(args.gt_root, args.datasets, args.test_list)
    scores = evaluate_labels(methods, sets, options, absent, args.workers, args.allow_missing)

    tables = [means_table(scores), *(classes_table(dataset, scores, names) for dataset in sets)]
    if args.compare:
        tables += [paper_table(scores, method) for method in methods]
    remarks = notes(scores, names)
    files = write_results(folder, scores, methods, names, absent)
    write_report(folder / "report.html", scores, tables, remarks, options, names, args.thumbnails)
    return tables, remarks, [*files, "report.html"]


def _names(given: list[str] | None, options: ScanOptions) -> list[str]:
    if given and len(given) != options.num_class - 1:
        raise UserError(f"--class_names: {len(given)} names given, expected {options.num_class - 1}, one for "
                        f"each class but the background of --num_class {options.num_class}")
    if given and len(set(given)) < len(given):
        raise UserError(f"--class_names {' '.join(given)}: two classes have the same name")
    return class_names(options.num_class, given)


# ---------------------------------------------------------------- files


def write_results(folder: Path, scores: list[SetScores], methods: dict[str, Path], names: list[str],
                  absent: str) -> list[str]:
    """Writes the figures in place of older ones, undefined ones as null or nothing. Returns the names."""
    def of_set(entry: SetScores) -> dict:
        return set_summary(entry, names)

    write_summary(folder / "summary.json", scores, methods, of_set, absent=absent, classes=names[1:])
    write_csv(folder / "summary.csv", ["method", "dataset", "class", *METRICS, *STATES],
              [{"method": entry.method, "dataset": entry.dataset, "class": name, **figures}
               for entry in scores for found in [of_set(entry)]
               for name, figures in [*found["classes"].items(), ("mean", found["mean"])]])
    rows = [row for entry in scores for row in _scan_rows(entry, names)]
    write_csv(folder / "per_scan.csv", list(rows[0]), rows)
    write_json(folder / "per_scan.json", rows)
    return ["summary.json", "summary.csv", "per_scan.json", "per_scan.csv"]


def set_summary(entry: SetScores, names: list[str]) -> dict:
    """The set's figures, those of each class with its number of scans in each of `STATES`, the confusion."""
    metrics = entry.metrics
    classes = {name: {**_figures(means), **dict(zip(STATES, counts.tolist()))}
               for name, means, counts in zip(names[1:], metrics.class_means(), metrics.states)}
    return {"scans": len(entry.pairs), "label_maps": entry.truths,
            "without_spacing": metrics.without_spacing, "mean": _figures(metrics.means().values()),
            "classes": classes, "confusion": metrics.confusion.tolist()}


def _scan_rows(entry: SetScores, names: list[str]) -> Iterable[dict]:
    for pair, table, figures in zip(entry.pairs, entry.metrics.tables, entry.figures):
        for name, values, state in zip(names[1:], table, figures.states()):
            yield {"method": entry.method, "dataset": entry.dataset, "scan": pair.scan.name, "class": name,
                   **_figures(values), "state": STATES[state]}


def _figures(values: Iterable[float]) -> dict[str, float | None]:
    """`METRICS` by name, None where undefined."""
    return {name: None if math.isnan(value) else float(value) for name, value in zip(METRICS, values)}
