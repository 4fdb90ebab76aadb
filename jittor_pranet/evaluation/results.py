"""What all evaluations write: a summary as JSON, tables as CSV."""

from __future__ import annotations

import csv
import json
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Callable

import numpy as np
import PIL
import scipy

from utils.errors import UserError
from utils.files import atomic_write
from utils.metrics.scoring import SetScores


def name_methods(roots: list[Path]) -> dict[str, Path]:
    """Names each folder of maps by its last part, or by all of its path where two end alike.

    Raises:
        UserError: a folder is given twice.
    """
    resolved = [root.resolve() for root in roots]
    for place, root in enumerate(resolved):
        if root in resolved[:place]:
            raise UserError(f"--pred_root {roots[place]}: is given twice; give each method once")
    names = [root.name for root in resolved]
    if len(set(names)) < len(names):
        names = [str(root).strip("/").replace("/", "_") for root in resolved]
    return dict(zip(names, roots))


def write_summary(path: Path, scores: list[SetScores], methods: dict[str, Path],
                  of_set: Callable[[SetScores], dict], **settings) -> None:
    """Writes `datasets` of the one method, or `methods` with the datasets of each, settings and versions."""
    entries = {method: {"pred_root": str(root), "datasets": {
        entry.dataset: of_set(entry) for entry in scores if entry.method == method}}
        for method, root in methods.items()}
    figures = {"methods": entries} if len(entries) > 1 else next(iter(entries.values()))
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__,
                "pillow": PIL.__version__}
    write_json(path, {**figures, **settings, "versions": versions})


def write_json(path: Path, content: dict | list) -> None:
    with atomic_write(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")


def write_csv(path: Path, header: list[str], rows: Iterable[dict]) -> None:
    with atomic_write(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
