"""The program `evaluate`: measures the maps of one or more methods and writes the figures."""

from __future__ import annotations

import argparse
import csv
import json
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import PIL
import scipy

from jittor_pranet.options import whole
from jittor_pranet.report import write_report
from utils.errors import UserError
from utils.evaluation import evaluate, find_datasets
from utils.files import write_whole
from utils.metrics import MASK_RULES, MEASURES, THRESHOLDS
from utils.scoring import SetScores
from utils.tables import notes, paper_table, results_table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--pred_root", type=Path, action="append", required=True, metavar="DIR",
        help="folder with a folder of maps per test set; give it again for each further method")
    add("--gt_root", type=Path, required=True, metavar="DIR", help="folder of the test sets: <set>/masks")
    add("--datasets", nargs="+", metavar="SET", help="sets to measure; all in --gt_root if left out")
    add("--result_path", type=Path, metavar="DIR",
        help="folder for the figures; results/evaluation/<methods> if left out")
    add("--mask_rule", choices=MASK_RULES, default="mid",
        help="mask levels that are polyp: above 127, or as in the published code above 0")
    add("--workers", type=whole(0), default=0, metavar="N",
        help="processes; 0 chooses by the number of images and CPUs")
    add("--compare", action="store_true", help="add the paper's Table 1 and the difference to it")
    add("--thumbnails", type=whole(0), default=24, metavar="N",
        help="images that the report shows of each set and method, the worst first")
    add("--allow_missing", action="store_true",
        help="leave out maps that are missing, extra, unreadable or of another size, and say so")


def run(args: argparse.Namespace) -> int:
    methods = name_methods(args.pred_root)
    result_path = args.result_path or Path("results", "evaluation", "+".join(methods))
    datasets = find_datasets(args.gt_root, args.datasets)
    scores = evaluate(methods, args.gt_root, datasets, args.mask_rule, args.workers, args.allow_missing)

    tables = [results_table(scores, args.mask_rule)]
    if args.compare:
        tables += [paper_table(scores, method) for method in methods]
    remarks = notes(scores)
    write_results(result_path, scores, methods, args.mask_rule)
    write_report(result_path / "report.html", scores, tables, remarks, args.gt_root, args.thumbnails)

    print("\n\n".join(table.text() for table in tables))
    for remark in remarks:
        print(f"note: {remark}", file=sys.stderr)
    print(f"\nwritten to {result_path}: summary.json, summary.csv, per_image.csv, curves.npz, report.html")
    return 0


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


# ---------------------------------------------------------------- files


def write_results(folder: Path, scores: list[SetScores], methods: dict[str, Path], mask_rule: str) -> None:
    """Writes summary.json, summary.csv, per_image.csv and curves.npz in place of older ones."""
    with write_whole(folder / "summary.json", "w", encoding="utf-8") as file:
        json.dump(summary(scores, methods, mask_rule), file, indent=2)
        file.write("\n")
    _write_csv(folder / "summary.csv", ["method", "dataset", *set_summary(scores[0])],
               ({"method": entry.method, "dataset": entry.dataset, **set_summary(entry)} for entry in scores))
    _write_csv(folder / "per_image.csv", ["method", "dataset", "image", *MEASURES, "brightest", "undefined"],
               (row for entry in scores for row in _image_rows(entry)))
    curves = {f"{entry.method}/{entry.dataset}/{name}": curve
              for entry in scores for name, curve in entry.measures.curves().items()}
    with write_whole(folder / "curves.npz") as file:
        np.savez(file, thresholds=THRESHOLDS, **curves)


def summary(scores: list[SetScores], methods: dict[str, Path], mask_rule: str) -> dict:
    """What summary.json holds: `datasets` of the one method, or `methods` with the datasets of each."""
    entries = {method: {"pred_root": str(root), "datasets": {
        entry.dataset: set_summary(entry) for entry in scores if entry.method == method}}
        for method, root in methods.items()}
    figures = {"methods": entries} if len(entries) > 1 else next(iter(entries.values()))
    versions = {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__,
                "pillow": PIL.__version__}
    return {**figures, "mask_rule": mask_rule, "versions": versions}


def set_summary(entry: SetScores) -> dict[str, float | int]:
    """The set's figures (fractions of 1), images scored, masks there are, images with undefined figures."""
    undefined = {f"undefined_{name}": count for name, count in entry.measures.undefined.items()}
    return {**entry.measures.result(), "images": entry.measures.images, "masks": entry.truths, **undefined}


def _image_rows(entry: SetScores) -> Iterable[dict]:
    for pair, figures in zip(entry.pairs, entry.figures):
        yield {"method": entry.method, "dataset": entry.dataset, "image": pair.map.name,
               **figures.result(), "brightest": figures.brightest, "undefined": " ".join(figures.undefined)}


def _write_csv(path: Path, header: list[str], rows: Iterable[dict]) -> None:
    with write_whole(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
