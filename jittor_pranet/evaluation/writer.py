"""Writes the files of an evaluation, in place of older ones."""

from __future__ import annotations

import csv
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import scipy

from jittor_pranet.evaluation.task import Task
from jittor_pranet.reports.page import write_report
from utils.checkpoint import save_arrays
from utils.csv_log import cell_of
from utils.files import atomic_write
from utils.metrics.scoring import SetScores
from utils.metrics.tables import Table

# What evaluations write, of both tasks together.
FILES = ("summary.json", "summary.csv", "per_image.csv", "per_scan.csv", "per_scan.json", "curves.npz",
         "report.html")


def write_results(folder: Path, task: Task, scores: list[SetScores], methods: dict[str, Path],
                  tables: list[Table], notes: list[str], thumbnails: int) -> list[str]:
    """Writes summary, tables by image or scan, and the report. Returns the files' names.

    Args:
        thumbnails: images that the report shows of each set and method.

    Raises:
        UserError: a file cannot be written, or a map is no longer readable.
    """
    files = {"summary.json": _summary(task, scores, methods), **task.files(scores)}
    for name, content in files.items():
        _WRITERS[Path(name).suffix](folder / name, content)

    def section(entries: list[SetScores], colours: dict[str, str]) -> list[str]:
        return task.report_section(entries, colours, thumbnails)

    write_report(folder / "report.html", scores, tables, notes, section)
    return [*files, "report.html"]


def _summary(task: Task, scores: list[SetScores], methods: dict[str, Path]) -> dict[str, Any]:
    """`datasets` of the one method, or `methods` with the datasets of each, settings and versions."""
    entries = {method: {"pred_root": str(root), "datasets": {
        entry.dataset: task.set_summary(entry) for entry in scores if entry.method == method}}
        for method, root in methods.items()}
    results = {"methods": entries} if len(entries) > 1 else next(iter(entries.values()))
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__,
                "pillow": PIL.__version__}
    return {**results, **task.settings, "versions": versions}


def _write_json(path: Path, content: dict | list) -> None:
    with atomic_write(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")


def _write_csv(path: Path, rows: list[dict]) -> None:
    with atomic_write(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(map(cell_of, row) for row in ([*rows[0]], *(row.values() for row in rows)))


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    save_arrays(arrays, path)


_WRITERS = {".json": _write_json, ".csv": _write_csv, ".npz": _write_arrays}
